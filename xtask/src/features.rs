//! Each cargo feature alone, none of them, and all of them.
//!
//! A feature only adds; so each must compile without the others, and what it adds must be tested
//! without them. The library is first checked by itself, because its own tests may turn on, by what
//! they depend on, features that a user did not.

use std::path::Path;

use crate::command;
use crate::metadata::Metadata;
use crate::metadata::Package;
use crate::openssl;
use crate::repository;

/// Checks and, when asked to, tests every published crate that has features in each of the ways.
///
/// # Errors
///
/// Names the first command that fails.
pub(crate) fn run(tests: bool) -> Result<(), String> {
    let root = repository::root();
    let metadata = Metadata::of_manifest(&root, "Cargo.toml")?;
    let has_openssl = openssl::is_there();
    openssl::tell(has_openssl);
    for package in metadata.members().filter(|package| package.is_published()) {
        for choice in choices(package, has_openssl) {
            check(&root, package, &choice)?;
            if tests && is_tested(package, &choice) {
                test(&root, package, &choice)?;
            }
        }
    }
    Ok(())
}

/// The arguments that choose features: none, each alone, all. Nothing for a crate without features.
///
/// Those whose name starts with `_` are shared parts of others, which nobody turns on by name. What needs OpenSSL is left
/// out where it is not there.
fn choices(package: &Package, has_openssl: bool) -> Vec<Vec<String>> {
    let features = package.features.keys();
    let each: Vec<Vec<String>> = features
        .filter(|name| *name != "default" && !name.starts_with('_'))
        .filter(|name| openssl::allows(name, has_openssl))
        .map(|feature| {
            let arguments = ["--no-default-features", "--features", feature];
            arguments.map(str::to_owned).to_vec()
        })
        .collect();
    if each.is_empty() {
        return each;
    }
    let mut choices = vec![vec!["--no-default-features".to_owned()]];
    choices.extend(each);
    choices.push(openssl::all_features(std::iter::once(package), has_openssl));
    choices
}

/// A library is tested in every choice, because others depend on it in each. A program is run as it was built, with or without
/// what is optional: its tests without are those of the workspace, and here those with everything.
fn is_tested(package: &Package, choice: &[String]) -> bool {
    !package.is_program() || !choice.contains(&"--no-default-features".to_owned())
}

fn check(root: &Path, package: &Package, choice: &[String]) -> Result<(), String> {
    let kind = if package.is_library() {
        "--lib"
    } else {
        "--bins"
    };
    let mut cargo = command::cargo(root);
    cargo.args(["clippy", "--locked", "--package", &package.name, kind]);
    cargo.args(choice).args(["--", "-D", "warnings"]);
    command::run(&mut cargo)
}

fn test(root: &Path, package: &Package, choice: &[String]) -> Result<(), String> {
    let mut cargo = command::cargo(root);
    cargo.args(["test", "--locked", "--package", &package.name]);
    command::run(cargo.args(choice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Target;

    fn package(features: &[&str]) -> Package {
        Package {
            features: features
                .iter()
                .map(|name| ((*name).to_owned(), Vec::new()))
                .collect(),
            ..Package::default()
        }
    }

    #[test]
    fn each_feature_stands_alone_between_none_and_all() {
        let package = package(&["_network", "default", "grpc", "http"]);
        let lines: Vec<String> = choices(&package, true)
            .iter()
            .map(|choice| choice.join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "--no-default-features",
                "--no-default-features --features grpc",
                "--no-default-features --features http",
                "--all-features"
            ]
        );
    }

    #[test]
    fn a_crate_without_features_needs_no_run_of_its_own() {
        assert!(choices(&package(&[]), true).is_empty());
        assert!(choices(&package(&["default"]), true).is_empty());
    }

    #[test]
    fn a_program_is_tested_with_everything_and_a_library_in_every_choice() {
        let library = package(&["kafka"]);
        let mut program = package(&["kafka"]);
        program.targets.push(Target {
            name: "outspan".to_owned(),
            kind: vec!["bin".to_owned()],
        });
        let tested = |package: &Package| {
            let choices = choices(package, true);
            let tested = choices.iter().filter(|choice| is_tested(package, choice));
            tested.map(|choice| choice.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(tested(&library).len(), 3);
        assert_eq!(tested(&program), ["--all-features"]);
    }

    #[test]
    fn what_needs_openssl_is_left_out_where_it_is_not_there() {
        let package = package(&["kafka", "kafka-tls"]);
        assert_eq!(choices(&package, true).len(), 4);
        let without = choices(&package, false);
        assert_eq!(without.len(), 3);
        let mut arguments = without.iter().flatten();
        assert!(arguments.all(|argument| !argument.contains("kafka-tls")));
    }
}
