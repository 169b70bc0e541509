//! Each cargo feature alone, none of them, and all of them.
//!
//! A feature only adds; so each must compile without the others. cargo-hack checks every choice with clippy; the library
//! alone, because the tests' own dependencies may turn on features that a user did not. Tests run with a few choices:
//! the tests of the workspace have the common features on already.

use std::collections::BTreeSet;
use std::path::Path;

use crate::command;
use crate::metadata::Metadata;
use crate::metadata::Package;
use crate::openssl;
use crate::repository;
use crate::tool::Tool;

const HACK: Tool = Tool {
    name: "cargo-hack",
    version: "0.6.46",
};

/// The choices with which the library is tested beside those of the workspace's tests: nothing, and the SDK with one transport.
/// Each stands for tests that compile only without the others; that all features together work is tested as well.
const TESTED_ALONE: [&str; 2] = ["", "grpc,sdk"];

/// The test binaries in which features that are off by default change something. The workspace's tests run all others, with all
/// features but these.
const CHANGED: [&str; 4] = ["combinators", "kafka", "promises", "sdk"];

/// What is done with the choices of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Check,
    Test,
    Both,
}

/// Checks every published crate that has features in each of the ways, and tests a few of them.
///
/// # Errors
///
/// Names the first command that fails.
pub(crate) fn run(work: Work) -> Result<(), String> {
    let root = repository::root();
    let metadata = Metadata::of_manifest(&root, "Cargo.toml")?;
    let has_openssl = openssl::is_there();
    openssl::tell(has_openssl);
    let with_features = |package: &&Package| package.is_published() && has_features(package);
    let packages: Vec<&Package> = metadata.members().filter(with_features).collect();
    if work != Work::Test {
        for package in &packages {
            let mut cargo = HACK.cargo(&root)?;
            command::run(cargo.args(check(package, has_openssl)))?;
        }
    }
    if work != Work::Check {
        test(&root, &packages, has_openssl)?;
    }
    Ok(())
}

fn has_features(package: &Package) -> bool {
    package.features.keys().any(|name| name != "default")
}

/// The arguments that check one crate with none of its features, each one alone, and all.
///
/// Features whose name starts with `_` are shared parts of others, which nobody turns on by name. The one that needs OpenSSL
/// is left out where its headers are absent.
fn check(package: &Package, has_openssl: bool) -> Vec<String> {
    let left_out: Vec<&str> = package
        .features
        .keys()
        .map(String::as_str)
        .filter(|name| {
            *name == "default" || name.starts_with('_') || !openssl::allows(name, has_openssl)
        })
        .collect();
    let kind = match package.is_library() {
        true => "--lib",
        false => "--bins",
    };
    let mut arguments = vec![
        "clippy".to_owned(),
        "--locked".to_owned(),
        format!("--package={}", package.name),
        kind.to_owned(),
        "--each-feature".to_owned(),
    ];
    if !left_out.is_empty() {
        arguments.push(format!("--exclude-features={}", left_out.join(",")));
    }
    arguments.extend(["--", "-D", "warnings"].map(str::to_owned));
    arguments
}

/// Builds the tests of a few choices one after the other, and then runs those of all choices at once: they mostly wait.
fn test(root: &Path, packages: &[&Package], has_openssl: bool) -> Result<(), String> {
    let with_everything = || {
        let mut cargo = command::cargo(root);
        cargo.args(["test", "--locked"]);
        for package in packages {
            cargo.arg(format!("--package={}", package.name));
        }
        cargo.args(openssl::all_features(packages.iter().copied(), has_openssl));
        cargo
    };
    let alone = |features: &str| {
        let mut alone = command::cargo(root);
        alone.args(["test", "--locked", "--package=outspan"]);
        alone.args(["--no-default-features", "--features", features]);
        // Documentation shows whole programs, most of which need more.
        alone.args(["--lib", "--tests"]);
        alone
    };
    let commands = || {
        let mut everything = with_everything();
        everything.arg("--lib").args(binaries(packages));
        std::iter::once(everything).chain(TESTED_ALONE.map(alone))
    };
    for mut command in commands() {
        command::run(command.arg("--no-run"))?;
    }
    command::run_at_once(commands().collect())?;
    command::run(with_everything().arg("--doc"))
}

/// The arguments that name the test binaries which features change.
fn binaries(packages: &[&Package]) -> Vec<String> {
    let targets = packages.iter().flat_map(|package| &package.targets);
    let tests = targets.filter(|target| target.kind.iter().any(|kind| kind == "test"));
    let names = tests.map(|target| target.name.as_str());
    let names: BTreeSet<&str> = names.filter(|name| CHANGED.contains(name)).collect();
    names.iter().map(|name| format!("--test={name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Target;

    fn package(features: &[&str]) -> Package {
        Package {
            name: "a".to_owned(),
            features: features
                .iter()
                .map(|name| ((*name).to_owned(), Vec::new()))
                .collect(),
            ..Package::default()
        }
    }

    #[test]
    fn each_feature_is_checked_but_the_shared_parts() {
        let package = package(&["_network", "default", "grpc", "kafka-tls"]);
        let line = check(&package, true).join(" ");
        assert!(line.contains("clippy --locked --package=a --bins --each-feature"));
        assert!(
            line.contains("--exclude-features=_network,default --"),
            "{line}"
        );
        let line = check(&package, false).join(" ");
        assert!(
            line.contains("--exclude-features=_network,default,kafka-tls --"),
            "{line}"
        );
    }

    #[test]
    fn a_library_is_checked_without_its_tests() {
        let mut package = package(&["kafka"]);
        package.targets.push(Target {
            name: "a".to_owned(),
            kind: vec!["lib".to_owned()],
        });
        let line = check(&package, true).join(" ");
        assert!(line.contains("--lib"), "{line}");
        assert!(!line.contains("--exclude-features"), "{line}");
    }

    #[test]
    fn only_tests_that_features_change_run_again_with_all_of_them() {
        let mut package = package(&["kafka"]);
        for name in ["kafka", "memory", "kafka"] {
            package.targets.push(Target {
                name: name.to_owned(),
                kind: vec!["test".to_owned()],
            });
        }
        assert_eq!(binaries(&[&package]), ["--test=kafka"]);
    }

    #[test]
    fn a_crate_without_features_needs_no_run_of_its_own() {
        assert!(!has_features(&package(&[])));
        assert!(!has_features(&package(&["default"])));
        assert!(has_features(&package(&["default", "kafka"])));
    }
}
