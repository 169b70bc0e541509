//! Log lines about those who send: at most one of a kind in half a minute, however many do the same.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// How long a kind of remark keeps quiet after it was made.
const QUIET: Duration = Duration::from_secs(30);

/// Keeps one kind of remark from filling the log.
#[derive(Debug, Default)]
pub(super) struct Remark {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

/// Says how often a remark was left out, as the end of its next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeftOut(u64);

/// Holds what may be remarked on.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// There were too many connections.
    pub(super) refused: Remark,
    /// There were too many requests.
    pub(super) crowded: Remark,
    /// The system gives no more connections.
    pub(super) accept: Remark,
    /// The handshake of TLS failed.
    pub(super) handshake: Remark,
    /// TLS was not spoken where it is wanted.
    pub(super) plain: Remark,
    /// TLS was spoken where it is not.
    pub(super) tls: Remark,
    /// A sender was too slow or was silent.
    pub(super) slow: Remark,
    /// What came is not HTTP, or against its rules.
    pub(super) broken: Remark,
    /// A certificate has changed into something that cannot be used.
    pub(super) certificate: Remark,
    /// The task of a connection has panicked.
    pub(super) panic: Remark,
}

impl Remark {
    /// Says whether it is time for a line, and how many were left out since the last one.
    pub(super) fn due(&self) -> Option<LeftOut> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.last.is_some_and(|last| now < last + QUIET) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(LeftOut(std::mem::take(&mut state.left_out)))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " (and {more} more like this)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_remark_is_made_once_in_a_while_and_counts_what_it_left_out() {
        let remark = Remark::default();
        assert_eq!(remark.due().unwrap().to_string(), "");
        assert_eq!((remark.due(), remark.due()), (None, None));
        tokio::time::advance(QUIET).await;
        assert_eq!(remark.due().unwrap().to_string(), " (and 2 more like this)");
        assert_eq!(remark.due(), None);
    }
}
