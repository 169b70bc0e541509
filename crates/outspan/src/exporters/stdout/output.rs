//! Where the text goes: standard output, or any writer.

use std::fmt;
#[cfg(unix)]
use std::fs::File;
use std::io;
use std::io::Write;
#[cfg(unix)]
use std::os::fd::AsFd;

/// A target of text, written record by record.
pub(super) struct Output {
    target: Target,
    /// Whether the last record was cut in the middle.
    is_torn: bool,
}

enum Target {
    Stdout,
    Writer(Box<dyn Write + Send>),
}

/// What came of writing.
pub(super) struct Wrote {
    pub(super) bytes: usize,
    pub(super) result: io::Result<()>,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self::new(Target::Stdout)
    }

    pub(super) fn writer(writer: impl Write + Send + 'static) -> Self {
        Self::new(Target::Writer(Box::new(writer)))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            is_torn: false,
        }
    }

    /// What errors call it.
    pub(super) fn name(&self) -> &'static str {
        match self.target {
            Target::Stdout => "standard output",
            Target::Writer(_) => "the writer",
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        match self.target {
            Target::Stdout => io::IsTerminal::is_terminal(&io::stdout()),
            Target::Writer(_) => false,
        }
    }

    /// Writes whole records, each ending with a line feed, and holds the lock of standard output meanwhile.
    ///
    /// What was cut in the middle before is ended by a line feed, so that records stay on lines of their own.
    pub(super) fn write(&mut self, text: &[u8]) -> Wrote {
        let is_torn = self.is_torn;
        let wrote = match &mut self.target {
            Target::Stdout => write_to_stdout(is_torn, text),
            Target::Writer(writer) => write_to(writer, is_torn, text),
        };
        self.is_torn = match wrote.bytes {
            0 => is_torn,
            bytes => text.get(bytes - 1) != Some(&b'\n'),
        };
        wrote
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Stdout => io::stdout().lock().flush(),
            Target::Writer(writer) => writer.flush(),
        }
    }
}

/// Writes past the buffer of standard output, which accepts bytes that it cannot write, and keeps them: how much was written
/// would be untrue by up to its size.
#[cfg(unix)]
fn write_to_stdout(is_torn: bool, text: &[u8]) -> Wrote {
    let mut stdout = io::stdout().lock();
    // What the program printed before comes first.
    if let Err(e) = stdout.flush() {
        return Wrote {
            bytes: 0,
            result: Err(e),
        };
    }
    match stdout.as_fd().try_clone_to_owned() {
        Ok(unbuffered) => write_to(&mut File::from(unbuffered), is_torn, text),
        // The program has no file descriptor left.
        Err(_) => write_to(&mut stdout, is_torn, text),
    }
}

#[cfg(not(unix))]
fn write_to_stdout(is_torn: bool, text: &[u8]) -> Wrote {
    write_to(&mut io::stdout().lock(), is_torn, text)
}

fn write_to(writer: &mut impl Write, is_torn: bool, text: &[u8]) -> Wrote {
    if is_torn && let Err(e) = writer.write_all(b"\n") {
        return Wrote {
            bytes: 0,
            result: Err(e),
        };
    }
    let mut bytes = 0;
    while let Some(rest) = text.get(bytes..).filter(|rest| !rest.is_empty()) {
        match writer.write(rest) {
            Ok(0) => {
                let result = Err(io::ErrorKind::WriteZero.into());
                return Wrote { bytes, result };
            }
            Ok(more) => bytes += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Wrote {
                    bytes,
                    result: Err(e),
                };
            }
        }
    }
    Wrote {
        bytes,
        result: Ok(()),
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
