//! What every `Cargo.toml` of the workspace has in common.
//!
//! Reads line by line, which holds our manifests to one entry a line as well.

use super::Finding;
use crate::repository::TextFile;

pub(super) const RULE: &str = "manifest";

/// Manifests of crates with a workspace of their own.
const APART: [&str; 1] = ["fuzz/"];

/// Finds manifests that do not take lints and versions from the workspace, features without a
/// comment, and shared dependencies with their default features on.
pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        if file.path == "Cargo.toml" {
            findings.extend(check_root(file));
        } else if is_member(&file.path) {
            findings.extend(check_member(file));
        }
    }
    findings
}

fn is_member(path: &str) -> bool {
    path.ends_with("/Cargo.toml") && !APART.iter().any(|apart| path.starts_with(apart))
}

/// One entry of a manifest: which section it is in, and whether a comment stands above or beside it.
#[derive(Debug)]
struct Entry<'a> {
    line: usize,
    section: &'a str,
    text: &'a str,
    is_commented: bool,
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let mut section = "";
    let mut comment_above = false;
    let mut open_brackets = 0_usize;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if open_brackets > 0 {
            open_brackets = open_after(open_brackets, line);
            continue;
        }
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if !line.is_empty() && !line.starts_with('#') {
            open_brackets = open_after(0, line);
            let is_commented = comment_above || line.contains(" # ");
            entries.push(Entry {
                line: index + 1,
                section,
                text: line,
                is_commented,
            });
        }
        comment_above = line.starts_with('#');
    }
    entries
}

/// Brackets that are still open at the end of a line: an array goes on until they are closed.
fn open_after(open: usize, line: &str) -> usize {
    let opened = line.matches('[').count();
    (open + opened).saturating_sub(line.matches(']').count())
}

fn check_root(file: &TextFile) -> Vec<Finding> {
    entries(&file.text)
        .iter()
        .filter(|entry| entry.section == "workspace.dependencies")
        .filter(|entry| !entry.text.contains("path = ") && !entry.text.contains("default-features = false"))
        .map(|entry| finding(file, entry.line, "write `default-features = false`: what a crate pulls in stands in its own manifest"))
        .collect()
}

fn check_member(file: &TextFile) -> Vec<Finding> {
    let entries = entries(&file.text);
    let mut findings = Vec::new();
    let inherits = |entry: &Entry<'_>| entry.section == "lints" && entry.text == "workspace = true";
    if !entries.iter().any(inherits) {
        findings.push(finding(
            file,
            0,
            "take the lints of the house: `[lints]` with `workspace = true`",
        ));
    }
    for entry in &entries {
        if entry.section == "features" && !entry.is_commented {
            findings.push(finding(
                file,
                entry.line,
                "say in a comment above what the feature adds",
            ));
        }
        if is_dependencies(entry.section) && !entry.text.contains("workspace = true") {
            findings.push(finding(
                file,
                entry.line,
                "take the version from the workspace, on one line: `workspace = true`",
            ));
        }
    }
    findings
}

/// Tells whether a section lists dependencies of any kind, for all or for some platforms.
fn is_dependencies(section: &str) -> bool {
    section
        .split('.')
        .any(|part| part.ends_with("dependencies"))
}

fn finding(file: &TextFile, line: usize, text: &str) -> Finding {
    Finding {
        rule: RULE,
        place: file.path.clone(),
        line,
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&[file])
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        assert_eq!(
            lines("crates/a/Cargo.toml", "[package]\nworkspace = true\n"),
            [0]
        );
        assert!(lines("crates/a/Cargo.toml", LINTS).is_empty());
        assert!(lines("fuzz/Cargo.toml", "[package]\n").is_empty());
    }

    #[test]
    fn a_feature_without_a_comment_is_found() {
        let features = "[features]\n# Adds a.\na = [\n    \"b\",\n]\nb = []\nc = [] # adds c\n";
        assert_eq!(
            lines("crates/a/Cargo.toml", &format!("{LINTS}{features}")),
            [8]
        );
    }

    #[test]
    fn a_version_of_ones_own_is_found() {
        for section in [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let text = format!("{LINTS}[{section}]\na.workspace = true\nb = \"1\"\n");
            assert_eq!(lines("crates/a/Cargo.toml", &text), [5], "{section}");
        }
        let table = format!("{LINTS}[dependencies.a]\nversion = \"1\"\n");
        assert_eq!(lines("crates/a/Cargo.toml", &table), [4]);
    }

    #[test]
    fn shared_dependencies_have_no_default_features() {
        let text = "[workspace.dependencies]\na = { path = \"a\" }\nb = \"1\"\nc = { version = \"1\", default-features = false }\n";
        assert_eq!(lines("Cargo.toml", text), [3]);
    }
}
