//! The public API of the libraries, as it is kept in `xtask/api`: a change of it is seen in review, and a crate of others
//! gets into it on purpose only, because a new major version of such a crate breaks those who use ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use public_api::Builder;

use crate::command;
use crate::repository;

/// A library whose API others build on.
struct Library {
    name: &'static str,
    /// Everything that adds to the API. `kafka-tls` adds nothing, and needs OpenSSL.
    features: &'static str,
    /// Crates of others that may stand in its API, each with the reason.
    foreign: &'static [(&'static str, &'static str)],
}

const LIBRARIES: [Library; 3] = [
    Library {
        name: "outspan-wire",
        features: "",
        foreign: &[("bytes", "what is encoded is shared, not copied")],
    },
    Library {
        name: "outspan",
        features: "grpc,http,jaeger,kafka,metrics,prometheus,sdk,zipkin",
        foreign: &[
            ("bytes", "what is encoded is shared, not copied"),
            ("opentelemetry", "metrics go to a meter of the program's"),
            (
                "opentelemetry_sdk",
                "processors and exporters fit into the SDK",
            ),
            ("prometheus", "a registry of the program's collects"),
            ("tokio", "times are those of a clock that tests can stop"),
        ],
    },
    Library {
        name: "outspan-testkit",
        features: "",
        foreign: &[
            ("bytes", "a message as it arrived"),
            ("http", "its headers as they arrived"),
            (
                "opentelemetry_proto",
                "what arrived is what somebody else's types hold",
            ),
            ("tokio", "times are those of a clock that tests can stop"),
        ],
    },
];

/// Our own crates and those of the language.
const OWN: [&str; 6] = [
    "alloc",
    "core",
    "std",
    "outspan",
    "outspan_testkit",
    "outspan_wire",
];

/// Types of the language that have methods of ours.
const PRIMITIVE: [&str; 6] = ["bool", "f64", "i32", "i64", "str", "u32"];

/// Lines of a difference that are shown.
const LINES_MAX: usize = 50;

/// Holds the API of each library to what is kept of it, or keeps it anew.
///
/// # Errors
///
/// When an API is another than is kept, or has types of a crate that is not listed here.
pub(crate) fn run(keep: bool) -> Result<(), String> {
    let root = repository::root();
    let mut problems = Vec::new();
    for library in &LIBRARIES {
        let items = items(&root, library)?;
        problems.extend(strangers(library, &items));
        let kept = root.join(format!("xtask/api/{}.txt", library.name));
        let text = items.join("\n") + "\n";
        if keep {
            fs::write(&kept, text).map_err(|error| about("write", &kept, &error))?;
            continue;
        }
        let before = fs::read_to_string(&kept).map_err(|error| about("read", &kept, &error))?;
        problems.extend(changes(library.name, &before, &text));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the public API is another than is kept; if that is meant, `cargo xtask api --keep` keeps it:\n{}",
        problems.join("\n")
    ))
}

fn about(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

/// Every public item of a library in the words of its declaration, in order.
fn items(root: &Path, library: &Library) -> Result<Vec<String>, String> {
    let mut cargo = command::cargo(root);
    cargo.args(["rustdoc", "--locked", "--lib", "--package", library.name]);
    cargo.args(["--features", library.features]);
    cargo.env("RUSTDOC", rustdoc(root)?);
    cargo.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    command::run(&mut cargo)?;

    let file = format!("target/doc/{}.json", library.name.replace('-', "_"));
    let api = Builder::from_rustdoc_json(root.join(&file))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .map_err(|error| {
            format!("cannot read {file}, which this version of rustdoc wrote: {error}")
        })?;
    let items = api.items().map(ToString::to_string);
    Ok(items.filter(|item| !item.is_empty()).collect())
}

/// A rustdoc that knows JSON: the one of the toolchain, with what it takes to be asked for it on stable. Cargo itself
/// runs as always, so that nothing is compiled anew.
fn rustdoc(root: &Path) -> Result<PathBuf, String> {
    use std::os::unix::fs::PermissionsExt;

    let script = root.join("target/rustdoc-json");
    fs::write(
        &script,
        "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n",
    )
    .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
    .map_err(|error| about("write", &script, &error))?;
    Ok(script)
}

/// What is wrong with the crates of others in an API.
fn strangers(library: &Library, items: &[String]) -> Vec<String> {
    let found: BTreeSet<&str> = items.iter().flat_map(|item| roots(item)).collect();
    let allowed: BTreeSet<&str> = library.foreign.iter().map(|(name, _)| *name).collect();
    let unlisted = found.difference(&allowed).map(|name| {
        let item = items.iter().find(|item| roots(item).contains(name));
        let item = item.map_or("", String::as_str);
        format!(
            "{}: {name} is in the API and not in xtask/src/api.rs: {item}",
            library.name
        )
    });
    let gone = allowed.difference(&found).map(|name| {
        format!(
            "{}: {name} is in xtask/src/api.rs and not in the API",
            library.name
        )
    });
    unlisted.chain(gone).collect()
}

/// The crates of others that a declaration names: what stands first in a path.
fn roots(item: &str) -> BTreeSet<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    item.match_indices("::")
        .filter_map(|(at, _)| {
            let before = &item[..at];
            let word = before.trim_end_matches(is_word);
            let root = &before[word.len()..];
            let is_first = !word.ends_with("::") && !root.is_empty();
            let is_ours = OWN.contains(&root) || PRIMITIVE.contains(&root);
            (is_first && !is_ours).then_some(root)
        })
        .filter(|root| root.starts_with(|first: char| first.is_lowercase()))
        .collect()
}

/// Which lines are gone and which have come, at most a number of them.
fn changes(name: &str, before: &str, now: &str) -> Vec<String> {
    let old: BTreeSet<&str> = before.lines().collect();
    let new: BTreeSet<&str> = now.lines().collect();
    let gone = old.difference(&new).map(|line| format!("{name}: - {line}"));
    let come = new.difference(&old).map(|line| format!("{name}: + {line}"));
    gone.chain(come).take(LINES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_of_a_declaration_are_what_paths_begin_with() {
        let item = "pub fn outspan::http::Post::send(&self, core::option::Option<http::Uri>) -> bytes::Bytes";
        assert_eq!(roots(item), BTreeSet::from(["bytes", "http"]));
        assert!(roots("pub fn outspan::x<T: Tokens>(T::Output) -> Self::Error").is_empty());
    }

    #[test]
    fn a_crate_that_nobody_allowed_is_a_problem_and_so_is_one_that_is_gone() {
        let library = Library {
            name: "outspan",
            features: "",
            foreign: &[("bytes", "why not")],
        };
        let items = ["pub fn outspan::x() -> http::Uri".to_owned()];
        let problems = strangers(&library, &items);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("http is in the API"), "{problems:?}");
        assert!(problems[1].contains("bytes is in xtask"), "{problems:?}");
    }

    #[test]
    fn a_change_shows_what_is_gone_and_what_has_come() {
        let changes = changes("outspan", "a\nb\n", "b\nc\n");
        assert_eq!(changes, ["outspan: - a", "outspan: + c"]);
    }
}
