//! The one feature that needs more than a C compiler, and what to do where that is missing.

use std::env;
use std::process::Command;
use std::process::Stdio;

use crate::metadata::Package;

/// The feature of our crates that builds against OpenSSL.
const FEATURE: &str = "kafka-tls";

/// Whether the C compiler finds OpenSSL's headers.
pub(crate) fn is_there() -> bool {
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut check = Command::new(compiler);
    check.args(["-E", "-include", "openssl/ssl.h", "-x", "c", "-"]);
    check.stdin(Stdio::null()).stdout(Stdio::null());
    let status = check.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether a feature can be built, with OpenSSL's headers or without.
pub(crate) fn allows(feature: &str, is_there: bool) -> bool {
    is_there || feature != FEATURE
}

/// Says what is left out for want of the headers, if anything is.
pub(crate) fn tell(is_there: bool) {
    if !is_there {
        eprintln!("not built: feature {FEATURE}, because OpenSSL's headers are not there");
    }
}

/// The arguments that turn on every feature of these packages that can be built.
pub(crate) fn all_features<'a>(
    packages: impl Iterator<Item = &'a Package>,
    is_there: bool,
) -> Vec<String> {
    if is_there {
        return vec!["--all-features".to_owned()];
    }
    let mut arguments = Vec::new();
    for package in packages {
        let features = package.features.keys();
        for feature in features.filter(|feature| allows(feature, is_there)) {
            arguments.push("--features".to_owned());
            arguments.push(format!("{}/{feature}", package.name));
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_headers_every_other_feature_is_named() {
        let package = Package {
            name: "a".to_owned(),
            features: ["default", "kafka", FEATURE]
                .map(|name| (name.to_owned(), Vec::new()))
                .into(),
            ..Package::default()
        };
        let packages = [package];
        let without = all_features(packages.iter(), false).join(" ");
        assert_eq!(without, "--features a/default --features a/kafka");
        assert_eq!(all_features(packages.iter(), true), ["--all-features"]);
    }
}
