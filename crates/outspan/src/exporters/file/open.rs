//! Opening a file for one writer.

use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::Format;
use super::appender::Appender;
use super::appender::Stream;
use super::recover;
use crate::Compression;
use crate::Error;
use crate::Result;

/// Where a file is and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) compression: Compression,
    pub(super) with_sync: bool,
}

/// A file that is open.
pub(super) struct Opened {
    pub(super) appender: Appender,
    /// Absent of what is no file.
    pub(super) identity: Option<Identity>,
    /// How long the file was there before it was opened.
    pub(super) age: Duration,
}

/// Tells a file from another of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        Self(metadata.dev(), metadata.ino())
    }

    /// Here a file that is open cannot be moved by others.
    #[cfg(not(unix))]
    pub(super) fn of(_metadata: &Metadata) -> Self {
        Self(0, 0)
    }
}

impl Place {
    /// Opens the file, emptied or with its records whole.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if it cannot be opened, is in use by another exporter, or holds something
    /// else.
    pub(super) fn open(&self, is_truncated: bool) -> Result<Opened> {
        let name = self.path.display().to_string();
        let is_new = !self.path.exists();
        let file = open_file(&self.path).map_err(|e| self.cannot_open(e))?;
        let metadata = file.metadata().map_err(|e| self.cannot_open(e))?;
        if !metadata.is_file() {
            return Ok(Opened {
                appender: Appender::new(Stream(file), name),
                identity: None,
                age: Duration::ZERO,
            });
        }
        lock(&file, &name)?;
        if is_truncated {
            file.set_len(0).map_err(|e| self.cannot_open(e))?;
        } else {
            recover::make_ready(&file, self.format, self.compression, &name)?;
        }
        if is_new && self.with_sync {
            sync_directory(&self.path);
        }
        Ok(Opened {
            appender: Appender::new(file, name),
            identity: Some(Identity::of(&metadata)),
            age: age(&metadata),
        })
    }

    fn cannot_open(&self, error: io::Error) -> Error {
        let directory = directory_of(&self.path);
        let what = match error.kind() {
            io::ErrorKind::NotFound if !directory.exists() => format!(
                "cannot open {}: the directory {} does not exist, create it",
                self.path.display(),
                directory.display()
            ),
            io::ErrorKind::IsADirectory => format!(
                "cannot open {}: it is a directory, name a file in it",
                self.path.display()
            ),
            _ => format!("cannot open {}", self.path.display()),
        };
        Error::config(what).with_source(error)
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Reading is for finding the end of what is there. A pipe must not be opened for it: its reader's side is not ours.
    let is_stream = path.metadata().is_ok_and(|metadata| !metadata.is_file());
    options.read(!is_stream).open(path)
}

/// Locks the file against a second writer, where the file system can.
fn lock(file: &File, name: &str) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::config(format!(
            "cannot open {name}: another exporter is writing to it, shut that one down or use another file"
        ))),
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(e)) => {
            Err(Error::config(format!("cannot lock {name}")).with_source(e))
        }
    }
}

pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Brings the new file's name to the disk. Where that is impossible the file itself still is synced.
fn sync_directory(path: &Path) {
    #[cfg(unix)]
    if let Ok(directory) = File::open(directory_of(path)) {
        drop(directory.sync_all());
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// How long ago the file was made; nothing where the file system does not know.
fn age(metadata: &Metadata) -> Duration {
    let made = metadata.created().ok();
    made.and_then(|made| made.elapsed().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_name_alone_is_in_this_directory() {
        for (path, directory) in [("t.jsonl", "."), ("a/t.jsonl", "a"), ("/t.jsonl", "/")] {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory));
        }
    }

    #[test]
    fn a_file_grows_old() {
        let metadata = tempfile::tempfile().unwrap().metadata().unwrap();
        if metadata.created().is_err() {
            return;
        }
        let begun = Instant::now();
        // The clock of a file system moves in steps.
        while age(&metadata) == Duration::ZERO {
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        assert!(age(&metadata) < Duration::from_secs(3600));
    }

    #[cfg(unix)]
    #[test]
    fn of_a_link_that_leads_nowhere_it_is_not_said_that_its_directory_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.jsonl");
        std::os::unix::fs::symlink("/no/such/directory/t.jsonl", &path).unwrap();
        let place = Place {
            path,
            format: Format::Json,
            compression: Compression::None,
            with_sync: false,
        };
        let error = place.open(false).map(drop).unwrap_err().to_string();
        assert!(error.contains("cannot open"), "{error}");
        assert!(!error.contains("create it"), "{error}");
    }
}
