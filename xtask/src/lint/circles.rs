//! Sibling modules form no circles, and none uses one that stands above it.
//!
//! Looked at are the first two levels of each crate: the modules of the crate, and the modules of each of those. A module
//! stands for everything in it, so a parent and its children count as one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Finding;
use super::uses::Arrows;
use super::uses::Modules;
use super::uses::way;
use crate::repository::TextFile;

pub(super) const CIRCLE_RULE: &str = "circle";
pub(super) const UPWARD_RULE: &str = "upward";

/// A module that others of its crate stand below: none of them uses it, not even through a third one.
struct Order {
    directory: &'static str,
    above: &'static str,
    below: &'static [&'static str],
}

const ORDERS: [Order; 1] = [Order {
    directory: "crates/outspan/src/",
    above: "combinators",
    below: &["batch", "engine", "export", "net"],
}];

/// Finds circles between modules and arrows that go up, in each crate of the repository.
pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    let texts: BTreeMap<&str, &str> = files
        .iter()
        .map(|file| (file.path.as_str(), file.text.as_str()))
        .collect();
    let mut findings = Vec::new();
    for root in texts.keys() {
        let Some((directory, "lib.rs" | "main.rs")) = root.rsplit_once('/') else {
            continue;
        };
        if !directory.ends_with("/src") {
            continue;
        }
        let directory = format!("{directory}/");
        match Modules::read(root, &directory, &texts) {
            Ok(modules) => {
                findings.extend(circles(&modules, &directory));
                let orders = ORDERS.iter().filter(|order| order.directory == directory);
                findings.extend(orders.flat_map(|order| upward(&modules, order)));
            }
            Err((place, text)) => findings.push(Finding {
                rule: CIRCLE_RULE,
                place,
                line: 0,
                text,
            }),
        }
    }
    findings
}

fn circles(modules: &Modules, directory: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for depth in [1, 2] {
        let mut arrows = modules.arrows(depth);
        // One circle after the other, without its first arrow the next time: each is shown by what makes it.
        while let Some(circle) = shortest_circle(&arrows) {
            let words = words_of(modules, &circle, &arrows, directory);
            let text = format!("modules form a circle: {words} move what both need below both");
            findings.push(finding(CIRCLE_RULE, &circle, &arrows, text));
            let first = (circle[0], circle[1]);
            arrows.remove(&first);
        }
    }
    findings
}

/// A shortest circle, its first module at both ends.
fn shortest_circle(arrows: &Arrows) -> Option<Vec<usize>> {
    let starts: BTreeSet<usize> = arrows.keys().map(|(from, _)| *from).collect();
    let circles = starts
        .into_iter()
        .filter_map(|start| way(arrows, start, start));
    circles.min_by_key(Vec::len)
}

fn upward(modules: &Modules, order: &Order) -> Vec<Finding> {
    let arrows = modules.arrows_as_written();
    let Order {
        directory,
        above,
        below,
    } = order;
    let mut findings = Vec::new();
    for name in *below {
        // A name that is gone would let every arrow pass.
        let (Some(from), Some(to)) = (modules.top(name), modules.top(above)) else {
            findings.push(Finding {
                rule: UPWARD_RULE,
                place: (*directory).to_owned(),
                line: 0,
                text: format!("`{name}` or `{above}` is no module: correct the order in the lint"),
            });
            continue;
        };
        if let Some(way) = way(&arrows, from, to) {
            let words = words_of(modules, &way, &arrows, directory);
            let text =
                format!("`{name}` stands below `{above}`: {words} move what it needs below both");
            findings.push(finding(UPWARD_RULE, &way, &arrows, text));
        }
    }
    findings
}

/// Each arrow of a way, with where it is.
fn words_of(modules: &Modules, way: &[usize], arrows: &Arrows, directory: &str) -> String {
    let pairs = way.windows(2).map(|pair| {
        let arrow = &arrows[&(pair[0], pair[1])];
        format!(
            "{} uses {} (`{}` in {}:{});",
            modules.path(pair[0]),
            modules.path(pair[1]),
            arrow.path,
            arrow.file.trim_start_matches(directory),
            arrow.line
        )
    });
    pairs.collect::<Vec<_>>().join(" ")
}

/// A finding at the first arrow of a way.
fn finding(rule: &'static str, way: &[usize], arrows: &Arrows, text: String) -> Finding {
    let arrow = &arrows[&(way[0], way[1])];
    Finding {
        rule,
        place: arrow.file.clone(),
        line: arrow.line,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (format!("crates/a/src/{path}"), *text))
            .collect();
        let files: Vec<_> = files.iter().map(|(path, text)| (&**path, *text)).collect();
        check_at(&files)
    }

    fn check_at(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<TextFile> = files
            .iter()
            .map(|(path, text)| TextFile {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        let found = check(&files);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn planted_circle_is_found_with_its_arrows() {
        let found = findings(&[
            ("lib.rs", "mod b;\nmod c;\nmod d;"),
            ("b.rs", "use crate::c::One;\nstruct Two;"),
            ("c.rs", "struct One;\nfn f() -> crate::d::Three { }"),
            ("d/mod.rs", "mod inner;"),
            ("d/inner.rs", "use super::super::b::Two;"),
        ]);
        let [found] = &found[..] else {
            panic!("{found:#?}");
        };
        for words in [
            "b uses c (`crate::c::One` in b.rs:1)",
            "c uses d (`crate::d::Three` in c.rs:2)",
            "d uses b (`super::super::b::Two` in d/inner.rs:1)",
        ] {
            assert!(found.contains(words), "{words} is not in {found}");
        }
    }

    #[test]
    fn circle_of_the_second_level_is_found() {
        let found = findings(&[
            ("lib.rs", "mod b { mod c; mod d; }"),
            ("b/c.rs", "use super::d::One;"),
            ("b/d.rs", "struct One; fn f() { crate::b::c::g(); }"),
        ]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("b::c uses b::d"), "{found:#?}");
    }

    #[test]
    fn paths_in_macros_count() {
        let found = findings(&[
            ("lib.rs", "mod b; mod c;"),
            ("b.rs", "fn f() { println!(\"{}\", [crate::c::ONE]); }"),
            ("c.rs", "use crate::b; const ONE: u8 = 1;"),
        ]);
        assert_eq!(found.len(), 1, "{found:#?}");
    }

    #[test]
    fn what_is_exported_again_belongs_to_where_it_is_defined() {
        let found = findings(&[
            ("lib.rs", "mod b; mod c; pub use c::One; pub use b::*;"),
            ("b.rs", "use crate::One; pub struct Two;"),
            ("c.rs", "pub struct One;"),
        ]);
        assert_eq!(found, Vec::<String>::new());
        let found = findings(&[
            ("lib.rs", "mod b; mod c; pub use c::One; pub use b::*;"),
            ("b.rs", "use crate::One; pub struct Two;"),
            ("c.rs", "use crate::Two; pub struct One;"),
        ]);
        assert_eq!(found.len(), 1, "{found:#?}");
    }

    #[test]
    fn parents_and_tests_make_no_circle() {
        let found = findings(&[
            ("lib.rs", "mod b; mod c; struct Root;"),
            (
                "b.rs",
                "use crate::c::One; use crate::Root;\n#[cfg(test)]\nmod tests;",
            ),
            (
                "c.rs",
                "pub struct One; mod inner { use super::One; use crate::Root; }\n#[cfg(test)]\nmod tests { use crate::b; }",
            ),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn circle_is_found_wherever_the_path_stands() {
        for user in [
            "use super::c::One;",
            "use crate::{c::One};",
            "pub use crate::c::One;",
            "pub(crate) use crate::c::One as Other;",
            "use crate::*; fn f() -> One {}",
            "fn f() { use crate::c::One; }",
            "fn f() { let one = crate::c::One; }",
            "fn f() { if true { g(|| super::c::One); } }",
            "impl crate::c::Trait for u8 {}",
            "struct Two<T = crate::c::One>(T);",
            "static TWO: [u8; crate::c::TWO] = [0; 2];",
            "trait Two { fn f(&self) { let _ = <u8 as crate::c::Trait>::f; } }",
            "mod inner { mod more { fn f() -> super::super::super::c::One {} } }",
            "fn f() { call!(1, [super::c::One]); }",
            "macro_rules! two { () => { $crate::c::One } }",
            "macro_rules! two { () => { use $crate::{d::Three, c::{self, One}}; } }",
            "#[value(parser = crate::c::one)] struct Two;",
            "struct Two { #[serde(with = \"crate::c\")] one: u8 }",
        ] {
            let found = findings(&[
                ("lib.rs", "mod b; mod c; mod d; pub use c::One;"),
                ("b.rs", user),
                ("c.rs", "use crate::b; pub struct One;"),
                ("d.rs", "pub struct Three;"),
            ]);
            assert_eq!(found.len(), 1, "{user}: {found:#?}");
        }
    }

    #[test]
    fn circle_through_exports_of_the_parent_is_found() {
        for user in [
            "use crate::b; fn f() -> b::One {}",
            "use super::One;",
            "use super::super::b as other; fn f(one: &other::Other) {}",
            "use super::*; fn f() -> One {}",
            "use crate::b; fn f() { call!(b::One); }",
        ] {
            let found = findings(&[
                ("lib.rs", "mod b;"),
                (
                    "b/mod.rs",
                    "mod c; mod d; pub use self::d::One; pub use self::d::One as Other;",
                ),
                ("b/c.rs", user),
                ("b/d.rs", "use super::c; pub struct One;"),
            ]);
            assert_eq!(found.len(), 1, "{user}: {found:#?}");
        }
    }

    #[test]
    fn circle_of_four_is_found_through_nested_modules() {
        let found = findings(&[
            ("lib.rs", "mod b; mod c; mod d; mod e;"),
            ("b/mod.rs", "mod inner { mod more; }"),
            ("b/inner/more.rs", "use crate::c::One;"),
            ("c.rs", "pub use crate::d::inner::One;"),
            (
                "d.rs",
                "pub mod inner { pub struct One; fn f() { crate::e::f() } }",
            ),
            ("e.rs", "pub fn f() -> super::b::Two {}"),
        ]);
        // What `c` exports is of `d`: so `b` uses `d`.
        let [found] = &found[..] else {
            panic!("{found:#?}");
        };
        for words in ["b uses d", "d uses e", "e uses b"] {
            assert!(found.contains(words), "{words} is not in {found}");
        }
    }

    #[test]
    fn names_of_other_crates_and_tests_make_no_circle() {
        for user in [
            "use ::c::One;",
            "fn f() -> ::c::One {}",
            "use other::c; fn f() -> c::One {}",
            "use c; fn f(c: u8) { c }",
            "impl Two { #[cfg(test)] fn f() -> crate::c::One {} }",
            "#[cfg(test)] trait Two { fn f() -> crate::c::One; }",
            "#[cfg(all(test, feature = \"d\"))] use crate::c::One;",
            "/// See [`crate::c::One`].\nstruct Two;",
        ] {
            let found = findings(&[
                ("lib.rs", "mod b; mod c;"),
                ("b.rs", user),
                ("c.rs", "use crate::b; pub struct One;"),
            ]);
            assert_eq!(found, Vec::<String>::new(), "{user}");
        }
    }

    #[test]
    fn every_crate_of_the_repository_is_looked_at() {
        for root in ["crates/a/src/lib.rs", "a/src/main.rs", "b/a/src/main.rs"] {
            let found = check_at(&[(root, "mod b { use super::c; } mod c { use super::b; }")]);
            assert_eq!(found.len(), 1, "{root}: {found:#?}");
        }
    }

    #[test]
    fn files_that_attributes_name_are_read() {
        for path in ["../c/mod.rs", "./../other/../c.rs"] {
            let file = path.replace("./../other/../", "../").replace("../", "a/");
            let found = check_at(&[
                ("a/src/lib.rs", "mod b; mod d;"),
                (
                    "a/src/b.rs",
                    &format!("#[cfg(unix)] #[path = \"{path}\"] mod c;"),
                ),
                (&file, "mod e { fn f() { crate::d::f() } } mod g;"),
                ("a/c/g.rs", ""),
                ("a/src/d.rs", "use crate::b;"),
            ]);
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].contains("b uses d"), "{found:#?}");
        }
    }

    #[test]
    fn arrows_up_are_found_through_other_modules() {
        let library = "mod batch; mod combinators; mod engine; mod export; mod net; mod other;";
        let upward = |batch: &str, other: &str| {
            check_at(&[
                ("crates/outspan/src/lib.rs", library),
                ("crates/outspan/src/batch/mod.rs", batch),
                (
                    "crates/outspan/src/combinators.rs",
                    "pub struct Filter; pub use crate::engine::Retry;",
                ),
                ("crates/outspan/src/engine.rs", "pub struct Retry;"),
                ("crates/outspan/src/export.rs", ""),
                ("crates/outspan/src/net.rs", ""),
                ("crates/outspan/src/other.rs", other),
            ])
        };
        let other = "pub fn f() { crate::combinators::f(); }";
        assert_eq!(upward("", other), Vec::<String>::new());
        for (batch, words) in [
            (
                "use crate::combinators::Filter;",
                "`batch` stands below `combinators`: batch uses combinators (`crate::combinators::Filter` in batch/mod.rs:1);",
            ),
            (
                "use crate::combinators::Retry;",
                "batch uses combinators (`crate::combinators::Retry` in batch/mod.rs:1);",
            ),
            (
                "use crate::combinators;",
                "batch uses combinators (`crate::combinators` in batch/mod.rs:1);",
            ),
            (
                "\nfn f() { crate::other::f(); }",
                "batch uses other (`crate::other::f` in batch/mod.rs:2); other uses combinators (`crate::combinators::f` in other.rs:1);",
            ),
        ] {
            let found = upward(batch, other);
            let [found] = &found[..] else {
                panic!("{found:#?}");
            };
            assert!(found.contains(": upward: "), "{found}");
            assert!(found.contains(words), "{found}");
        }
    }

    #[test]
    fn order_of_modules_that_are_gone_is_found() {
        let found = check_at(&[(
            "crates/outspan/src/lib.rs",
            "mod batch {} mod combinators {}",
        )]);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].contains("`engine` or `combinators` is no module"));
    }
}
