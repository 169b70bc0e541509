//! The oldest versions of direct dependencies that the manifests allow.
//!
//! Whoever depends on our crates may have older versions of theirs than `Cargo.lock` names, down to those in the
//! manifests: these have to do.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command;
use crate::repository;

/// What users depend on, with everything that can be turned on and needs no more than a C compiler.
const FEATURES: [(&str, &str); 3] = [
    ("outspan-wire", ""),
    (
        "outspan",
        "outspan/grpc,outspan/http,outspan/jaeger,outspan/kafka,outspan/metrics,outspan/prometheus,outspan/sdk,outspan/zipkin",
    ),
    ("outspan-agent", "outspan-agent/kafka"),
];

/// Checks the crates with the oldest versions allowed, in a copy of the repository.
///
/// # Errors
///
/// When no such set of versions exists, or one of the crates does not compile with it.
pub(crate) fn run() -> Result<(), String> {
    let root = repository::root();
    let copy = root.join("target/minimal");
    copy_to(&root, &copy)?;

    let mut update = command::cargo(&copy);
    update.env("RUSTC_BOOTSTRAP", "1");
    command::run(update.args(["update", "-Z", "direct-minimal-versions"]))?;

    let mut check = command::cargo(&copy);
    check.args(["check", "--locked", "--lib", "--bins", "--target-dir"]);
    check.arg(root.join("target"));
    for (package, features) in FEATURES {
        check.args(["--package", package, "--features", features]);
    }
    command::run(&mut check)
}

/// Copies every file that git knows.
fn copy_to(root: &Path, copy: &Path) -> Result<(), String> {
    let mut list = Command::new("git");
    list.current_dir(root).args(["ls-files", "-z"]);
    let list = command::output(&mut list)?;
    if copy.exists() {
        fs::remove_dir_all(copy)
            .map_err(|error| format!("cannot remove {}: {error}", copy.display()))?;
    }
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        let from = root.join(path);
        // Deleted here and git was not told, or a link to a folder.
        if !from.is_file() {
            continue;
        }
        let to = copy.join(path);
        to.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::copy(&from, &to).map(drop))
            .map_err(|error| format!("cannot copy {path}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_what_cargo_needs_and_nothing_that_was_built() {
        let copy = repository::root().join("target/minimal-test");
        copy_to(&repository::root(), &copy).expect("it can be copied");
        assert!(copy.join("Cargo.toml").is_file());
        assert!(copy.join("crates/outspan/LICENSE").is_file());
        assert!(!copy.join("target").exists());
        fs::remove_dir_all(&copy).expect("it was made here");
    }
}
