//! Sibling modules form no circles.
//!
//! Looked at are the first two levels of each crate: the modules of the crate, and the modules of each of those. A module
//! stands for everything in it, so a parent and its children count as one. A path counts for the module that defines what
//! it names, not for one that exports it again. Tests may use what they like.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use proc_macro2::TokenStream;
use proc_macro2::TokenTree;
use syn::Item;
use syn::UseTree;
use syn::visit;
use syn::visit::Visit;

use super::Finding;
use crate::repository::TextFile;

pub(super) const RULE: &str = "circle";

/// How many exports of exports are followed. A longer chain is a circle of its own.
const EXPORTS_MAX: usize = 16;

/// Finds circles between modules, in each crate under `crates/`.
pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    let texts: BTreeMap<&str, &str> = files
        .iter()
        .map(|file| (file.path.as_str(), file.text.as_str()))
        .collect();
    let roots = texts.keys().filter(|path| {
        let parts: Vec<_> = path.split('/').collect();
        matches!(parts[..], ["crates", _, "src", "lib.rs"])
    });
    let mut findings = Vec::new();
    for root in roots {
        let directory = root.trim_end_matches("lib.rs");
        match Modules::read(root, directory, &texts) {
            Ok(modules) => findings.extend(modules.circles(directory)),
            Err((place, text)) => findings.push(Finding {
                rule: RULE,
                place,
                line: 0,
                text,
            }),
        }
    }
    findings
}

/// The modules of a crate, the root first.
#[derive(Debug, Default)]
struct Modules {
    all: Vec<Module>,
}

#[derive(Debug, Default)]
struct Module {
    name: String,
    parent: usize,
    depth: usize,
    file: String,
    children: BTreeMap<String, usize>,
    /// The names of what it defines.
    items: BTreeSet<String>,
    /// The names that it imports or exports again, with their paths.
    names: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    references: Vec<Reference>,
}

/// A path in the code of a module.
#[derive(Clone, Debug)]
struct Reference {
    path: Vec<String>,
    line: usize,
}

/// Where one module uses another one.
#[derive(Clone, Debug)]
struct Arrow {
    file: String,
    line: usize,
    path: String,
}

type Arrows = BTreeMap<(usize, usize), Arrow>;

impl Modules {
    /// Reads the files of a crate, from its root on.
    fn read(
        root: &str,
        directory: &str,
        texts: &BTreeMap<&str, &str>,
    ) -> Result<Self, (String, String)> {
        let mut modules = Self::default();
        modules.all.push(Module {
            file: root.to_owned(),
            ..Module::default()
        });
        let mut open = VecDeque::from([(0, root.to_owned(), directory.to_owned())]);
        while let Some((number, path, directory)) = open.pop_front() {
            let Some(text) = texts.get(path.as_str()) else {
                return Err((path, "a module without its file".to_owned()));
            };
            let file = syn::parse_file(text)
                .map_err(|error| (path.clone(), format!("cannot be parsed: {error}")))?;
            for (child, name) in modules.add_items(number, &file.items) {
                let paths = [
                    format!("{directory}{name}.rs"),
                    format!("{directory}{name}/mod.rs"),
                ];
                let [file, other] = paths;
                let file = match texts.contains_key(file.as_str()) {
                    true => file,
                    false => other,
                };
                modules.all[child].file.clone_from(&file);
                open.push_back((child, file, format!("{directory}{name}/")));
            }
        }
        Ok(modules)
    }

    /// Takes note of what a module has, and returns the modules in it that have files, each with its path.
    fn add_items(&mut self, number: usize, items: &[Item]) -> Vec<(usize, String)> {
        let mut with_files = Vec::new();
        for item in items {
            if is_for_tests(item) {
                continue;
            }
            if let Item::Mod(module) = item {
                let name = module.ident.to_string();
                let child = self.add_child(number, &name);
                match &module.content {
                    Some((_, items)) => {
                        let inside = self.add_items(child, items).into_iter();
                        with_files.extend(inside.map(|(at, path)| (at, format!("{name}/{path}"))));
                    }
                    None => with_files.push((child, name)),
                }
                continue;
            }
            let module = &mut self.all[number];
            module.items.extend(name_of(item));
            Reader { module }.visit_item(item);
        }
        with_files
    }

    fn add_child(&mut self, parent: usize, name: &str) -> usize {
        let number = self.all.len();
        let (depth, file) = (self.all[parent].depth + 1, self.all[parent].file.clone());
        self.all[parent].children.insert(name.to_owned(), number);
        self.all.push(Module {
            name: name.to_owned(),
            parent,
            depth,
            file,
            ..Module::default()
        });
        number
    }

    /// The module that defines what a path names; `None` for another crate's.
    fn resolve(&self, from: usize, path: &[String], exports: usize) -> Option<usize> {
        if exports > EXPORTS_MAX {
            return None;
        }
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => 0,
            "self" => from,
            "super" => self.all[from].parent,
            name => match self.all[from].children.get(name) {
                Some(child) => *child,
                None => return None,
            },
        };
        while let Some((name, after)) = rest.split_first() {
            rest = after;
            let module = &self.all[at];
            if name == "super" {
                at = module.parent;
            } else if let Some(child) = module.children.get(name) {
                at = *child;
            } else if module.items.contains(name) {
                return Some(at);
            } else if let Some(exported) = module.names.get(name) {
                let path: Vec<_> = exported.iter().chain(rest).cloned().collect();
                return self.resolve(at, &path, exports + 1);
            } else {
                return self.resolve_in_globs(at, name, exports).or(Some(at));
            }
        }
        Some(at)
    }

    fn resolve_in_globs(&self, at: usize, name: &str, exports: usize) -> Option<usize> {
        let globs = self.all[at].globs.iter();
        let mut of_globs = globs.filter_map(|path| self.resolve(at, path, exports + 1));
        of_globs.find(|other| {
            let other = &self.all[*other];
            other.items.contains(name) || other.names.contains_key(name)
        })
    }

    /// The module at a depth in which another one stands.
    fn ancestor(&self, mut number: usize, depth: usize) -> Option<usize> {
        while self.all[number].depth > depth {
            number = self.all[number].parent;
        }
        (self.all[number].depth == depth && depth > 0).then_some(number)
    }

    /// The arrows between modules at a depth that have the same parent.
    fn arrows(&self, depth: usize) -> Arrows {
        let mut arrows = Arrows::new();
        for (from, module) in self.all.iter().enumerate() {
            for reference in &module.references {
                let Some(to) = self.resolve(from, &reference.path, 0) else {
                    continue;
                };
                let ends = (self.ancestor(from, depth), self.ancestor(to, depth));
                let (Some(from), Some(to)) = ends else {
                    continue;
                };
                if from == to || self.all[from].parent != self.all[to].parent {
                    continue;
                }
                arrows.entry((from, to)).or_insert_with(|| Arrow {
                    file: module.file.clone(),
                    line: reference.line,
                    path: reference.path.join("::"),
                });
            }
        }
        arrows
    }

    fn circles(&self, directory: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        for depth in [1, 2] {
            let mut arrows = self.arrows(depth);
            // One circle after the other, without its first arrow the next time: each is shown by what makes it.
            while let Some(circle) = circle(&arrows) {
                findings.push(self.finding(directory, &circle, &arrows));
                let first = (circle[0], circle[1]);
                arrows.remove(&first);
            }
        }
        findings
    }

    fn finding(&self, directory: &str, circle: &[usize], arrows: &Arrows) -> Finding {
        let path = |number: usize| match self.all[number].depth {
            2 => {
                let parent = &self.all[self.all[number].parent];
                format!("{}::{}", parent.name, self.all[number].name)
            }
            _ => self.all[number].name.clone(),
        };
        let mut text = String::from("modules form a circle:");
        for pair in circle.windows(2) {
            let arrow = &arrows[&(pair[0], pair[1])];
            text += &format!(
                " {} uses {} (`{}` in {}:{});",
                path(pair[0]),
                path(pair[1]),
                arrow.path,
                arrow.file.trim_start_matches(directory),
                arrow.line
            );
        }
        text += " move what both need below both";
        let arrow = &arrows[&(circle[0], circle[1])];
        Finding {
            rule: RULE,
            place: arrow.file.clone(),
            line: arrow.line,
            text,
        }
    }
}

/// A shortest circle, its first module at both ends.
fn circle(arrows: &Arrows) -> Option<Vec<usize>> {
    let starts: BTreeSet<usize> = arrows.keys().map(|(from, _)| *from).collect();
    let circles = starts
        .into_iter()
        .filter_map(|start| way_back(arrows, start));
    circles.min_by_key(Vec::len)
}

fn way_back(arrows: &Arrows, start: usize) -> Option<Vec<usize>> {
    let mut before = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for (_, to) in arrows.keys().filter(|(from, _)| *from == at) {
            if *to == start {
                let mut way = vec![start, at];
                while let Some(previous) = before.get(&way[way.len() - 1]) {
                    way.push(*previous);
                }
                way.reverse();
                if way[0] != start {
                    way.insert(0, start);
                }
                way.dedup();
                return Some(way);
            }
            if *to != start && !before.contains_key(to) {
                before.insert(*to, at);
                open.push_back(*to);
            }
        }
    }
    None
}

/// Whether an item is compiled for tests alone.
fn is_for_tests(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let tokens: Vec<String> = flat(list.tokens.clone())
            .into_iter()
            .map(|token| token.to_string())
            .collect();
        let is_test = |token: &String| token == "test" || token == "doctest";
        list.path.is_ident("cfg")
            && tokens.iter().any(is_test)
            && !tokens.iter().any(|token| token == "not" || token == "any")
    })
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

/// Collects the paths in an item.
struct Reader<'a> {
    module: &'a mut Module,
}

impl Reader<'_> {
    fn note(&mut self, path: Vec<String>, line: usize) {
        self.module.references.push(Reference { path, line });
    }

    fn add_use(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: String| {
            let mut path = before.to_vec();
            path.push(name);
            path
        };
        match tree {
            UseTree::Path(path) => {
                self.add_use(&path.tree, &with(path.ident.to_string()));
            }
            UseTree::Name(name) => {
                let (path, name) = match name.ident.to_string().as_str() {
                    "self" => (before.to_vec(), before.last().cloned()),
                    text => (with(text.to_owned()), Some(text.to_owned())),
                };
                self.add_name(name, path, tree);
            }
            UseTree::Rename(rename) => {
                let path = with(rename.ident.to_string());
                self.add_name(Some(rename.rename.to_string()), path, tree);
            }
            UseTree::Glob(_) => {
                self.note(before.to_vec(), line_of(tree));
                self.module.globs.push(before.to_vec());
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, before);
                }
            }
        }
    }

    fn add_name(&mut self, name: Option<String>, path: Vec<String>, tree: &UseTree) {
        self.note(path.clone(), line_of(tree));
        if let Some(name) = name {
            self.module.names.insert(name, path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.first().is_some_and(|first| is_local(first)) && names.len() > 1 {
            let line = path.segments[0].ident.span().start().line;
            self.note(names, line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let tokens = flat(called.tokens.clone());
        let mut at = 0;
        while at < tokens.len() {
            let (path, length) = path_at(&tokens[at..]);
            if path.len() > 1 {
                let line = tokens[at].span().start().line;
                self.note(path, line);
            }
            at += length.max(1);
        }
        visit::visit_macro(self, called);
    }
}

fn is_local(name: &str) -> bool {
    matches!(name, "crate" | "self" | "super")
}

fn line_of(tree: &UseTree) -> usize {
    use syn::spanned::Spanned;

    tree.span().start().line
}

/// The tokens of a macro's call, groups opened.
fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    let mut all = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => all.extend(flat(group.stream())),
            token => all.push(token),
        }
    }
    all
}

/// The path that begins with the first token, and how many tokens it has.
fn path_at(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let name = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    };
    let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    let mut path = Vec::new();
    let Some(first) = name(0).filter(|first| is_local(first)) else {
        return (path, 1);
    };
    path.push(first);
    let mut at = 1;
    while is_colon(at)
        && is_colon(at + 1)
        && let Some(next) = name(at + 2)
    {
        path.push(next);
        at += 3;
    }
    (path, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<TextFile> = files
            .iter()
            .map(|(path, text)| TextFile {
                path: format!("crates/a/src/{path}"),
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
}
