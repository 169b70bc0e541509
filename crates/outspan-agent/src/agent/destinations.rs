//! From arguments to destinations.

use outspan::Exporter;
use outspan::queue::MemoryQueue;

use crate::pipeline::Destination;

/// Holds an exporter and how it is to be used.
#[derive(Debug)]
pub(crate) struct Target {
    /// The address as it may be shown.
    pub(crate) name: String,
    pub(crate) exporter: Exporter,
    /// How many batches may be on the way.
    pub(crate) concurrent_exports: usize,
    /// How long an attempt may take.
    pub(crate) attempt_timeout: Option<std::time::Duration>,
    /// The waits between attempts.
    pub(crate) retry: outspan::Retry,
}

impl Target {
    /// Starts the queue, which may hold `bytes`.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn start(self, bytes: usize) -> Result<Destination, String> {
        let queue = MemoryQueue::builder(self.exporter)
            .name(&self.name)
            .bytes(bytes)
            .concurrent_exports(self.concurrent_exports)
            .attempt_timeout(self.attempt_timeout)
            .retry(self.retry)
            .start()
            .map_err(|e| format!("{}: {e}", self.name))?;
        Ok(Destination {
            name: self.name,
            queue,
        })
    }
}

impl super::Settings {
    /// Reads the command line; everything that can be wrong is found here.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn new(arguments: &crate::arguments::AgentArguments) -> Result<Self, String> {
        let _ = arguments;
        Err("not yet".into())
    }
}
