//! The names of all tests, read from the sources without building them.

use std::collections::BTreeSet;

use crate::repository::TextFile;
use crate::rust::Source;

/// The file with the list of the promises that `promises!` makes a test of each.
const PROMISES: &str = "crates/outspan-testkit/src/promises/runner.rs";

/// The modules that `over_each_wire!` makes.
const WIRES: [&str; 3] = ["grpc", "http_protobuf", "http_json"];

/// The page that has a row for each case of `interop/run`, which holds it to that.
const CASES: &str = "docs/compatibility.md";

/// Every test, as the name of its binary and its path in there; cases as if `interop` were a binary.
pub(super) fn tests(files: &[TextFile]) -> BTreeSet<String> {
    let promises = files.iter().find(|file| file.path == PROMISES);
    let promises = promises.map_or_else(Vec::new, |file| promises_in(&file.text));
    let mut names = BTreeSet::new();
    for file in files {
        let Some(place) = place_of(&file.path) else {
            continue;
        };
        let mut scan = Scan::new(place, &promises, &mut names);
        for line in &Source::of(&file.text).code {
            scan.line(line);
        }
    }
    let cases = files.iter().find(|file| file.path == CASES);
    names.extend(cases.into_iter().flat_map(|page| cases_in(&page.text)));
    names
}

/// The names that stand between backticks in the first cells of tables.
fn cases_in(page: &str) -> impl Iterator<Item = String> {
    page.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("| `")?.split_once("` |")?;
        Some(format!("interop::{name}"))
    })
}

/// The binary and the modules that a file is, for instance `outspan` and `queue`.
fn place_of(path: &str) -> Option<Vec<String>> {
    let path = path.strip_suffix(".rs")?;
    let parts: Vec<&str> = path.split('/').collect();
    let (mut place, modules) = match parts.as_slice() {
        ["crates", package, "src", modules @ ..] | [package, "src", modules @ ..] => {
            (vec![package.replace('-', "_")], modules)
        }
        ["crates", _, "tests", modules @ ..] => (Vec::new(), modules),
        _ => return None,
    };
    let modules = match modules {
        [modules @ .., "lib" | "main" | "mod"] => modules,
        modules => modules,
    };
    place.extend(modules.iter().map(|module| (*module).to_owned()));
    Some(place)
}

/// The identifiers that stand alone on their lines, after the line that lists the exemptions.
fn promises_in(source: &str) -> Vec<String> {
    let lines = source.lines().map(str::trim);
    let lines = lines.skip_while(|line| !line.starts_with("$crate::promises!(@tests"));
    let names = lines.skip(1).take_while(|line| is_name(line));
    names.map(str::to_owned).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_part_of_name)
}

fn is_part_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The walk over the lines of one file, whose comments and texts are blank.
struct Scan<'a> {
    /// The binary, the modules of the file, and those that are open inside it.
    place: Vec<String>,
    /// The depth outside of each open module of the file.
    modules: Vec<usize>,
    depth: usize,
    /// The depth outside of the macro whose definition is open.
    definition: Option<usize>,
    /// An attribute said that the next function is a test.
    is_test: bool,
    /// The names in the brackets of `over_each_wire!` are tests.
    over_wires: bool,
    promises: &'a [String],
    names: &'a mut BTreeSet<String>,
}

impl<'a> Scan<'a> {
    fn new(place: Vec<String>, promises: &'a [String], names: &'a mut BTreeSet<String>) -> Self {
        Self {
            place,
            modules: Vec::new(),
            depth: 0,
            definition: None,
            is_test: false,
            over_wires: false,
            promises,
            names,
        }
    }

    fn line(&mut self, line: &str) {
        let trimmed = line.trim();
        if self.definition.is_none() {
            self.items(trimmed);
        }
        if trimmed.starts_with("macro_rules!") && self.definition.is_none() {
            self.definition = Some(self.depth);
        }
        for character in line.chars() {
            match character {
                '{' => self.depth += 1,
                '}' => self.close(),
                _ => {}
            }
        }
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.definition == Some(self.depth) {
            self.definition = None;
        }
        if self.modules.last() == Some(&self.depth) {
            self.modules.pop();
            self.place.pop();
        }
    }

    fn items(&mut self, line: &str) {
        if self.over_wires {
            self.wires(line);
        } else if let Some((_, names)) = line.split_once("over_each_wire!") {
            self.over_wires = true;
            self.wires(names);
        } else if line.contains("promises!(") || line.starts_with("promises_of_") {
            for promise in self.promises {
                self.names.insert(self.name_of(promise));
            }
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            self.is_test = true;
        } else if let Some(name) = word_after(line, "fn ") {
            if std::mem::take(&mut self.is_test) {
                self.names.insert(self.name_of(name));
            }
        } else if line.ends_with('{')
            && let Some(name) = word_after(line, "mod ")
        {
            self.modules.push(self.depth);
            self.place.push(name.to_owned());
        }
    }

    fn wires(&mut self, line: &str) {
        let words = line.split(|character| !is_part_of_name(character));
        for name in words.filter(|word| !word.is_empty()) {
            for wire in WIRES {
                self.names.insert(self.name_of(&format!("{wire}::{name}")));
            }
        }
        self.over_wires = !line.contains([']', ')', '}']);
    }

    fn name_of(&self, name: &str) -> String {
        format!("{}::{name}", self.place.join("::"))
    }
}

/// The name behind a keyword that begins a line or follows `pub`, `async` and the like.
fn word_after<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    let (before, after) = line.split_once(keyword)?;
    let keywords = before
        .chars()
        .all(|it| is_part_of_name(it) || matches!(it, ' ' | '(' | ')'));
    let end = after.find(|it| !is_part_of_name(it)).unwrap_or(after.len());
    let name = after.get(..end)?;
    (keywords && !name.is_empty() && (before.is_empty() || before.ends_with(' '))).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sources: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<TextFile> = sources
            .iter()
            .map(|(path, text)| TextFile {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        tests(&files).into_iter().collect()
    }

    #[test]
    fn tests_are_named_by_their_binary_and_their_modules() {
        let source = "
#[test]
fn first() {}

fn helper() {}

// #[test]
fn commented() {}

mod inner {
    #[tokio::test(start_paused = true)]
    #[cfg(unix)]
    async fn second() {
        let text = \"}\";
    }
}

#[test]
fn third() {}
";
        assert_eq!(
            names(&[("crates/a-b/src/queue/mod.rs", source)]),
            [
                "a_b::queue::first",
                "a_b::queue::inner::second",
                "a_b::queue::third"
            ]
        );
        assert_eq!(
            names(&[("crates/a-b/tests/otlp/main.rs", source)])[0],
            "otlp::first"
        );
        assert_eq!(
            names(&[("crates/a-b/tests/retry.rs", source)])[0],
            "retry::first"
        );
        assert_eq!(names(&[("xtask/src/main.rs", source)])[0], "xtask::first");
        assert_eq!(names(&[("docs/retry.md", source)]), [""; 0]);
    }

    #[test]
    fn cases_of_interop_are_those_with_a_row() {
        let page = "
`in-a-text` is none.

| with | cases |
| case | what it shows |
| `zipkin-json` | spans to `Zipkin` |
";
        assert_eq!(names(&[(CASES, page)]), ["interop::zipkin-json"]);
    }

    #[test]
    fn tests_over_each_wire_are_three() {
        let source =
            "over_each_wire![\n    waits,\n    gives_up,\n];\n\nasync fn waits(wire: Wire) {}\n";
        let names = names(&[("crates/a/tests/otlp/retries.rs", source)]);
        assert_eq!(names.len(), 6);
        assert_eq!(names[1], "otlp::retries::grpc::waits");
    }

    #[test]
    fn each_promise_is_a_test_where_promises_are_made_and_none_in_a_definition() {
        let list = "
macro_rules! promises {
    ($rig:expr) => {
        $crate::promises!(@tests $rig, [],
            delivers
            drains
        );
    };
}
";
        let source = "
macro_rules! promises_of_files {
    ($rig:expr) => {
        outspan_testkit::promises!($rig);
    };
}

mod lines {
    promises_of_files!(Rig::new());
}
";
        let files = [(PROMISES, list), ("crates/a/tests/files.rs", source)];
        assert_eq!(
            names(&files),
            ["files::lines::delivers", "files::lines::drains"]
        );
    }
}
