//! Options, and opening the file.

use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::FileExport;
use super::Format;
use super::appender::Appender;
use super::appender::Stream;
use super::encode::Encoder;
use super::recover;
use crate::Compression;
use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::exporters::blocking;

/// Configures an exporter that writes to a file.
#[derive(Clone, Debug)]
pub struct Builder {
    path: PathBuf,
    format: Format,
    compression: Compression,
    level: Option<u32>,
    is_truncated: bool,
    with_sync: bool,
}

impl Builder {
    pub(super) fn new(path: PathBuf, format: Format) -> Self {
        Self {
            path,
            format,
            compression: Compression::None,
            level: None,
            is_truncated: false,
            with_sync: true,
        }
    }

    /// Sets the compression. The default is none. Each record is compressed by itself, so batches should not be small.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the compression level: 0 to 9 for gzip, 1 to 22 for Zstandard. The default is that of each format's tool.
    #[must_use]
    pub fn compression_level(mut self, level: u32) -> Self {
        self.level = Some(level);
        self
    }

    /// Empties a file that is there. The default is to continue it.
    #[must_use]
    pub fn truncate(mut self) -> Self {
        self.is_truncated = true;
        self
    }

    /// Sets whether flush and shutdown wait for the disk. The default is that they do: what they delivered survives a
    /// power failure.
    #[must_use]
    pub fn sync(mut self, sync: bool) -> Self {
        self.with_sync = sync;
        self
    }

    /// Opens the file and makes the exporter.
    ///
    /// Its exports fail with [`Unavailable`](crate::ErrorKind::Unavailable) when writing fails; temporary, unless trying
    /// again cannot help. Batches above 16 MiB are written as several records.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if the file cannot be opened, is in use by another exporter, or holds something
    /// else; it names the file.
    pub fn build(self) -> Result<Exporter> {
        let level = self.level.unwrap_or(self.compression.default_level());
        let encoder = Encoder {
            format: self.format,
            compression: self.compression,
            level: self.compression.check_level(level)?,
        };
        let export = FileExport {
            encoder,
            appender: Some(self.open()?),
            with_sync: self.with_sync,
        };
        blocking::exporter(format!("File({})", self.path.display()), export)
    }

    fn open(&self) -> Result<Appender> {
        let name = self.path.display().to_string();
        let is_new = !self.path.exists();
        let file = open_file(&self.path).map_err(|e| self.cannot_open(e))?;
        let metadata = file.metadata().map_err(|e| self.cannot_open(e))?;
        if !metadata.is_file() {
            return Ok(Appender::new(Stream(file), name));
        }
        lock(&file, &name)?;
        if self.is_truncated {
            file.set_len(0).map_err(|e| self.cannot_open(e))?;
        } else {
            recover::make_ready(&file, self.format, self.compression, &name)?;
        }
        if is_new && self.with_sync {
            sync_directory(&self.path);
        }
        Ok(Appender::new(file, name))
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

fn directory_of(path: &Path) -> &Path {
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
