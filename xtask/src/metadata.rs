//! What cargo knows about the workspace and its dependencies.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::command;

/// The one platform that we promise and test; crates for others are not downloaded to be judged.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// The answer of `cargo metadata`: packages and who depends on whom.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) resolve: Option<Resolve>,
}

/// One version of one crate.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    #[serde(default)]
    pub(crate) manifest_path: String,
    /// Where it comes from; nothing for a crate of this repository.
    pub(crate) source: Option<String>,
    /// The registries it may be published to; nothing for any of them.
    pub(crate) publish: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) features: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

/// One thing that cargo builds of a package.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

/// The dependency graph as cargo resolved it.
#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// One package in the graph.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<Edge>,
}

/// One dependency of a package.
#[derive(Debug, Deserialize)]
pub(crate) struct Edge {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<EdgeKind>,
}

/// Why a dependency is there: nothing for a normal one, else `dev` or `build`.
#[derive(Debug, Deserialize)]
pub(crate) struct EdgeKind {
    pub(crate) kind: Option<String>,
}

impl Metadata {
    /// Asks cargo about the workspace, with all features and all dependencies.
    ///
    /// # Errors
    ///
    /// When cargo fails, as it does when `Cargo.lock` lags behind a manifest.
    pub(crate) fn of_workspace(root: &Path) -> Result<Self, String> {
        let mut cargo = command::cargo(root);
        cargo.args(["metadata", "--format-version", "1", "--locked"]);
        cargo.args(["--all-features", "--filter-platform", PLATFORM]);
        Self::parse(&command::output(&mut cargo)?)
    }

    /// Asks cargo about the packages of one manifest alone, without their dependencies.
    ///
    /// # Errors
    ///
    /// When cargo fails, for one because there is no such manifest.
    pub(crate) fn of_manifest(root: &Path, manifest: &str) -> Result<Self, String> {
        let mut cargo = command::cargo(root);
        cargo.args(["metadata", "--format-version", "1", "--no-deps"]);
        cargo.args(["--manifest-path", manifest]);
        Self::parse(&command::output(&mut cargo)?)
    }

    /// Asks cargo about a member of the workspace with features of its own, and its dependencies.
    ///
    /// # Errors
    ///
    /// When cargo fails, as it does when there is no such feature.
    pub(crate) fn of_member(root: &Path, manifest: &str, features: &str) -> Result<Self, String> {
        let mut cargo = command::cargo(root);
        cargo.args(["metadata", "--format-version", "1", "--locked"]);
        cargo.args(["--manifest-path", manifest, "--features", features]);
        cargo.args(["--filter-platform", PLATFORM]);
        Self::parse(&command::output(&mut cargo)?)
    }

    fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json)
            .map_err(|error| format!("cannot read what `cargo metadata` says: {error}"))
    }

    /// The packages of this workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Every package that is linked into one of the members chosen, each with who depends on it.
    ///
    /// What only runs in the compiler, as procedural macros do, is not linked.
    pub(crate) fn linked(&self, into: impl Fn(&Package) -> bool) -> Vec<(&Package, &Package)> {
        let packages: BTreeMap<&str, &Package> = self
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package))
            .collect();
        let nodes = self.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let nodes: BTreeMap<&str, _> = nodes.map(|node| (node.id.as_str(), node)).collect();
        let mut pairs = Vec::new();
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&Package> = self.members().filter(|package| into(package)).collect();
        while let Some(package) = waiting.pop() {
            if !seen.insert(package.id.as_str()) {
                continue;
            }
            let edges = nodes.get(package.id.as_str()).map(|node| &node.deps);
            let normal = edges.into_iter().flatten().filter(|edge| edge.is_normal());
            let linked = normal
                .filter_map(|edge| packages.get(edge.pkg.as_str()).copied())
                .filter(|package| !package.is_proc_macro());
            for dependency in linked {
                pairs.push((dependency, package));
                waiting.push(dependency);
            }
        }
        pairs
    }
}

impl Package {
    /// Tells whether users can get it, as the library or inside the program.
    pub(crate) fn is_published(&self) -> bool {
        self.publish.is_none()
    }

    /// Tells whether it runs inside the compiler only.
    pub(crate) fn is_proc_macro(&self) -> bool {
        self.has_target_kind("proc-macro")
    }

    /// Tells whether it has a library that others can depend on.
    pub(crate) fn is_library(&self) -> bool {
        self.has_target_kind("lib")
    }

    fn has_target_kind(&self, kind: &str) -> bool {
        self.targets
            .iter()
            .any(|target| target.kind.iter().any(|one| one == kind))
    }
}

impl Edge {
    /// Tells whether the dependency is linked into its dependent, not only used to build or test it.
    pub(crate) fn is_normal(&self) -> bool {
        self.dep_kinds.iter().any(|kind| kind.kind.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_ships_the_library_and_keeps_its_chores() {
        let metadata = Metadata::of_manifest(&crate::repository::root(), "Cargo.toml");
        let metadata = metadata.expect("cargo knows this workspace");
        let library = metadata.members().find(|package| package.name == "outspan");
        let library = library.expect("the library is a member");
        assert!(library.is_published());
        assert!(library.is_library());
        assert!(!library.is_proc_macro());
        let xtask = metadata.members().find(|package| package.name == "xtask");
        assert!(!xtask.expect("we are a member").is_published());
    }

    #[test]
    fn a_dependency_that_is_normal_in_one_place_is_normal() {
        let edge = |json| serde_json::from_str::<Edge>(json).expect("an edge");
        assert!(edge(r#"{"pkg":"a","dep_kinds":[{"kind":"dev"},{"kind":null}]}"#).is_normal());
        assert!(!edge(r#"{"pkg":"a","dep_kinds":[{"kind":"dev"},{"kind":"build"}]}"#).is_normal());
    }
}
