//! What we build on: licences, where crates come from, and how many versions of one we ship.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Finding;
use super::licence;
use crate::metadata::Metadata;
use crate::metadata::Package;

pub(super) const LICENCE_RULE: &str = "licence";
pub(super) const SOURCE_RULE: &str = "crate-source";
pub(super) const DUPLICATE_RULE: &str = "duplicate";

/// How cargo names the one registry that everybody uses.
const REGISTRY: &str = "registry+https://github.com/rust-lang/";

/// Licence of every crate of this repository.
const OWN_LICENCE: &str = "Apache-2.0";

/// Judges every package that the workspace is built, tested or measured with.
pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        findings.extend(check_licence(package));
        findings.extend(check_source(package));
    }
    findings.extend(check_duplicates(metadata));
    findings
}

fn check_licence(package: &Package) -> Option<Finding> {
    let text = match package.license.as_deref() {
        Some(OWN_LICENCE) if package.source.is_none() => return None,
        Some(other) if package.source.is_none() => format!("`{other}`, not ours"),
        Some(expression) => match licence::is_allowed(expression) {
            Ok(true) => return None,
            Ok(false) => format!("`{expression}` is not on the list of allowed licences"),
            Err(error) => format!("cannot read `{expression}`: {error}"),
        },
        None => "it names none".to_owned(),
    };
    Some(finding(LICENCE_RULE, package, text))
}

fn check_source(package: &Package) -> Option<Finding> {
    let source = package.source.as_deref()?;
    if source.starts_with(REGISTRY) {
        return None;
    }
    let text = format!("comes from {source}: only released versions from the registry do");
    Some(finding(SOURCE_RULE, package, text))
}

/// Crates that are linked into the library or the program in more than one version.
///
/// What only runs in the compiler, as procedural macros do, is not shipped and may differ.
fn check_duplicates(metadata: &Metadata) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for (package, dependent) in metadata.linked(Package::is_published) {
        let versions = versions.entry(&package.name).or_default();
        let dependents = versions.entry(&package.version).or_default();
        dependents.insert(&dependent.name);
    }
    versions.retain(|_, versions| versions.len() > 1);
    versions
        .into_iter()
        .map(|(name, versions)| Finding {
            rule: DUPLICATE_RULE,
            place: name.to_owned(),
            line: 0,
            text: described(&versions),
        })
        .collect()
}

fn described(versions: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let each: Vec<String> = versions
        .iter()
        .map(|(version, dependents)| {
            let dependents: Vec<&str> = dependents.iter().copied().collect();
            format!("{version} for {}", dependents.join(" and "))
        })
        .collect();
    format!("several versions are shipped: {}", each.join("; "))
}

fn finding(rule: &'static str, package: &Package, text: String) -> Finding {
    Finding {
        rule,
        place: package.name.clone(),
        line: 0,
        text: format!("{}: {text}", package.version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Edge;
    use crate::metadata::EdgeKind;
    use crate::metadata::Node;
    use crate::metadata::Resolve;
    use crate::metadata::Target;

    fn foreign(name: &str, version: &str) -> Package {
        Package {
            id: format!("{name}@{version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some("MIT".to_owned()),
            source: Some(format!("{REGISTRY}index")),
            ..Package::default()
        }
    }

    fn own(name: &str) -> Package {
        Package {
            license: Some(OWN_LICENCE.to_owned()),
            source: None,
            ..foreign(name, "0.1.0")
        }
    }

    /// A workspace whose packages depend on each other as the pairs say, with the kind of each.
    fn metadata(packages: Vec<Package>, edges: &[(&str, &str, Option<&str>)]) -> Metadata {
        let nodes = packages.iter().map(|package| Node {
            id: package.id.clone(),
            deps: edges
                .iter()
                .filter(|(from, _, _)| *from == package.id)
                .map(|(_, to, kind)| Edge {
                    pkg: (*to).to_owned(),
                    dep_kinds: vec![EdgeKind {
                        kind: kind.map(str::to_owned),
                    }],
                })
                .collect(),
        });
        let nodes = nodes.collect();
        let members = packages.iter().filter(|package| package.source.is_none());
        Metadata {
            workspace_members: members.map(|package| package.id.clone()).collect(),
            packages,
            resolve: Some(Resolve { nodes }),
        }
    }

    fn rules(metadata: &Metadata) -> Vec<&'static str> {
        check(metadata)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn a_licence_outside_the_list_is_found() {
        let mut package = foreign("a", "1.0.0");
        assert!(rules(&metadata(vec![package.clone()], &[])).is_empty());
        package.license = Some("GPL-3.0-only".to_owned());
        assert_eq!(rules(&metadata(vec![package.clone()], &[])), [LICENCE_RULE]);
        package.license = Some("MIT AND".to_owned());
        assert_eq!(rules(&metadata(vec![package.clone()], &[])), [LICENCE_RULE]);
        package.license = None;
        assert_eq!(rules(&metadata(vec![package], &[])), [LICENCE_RULE]);
    }

    #[test]
    fn our_own_crates_have_our_licence() {
        let mut package = own("outspan");
        assert!(rules(&metadata(vec![package.clone()], &[])).is_empty());
        package.license = Some("MIT".to_owned());
        assert_eq!(rules(&metadata(vec![package], &[])), [LICENCE_RULE]);
    }

    #[test]
    fn a_crate_from_elsewhere_is_found() {
        let mut package = foreign("a", "1.0.0");
        package.source = Some("git+https://example.com/a".to_owned());
        assert_eq!(rules(&metadata(vec![package], &[])), [SOURCE_RULE]);
    }

    #[test]
    fn two_versions_of_a_shipped_crate_are_found_with_who_wants_them() {
        let packages = vec![
            own("outspan"),
            foreign("a", "1.0.0"),
            foreign("x", "1.0.0"),
            foreign("x", "2.0.0"),
        ];
        let edges = [
            ("outspan@0.1.0", "a@1.0.0", None),
            ("outspan@0.1.0", "x@2.0.0", None),
            ("a@1.0.0", "x@1.0.0", None),
        ];
        let findings = check(&metadata(packages, &edges));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].rule, DUPLICATE_RULE);
        assert_eq!(findings[0].place, "x");
        assert!(
            findings[0].text.contains("1.0.0 for a"),
            "{}",
            findings[0].text
        );
        assert!(
            findings[0].text.contains("2.0.0 for outspan"),
            "{}",
            findings[0].text
        );
    }

    #[test]
    fn what_is_only_tested_with_or_runs_in_the_compiler_may_differ() {
        let mut derive = foreign("derive", "1.0.0");
        derive.targets.push(Target {
            name: "derive".to_owned(),
            kind: vec!["proc-macro".to_owned()],
        });
        let mut bench = own("bench");
        bench.publish = Some(Vec::new());
        let packages = vec![
            own("outspan"),
            bench,
            derive,
            foreign("x", "1.0.0"),
            foreign("x", "2.0.0"),
            foreign("x", "3.0.0"),
            foreign("x", "4.0.0"),
        ];
        let edges = [
            ("outspan@0.1.0", "x@1.0.0", None),
            ("outspan@0.1.0", "x@2.0.0", Some("dev")),
            ("outspan@0.1.0", "derive@1.0.0", None),
            ("derive@1.0.0", "x@3.0.0", None),
            ("bench@0.1.0", "x@4.0.0", None),
        ];
        assert!(rules(&metadata(packages, &edges)).is_empty());
    }
}
