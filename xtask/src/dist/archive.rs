//! Archives that are the same each time: entries in order, owned by root, with one time.

use std::collections::BTreeSet;
use std::io::Write;

use flate2::Compression;
use flate2::GzBuilder;
use tar::EntryType;
use tar::Header;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it stands, with `/` between parts and none in front.
    pub(super) path: String,
    mode: u32,
    pub(super) content: Vec<u8>,
}

impl Entry {
    /// A file that everybody reads.
    pub(super) fn file(path: &str, content: &[u8]) -> Self {
        Self::with_mode(path, content, 0o644)
    }

    /// A file that everybody may run.
    pub(super) fn program(path: &str, content: &[u8]) -> Self {
        Self::with_mode(path, content, 0o755)
    }

    fn with_mode(path: &str, content: &[u8], mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            content: content.to_vec(),
        }
    }
}

/// Packs entries below `prefix`, which ends in a slash, with the folders they stand in.
///
/// # Errors
///
/// When a path is too long for the format.
pub(super) fn tarball(mut entries: Vec<Entry>, prefix: &str, time: u64) -> Result<Vec<u8>, String> {
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind, mode, content: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header.set_size(content.len() as u64);
        header
            .set_username("root")
            .and_then(|()| header.set_groupname("root"))
            .and_then(|()| archive.append_data(&mut header, format!("{prefix}{path}"), content))
            .map_err(|error| format!("cannot pack {prefix}{path}: {error}"))
    };
    for folder in folders(&entries) {
        add(&folder, EntryType::Directory, 0o755, &[])?;
    }
    for entry in &entries {
        add(&entry.path, EntryType::Regular, entry.mode, &entry.content)?;
    }
    let tar = archive
        .into_inner()
        .map_err(|error| format!("cannot pack {prefix}: {error}"))?;
    gzip(&tar)
}

/// Compresses, without a name or a time.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(bytes)
        .and_then(|()| gzip.finish())
        .map_err(|error| format!("cannot compress: {error}"))
}

/// Every folder that an entry stands in, each before those inside it; the first is the prefix itself.
fn folders(entries: &[Entry]) -> BTreeSet<String> {
    let mut folders = BTreeSet::from([String::new()]);
    for entry in entries {
        for (at, _) in entry.path.match_indices('/') {
            folders.insert(entry.path[..=at].to_owned());
        }
    }
    folders
}

/// Joins members into the archive that a Debian package is (deb(5)).
///
/// # Errors
///
/// When a member cannot be written.
pub(super) fn members(members: &[(&str, &[u8])], time: u64) -> Result<Vec<u8>, String> {
    let mut archive = ar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        header.set_mtime(time);
        header.set_mode(0o100_644);
        archive
            .append(&header, *content)
            .map_err(|error| format!("cannot pack {name}: {error}"))?;
    }
    archive
        .into_inner()
        .map_err(|error| format!("cannot pack: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    const TIME: u64 = 1_700_000_000;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::file("man/man1/a.1", b"page"),
            Entry::program("bin/a", b"code"),
        ]
    }

    #[test]
    fn the_same_entries_make_the_same_bytes_in_any_order() {
        let mut turned = entries();
        turned.reverse();
        let one = tarball(entries(), "a-1/", TIME).expect("it can be packed");
        let other = tarball(turned, "a-1/", TIME).expect("it can be packed");
        assert_eq!(one, other);
    }

    #[test]
    fn a_tarball_holds_folders_first_and_everything_is_roots() {
        let bytes = tarball(entries(), "a-1/", TIME).expect("it can be packed");
        let mut archive = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
        let mut found = Vec::new();
        for entry in archive.entries().expect("it is an archive") {
            let mut entry = entry.expect("it is an entry");
            let header = entry.header().clone();
            assert_eq!(header.mtime().ok(), Some(TIME));
            assert_eq!(header.uid().ok(), Some(0));
            assert_eq!(header.username().ok().flatten(), Some("root"));
            let path = entry.path().expect("it has a path").display().to_string();
            let mut content = String::new();
            entry.read_to_string(&mut content).expect("it is text");
            found.push((path, header.mode().expect("it has a mode"), content));
        }
        let expected = [
            ("a-1/", 0o755, ""),
            ("a-1/bin/", 0o755, ""),
            ("a-1/man/", 0o755, ""),
            ("a-1/man/man1/", 0o755, ""),
            ("a-1/bin/a", 0o755, "code"),
            ("a-1/man/man1/a.1", 0o644, "page"),
        ];
        let expected = expected.map(|(path, mode, text)| (path.to_owned(), mode, text.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn members_keep_their_order() {
        let bytes = members(&[("b", b"12"), ("a", b"3")], TIME).expect("it can be packed");
        let mut archive = ar::Archive::new(bytes.as_slice());
        let first = archive.next_entry().expect("a member").expect("it is one");
        assert_eq!(first.header().identifier(), b"b");
        assert_eq!(first.header().mtime(), TIME);
    }
}
