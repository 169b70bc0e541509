//! Whoever reads standard output, and may go away.

use std::error::Error as StdError;
use std::io;

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
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe) {
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
}

impl ReaderGone {
    pub(crate) fn new() -> Self {
        Self {
            is_gone: watch::Sender::new(false),
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

    fn note(&self, error: &Error) {
        if has_broken_pipe(error) {
            self.is_gone.send_replace(true);
        }
    }
}

/// Looks at every error on its way. Errors and deliveries pass through unchanged; it holds nothing.
#[derive(Debug)]
struct Watched {
    inner: Exporter,
    gone: ReaderGone,
}

impl Export for Watched {
    async fn export(&self, batch: Batch, until: Deadline) -> outspan::Result<Delivery> {
        let result = self.inner.export(batch, until).await;
        match &result {
            Ok(delivery) => delivery
                .rest
                .iter()
                .for_each(|part| self.gone.note(&part.error)),
            Err(error) => self.gone.note(error),
        }
        result
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
