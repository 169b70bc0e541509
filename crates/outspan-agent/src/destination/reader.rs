//! Whoever reads standard output, and may go away.

use std::error::Error as StdError;
use std::io;
use std::io::IsTerminal;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use tokio::sync::watch;

use super::Destination;

/// The exit status of a program whose reader went away: 128 and the number of SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// Whether an error says that whoever read standard output went away.
pub(crate) fn is_reader_gone(destination: &Destination, error: &Error) -> bool {
    matches!(destination, Destination::Stdout(_)) && has_broken_pipe(error)
}

/// Whether a broken pipe is among an error's causes.
fn has_broken_pipe(error: &Error) -> bool {
    has_cause(error, |io| io.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether an error is that of a terminal that was closed: the system answers every write with EIO then, and the
/// terminal never comes back.
#[cfg(unix)]
fn is_of_closed_terminal(error: &Error) -> bool {
    let closed = rustix::io::Errno::IO.raw_os_error();
    has_cause(error, |io| io.raw_os_error() == Some(closed))
}

#[cfg(not(unix))]
fn is_of_closed_terminal(_error: &Error) -> bool {
    false
}

/// Whether one of an error's causes is such an error of the system.
fn has_cause(error: &Error, is_it: impl Fn(&io::Error) -> bool) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(&is_it) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Tells when whoever reads standard output has gone.
#[derive(Clone, Debug)]
pub(crate) struct ReaderGone {
    is_gone: watch::Sender<bool>,
    /// Whether standard output was a terminal at the start. One that is closed does not tell any more.
    is_terminal: bool,
}

impl ReaderGone {
    pub(crate) fn new() -> Self {
        Self {
            is_gone: watch::Sender::new(false),
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// Wraps an exporter that writes to standard output.
    pub(crate) fn around(&self, inner: Exporter) -> Exporter {
        Exporter::new(Watched {
            inner,
            gone: self.clone(),
        })
    }

    /// Waits until the reader has gone.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn wait(&self) {
        let mut is_gone = self.is_gone.subscribe();
        // The sender is here, so this ends only with the news.
        drop(is_gone.wait_for(|is_gone| *is_gone).await);
    }

    /// Whether the reader has gone.
    pub(crate) fn is_gone(&self) -> bool {
        *self.is_gone.borrow()
    }

    /// Makes the error of a closed terminal final: trying again would hold up the end of the program for nothing.
    fn judge(&self, error: Error) -> Error {
        match self.is_terminal && is_of_closed_terminal(&error) {
            true => error.with_temporary(false),
            false => error,
        }
    }

    fn note(&self, error: &Error) {
        if has_broken_pipe(error) {
            self.is_gone.send_replace(true);
        }
    }
}

/// Looks at every error on its way. Errors and deliveries pass through, those of a closed terminal as final ones; it holds
/// nothing.
#[derive(Debug)]
struct Watched {
    inner: Exporter,
    gone: ReaderGone,
}

impl Export for Watched {
    async fn export(&self, batch: Batch, until: Deadline) -> outspan::Result<Delivery> {
        match self.inner.export(batch, until).await {
            Ok(mut delivery) => {
                for part in &mut delivery.rest {
                    self.gone.note(&part.error);
                    part.error = self.gone.judge(part.error.clone());
                }
                Ok(delivery)
            }
            Err(error) => {
                self.gone.note(&error);
                Err(self.gone.judge(error))
            }
        }
    }

    async fn flush(&self, until: Deadline) -> outspan::Result<Drained> {
        let result = self.inner.flush(until).await;
        if let Err(error) = &result {
            self.gone.note(error);
        }
        result
    }

    async fn shutdown(&self, until: Deadline) -> outspan::Result<Drained> {
        self.inner.shutdown(until).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Error {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        Error::unavailable("cannot write").with_source(broken)
    }

    #[test]
    fn a_broken_pipe_is_known_by_its_cause() {
        let to = |text| Destination::parse(text).unwrap();
        assert!(is_reader_gone(&to("stdout:"), &broken()));
        assert!(!is_reader_gone(&to("grpc://localhost"), &broken()));
        assert!(!is_reader_gone(&to("stdout:"), &Error::refused("x")));
    }

    #[cfg(unix)]
    #[test]
    fn error_of_closed_terminal_is_final_where_output_was_a_terminal() {
        let closed = || {
            let error = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
            Error::unavailable("cannot write").with_source(error)
        };
        let mut gone = ReaderGone::new();
        for (is_terminal, error, is_temporary) in [
            (true, closed(), false),
            (false, closed(), true),
            (true, Error::unavailable("busy"), true),
        ] {
            gone.is_terminal = is_terminal;
            gone.note(&error);
            assert_eq!(gone.judge(error).is_temporary(), is_temporary);
        }
        assert!(!gone.is_gone(), "other destinations go on");
    }

    #[tokio::test]
    async fn the_reader_is_gone_with_the_first_error_that_says_so() {
        let gone = ReaderGone::new();
        gone.note(&Error::refused("no"));
        assert!(!gone.is_gone());
        gone.note(&broken());
        assert!(gone.is_gone());
        gone.wait().await;
    }
}
