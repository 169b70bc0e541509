//! How the variables that limit exports hold, alike for every exporter that has one.

use std::time::Duration;

use crate::Exporter;
use crate::Retry;

/// How long an attempt may take unless the user sets more: the specification's default for a whole export.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How long an attempt may take when the user asks for no limit. The specification allows "a very long time" for it, and
/// a destination that never answers must not hold an export for ever.
const ATTEMPT_WITHOUT_LIMIT: Duration = Duration::from_secs(60 * 60);

/// How long one attempt may take, if `whole` is what the user set for a whole export; zero sets no limit.
pub(super) fn attempt_timeout(whole: Option<Duration>) -> Duration {
    match whole {
        None => ATTEMPT,
        Some(Duration::ZERO) => ATTEMPT_WITHOUT_LIMIT,
        Some(whole) => whole.max(ATTEMPT),
    }
}

/// How long a whole export may take, if `whole` is what the user set for it.
pub(super) fn export_limit(whole: Option<Duration>) -> Option<Duration> {
    whole.filter(|limit| !limit.is_zero())
}

/// The exporter with the limit for each attempt, retries by their defaults, and the limit for the whole export.
pub(super) fn with_limits(exporter: Exporter, whole: Option<Duration>) -> Exporter {
    let exporter = exporter
        .timeout(attempt_timeout(whole))
        .retry(Retry::default());
    match export_limit(whole) {
        Some(limit) => exporter.export_deadline(limit),
        None => exporter,
    }
}
