//! Every source file says at its top what it is for.

use super::Finding;
use crate::repository::TextFile;

pub(super) const RULE: &str = "module-docs";

/// Finds Rust files without documentation, in them or above the `mod` line that names them.
pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    files
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !file.path.ends_with("/tests.rs"))
        .filter(|file| !starts_with_docs(&file.text) && !is_described_by_parent(file, files))
        .map(|file| Finding {
            rule: RULE,
            place: file.path.clone(),
            line: 1,
            text: "start with `//!` and a sentence that says what this file is for".to_owned(),
        })
        .collect()
}

/// Tells whether module documentation comes before anything but attributes of the whole file.
fn starts_with_docs(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with("#!["));
    first.is_some_and(|line| line.starts_with("//!"))
}

fn is_described_by_parent(file: &TextFile, files: &[TextFile]) -> bool {
    let Some((directory, name)) = file.path.rsplit_once('/') else {
        return false;
    };
    let (directory, module) = match name {
        "mod.rs" => directory.rsplit_once('/').unwrap_or((directory, "")),
        _ => (directory, name.trim_end_matches(".rs")),
    };
    let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| format!("{directory}/{parent}"));
    files
        .iter()
        .filter(|other| parents.contains(&other.path) || other.path == format!("{directory}.rs"))
        .any(|parent| describes(&parent.text, module))
}

/// Tells whether the line that declares the module follows a `///` line.
fn describes(text: &str, module: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = format!("mod {module};");
    lines.windows(2).any(|pair| match pair {
        [above, below] => above.starts_with("///") && below.ends_with(&declared),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<TextFile> = files
            .iter()
            .map(|(path, text)| TextFile {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        check(&files)
            .into_iter()
            .map(|finding| finding.place)
            .collect()
    }

    #[test]
    fn a_file_without_a_word_about_itself_is_found() {
        assert_eq!(places(&[("src/a.rs", "fn f() {}")]), ["src/a.rs"]);
        assert_eq!(places(&[("src/a.rs", "")]), ["src/a.rs"]);
        assert_eq!(places(&[("src/a.rs", "// note\n//! Docs.")]), ["src/a.rs"]);
    }

    #[test]
    fn docs_in_the_file_or_at_its_declaration_are_enough() {
        assert!(places(&[("src/a.rs", "#![expect(missing_docs)]\n//! Does a.\n")]).is_empty());
        let parent = (
            "src/lib.rs",
            "//! Library.\n/// Does a.\npub mod a;\npub mod b;\n",
        );
        assert!(places(&[parent, ("src/a.rs", "fn f() {}")]).is_empty());
        assert!(places(&[parent, ("src/a/mod.rs", "fn f() {}")]).is_empty());
        assert_eq!(places(&[parent, ("src/b.rs", "fn f() {}")]), ["src/b.rs"]);
    }

    #[test]
    fn tests_and_other_files_need_none() {
        assert!(places(&[("src/a/tests.rs", ""), ("a.md", "")]).is_empty());
    }
}
