//! The Debian package.

use std::path::Path;

use super::Release;
use super::archive;
use super::archive::Entry;
use super::read;

/// What the folder of documents is called.
const DOCUMENTS: &str = "usr/share/doc/outspan";

/// Whom Debian asks about the package.
const MAINTAINER: &str = env!("CARGO_PKG_AUTHORS");

/// Scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// What Debian calls the machine of a platform of Rust's.
///
/// # Errors
///
/// When we know no name for it.
pub(super) fn architecture(target: &str) -> Result<&'static str, String> {
    match target {
        "x86_64-unknown-linux-gnu" => Ok("amd64"),
        "aarch64-unknown-linux-gnu" => Ok("arm64"),
        "riscv64gc-unknown-linux-gnu" => Ok("riscv64"),
        _ => Err(format!("no Debian architecture is known for {target}")),
    }
}

/// Makes the package.
///
/// # Errors
///
/// When a file of `packaging` cannot be read, or the program needs a library that no package is known for.
pub(super) fn package(
    release: &Release,
    root: &Path,
    architecture: &str,
) -> Result<Vec<u8>, String> {
    let packaging = root.join("packaging");
    let files = files(release, root)?;
    let size: usize = files
        .iter()
        .map(|file| file.content.len().div_ceil(1024))
        .sum();
    let template = String::from_utf8_lossy(&read(&packaging.join("debian/control"))?).into_owned();
    let control = template
        .replace("@VERSION@", &release.version)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@MAINTAINER@", MAINTAINER)
        .replace("@INSTALLED_SIZE@", &size.to_string())
        .replace("@DEPENDS@", &depends(&release.program.needs)?);
    let mut papers = vec![
        Entry::file("control", control.as_bytes()),
        Entry::file("conffiles", b"/etc/default/outspan\n"),
    ];
    for script in SCRIPTS {
        let text = read(&packaging.join("debian").join(script))?;
        papers.push(Entry::program(script, &text));
    }
    let papers = archive::tarball(papers, "./", release.time)?;
    let files = archive::tarball(files, "./", release.time)?;
    archive::members(
        &[
            ("debian-binary", b"2.0\n"),
            ("control.tar.gz", &papers),
            ("data.tar.gz", &files),
        ],
        release.time,
    )
}

/// Every file where a Debian system has it.
fn files(release: &Release, root: &Path) -> Result<Vec<Entry>, String> {
    let packaging = root.join("packaging");
    let mut files = vec![
        Entry::program("usr/bin/outspan", &release.program.bytes),
        Entry::file(
            "usr/lib/systemd/system/outspan.service",
            &read(&packaging.join("outspan.service"))?,
        ),
        Entry::file(
            "etc/default/outspan",
            &read(&packaging.join("outspan.default"))?,
        ),
        Entry::file(
            &format!("{DOCUMENTS}/copyright"),
            &read(&packaging.join("debian/copyright"))?,
        ),
        Entry::file(&format!("{DOCUMENTS}/THIRD-PARTY.txt"), &release.notices),
        Entry::file(
            &format!("{DOCUMENTS}/changelog.gz"),
            &archive::gzip(&read(&root.join("CHANGELOG.md"))?)?,
        ),
    ];
    for (shell, script) in &release.completions {
        let path = format!("{}/{}", shell.folder, shell.file);
        files.push(Entry::file(&path, script));
    }
    for (file, page) in &release.manual {
        let path = format!("usr/share/man/man1/{file}.gz");
        files.push(Entry::file(&path, &archive::gzip(page)?));
    }
    Ok(files)
}

/// The packages that hold what the program needs.
fn depends(needs: &[String]) -> Result<String, String> {
    let mut packages = Vec::new();
    if let Some(version) = newest_glibc(needs) {
        packages.push(format!("libc6 (>= {version})"));
    }
    let libraries = needs.iter().filter(|need| !need.starts_with("GLIBC_"));
    for library in libraries {
        match library.as_str() {
            // They are all of libc6.
            "libc.so.6" | "libm.so.6" | "ld-linux-x86-64.so.2" | "ld-linux-aarch64.so.1" => {}
            "libgcc_s.so.1" => packages.push("libgcc-s1".to_owned()),
            "libssl.so.3" => packages.push("libssl3".to_owned()),
            // libssl3 has both.
            "libcrypto.so.3" => {}
            _ => return Err(format!("no Debian package is known for {library}")),
        }
    }
    Ok(packages.join(", "))
}

/// The newest version that the program needs symbols of, such as 2.34.
fn newest_glibc(needs: &[String]) -> Option<String> {
    let versions = needs.iter().filter_map(|need| need.strip_prefix("GLIBC_"));
    let newest = versions.max_by_key(|version| {
        let numbers = version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        numbers.collect::<Vec<_>>()
    });
    newest.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let needs = needs(&[
            "GLIBC_2.4",
            "GLIBC_2.34",
            "GLIBC_2.3.4",
            "libc.so.6",
            "libgcc_s.so.1",
        ]);
        assert_eq!(depends(&needs).as_deref(), Ok("libc6 (>= 2.34), libgcc-s1"));
    }

    #[test]
    fn a_library_of_no_known_package_is_an_error() {
        let message = depends(&needs(&["libsasl2.so.2"])).expect_err("nobody knows it");
        assert!(message.contains("libsasl2.so.2"), "{message}");
    }

    #[test]
    fn a_platform_without_a_debian_name_is_an_error() {
        assert_eq!(architecture("x86_64-unknown-linux-gnu"), Ok("amd64"));
        assert!(architecture("x86_64-pc-windows-msvc").is_err());
    }
}
