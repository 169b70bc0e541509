//! The page about the rules of OTLP and the SDK, held to the tests that it names.
//!
//! `docs/conformance.md` has a row for each rule. A row that says `met` names tests; they have to
//! exist in the source (the lint asks that) and to have passed in the run that CI kept.

mod log;
mod page;
mod sources;

use std::collections::BTreeSet;
use std::fs;

use crate::finding::Finding;
use crate::repository;
use crate::repository::TextFile;

/// The name of the rule in the lint.
pub(crate) const RULE: &str = "conformance";

const PAGE: &str = "docs/conformance.md";

/// Checks the page, and with the output of the tests also that what it names ran.
///
/// # Errors
///
/// When a file cannot be read, or the page is not true; what is wrong was printed.
pub(crate) fn run(output: Option<&str>) -> Result<(), String> {
    let files = repository::text_files(&repository::root())?;
    let mut findings = check(&files);
    if let Some(path) = output {
        let output = fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        findings.extend(check_run(&files, &String::from_utf8_lossy(&output)));
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} mistakes in all; {PAGE} says how its rows are written",
        findings.len()
    ))
}

/// Finds rules that are missing or doubled, wrong counts, and tests that do not exist.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    let Some(text) = page_of(files) else {
        return vec![finding(0, "the page is not there".to_owned())];
    };
    let page = page::Page::of(text);
    let mut findings: Vec<Finding> = page
        .mistakes(text)
        .into_iter()
        .map(|(line, what)| finding(line, what))
        .collect();
    let known = sources::tests(files);
    findings.extend(missing(&page, &known, "does not exist in the sources"));
    findings
}

/// Finds named tests that did not pass in a run.
fn check_run(files: &[TextFile], output: &str) -> Vec<Finding> {
    let page = page::Page::of(page_of(files).unwrap_or_default());
    missing(&page, &log::passed(output), "did not run, or did not pass")
}

fn missing(page: &page::Page, known: &BTreeSet<String>, what: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in &page.rows {
        for test in row.tests.iter().filter(|test| !known.contains(*test)) {
            let text = format!("rule {}: the test `{test}` {what}", row.number);
            findings.push(finding(row.line, text));
        }
    }
    findings
}

fn page_of(files: &[TextFile]) -> Option<&str> {
    let page = files.iter().find(|file| file.path == PAGE)?;
    Some(&page.text)
}

fn finding(line: usize, text: String) -> Finding {
    Finding {
        rule: RULE,
        place: PAGE.to_owned(),
        line,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
#[test]
fn waits_as_told() {}

#[tokio::test]
async fn gives_up() {}
";

    /// A page with every rule there is: the first ones as given, the others of no concern.
    fn page(first: &[&str], counts: &str) -> Vec<TextFile> {
        let mut text = format!("# Conformance\n\n{counts}\n\n| # | rule | state | by |\n");
        for row in first {
            text.push_str(row);
            text.push('\n');
        }
        for number in first.len() + 1..=page::LAST_RULE {
            text.push_str(&format!(
                "| {number} | something | not ours | no receiver |\n"
            ));
        }
        let file = |path: &str, text: &str| TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        vec![file(PAGE, &text), file("crates/a-b/tests/retry.rs", SOURCE)]
    }

    fn texts(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| &*finding.text).collect()
    }

    const GOOD: [&str; 2] = [
        "| 1 | waits | met | `retry::waits_as_told`, `retry::gives_up` |",
        "| 2 | sings | not met | nobody asked |",
    ];
    const COUNTS: &str = "240 rules: 1 met (0 of them without a test), 1 not met, 238 not ours.";

    #[test]
    fn a_true_page_is_left_alone() {
        assert_eq!(check(&page(&GOOD, COUNTS)), []);
    }

    #[test]
    fn a_page_that_is_gone_is_found() {
        assert_eq!(texts(&check(&[])), ["the page is not there"]);
    }

    #[test]
    fn a_test_that_does_not_exist_is_named() {
        let rows = ["| 1 | waits | met | `retry::sings` |", GOOD[1]];
        assert_eq!(
            texts(&check(&page(&rows, COUNTS))),
            ["rule 1: the test `retry::sings` does not exist in the sources"]
        );
    }

    #[test]
    fn a_rule_that_comes_twice_and_one_that_is_missing_are_named() {
        let rows = [GOOD[0], "| 1 | sings | not met | nobody asked |"];
        let findings = check(&page(&rows, COUNTS));
        assert_eq!(
            texts(&findings),
            ["rule 1 comes twice", "rule 2 is missing"]
        );
    }

    #[test]
    fn wrong_counts_are_told_with_the_right_ones() {
        let findings = check(&page(&GOOD, "240 rules: 240 met."));
        assert_eq!(
            texts(&findings),
            [format!("the counts are wrong: write `{COUNTS}`")]
        );
    }

    #[test]
    fn a_test_that_did_not_run_is_named() {
        let files = page(&GOOD, COUNTS);
        let output = "     Running tests/retry.rs (target/debug/deps/retry-0123456789abcdef)\n\
            test waits_as_told ... ok\ntest gives_up ... FAILED\n";
        assert_eq!(
            texts(&check_run(&files, output)),
            ["rule 1: the test `retry::gives_up` did not run, or did not pass"]
        );
        let output = output.replace("FAILED", "ok");
        assert_eq!(check_run(&files, &output), []);
    }
}
