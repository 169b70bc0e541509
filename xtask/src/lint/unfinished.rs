//! Nothing half done: no notes to finish something, no test or example that is not run.

use super::Finding;
use crate::repository::TextFile;
use crate::rust::Source;

pub(super) const RULE: &str = "unfinished";

/// Notes to oneself, in any text.
const NOTES: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Code that stands for other code, or for a look at a value.
const CODE: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// Finds what is half done in code, comments and documents.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |index: usize, text: String| {
        findings.push(Finding {
            rule: RULE,
            place: file.path.clone(),
            line: index + 1,
            text,
        });
    };
    for (index, line) in file.text.lines().enumerate() {
        for note in NOTES.iter().filter(|note| has_word(line, note)) {
            add(index, format!("`{note}`: finish it, or file it"));
        }
        if is_skipped_example(line) {
            add(
                index,
                "an example that nobody compiles: mark it `no_run`, or `text`".to_owned(),
            );
        }
    }
    if !file.path.ends_with(".rs") {
        return findings;
    }
    for (index, line) in Source::of(&file.text).code.iter().enumerate() {
        for code in CODE.iter().filter(|code| has_word(line, code)) {
            add(index, format!("`{code}`: write what it stands for"));
        }
        if line.replace(' ', "").contains("#[ignore") {
            add(index, "a test that is not run proves nothing".to_owned());
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|after| after.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Tells whether a line opens a block of Rust that rustdoc is told to leave alone.
fn is_skipped_example(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '/', '!']);
    let marks = line.strip_prefix("```").unwrap_or("");
    marks
        .split(',')
        .any(|mark| mark.trim().starts_with("ignore"))
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
    fn notes_are_found_in_any_file() {
        for note in NOTES {
            assert_eq!(count("a.rs", &format!("// {note}: later")), 1, "{note}");
            assert_eq!(count("a.md", &format!("({note})")), 1, "{note}");
        }
        assert_eq!(count("a.rs", "const TODOS: u8 = 1; // \\u{XXXX}"), 0);
    }

    #[test]
    fn code_that_stands_for_other_code_is_found() {
        for code in CODE {
            assert_eq!(
                count("a.rs", &format!("fn f() {{ {code}(a) }}")),
                1,
                "{code}"
            );
        }
        assert_eq!(count("a.rs", "// unlike todo!() this works"), 0);
        assert_eq!(count("a.rs", "say(\"dbg!\")"), 0);
    }

    #[test]
    fn tests_and_examples_that_are_not_run_are_found() {
        assert_eq!(count("a.rs", "#[ignore = \"slow\"]\nfn t() {}"), 1);
        assert_eq!(count("a.rs", "/// ```ignore\n/// ```"), 1);
        assert_eq!(count("a.md", "```rust,ignore\n```"), 1);
        assert_eq!(count("a.md", "```no_run\n```\nignore this"), 0);
    }
}
