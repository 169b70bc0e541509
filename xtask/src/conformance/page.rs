//! What `docs/conformance.md` says, row by row.

use std::collections::BTreeSet;

/// The highest number of a rule.
pub(super) const LAST_RULE: usize = 240;

/// The rows of the page, in its order.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: Vec<Row>,
}

/// What the page says of one rule.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) number: usize,
    pub(super) tests: Vec<String>,
    state: String,
    held_by: String,
}

const MET: &str = "met";
const MET_WITHOUT_TEST: &str = "met, no test";
const NOT_MET: &str = "not met";
const NOT_OURS: &str = "not ours";

impl Page {
    /// Reads the rows of all tables whose first cell is a number.
    pub(super) fn of(text: &str) -> Self {
        let lines = text.lines().enumerate();
        let rows = lines.filter_map(|(index, line)| Row::of(index + 1, line));
        Self {
            rows: rows.collect(),
        }
    }

    /// What is wrong in the page itself: the line, 0 where there is none, and the words.
    pub(super) fn mistakes(&self, text: &str) -> Vec<(usize, String)> {
        let mut mistakes = Vec::new();
        let mut seen = BTreeSet::new();
        for row in &self.rows {
            if !seen.insert(row.number) {
                mistakes.push((row.line, format!("rule {} comes twice", row.number)));
            }
            if !(1..=LAST_RULE).contains(&row.number) {
                mistakes.push((row.line, format!("there is no rule {}", row.number)));
            }
            if let Some(mistake) = row.mistake() {
                mistakes.push((row.line, format!("rule {}: {mistake}", row.number)));
            }
        }
        let missing = (1..=LAST_RULE).filter(|number| !seen.contains(number));
        mistakes.extend(missing.map(|number| (0, format!("rule {number} is missing"))));
        let counts = self.counts();
        if mistakes.is_empty() && !text.contains(&counts) {
            mistakes.push((0, format!("the counts are wrong: write `{counts}`")));
        }
        mistakes
    }

    /// The sentence that counts the rows.
    fn counts(&self) -> String {
        let count = |state| self.rows.iter().filter(|row| row.state == state).count();
        let without_test = count(MET_WITHOUT_TEST);
        format!(
            "{} rules: {} met ({without_test} of them without a test), {} not met, {} not ours.",
            self.rows.len(),
            count(MET) + without_test,
            count(NOT_MET),
            count(NOT_OURS)
        )
    }
}

impl Row {
    fn of(line: usize, text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix('|')?.strip_suffix('|')?;
        let mut cells = text.split('|').map(str::trim);
        let number = cells.next()?.parse().ok()?;
        let state = cells.nth(1).unwrap_or_default().to_owned();
        let held_by = cells.collect::<Vec<_>>().join("|");
        // What stands between two backticks is every second part.
        let quoted = held_by.split('`').skip(1).step_by(2);
        let tests = quoted.filter(|name| name.contains("::"));
        Some(Self {
            line,
            number,
            tests: tests.map(str::to_owned).collect(),
            state,
            held_by,
        })
    }

    fn mistake(&self) -> Option<&'static str> {
        match self.state.as_str() {
            MET if self.tests.is_empty() => Some("`met` wants a test"),
            MET_WITHOUT_TEST | NOT_MET | NOT_OURS if self.held_by.is_empty() => {
                Some("say in the last cell why")
            }
            MET | MET_WITHOUT_TEST | NOT_MET | NOT_OURS => None,
            _ => Some("the third cell is `met`, `met, no test`, `not met` or `not ours`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake_of(line: &str) -> Option<&'static str> {
        Row::of(1, line).expect("it is a row").mistake()
    }

    #[test]
    fn names_with_colons_between_backticks_are_tests() {
        let row = Row::of(
            7,
            "| 31 | a rule | met | `OTEL_X` by `env::a::b` and `init::c` |",
        );
        let row = row.expect("it is a row");
        assert_eq!((row.line, row.number), (7, 31));
        assert_eq!(row.tests, ["env::a::b", "init::c"]);
    }

    #[test]
    fn other_lines_are_no_rows() {
        for line in [
            "| # | rule |",
            "|---|---|",
            "31 | met",
            "",
            "| 31a | x | met | y |",
        ] {
            assert!(Row::of(1, line).is_none(), "{line}");
        }
    }

    #[test]
    fn each_state_wants_its_last_cell() {
        assert_eq!(
            mistake_of("| 1 | x | met | words |"),
            Some("`met` wants a test")
        );
        assert_eq!(mistake_of("| 1 | x | met | `a::b` |"), None);
        for state in [MET_WITHOUT_TEST, NOT_MET, NOT_OURS] {
            assert!(mistake_of(&format!("| 1 | x | {state} | |")).is_some());
            assert_eq!(mistake_of(&format!("| 1 | x | {state} | why |")), None);
        }
        assert!(mistake_of("| 1 | x | nearly met | `a::b` |").is_some());
    }

    #[test]
    fn a_rule_beyond_the_last_is_found() {
        let page = Page::of("| 241 | x | not ours | why |");
        let mistakes = page.mistakes("");
        assert!(
            mistakes.contains(&(1, "there is no rule 241".to_owned())),
            "{mistakes:?}"
        );
    }
}
