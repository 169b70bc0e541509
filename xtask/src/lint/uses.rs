//! Which module of a crate uses which.
//!
//! A path counts for the module that defines what it names, not for one that exports it again. Paths are read in imports, code,
//! attributes and the calls and rules of macros. What only tests use does not count.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use proc_macro2::Delimiter;
use proc_macro2::TokenStream;
use proc_macro2::TokenTree;
use syn::Attribute;
use syn::Item;
use syn::UseTree;
use syn::visit;
use syn::visit::Visit;

/// How many exports of exports are followed. A longer chain is a circle of its own.
const MAX_EXPORTS: usize = 16;

/// The modules of a crate, the root first.
#[derive(Debug, Default)]
pub(super) struct Modules {
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

/// Where the file of a module is.
#[derive(Debug)]
enum ModuleFile {
    /// At the usual place for this path of names.
    Named(String),
    /// Where a `path` attribute says, from the directory of the file with the attribute.
    Elsewhere(String),
}

/// A path in the code of a module.
#[derive(Clone, Debug)]
struct Reference {
    path: Vec<String>,
    line: usize,
}

/// Where one module uses another one.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) path: String,
}

/// The arrows between modules, by the numbers of the two.
pub(super) type Arrows = BTreeMap<(usize, usize), Arrow>;

impl Modules {
    /// Reads the files of a crate, from its root on.
    ///
    /// # Errors
    ///
    /// Returns the path of a file that is absent or cannot be parsed, and what is wrong with it.
    pub(super) fn read(
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
            for (child, file) in modules.add_items(number, &file.items) {
                let (file, directory) = match file {
                    ModuleFile::Named(name) => {
                        let below = format!("{directory}{name}/");
                        let file = format!("{directory}{name}.rs");
                        match texts.contains_key(file.as_str()) {
                            true => (file, below),
                            false => (format!("{below}mod.rs"), below),
                        }
                    }
                    ModuleFile::Elsewhere(relative) => {
                        let file = path_from(&path, &relative);
                        let below = file.trim_end_matches("mod.rs").trim_end_matches(".rs");
                        let below = format!("{}/", below.trim_end_matches('/'));
                        (file, below)
                    }
                };
                modules.all[child].file.clone_from(&file);
                open.push_back((child, file, directory));
            }
        }
        Ok(modules)
    }

    /// Takes note of what a module has, and returns the modules in it that have files.
    fn add_items(&mut self, number: usize, items: &[Item]) -> Vec<(usize, ModuleFile)> {
        let mut with_files = Vec::new();
        for item in items {
            if is_item_for_tests(item) {
                continue;
            }
            if let Item::Mod(module) = item {
                let name = module.ident.to_string();
                let child = self.add_child(number, &name);
                match &module.content {
                    Some((_, items)) => {
                        let inside = self.add_items(child, items).into_iter();
                        with_files.extend(inside.map(|(at, file)| (at, file.inside(&name))));
                    }
                    None => with_files.push((child, ModuleFile::of(module))),
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

    /// The module at the top level of the crate with this name.
    pub(super) fn top(&self, name: &str) -> Option<usize> {
        self.all[0].children.get(name).copied()
    }

    /// The path of a module inside the crate.
    pub(super) fn path(&self, number: usize) -> String {
        let module = &self.all[number];
        match module.depth {
            0 | 1 => module.name.clone(),
            _ => format!("{}::{}", self.path(module.parent), module.name),
        }
    }

    /// The arrows between modules at a depth that have the same parent. A module stands for everything in it.
    pub(super) fn arrows(&self, depth: usize) -> Arrows {
        self.arrows_of(depth, |from, path| {
            self.resolve(from, path, 0).into_iter().collect()
        })
    }

    /// The arrows between the modules of the crate, also those to a module that only exports again what a path names.
    pub(super) fn arrows_as_written(&self) -> Arrows {
        self.arrows_of(1, |from, path| {
            let beginnings = (1..=path.len()).map(|length| &path[..length]);
            beginnings
                .filter_map(|path| self.resolve(from, path, 0))
                .collect()
        })
    }

    fn arrows_of(&self, depth: usize, used_by: impl Fn(usize, &[String]) -> Vec<usize>) -> Arrows {
        let mut arrows = Arrows::new();
        for (number, module) in self.all.iter().enumerate() {
            let Some(from) = self.ancestor(number, depth) else {
                continue;
            };
            for reference in &module.references {
                let used = used_by(number, &reference.path).into_iter();
                for to in used.filter_map(|used| self.ancestor(used, depth)) {
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
        }
        arrows
    }

    /// The module that defines what a path names; `None` for another crate's, and for variables.
    fn resolve(&self, from: usize, path: &[String], exports: usize) -> Option<usize> {
        if exports > MAX_EXPORTS {
            return None;
        }
        let mut at = from;
        for (place, name) in path.iter().enumerate() {
            let module = &self.all[at];
            match name.as_str() {
                "crate" => at = 0,
                "self" => {}
                "super" => at = module.parent,
                name => {
                    if let Some(child) = module.children.get(name) {
                        at = *child;
                        continue;
                    }
                    if module.items.contains(name) {
                        return Some(at);
                    }
                    if let Some(exported) = module.names.get(name) {
                        let rest = &path[place + 1..];
                        return self.resolve(
                            at,
                            &[exported.as_slice(), rest].concat(),
                            exports + 1,
                        );
                    }
                    let in_globs = self.resolve_in_globs(at, &path[place..], exports);
                    // A module may have what a macro makes. The first name is then another crate's.
                    return in_globs.or((place > 0).then_some(at));
                }
            }
        }
        Some(at)
    }

    fn resolve_in_globs(&self, at: usize, path: &[String], exports: usize) -> Option<usize> {
        let globs = self.all[at].globs.iter();
        let mut of_globs = globs.filter_map(|glob| self.resolve(at, glob, exports + 1));
        of_globs.find_map(|other| self.resolve(other, path, exports + 1))
    }

    /// The module at a depth in which another one stands.
    fn ancestor(&self, mut number: usize, depth: usize) -> Option<usize> {
        while self.all[number].depth > depth {
            number = self.all[number].parent;
        }
        (self.all[number].depth == depth && depth > 0).then_some(number)
    }
}

impl ModuleFile {
    fn of(module: &syn::ItemMod) -> Self {
        let path = module.attrs.iter().find_map(|attribute| {
            let pair = attribute.meta.require_name_value().ok()?;
            match &pair.value {
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }) if pair.path.is_ident("path") => Some(text.value()),
                _ => None,
            }
        });
        match path {
            Some(path) => Self::Elsewhere(path),
            None => Self::Named(module.ident.to_string()),
        }
    }

    /// The same file, of a module that stands in one without a file of its own.
    fn inside(self, name: &str) -> Self {
        match self {
            Self::Named(path) => Self::Named(format!("{name}/{path}")),
            elsewhere @ Self::Elsewhere(_) => elsewhere,
        }
    }
}

/// A path that is relative to the directory of a file, from the root of the repository.
fn path_from(file: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A shortest way along the arrows, with both ends. From a module to itself it is a circle.
pub(super) fn way(arrows: &Arrows, start: usize, end: usize) -> Option<Vec<usize>> {
    let mut before = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for (_, to) in arrows.keys().filter(|(from, _)| *from == at) {
            if *to == end {
                let mut way = vec![end, at];
                while let Some(previous) = before.get(&way[way.len() - 1]) {
                    way.push(*previous);
                }
                way.reverse();
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
fn is_item_for_tests(item: &Item) -> bool {
    let attributes = match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return false,
    };
    is_for_tests(attributes)
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let paths = paths_in(list.tokens.clone());
        let has = |words: &[&str]| paths.iter().any(|path| words.contains(&&*path.path[0]));
        list.path.is_ident("cfg") && has(&["test", "doctest"]) && !has(&["not", "any"])
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
        if item.leading_colon.is_none() {
            self.add_use(&item.tree, &[]);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.note(names, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.module.references.extend(paths_in(list.tokens.clone()));
        visit::visit_meta_list(self, list);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.module
            .references
            .extend(paths_in(called.tokens.clone()));
        visit::visit_macro(self, called);
    }
}

fn line_of(tree: &UseTree) -> usize {
    use syn::spanned::Spanned;

    tree.span().start().line
}

/// The paths in tokens and their groups, and those in text that begin with `crate`, `self` or `super`: attributes have such.
fn paths_in(tokens: TokenStream) -> Vec<Reference> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) => found.extend(paths_in(group.stream())),
            TokenTree::Ident(first) => {
                let line = first.span().start().line;
                let mut path = vec![first.to_string()];
                while is_separator(&tokens, at) {
                    match tokens.get(at + 2) {
                        Some(TokenTree::Ident(next)) => path.push(next.to_string()),
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            found.extend(paths_in(group.stream()).into_iter().map(|inside| {
                                let path = [path.clone(), inside.path].concat();
                                Reference { path, ..inside }
                            }));
                        }
                        _ => break,
                    }
                    at += 3;
                }
                found.push(Reference { path, line });
            }
            TokenTree::Literal(literal) => {
                let line = literal.span().start().line;
                let path = path_in_text(&literal.to_string());
                found.extend(path.map(|path| Reference { path, line }));
            }
            TokenTree::Punct(_) => {}
        }
    }
    found
}

/// Whether `::` stands at a place.
fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    is_colon(at) && is_colon(at + 1)
}

/// The path that a string literal holds, if it is one inside the crate.
fn path_in_text(literal: &str) -> Option<Vec<String>> {
    let text = literal.strip_prefix('"')?.strip_suffix('"')?;
    let path = text.split("::").map(str::to_owned);
    let path: Vec<_> = path.collect();
    let is_name = |name: &String| name.chars().all(|c| c == '_' || c.is_alphanumeric());
    let is_local = matches!(path[0].as_str(), "crate" | "self" | "super");
    (is_local && path.iter().all(is_name)).then_some(path)
}
