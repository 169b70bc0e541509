//! The settings of a queue.

use std::time::Duration;

use super::Retry;
use crate::Error;
use crate::Result;

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

/// Checks the time limits of `owner`.
///
/// # Errors
///
/// [`Config`](crate::ErrorKind::Config) for a limit of 0.
pub(crate) fn check_times(
    owner: &str,
    limits: [(&'static str, Option<Duration>); 2],
) -> Result<()> {
    let zero = limits
        .iter()
        .find(|(_, limit)| limit.is_some_and(|limit| limit.is_zero()));
    match zero {
        Some((name, _)) => Err(Error::config(format!(
            "{name} of {owner} is 0: no span could ever be exported, use none for no limit"
        ))),
        None => Ok(()),
    }
}
