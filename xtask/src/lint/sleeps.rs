//! Nothing sleeps to wait: a test that does is slow on a good day and wrong on a bad one.
//!
//! Fine are sleeps under the paused clock, which take no time, and those with a comment on the same
//! line or above it that starts with `// Sleeps:` and says why nothing else will do.

use super::Finding;
use crate::repository::TextFile;
use crate::rust::Source;

pub(super) const RULE: &str = "sleep";

const SLEEPS: [&str; 3] = ["thread::sleep", "time::sleep", "sleep("];
const PAUSED: [&str; 2] = ["start_paused = true", "time::pause()"];
const REASON: &str = "// Sleeps:";

/// Finds sleeps in test code.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let source = Source::of(&file.text);
    let first_test = first_test_line(&file.path, &source);
    let mut paused = false;
    let mut findings = Vec::new();
    for (index, line) in source.code.iter().enumerate().skip(first_test) {
        if is_test_attribute(line) {
            paused = false;
        }
        paused |= PAUSED.iter().any(|clock| line.contains(clock));
        if !sleeps(line) || has_reason(&source, index) || (paused && !line.contains("thread::")) {
            continue;
        }
        findings.push(Finding {
            rule: RULE,
            place: file.path.clone(),
            line: index + 1,
            text: format!("wait for what happens, or pause the clock, or say `{REASON}` why"),
        });
    }
    findings
}

/// Where test code begins: at the top of files for tests, else at the first item for tests that has
/// a body here. A `mod tests;` has its own file.
fn first_test_line(path: &str, source: &Source) -> usize {
    if path.contains("/tests/") || path.ends_with("/tests.rs") {
        return 0;
    }
    let lines = &source.code;
    let begins = |index: &usize| {
        let line = lines.get(*index).map_or("", String::as_str);
        is_test_attribute(line) || (line.contains("#[cfg(test)]") && has_body(lines, index + 1))
    };
    (0..lines.len()).find(begins).unwrap_or(lines.len())
}

/// Tells whether the item that begins at or after a line goes on beyond one line.
fn has_body(lines: &[String], from: usize) -> bool {
    let mut lines = lines.iter().skip(from).map(|line| line.trim());
    let item = lines.find(|line| !line.is_empty() && !line.starts_with("#["));
    item.is_some_and(|item| !item.ends_with(';'))
}

fn is_test_attribute(line: &str) -> bool {
    line.contains("#[test]") || line.contains("::test]") || line.contains("::test(")
}

/// Tells whether a line calls one of the sleeps; an import alone is judged where it is used.
fn sleeps(line: &str) -> bool {
    let line = line.trim_start();
    !line.starts_with("use ") && SLEEPS.iter().any(|sleep| calls(line, sleep))
}

fn calls(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        let is_longer = |before: char| before.is_alphanumeric() || "_.".contains(before);
        let after = line.get(at + name.len()..).unwrap_or_default();
        !before.is_some_and(is_longer) && !after.starts_with('_')
    })
}

fn has_reason(source: &Source, index: usize) -> bool {
    let above = index.checked_sub(1);
    [Some(index), above].into_iter().flatten().any(|line| {
        let comment = source
            .comments
            .get(line)
            .map_or("", |comment| comment.trim());
        comment
            .strip_prefix(REASON)
            .is_some_and(|why| !why.trim().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        let file = TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&file).len()
    }

    #[test]
    fn sleeps_in_tests_are_found() {
        for call in [
            "std::thread::sleep(a)",
            "tokio::time::sleep(a).await",
            "sleep(a)",
        ] {
            let text = format!("#[test]\nfn t() {{\n    {call};\n}}");
            assert_eq!(count("crates/a/tests/b.rs", &text), 1, "{call}");
            assert_eq!(count("crates/a/src/b/tests.rs", &text), 1, "{call}");
            assert_eq!(count("crates/a/src/b.rs", &text), 1, "{call}");
            let helper = format!("#[cfg(test)]\nmod tests {{ fn wait() {{ {call} }} }}");
            assert_eq!(count("crates/a/src/b.rs", &helper), 1, "{call}");
        }
    }

    #[test]
    fn delays_of_the_product_are_fine() {
        let product = "fn back_off() { sleep(a) }";
        assert_eq!(count("crates/a/src/b.rs", product), 0);
        let with_tests = format!("#[cfg(test)]\nmod tests;\n\n{product}");
        assert_eq!(count("crates/a/src/b.rs", &with_tests), 0);
    }

    #[test]
    fn the_paused_clock_is_fine_until_the_next_test() {
        let paused = "#[tokio::test(start_paused = true)]\nasync fn t() { sleep(a).await }\n";
        let real = "#[tokio::test]\nasync fn u() { sleep(a).await }\n";
        let thread = "#[tokio::test(start_paused = true)]\nasync fn t() { thread::sleep(a) }\n";
        assert_eq!(count("crates/a/tests/b.rs", paused), 0);
        assert_eq!(count("crates/a/tests/b.rs", &format!("{paused}{real}")), 1);
        assert_eq!(count("crates/a/tests/b.rs", thread), 1);
    }

    #[test]
    fn a_reason_excuses_one_line_and_must_say_something() {
        let with_reason = "// Sleeps: the kernel tells nobody.\nthread::sleep(a);";
        assert_eq!(count("crates/a/tests/b.rs", with_reason), 0);
        assert_eq!(
            count("crates/a/tests/b.rs", "// Sleeps:\nthread::sleep(a);"),
            1
        );
        let twice = format!("{with_reason}\nthread::sleep(a);");
        assert_eq!(count("crates/a/tests/b.rs", &twice), 1);
    }

    #[test]
    fn other_names_and_comments_are_fine() {
        let text =
            "// thread::sleep is not used\nuse tokio::time::sleep;\nasleep(a); sleep_until(a);";
        assert_eq!(count("crates/a/tests/b.rs", text), 0);
        assert_eq!(count("crates/a/tests/b.rs", "time::sleep_until(a);"), 0);
    }
}
