//! The program, built to be handed out.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::command;

/// Where it is packed from. It is built where every release build is: with the same flags, that is the same program.
const FOLDER: &str = "target/dist-build";

/// The program as users get it.
pub(super) struct Program {
    path: PathBuf,
    /// The stripped file.
    pub(super) bytes: Vec<u8>,
    /// What it was built for, as Rust names it.
    pub(super) target: String,
    /// Libraries that it loads, and versions of symbols that it needs from the C library: `libc.so.6`, `GLIBC_2.34`.
    pub(super) needs: Vec<String>,
}

impl Program {
    /// Builds and strips it: the paths of this machine are not compiled in.
    pub(super) fn build(root: &Path, features: &str) -> Result<Self, String> {
        let folder = root.join(FOLDER);
        fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let mut cargo = command::cargo(root);
        cargo.args(["build", "--release", "--locked", "--package=outspan-agent"]);
        cargo.args(["--bin=outspan", "--target-dir=target"]);
        cargo.arg(format!("--features={features}"));
        cargo.envs(environment(root)?);
        command::run(&mut cargo)?;

        let path = folder.join("outspan");
        let mut strip = Command::new("strip");
        strip.args(["--strip-all", "-o"]).arg(&path);
        command::run(strip.arg(root.join("target/release/outspan")))?;
        Ok(Self {
            bytes: super::read(&path)?,
            target: host(root)?,
            needs: needs(&path)?,
            path,
        })
    }

    /// Runs it, and returns what it writes to standard output.
    pub(super) fn says(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let mut program = Command::new(&self.path);
        command::output(program.args(arguments)).map(String::into_bytes)
    }

    /// Wants it to have at most so many bytes.
    pub(super) fn at_most(&self, bytes: u64) -> Result<(), String> {
        let size = self.bytes.len() as u64;
        if size <= bytes {
            return Ok(());
        }
        Err(format!(
            "the program has {size} bytes, and may have {bytes}: see what made it grow, `cargo bloat` tells"
        ))
    }
}

/// Returns the variables with which cargo builds the program as it is handed out.
pub(super) fn environment(root: &Path) -> Result<[(&'static str, String); 2], String> {
    let flags = without_paths(root, &registries()?);
    Ok([
        ("CARGO_ENCODED_RUSTFLAGS", flags.rust.join("\x1f")),
        ("CFLAGS", flags.c.join(" ")),
    ])
}

/// Flags of two compilers.
struct Flags {
    rust: Vec<String>,
    c: Vec<String>,
}

/// Flags that replace the paths of this machine: of the repository, and of the sources of each registry.
fn without_paths(root: &Path, registries: &[PathBuf]) -> Flags {
    let mut flags = Flags {
        rust: Vec::new(),
        c: Vec::new(),
    };
    let crates = registries
        .iter()
        .map(|registry| (registry.as_path(), "/crates"));
    for (path, instead) in crates.chain([(root, "/outspan")]) {
        let path = path.display();
        flags
            .rust
            .push(format!("--remap-path-prefix={path}={instead}"));
        flags.c.push(format!("-ffile-prefix-map={path}={instead}"));
    }
    flags
}

/// Where cargo keeps the sources of each registry.
fn registries() -> Result<Vec<PathBuf>, String> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => match env::home_dir() {
            Some(home) => home.join(".cargo"),
            None => return Err("cannot tell where cargo keeps sources: set CARGO_HOME".to_owned()),
        },
    };
    let sources = home.join("registry/src");
    let entries = fs::read_dir(&sources)
        .map_err(|error| format!("cannot read {}: {error}", sources.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot read {}: {error}", sources.display()))?;
        found.push(entry.path());
    }
    found.sort();
    Ok(found)
}

/// The platform that this machine builds for.
fn host(root: &Path) -> Result<String, String> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(root).arg("-vV");
    let text = command::output(&mut rustc)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "`rustc -vV` names no host".to_owned())
}

/// What the program needs at run time, in order.
fn needs(program: &Path) -> Result<Vec<String>, String> {
    let mut objdump = Command::new("objdump");
    let text = command::output(objdump.arg("-p").arg(program))?;
    let needs = needs_in(&text);
    if needs.is_empty() {
        return Err("objdump tells nothing of what the program needs".to_owned());
    }
    Ok(needs)
}

/// Reads the lines `NEEDED` and the versions of symbols from what `objdump -p` writes.
fn needs_in(text: &str) -> Vec<String> {
    let mut needs: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["NEEDED", library] => Some((*library).to_owned()),
                [_, _, _, version] if version.starts_with("GLIBC_") => Some((*version).to_owned()),
                _ => None,
            }
        })
        .collect();
    needs.sort();
    needs.dedup();
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_versions_of_symbols_are_read() {
        let text = "\
Dynamic Section:
  NEEDED               libgcc_s.so.1
  NEEDED               libc.so.6
  INIT                 0x0000000000123000

Version References:
  required from libc.so.6:
    0x069691b4 0x00 09 GLIBC_2.34
    0x0d696910 0x00 07 GLIBC_2.4
  required from libgcc_s.so.1:
    0x0b792650 0x00 08 GCC_3.0
";
        let needs = needs_in(text);
        assert_eq!(
            needs,
            ["GLIBC_2.34", "GLIBC_2.4", "libc.so.6", "libgcc_s.so.1"]
        );
    }

    #[test]
    fn paths_of_the_machine_are_replaced_for_both_compilers() {
        let registries = [PathBuf::from("/home/me/.cargo/registry/src/index")];
        let flags = without_paths(Path::new("/src/outspan"), &registries);
        assert_eq!(
            flags.rust,
            [
                "--remap-path-prefix=/home/me/.cargo/registry/src/index=/crates",
                "--remap-path-prefix=/src/outspan=/outspan"
            ]
        );
        assert_eq!(flags.c[1], "-ffile-prefix-map=/src/outspan=/outspan");
    }
}
