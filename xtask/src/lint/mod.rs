//! Everything CI asks of the source.

mod circles;
mod dependencies;
mod imports;
mod licence;
mod manifests;
mod modules;
mod places;
mod sleeps;
mod unfinished;
mod uses;
mod words;

use std::path::Path;

use crate::command;
use crate::conformance;
use crate::exceptions::Exceptions;
use crate::finding::Finding;
use crate::metadata::Metadata;
use crate::openssl;
use crate::repository;
use crate::repository::TextFile;

/// The rules over text that stand in no other module's hands.
const TEXT_RULES: [&str; 10] = [
    words::RULE,
    places::PATH_RULE,
    places::HOST_RULE,
    unfinished::RULE,
    sleeps::RULE,
    imports::RULE,
    modules::RULE,
    circles::CIRCLE_RULE,
    circles::UPWARD_RULE,
    conformance::RULE,
];
const MANIFEST_RULES: [&str; 1] = [manifests::RULE];
const DEPENDENCY_RULES: [&str; 3] = [
    dependencies::LICENCE_RULE,
    dependencies::SOURCE_RULE,
    dependencies::DUPLICATE_RULE,
];

/// One kind of check, in the order in which they run: the quick ones first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Text,
    Manifests,
    Dependencies,
    Fmt,
    Clippy,
    Docs,
}

/// Runs the given parts, all of them even when one fails, and lists what is wrong.
///
/// # Errors
///
/// Names the parts that found something; what they found was printed.
pub(crate) fn run(parts: &[Part]) -> Result<(), String> {
    let root = repository::root();
    let mut exceptions = Exceptions::read(&root)?;
    let mut failed = Vec::new();
    for part in parts {
        if let Err(message) = part.run(&root, &mut exceptions) {
            eprintln!("{message}");
            failed.push(part.name());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("lint found something in: {}", failed.join(", ")))
}

impl Part {
    /// Every part there is.
    pub(crate) const ALL: [Self; 6] = [
        Self::Text,
        Self::Manifests,
        Self::Dependencies,
        Self::Fmt,
        Self::Clippy,
        Self::Docs,
    ];

    /// The part of that name.
    ///
    /// # Errors
    ///
    /// Lists the names when it is none of them.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|part| part.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown part `{name}`: there are {names}")
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Manifests => "manifests",
            Self::Dependencies => "dependencies",
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
        }
    }

    fn run(self, root: &Path, exceptions: &mut Exceptions) -> Result<(), String> {
        match self {
            Self::Text => {
                let mut findings = text_findings(&repository::text_files(root)?);
                findings.extend(exceptions.unknown(&all_rules()));
                report(findings, &TEXT_RULES, exceptions)
            }
            Self::Manifests => {
                let files = repository::text_files(root)?;
                report(manifests::check(&files), &MANIFEST_RULES, exceptions)
            }
            Self::Dependencies => {
                let metadata = Metadata::of_workspace(root)?;
                report(
                    dependencies::check(&metadata),
                    &DEPENDENCY_RULES,
                    exceptions,
                )
            }
            Self::Fmt => format(root),
            Self::Clippy => clippy(root),
            Self::Docs => docs(root),
        }
    }
}

fn all_rules() -> Vec<&'static str> {
    [&TEXT_RULES[..], &MANIFEST_RULES[..], &DEPENDENCY_RULES[..]].concat()
}

fn text_findings(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        findings.extend(places::check(file));
        // The rules and their tests quote what they forbid.
        if file.path.starts_with("xtask/src/lint/") {
            continue;
        }
        findings.extend(words::check(file));
        findings.extend(unfinished::check(file));
        findings.extend(sleeps::check(file));
        findings.extend(imports::check(file));
    }
    findings.extend(modules::check(files));
    findings.extend(circles::check(files));
    findings.extend(conformance::check(files));
    findings
}

/// Prints what the exceptions leave of the findings, and what they list for nothing.
fn report(
    findings: Vec<Finding>,
    rules: &[&str],
    exceptions: &mut Exceptions,
) -> Result<(), String> {
    let mut findings = exceptions.excuse(findings);
    findings.extend(exceptions.unused(rules));
    if findings.is_empty() {
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    Err(format!("{} in all", findings.len()))
}

fn format(root: &Path) -> Result<(), String> {
    command::run(command::cargo(root).args(["fmt", "--all", "--check"]))?;
    // The fuzz targets have a workspace of their own.
    let mut fuzz = command::cargo(root);
    command::run(fuzz.args(["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]))
}

fn clippy(root: &Path) -> Result<(), String> {
    let metadata = Metadata::of_manifest(root, "Cargo.toml")?;
    let has_openssl = openssl::is_there();
    openssl::tell(has_openssl);
    let mut cargo = command::cargo(root);
    cargo.args(["clippy", "--locked", "--workspace", "--all-targets"]);
    cargo.args(openssl::all_features(metadata.members(), has_openssl));
    command::run(cargo.args(["--", "-D", "warnings"]))
}

/// Documents the libraries. The program's name is that of the library, and cargo would write the
/// pages of both into the same directory.
fn docs(root: &Path) -> Result<(), String> {
    let metadata = Metadata::of_manifest(root, "Cargo.toml")?;
    let libraries = || metadata.members().filter(|package| package.is_library());
    let mut cargo = command::cargo(root);
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    cargo.args(["doc", "--locked", "--no-deps", "--lib"]);
    cargo.args(openssl::all_features(libraries(), openssl::is_there()));
    for library in libraries() {
        cargo.args(["--package", &library.name]);
    }
    command::run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn every_part_is_found_by_its_name() {
        for part in Part::ALL {
            assert_eq!(Part::named(part.name()), Ok(part));
        }
        assert!(Part::named("everything").is_err());
    }

    #[test]
    fn every_rule_over_text_is_asked() {
        let broken = format!(
            "\
use std::{{fmt, io}};

/// Writes to a sink. TODO
fn read() {{
    open(\"{path}file\", \"{host}\");
}}

#[test]
fn waits() {{
    std::thread::sleep(wait);
}}
",
            path = places::PATHS[0],
            host = places::HOSTS[0],
        );
        let findings = text_findings(&[
            file("crates/a/src/b.rs", &broken),
            file(
                "crates/a/src/lib.rs",
                "mod c { use crate::d::f; } mod d { use crate::c; fn f() {} }",
            ),
            file(
                "crates/outspan/src/lib.rs",
                "mod batch { use crate::combinators::f; } mod combinators { fn f() {} }",
            ),
        ]);
        for rule in TEXT_RULES {
            let found = findings.iter().any(|finding| finding.rule == rule);
            assert!(found, "{rule} is not among {findings:?}");
        }
    }

    #[test]
    fn a_finding_fails_the_part_unless_it_is_excused() {
        let mut exceptions = Exceptions::default();
        let finding = || Finding {
            rule: words::RULE,
            place: "a.md".to_owned(),
            line: 3,
            text: "say exporter".to_owned(),
        };
        assert_eq!(finding().to_string(), "a.md:3: word: say exporter");
        assert!(report(vec![finding()], &TEXT_RULES, &mut exceptions).is_err());
        assert!(report(Vec::new(), &TEXT_RULES, &mut exceptions).is_ok());
    }
}
