//! The settings of a queue.

use std::time::Duration;

use super::Retry;

/// How a queue exports.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Exports in flight at once.
    pub(crate) concurrent_exports: usize,
    /// The limit of one call of the exporter.
    pub(crate) attempt_timeout: Option<Duration>,
    /// The limit of a batch's attempts and waits together.
    pub(crate) export_limit: Option<Duration>,
    /// The waits between attempts.
    pub(crate) retry: Retry,
    /// Whether a shutdown gives up soon when connections are refused and nothing has ever answered.
    pub(crate) gives_up_early: bool,
    /// Whether an export of many requests stops after a while when other batches wait.
    // Exporters that make one request of a batch take no turns.
    #[cfg_attr(not(feature = "_network"), allow(dead_code))]
    pub(crate) takes_turns: bool,
}
