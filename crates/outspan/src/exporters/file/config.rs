//! Options.

use std::path::PathBuf;
use std::time::Duration;

use super::FileExport;
use super::Format;
use super::encode::Encoder;
use super::open::Place;
use super::rotate::Files;
use super::rotate::Rotation;
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
    rotate_bytes: Option<u64>,
    rotate_after: Option<Duration>,
    keep_files: Option<usize>,
}

/// How many rotated files are kept unless another number is given: as many as the Collector's exporter keeps.
const KEEP_FILES: usize = 100;

impl Builder {
    pub(super) fn new(path: PathBuf, format: Format) -> Self {
        Self {
            path,
            format,
            compression: Compression::None,
            level: None,
            is_truncated: false,
            with_sync: true,
            rotate_bytes: None,
            rotate_after: None,
            keep_files: None,
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

    /// Puts the file aside and begins a new one before a record that would make it larger than this. The default is to let
    /// it grow. A file has one record at least, however large; see [rotation](super#rotation).
    #[must_use]
    pub fn rotate_bytes(mut self, bytes: u64) -> Self {
        self.rotate_bytes = Some(bytes);
        self
    }

    /// Puts the file aside and begins a new one when its first record is this old; see [rotation](super#rotation). The
    /// default is to keep to one file for ever.
    #[must_use]
    pub fn rotate_after(mut self, age: Duration) -> Self {
        self.rotate_after = Some(age);
        self
    }

    /// Sets how many files that were put aside are kept: the oldest is removed when there would be more, delivered or
    /// not as its spans may be. The default is 100, as the OpenTelemetry Collector has it.
    #[must_use]
    pub fn keep_files(mut self, files: usize) -> Self {
        self.keep_files = Some(files);
        self
    }

    /// Opens the file and makes the exporter.
    ///
    /// Its exports fail with [`Unavailable`](crate::ErrorKind::Unavailable) when writing fails; temporary, unless trying
    /// again cannot help. Batches above 16 MiB are written as several records. While a file that is due for it cannot be
    /// put aside, exports fail, temporarily: nothing grows beyond its bounds.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if the file cannot be opened, is in use by another exporter, or holds something
    /// else, or if rotation is asked for of what is no file, or with bounds of nothing; it names the file.
    pub fn build(self) -> Result<Exporter> {
        let level = self.level.unwrap_or(self.compression.default_level());
        let encoder = Encoder {
            format: self.format,
            compression: self.compression,
            level: self.compression.check_level(level)?,
        };
        let rotation = self.rotation()?;
        let label = format!("File({})", self.path.display());
        let place = Place {
            path: self.path,
            format: self.format,
            compression: self.compression,
            with_sync: self.with_sync,
        };
        let export = FileExport {
            encoder,
            files: Some(Files::open(place, self.is_truncated, rotation)?),
            with_sync: self.with_sync,
            last_notes: Vec::new(),
        };
        blocking::exporter(label, export)
    }

    fn rotation(&self) -> Result<Option<Rotation>> {
        let rotation = Rotation {
            bytes: self.rotate_bytes,
            age: self.rotate_after,
            keep: self.keep_files.unwrap_or(KEEP_FILES),
        };
        let wrong = |what: &str| {
            let name = self.path.display();
            Err(Error::config(format!("cannot rotate {name}: {what}")))
        };
        if rotation.bytes.is_none() && rotation.age.is_none() {
            return match self.keep_files {
                Some(_) => wrong("keep_files needs rotate_bytes or rotate_after"),
                None => Ok(None),
            };
        }
        if rotation.bytes == Some(0) || rotation.age == Some(Duration::ZERO) {
            return wrong("rotate_bytes and rotate_after must be more than nothing");
        }
        if rotation.keep == 0 {
            return wrong("keep_files must be at least 1");
        }
        Ok(Some(rotation))
    }
}
