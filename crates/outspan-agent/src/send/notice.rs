//! News of attempts that fail and are made again, so that whoever looks on knows why nothing moves.

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use tokio::sync::watch;

/// Hands out news of attempts: the latest trouble, or that there is none any more.
#[derive(Clone, Debug)]
pub(crate) struct Notices {
    trouble: watch::Sender<Option<Error>>,
}

impl Notices {
    /// Makes a channel for news.
    pub(crate) fn new() -> (Self, watch::Receiver<Option<Error>>) {
        let (trouble, news) = watch::channel(None);
        (Self { trouble }, news)
    }

    /// Wraps an exporter; belongs directly inside a retry.
    pub(crate) fn around(self, inner: Exporter) -> Exporter {
        Exporter::new(Noticed {
            inner,
            notices: self,
        })
    }

    fn tell(&self, result: &outspan::Result<Delivery>) {
        let trouble = match result {
            Err(error) => Some(error),
            Ok(delivery) => delivery.rest.first().map(|part| &part.error),
        };
        match trouble {
            Some(error) if error.is_temporary() => {
                self.trouble.send_replace(Some(error.clone()));
            }
            Some(_) => {}
            None => {
                self.trouble
                    .send_if_modified(|known| known.take().is_some());
            }
        }
    }
}

/// Tells of every attempt that fails for a time. Errors and deliveries pass through unchanged; it holds nothing.
#[derive(Debug)]
struct Noticed {
    inner: Exporter,
    notices: Notices,
}

impl Export for Noticed {
    async fn export(&self, batch: Batch, until: Deadline) -> outspan::Result<Delivery> {
        let result = self.inner.export(batch, until).await;
        self.notices.tell(&result);
        result
    }

    async fn flush(&self, until: Deadline) -> outspan::Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> outspan::Result<Drained> {
        self.inner.shutdown(until).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_trouble_is_news_and_success_ends_it() {
        let (notices, mut news) = Notices::new();
        notices.tell(&Err(Error::refused("no")));
        assert!(!news.has_changed().unwrap());
        notices.tell(&Err(Error::unavailable("down")));
        assert!(news.has_changed().unwrap());
        assert!(news.borrow_and_update().is_some());
        notices.tell(&Ok(Delivery::default()));
        assert!(news.borrow_and_update().is_none());
        notices.tell(&Ok(Delivery::default()));
        assert!(!news.has_changed().unwrap());
    }
}
