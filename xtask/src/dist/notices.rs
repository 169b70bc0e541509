//! What others wrote in the program, and their terms, which want to be handed out with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::read;
use crate::metadata::Metadata;
use crate::metadata::Package;

/// Beginnings of the names of files that hold terms.
const NAMES: [&str; 6] = [
    "license",
    "licence",
    "copying",
    "notice",
    "copyright",
    "unlicense",
];

const HEAD: &str = "\
The program outspan holds, in compiled form, the crates that are listed here. Their terms follow, each text once with
the crates that come with it. Where a crate offers a choice, any of its licences may be taken.
";

/// Lists the crates that are linked into the program, and their terms.
///
/// # Errors
///
/// When cargo does not know them, or a file cannot be read.
pub(super) fn of_program(root: &Path, features: &str) -> Result<String, String> {
    let metadata = Metadata::of_member(root, "crates/outspan-agent/Cargo.toml", features)?;
    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked(&metadata, "outspan-agent") {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see below");
        list.push_str(&format!("  {name}: {licence}\n"));
        for text in terms(package)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let mut blocks: Vec<(String, String)> = texts
        .into_iter()
        .map(|(text, crates)| (crates.join(", "), text))
        .collect();
    blocks.sort();
    let mut whole = format!("{HEAD}\n{list}");
    for (crates, text) in blocks {
        whole.push_str(&format!("\n{}\n{crates}\n\n{text}\n", "-".repeat(100)));
    }
    Ok(whole)
}

/// The packages of others that are linked into one of ours, by their names.
fn linked<'a>(metadata: &'a Metadata, program: &str) -> Vec<&'a Package> {
    let pairs = metadata.linked(|package| package.name == program);
    let foreign = pairs.into_iter().map(|(package, _)| package);
    let by_name: BTreeMap<_, _> = foreign
        .filter(|package| package.source.is_some())
        .map(|package| ((&package.name, &package.version), package))
        .collect();
    by_name.into_values().collect()
}

/// The texts of the terms that a package comes with.
fn terms(package: &Package) -> Result<Vec<String>, String> {
    let manifest = Path::new(&package.manifest_path);
    let folder = manifest.parent().unwrap_or(manifest);
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && is_terms(path))
        .collect();
    paths.sort();
    let texts = paths.iter().map(|path| {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        Ok(text.replace('\r', "").trim().to_owned())
    });
    texts.collect()
}

fn is_terms(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    !name.ends_with(".rs") && NAMES.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_name_what_is_linked_and_leave_out_what_only_builds() {
        let notices = of_program(&crate::repository::root(), "").expect("cargo knows them");
        for linked in [
            "\n  hyper 1.",
            "\n  zstd-sys 2.",
            "Permission is hereby granted",
        ] {
            assert!(notices.contains(linked), "{linked}");
        }
        for other in ["\n  syn ", "\n  proptest ", "\n  outspan ", "\n  rdkafka "] {
            assert!(!notices.contains(other), "{other}");
        }
        let with_kafka = of_program(&crate::repository::root(), "kafka");
        assert!(with_kafka.is_ok_and(|notices| notices.contains("\n  rdkafka ")));
    }

    #[test]
    fn terms_are_known_by_their_names() {
        for name in ["LICENSE", "LICENSE-MIT", "license.txt", "COPYING", "NOTICE"] {
            assert!(is_terms(Path::new(name)), "{name}");
        }
        for name in ["README.md", "licence.rs", "Cargo.toml"] {
            assert!(!is_terms(Path::new(name)), "{name}");
        }
    }
}
