//! The list of what may break a rule, each with its reason: `xtask/exceptions.txt`.
//!
//! One exception a line, four fields between bars: `rule | where | what | why`. *Where* is a path
//! (a file, or a directory with `/` at its end) or the name of a crate, *what* is text that the
//! finding must contain, or `-` for any. A line that excuses nothing is itself a finding, so the list
//! never outlives its reasons.

use std::fs;
use std::path::Path;

use crate::finding::Finding;

const PATH: &str = "xtask/exceptions.txt";

/// What may break a rule, and whether it did.
#[derive(Debug, Default)]
pub(crate) struct Exceptions {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    rule: String,
    place: String,
    what: String,
    used: bool,
}

impl Exceptions {
    /// Reads the list of this repository.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a line has no reason or not four fields.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(root.join(PATH))
            .map_err(|error| format!("cannot read {PATH}: {error}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            let [rule, place, what, why] = fields.as_slice() else {
                return Err(format!(
                    "{PATH}:{number}: wanted `rule | where | what | why`"
                ));
            };
            if rule.is_empty() || place.is_empty() || what.is_empty() || why.is_empty() {
                return Err(format!("{PATH}:{number}: a field is empty"));
            }
            entries.push(Entry {
                line: number,
                rule: (*rule).to_owned(),
                place: (*place).to_owned(),
                what: (*what).to_owned(),
                used: false,
            });
        }
        Ok(Self { entries })
    }

    /// Removes the findings that the list excuses.
    pub(crate) fn excuse(&mut self, findings: Vec<Finding>) -> Vec<Finding> {
        let mut left = Vec::new();
        for finding in findings {
            let mut excused = false;
            for entry in &mut self.entries {
                if entry.excuses(&finding) {
                    entry.used = true;
                    excused = true;
                }
            }
            if !excused {
                left.push(finding);
            }
        }
        left
    }

    /// Names the lines of the given rules that excused nothing.
    pub(crate) fn unused(&self, rules: &[&str]) -> Vec<Finding> {
        let unused = self.entries.iter().filter(|entry| !entry.used);
        unused
            .filter(|entry| rules.contains(&entry.rule.as_str()))
            .map(|entry| Finding {
                rule: "exception",
                place: PATH.to_owned(),
                line: entry.line,
                text: format!(
                    "nothing of {} breaks `{}` any more",
                    entry.place, entry.rule
                ),
            })
            .collect()
    }

    /// Names the lines whose rule does not exist.
    pub(crate) fn unknown(&self, rules: &[&str]) -> Vec<Finding> {
        let entries = self.entries.iter();
        entries
            .filter(|entry| !rules.contains(&entry.rule.as_str()))
            .map(|entry| Finding {
                rule: "exception",
                place: PATH.to_owned(),
                line: entry.line,
                text: format!("there is no rule `{}`", entry.rule),
            })
            .collect()
    }
}

impl Entry {
    fn excuses(&self, finding: &Finding) -> bool {
        let place = if self.place.ends_with('/') {
            finding.place.starts_with(&self.place)
        } else {
            finding.place == self.place
        };
        place
            && self.rule == finding.rule
            && (self.what == "-" || finding.text.contains(&self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rule: &'static str, place: &str, text: &str) -> Finding {
        Finding {
            rule,
            place: place.to_owned(),
            line: 1,
            text: text.to_owned(),
        }
    }

    #[test]
    fn only_what_is_listed_is_excused() {
        let list = "# a comment\n\nword | docs/ | old name | the old name is quoted\n";
        let mut list = Exceptions::parse(list).expect("a list");
        let left = list.excuse(vec![
            finding("word", "docs/a.md", "the old name"),
            finding("word", "docs/a.md", "another"),
            finding("word", "src/docs/a.md", "the old name"),
            finding("import", "docs/a.md", "the old name"),
        ]);
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(list.unused(&["word"]).is_empty());
    }

    #[test]
    fn a_crate_is_excused_by_its_whole_name() {
        let list = "duplicate | rand | - | proptest lags\n";
        let mut list = Exceptions::parse(list).expect("a list");
        assert!(
            list.excuse(vec![finding("duplicate", "rand", "1 and 2")])
                .is_empty()
        );
        assert_eq!(
            list.excuse(vec![finding("duplicate", "rand_core", "1 and 2")])
                .len(),
            1
        );
    }

    #[test]
    fn a_line_that_excuses_nothing_is_a_finding() {
        let list = Exceptions::parse("word | docs/ | - | it was needed once\n").expect("a list");
        assert_eq!(list.unused(&["word"]).len(), 1);
        // A run of other rules cannot know.
        assert!(list.unused(&["duplicate"]).is_empty());
        assert_eq!(list.unknown(&["duplicate"]).len(), 1);
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert!(Exceptions::parse("word | docs/ | -\n").is_err());
        assert!(Exceptions::parse("word | docs/ | - |  \n").is_err());
    }
}
