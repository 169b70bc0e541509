//! No path of one machine, and no host of a package registry: the project works from any.

use super::Finding;
use crate::repository::TextFile;

pub(super) const PATH_RULE: &str = "machine-path";
pub(super) const HOST_RULE: &str = "registry-host";

// Written in pieces, so that this file keeps its own rules.

/// Directories of the machines that this project is made on.
pub(super) const PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!("/ro", "ot/"),
    concat!("/tmp/", "bash_jobs"),
    concat!("../", "shared/"),
];

/// Hosts of package registries; their ordinary commands know where to find them.
pub(super) const HOSTS: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("registry.", "npmjs.org"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("proxy.", "golang.org"),
    concat!("repo1.", "maven.org"),
    concat!("repo.", "maven.apache.org"),
    concat!("deb.", "debian.org"),
];

/// Finds paths and hosts in any text file.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut add = |rule, text| {
            findings.push(Finding {
                rule,
                place: file.path.clone(),
                line: index + 1,
                text,
            });
        };
        for path in PATHS.iter().filter(|path| names_path(line, path)) {
            add(PATH_RULE, format!("`{path}` is a directory of one machine"));
        }
        for host in HOSTS.iter().filter(|host| line.contains(**host)) {
            add(
                HOST_RULE,
                format!("`{host}` is the host of a package registry"),
            );
        }
    }
    findings
}

/// Tells whether the path stands there from its root, not in the middle of another one.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|before| before.is_alphanumeric() || "_-.}".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<&'static str> {
        let file = TextFile {
            path: "docs/guide.md".to_owned(),
            text: text.to_owned(),
        };
        check(&file)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn every_path_and_every_host_is_found() {
        for path in PATHS {
            assert_eq!(rules(&format!("see `{path}main`")), [PATH_RULE], "{path}");
        }
        for host in HOSTS {
            assert_eq!(
                rules(&format!("from https://{host}/x")),
                [HOST_RULE],
                "{host}"
            );
        }
    }

    #[test]
    fn a_directory_of_that_name_elsewhere_is_fine() {
        let path = PATHS[0];
        assert!(rules(&format!("docs{path}a.md and ${{HOME}}{path}b")).is_empty());
    }
}
