//! Imports stand one per line, in three groups: std, others, ours. Globs stand in tests alone.

use super::Finding;
use crate::repository::TextFile;
use crate::rust::Source;

pub(super) const RULE: &str = "import";

const STD: [&str; 3] = ["std", "core", "alloc"];
const OURS: [&str; 3] = ["crate", "self", "super"];

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Group {
    Std,
    Others,
    Ours,
}

/// One `use`, from its first to its last line.
#[derive(Debug)]
struct Import {
    first: usize,
    last: usize,
    path: String,
    is_export: bool,
}

/// Finds imports in braces, globs outside tests, and groups out of order.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let source = Source::of(&file.text);
    let imports = imports(&source);
    let modules = modules(&source);
    let globs_from = globs_allowed_from(&file.path, &source);
    let mut findings = Vec::new();
    let mut add = |line: usize, text: &str| {
        findings.push(Finding {
            rule: RULE,
            place: file.path.clone(),
            line: line + 1,
            text: text.to_owned(),
        });
    };
    for import in &imports {
        if import.path.contains('{') {
            add(import.first, "one import per line, without braces");
        }
        if import.path.ends_with('*') && import.first < globs_from {
            add(import.first, "a glob outside tests: name what is used");
        }
    }
    for pair in imports.windows(2) {
        if let [above, below] = pair
            && let Some(text) = misplaced(&source, &modules, above, below)
        {
            add(below.first, text);
        }
    }
    findings
}

/// What is wrong with the second of two imports in the same run of imports.
fn misplaced(
    source: &Source,
    modules: &[String],
    above: &Import,
    below: &Import,
) -> Option<&'static str> {
    let between = source.code.get(above.last + 1..below.first)?;
    let apart = |line: &String| !line.trim().is_empty() && !line.trim().starts_with("#[");
    if above.is_export || below.is_export || between.iter().any(apart) {
        return None;
    }
    let comments = source.comments.get(above.last + 1..below.first)?;
    let blank_line = between
        .iter()
        .zip(comments)
        .any(|(code, comment)| code.trim().is_empty() && comment.trim().is_empty());
    let upper = group(&above.path, modules)?;
    let lower = group(&below.path, modules)?;
    if lower < upper {
        return Some("std first, then others, then ours");
    }
    if lower != upper && !blank_line {
        return Some("a blank line between std, others and ours");
    }
    // Among ours, what comes from the parent may stand apart from what comes from the crate.
    let torn = lower == upper && lower != Group::Ours && blank_line;
    torn.then_some("no blank line inside std or others")
}

/// The group an import belongs to; none for another crate of this workspace, which is ours and
/// other at once, and so may stand with either.
fn group(path: &str, modules: &[String]) -> Option<Group> {
    let path = path.trim_start_matches("::");
    let first = path.split("::").next().unwrap_or(path);
    if first == "outspan" || first.starts_with("outspan_") {
        return None;
    }
    if STD.contains(&first) {
        return Some(Group::Std);
    }
    let ours = OURS.contains(&first) || modules.iter().any(|module| module == first);
    Some(if ours { Group::Ours } else { Group::Others })
}

fn imports(source: &Source) -> Vec<Import> {
    let mut imports = Vec::new();
    let mut lines = source.code.iter().enumerate();
    while let Some((first, line)) = lines.next() {
        let Some((is_export, start)) = start_of_import(line) else {
            continue;
        };
        let mut path = start.trim().to_owned();
        let mut last = first;
        while !path.contains(';') {
            let Some((index, more)) = lines.next() else {
                break;
            };
            path.push_str(more.trim());
            last = index;
        }
        let path = path.split(';').next().unwrap_or_default().trim().to_owned();
        imports.push(Import {
            first,
            last,
            path,
            is_export,
        });
    }
    imports
}

/// What follows `use`, and whether the import is handed on with `pub`.
fn start_of_import(line: &str) -> Option<(bool, &str)> {
    let line = line.trim_start();
    if let Some(path) = line.strip_prefix("use ") {
        return Some((false, path));
    }
    let visible = line.strip_prefix("pub")?.trim_start();
    let visible = match visible.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1.trim_start(),
        None => visible,
    };
    Some((true, visible.strip_prefix("use ")?))
}

/// The modules a file declares: their names may start a path, and they are ours.
fn modules(source: &Source) -> Vec<String> {
    let lines = source.code.iter();
    lines
        .filter_map(|line| line.split_once("mod ")?.1.split([';', '{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

fn globs_allowed_from(path: &str, source: &Source) -> usize {
    if path.contains("/tests/") || path.ends_with("/tests.rs") {
        return 0;
    }
    let lines = source.code.iter();
    let test = |line: &String| line.contains("mod tests {");
    lines.clone().position(test).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let file = TextFile {
            path: "crates/a/src/b.rs".to_owned(),
            text: text.to_owned(),
        };
        check(&file)
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.text))
            .collect()
    }

    #[test]
    fn three_groups_are_fine() {
        let text = "\
//! A module.

mod inner;

use std::fmt;
use std::io;

use bytes::Bytes;
#[cfg(feature = \"http\")]
use http::Uri;
use outspan_wire::otlp;

use crate::Batch;
use inner::Inner;

pub use inner::Other;

fn f() {
    use std::mem;
}
";
        assert_eq!(findings(text), Vec::<String>::new());
    }

    #[test]
    fn our_other_crates_may_stand_with_either_group() {
        assert!(findings("use bytes::Bytes;\nuse outspan::Batch;\n").is_empty());
        assert!(findings("use outspan::Batch;\nuse crate::send;\n").is_empty());
        assert!(findings("use bytes::Bytes;\n\nuse outspan::Batch;\n").is_empty());
    }

    #[test]
    fn braces_are_found_also_over_several_lines() {
        assert_eq!(findings("use std::{fmt, io};").len(), 1);
        assert_eq!(
            findings("pub(crate) use a::{\n    b,\n    c,\n};\n").len(),
            1
        );
        assert_eq!(
            findings("// use a::{b, c};\nlet a = \"use a::{b};\";").len(),
            0
        );
    }

    #[test]
    fn globs_are_for_tests() {
        assert_eq!(findings("use std::fmt::*;").len(), 1);
        assert_eq!(findings("mod tests;\n\nuse super::*;\n").len(), 1);
        assert_eq!(findings("mod tests {\n    use super::*;\n}\n").len(), 0);
    }

    #[test]
    fn groups_out_of_order_are_found() {
        assert!(findings("use bytes::Bytes;\n\nuse std::fmt;\n")[0].contains("std first"));
        assert!(findings("use crate::Batch;\n\nuse bytes::Bytes;\n")[0].contains("std first"));
    }

    #[test]
    fn groups_not_apart_are_found() {
        assert!(findings("use std::fmt;\nuse bytes::Bytes;\n")[0].contains("a blank line between"));
        assert!(findings("use std::fmt;\n\nuse std::io;\n")[0].contains("no blank line"));
        assert!(findings("use crate::Batch;\n\nuse super::Otlp;\n").is_empty());
    }
}
