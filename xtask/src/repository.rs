//! The files of this repository.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::command;

/// Directories of data that others wrote: it is kept as it came.
const FOREIGN_DATA: [&str; 3] = ["vectors", "seeds", "corpus"];

/// A text file of ours.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// Path from the root of the repository, with `/` between its parts.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) text: String,
}

/// The root of the repository, which is where the workspace's manifest is.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Every text file of ours that git knows or would add, in the order of their paths.
///
/// # Errors
///
/// When git cannot list the files, or one of them cannot be read.
pub(crate) fn text_files(root: &Path) -> Result<Vec<TextFile>, String> {
    let mut list = Command::new("git");
    list.current_dir(root);
    list.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let list = command::output(&mut list)?;
    let mut paths: Vec<&str> = list.split('\0').filter(|path| is_ours(path)).collect();
    paths.sort_unstable();
    paths.dedup();

    let mut files = Vec::new();
    for path in paths {
        let bytes = match fs::read(root.join(path)) {
            Ok(bytes) => bytes,
            // Deleted here, and git was not told yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("cannot read {path}: {error}")),
        };
        if let Ok(text) = String::from_utf8(bytes) {
            let path = path.to_owned();
            files.push(TextFile { path, text });
        }
    }
    Ok(files)
}

fn is_ours(path: &str) -> bool {
    // The lock file is cargo's, the licence is its authors'.
    let file = path.rsplit('/').next().unwrap_or(path);
    !path.is_empty()
        && !matches!(file, "Cargo.lock" | "LICENSE")
        && !path.split('/').any(|part| FOREIGN_DATA.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_others_is_left_alone() {
        assert!(is_ours("crates/outspan/src/lib.rs"));
        assert!(!is_ours(
            "crates/outspan-wire/tests/vectors/otlp/trace.json"
        ));
        assert!(!is_ours("fuzz/seeds/validate/one"));
        assert!(!is_ours("Cargo.lock"));
        assert!(!is_ours("fuzz/Cargo.lock"));
    }

    #[test]
    fn this_very_file_is_found_in_the_repository() {
        let files = text_files(&root()).expect("git lists the files");
        let own = files
            .iter()
            .find(|file| file.path == "xtask/src/repository.rs");
        let own = own.expect("the file is in the list");
        assert!(own.text.starts_with("//! The files of this repository."));
    }
}
