//! Tools of others that cargo installs, kept between runs by their version.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::command;

/// A subcommand of cargo, such as `cargo-fuzz`, at one version.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

impl Tool {
    /// Starts the description of a call of this subcommand, after it has been installed if it was absent.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be installed.
    pub(crate) fn cargo(&self, root: &Path) -> Result<Command, String> {
        let programs = self.installed(root)?;
        let old = env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(programs).chain(env::split_paths(&old));
        let path = env::join_paths(all).map_err(|error| format!("cannot extend PATH: {error}"))?;
        let mut cargo = command::cargo(root);
        cargo.env("PATH", path);
        cargo.arg(self.name.trim_start_matches("cargo-"));
        Ok(cargo)
    }

    /// Returns the directory of the program.
    fn installed(&self, root: &Path) -> Result<PathBuf, String> {
        let Self { name, version } = self;
        let home = cache(env::var_os("OUTSPAN_CI_CACHE"), env::var_os("HOME"))?;
        let home = home.join(format!("{name}-{version}"));
        let programs = home.join("bin");
        if programs.join(name).exists() {
            return Ok(programs);
        }
        let mut cargo = command::cargo(root);
        cargo.args(["install", name, "--locked", "--version", version]);
        // The build is thrown away: it must not fill our own target directory.
        cargo.env_remove("CARGO_TARGET_DIR");
        command::run(cargo.arg("--root").arg(home))?;
        Ok(programs)
    }
}

/// Returns where tools are kept between runs: `OUTSPAN_CI_CACHE`, or a directory of the user's.
fn cache(chosen: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, String> {
    if let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) {
        return Ok(PathBuf::from(chosen));
    }
    let home = home.ok_or("set OUTSPAN_CI_CACHE or HOME: tools need a directory to be kept in")?;
    Ok(Path::new(&home).join(".cache").join("outspan"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_kept_where_asked_or_at_home() {
        let chosen = cache(Some("/kept".into()), Some("/home/a".into()));
        assert_eq!(chosen, Ok(PathBuf::from("/kept")));
        let home = cache(Some("".into()), Some("/home/a".into()));
        assert_eq!(home, Ok(PathBuf::from("/home/a/.cache/outspan")));
        assert!(cache(None, None).is_err());
    }
}
