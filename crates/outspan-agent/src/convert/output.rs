//! Where a conversion writes: a file that appears when it is complete, or standard output.

use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use flate2::write::GzEncoder;
use outspan::Compression;

/// What is written where.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Stdout,
    File {
        path: PathBuf,
        compression: Compression,
    },
}

/// Writes to a target.
pub(super) struct Output {
    /// Nothing when all of it was written.
    stream: Option<Stream>,
    place: Place,
}

/// Where the bytes go before all of them are there.
#[derive(Clone, Debug)]
enum Place {
    /// As they are: standard output, pipes, devices.
    There,
    /// Beside the file, whose name it gets in the end.
    Beside { part: PathBuf, path: PathBuf },
}

/// Removes what an incomplete conversion leaves.
#[derive(Debug)]
pub(super) struct Cleaner(Option<PathBuf>);

enum Stream {
    Plain(BufWriter<Box<dyn Write + Send>>),
    Gzip(GzEncoder<BufWriter<Box<dyn Write + Send>>>),
    Zstd(zstd::Encoder<'static, BufWriter<Box<dyn Write + Send>>>),
}

impl Target {
    /// Takes a path; one that exists has to be given up by `is_forced`.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(super) fn file(path: &Path, is_forced: bool) -> Result<Self, String> {
        let shown = path.display();
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(format!("{shown} is a directory")),
            // What is no file holds nothing that could be lost.
            Ok(found) if found.is_file() && !is_forced => {
                return Err(format!("{shown} exists: add --force to replace it"));
            }
            Ok(_) | Err(_) => {}
        }
        Ok(Self::File {
            path: path.to_owned(),
            compression: Compression::None,
        })
    }

    /// The same, compressed.
    pub(super) fn compressed(self, compression: Compression) -> Self {
        match self {
            Self::Stdout => Self::Stdout,
            Self::File { path, .. } => Self::File { path, compression },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl Output {
    /// Opens the target; a file is written beside itself first.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(super) fn open(target: Target) -> Result<Self, String> {
        let Target::File { path, compression } = target else {
            return Ok(Self {
                stream: Some(Stream::Plain(BufWriter::new(Box::new(io::stdout())))),
                place: Place::There,
            });
        };
        let failed = |e: io::Error| format!("cannot write {}: {e}", path.display());
        let is_special = fs::metadata(&path).is_ok_and(|found| !found.is_file());
        let (file, place) = match is_special {
            true => {
                let file = OpenOptions::new().write(true).open(&path);
                (file.map_err(failed)?, Place::There)
            }
            false => {
                let part = beside(&path);
                let file = File::create_new(&part).map_err(failed)?;
                (
                    file,
                    Place::Beside {
                        part,
                        path: path.clone(),
                    },
                )
            }
        };
        let stream = Stream::new(file, compression).map_err(failed)?;
        Ok(Self {
            stream: Some(stream),
            place,
        })
    }

    /// Whatever removes it again.
    pub(super) fn cleaner(&self) -> Cleaner {
        Cleaner(match &self.place {
            Place::There => None,
            Place::Beside { part, .. } => Some(part.clone()),
        })
    }

    /// Ends the stream, and lets the file appear.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let Some(stream) = self.stream.take() else {
            return Ok(());
        };
        stream.finish()?;
        match &self.place {
            Place::There => Ok(()),
            Place::Beside { part, path } => fs::rename(part, path),
        }
    }
}

/// A name for the time of writing, in the same directory, so that renaming is all that is left to do.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Some(Stream::Plain(stream)) => stream.write(bytes),
            Some(Stream::Gzip(stream)) => stream.write(bytes),
            Some(Stream::Zstd(stream)) => stream.write(bytes),
            None => Err(io::Error::other("the file is complete")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Some(Stream::Plain(stream)) => stream.flush(),
            Some(Stream::Gzip(stream)) => stream.flush(),
            Some(Stream::Zstd(stream)) => stream.flush(),
            None => Ok(()),
        }
    }
}

impl Stream {
    fn new(file: File, compression: Compression) -> io::Result<Self> {
        let file: BufWriter<Box<dyn Write + Send>> = BufWriter::new(Box::new(file));
        Ok(match compression {
            Compression::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(file, 0)?),
            // Names tell no other.
            _ => Self::Plain(file),
        })
    }

    fn finish(self) -> io::Result<()> {
        let mut file = match self {
            Self::Plain(file) => file,
            Self::Gzip(stream) => stream.finish()?,
            Self::Zstd(stream) => stream.finish()?,
        };
        file.flush()
    }
}

impl Cleaner {
    /// Removes the unfinished file, if there is one.
    pub(super) fn clean(&self) {
        if let Some(part) = &self.0 {
            // It may be gone already, and nobody could do more about it.
            drop(fs::remove_file(part));
        }
    }
}
