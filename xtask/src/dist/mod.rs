//! What is handed out: the program with its papers, as a tarball and as a Debian package.
//!
//! The same commit makes the same bytes, whoever makes them where: paths of the machine are taken out of the program,
//! every time is the commit's, and entries are in order and owned by root.

mod archive;
mod debian;
mod notices;
mod program;

use std::env;
use std::fmt::Write;
use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use sha2::Digest;
use sha2::Sha256;

use self::archive::Entry;
use self::program::Program;
use crate::command;
use crate::repository;

/// What the program may measure at most, stripped and without Kafka: 12 MiB.
const SIZE_MAX: u64 = 12 << 20;

/// The shells that get completions.
const SHELLS: [Shell; 3] = [
    Shell {
        name: "bash",
        file: "outspan",
        folder: "usr/share/bash-completion/completions",
    },
    Shell {
        name: "fish",
        file: "outspan.fish",
        folder: "usr/share/fish/vendor_completions.d",
    },
    Shell {
        name: "zsh",
        file: "_outspan",
        folder: "usr/share/zsh/vendor-completions",
    },
];

/// A shell, and where a Debian system keeps its completions.
struct Shell {
    name: &'static str,
    file: &'static str,
    folder: &'static str,
}

/// Everything that is handed out, before it is packed.
struct Release {
    version: String,
    program: Program,
    /// When the commit was made, in seconds since 1970.
    time: u64,
    completions: Vec<(&'static Shell, Vec<u8>)>,
    /// Pages by the names of their files, such as `outspan-agent.1`.
    manual: Vec<(String, Vec<u8>)>,
    notices: Vec<u8>,
}

/// Makes tarball, Debian package and their checksums in `target/dist`.
///
/// # Errors
///
/// When the program cannot be built, is too large, or needs a library that no package is known for.
pub(crate) fn run(features: &str) -> Result<(), String> {
    let root = repository::root();
    let release = Release::make(&root, features)?;
    let folder = root.join("target/dist");
    make_anew(&folder)?;
    let mut sums = String::new();
    for (name, bytes) in [release.tarball(&root)?, release.debian_package(&root)?] {
        write(&folder.join(&name), &bytes)?;
        writeln!(sums, "{}  {name}", sum(&bytes)).expect("a string takes everything");
        eprintln!("target/dist/{name}: {} bytes", bytes.len());
    }
    write(&folder.join("SHA256SUMS"), sums.as_bytes())
}

/// Prints the variables with which the program is built, for a shell to read.
///
/// # Errors
///
/// When cargo's sources are not where they are expected.
pub(crate) fn print_environment() -> Result<(), String> {
    let mut lines = String::new();
    for (name, value) in program::environment(&repository::root())? {
        let quoted = value.replace('\'', "'\\''");
        writeln!(lines, "export {name}='{quoted}'").expect("a string takes everything");
    }
    io::stdout()
        .write_all(lines.as_bytes())
        .map_err(|error| format!("cannot write to standard output: {error}"))
}

impl Release {
    fn make(root: &Path, features: &str) -> Result<Self, String> {
        let program = Program::build(root, features)?;
        eprintln!(
            "the program has {} bytes, stripped; it needs {}",
            program.bytes.len(),
            program.needs.join(", ")
        );
        if features.is_empty() {
            program.at_most(SIZE_MAX)?;
        }
        let mut completions = Vec::new();
        for shell in &SHELLS {
            completions.push((shell, program.says(&["completions", shell.name])?));
        }
        Ok(Self {
            version: version(&program)?,
            time: time_of_commit(root)?,
            completions,
            manual: manual(&program)?,
            notices: notices::of_program(root, features)?.into_bytes(),
            program,
        })
    }

    /// Everything below one folder, for any Linux.
    fn tarball(&self, root: &Path) -> Result<(String, Vec<u8>), String> {
        let name = format!("outspan-{}-{}", self.version, self.program.target);
        let mut entries = vec![
            Entry::program("outspan", &self.program.bytes),
            Entry::file("THIRD-PARTY.txt", &self.notices),
        ];
        for file in ["README.md", "CHANGELOG.md", "LICENSE"] {
            entries.push(Entry::file(file, &read(&root.join(file))?));
        }
        for file in ["outspan.service", "outspan.default"] {
            let text = read(&root.join("packaging").join(file))?;
            entries.push(Entry::file(&format!("systemd/{file}"), &text));
        }
        for (shell, script) in &self.completions {
            let path = format!("completions/{}/{}", shell.name, shell.file);
            entries.push(Entry::file(&path, script));
        }
        for (file, page) in &self.manual {
            entries.push(Entry::file(&format!("man/man1/{file}"), page));
        }
        let bytes = archive::tarball(entries, &format!("{name}/"), self.time)?;
        Ok((format!("{name}.tar.gz"), bytes))
    }

    fn debian_package(&self, root: &Path) -> Result<(String, Vec<u8>), String> {
        let architecture = debian::architecture(&self.program.target)?;
        let name = format!("outspan_{}_{architecture}.deb", self.version);
        Ok((name, debian::package(self, root, architecture)?))
    }
}

/// What the program says its version is, `outspan 1.2.3`.
fn version(program: &Program) -> Result<String, String> {
    let said = program.says(&["--version"])?;
    let said = String::from_utf8_lossy(&said);
    let version = said.trim().strip_prefix("outspan ");
    version
        .map(str::to_owned)
        .ok_or_else(|| format!("`{}` is no version of outspan", said.trim()))
}

/// The pages of the program and of each of its commands.
fn manual(program: &Program) -> Result<Vec<(String, Vec<u8>)>, String> {
    let first = program.says(&["man"])?;
    let text = String::from_utf8_lossy(&first).into_owned();
    let mut pages = vec![("outspan.1".to_owned(), first)];
    for command in commands(&text) {
        let page = program.says(&["man", &command])?;
        pages.push((format!("outspan-{command}.1"), page));
    }
    if pages.len() == 1 {
        return Err("the page of outspan names no commands".to_owned());
    }
    Ok(pages)
}

/// The commands that the program's page refers to: `outspan\-agent(1)`.
fn commands(page: &str) -> Vec<String> {
    let lines = page.lines();
    lines
        .filter_map(|line| line.strip_prefix("outspan\\-")?.strip_suffix("(1)"))
        .map(str::to_owned)
        .collect()
}

/// SOURCE_DATE_EPOCH if it is set, or when the last commit was made (reproducible-builds.org, "SOURCE_DATE_EPOCH").
fn time_of_commit(root: &Path) -> Result<u64, String> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = Command::new("git");
            git.current_dir(root).args(["log", "-1", "--format=%ct"]);
            command::output(&mut git)?
        }
    };
    text.trim()
        .parse()
        .map_err(|_| format!("`{}` is not a number of seconds since 1970", text.trim()))
}

/// Leaves nothing in the folder that an earlier run made.
fn make_anew(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
    }
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}

fn sum(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_that_the_page_refers_to() {
        let page = ".TP\noutspan\\-agent(1)\nReceives spans\n.TP\noutspan\\-send(1)\nSends\n";
        assert_eq!(commands(page), ["agent", "send"]);
    }

    #[test]
    fn sums_are_what_sha256sum_prints() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sum(b"abc"), known);
    }
}
