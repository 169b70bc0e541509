//! What a connection is doing, told by its bytes and its requests, asked by whoever runs it.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::time::Instant;

/// Knows what a connection is doing.
///
/// Everything that touches it runs in the connection's own task, so nobody ever waits for the lock.
#[derive(Debug)]
pub(super) struct Activity {
    now: Mutex<Now>,
}

/// Says what a connection is doing at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Requests that have begun and are not answered.
    pub(super) requests: usize,
    /// Since when there is no request, or there was none.
    pub(super) quiet_since: Instant,
    /// Since when the head of a request is coming in.
    pub(super) head_since: Option<Instant>,
    /// Since when bytes for the sender are waiting to be read by it.
    pub(super) blocked_since: Option<Instant>,
    /// Bytes that may be read before requests get their turn.
    pub(super) may_read: usize,
    /// Whether the next answer of HTTP/1 is the last.
    pub(super) is_last_answer: bool,
    /// Whether a request was answered before all of it was read.
    pub(super) has_unread: bool,
}

/// Counts a request as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenRequest<'a>(&'a Activity);

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            now: Mutex::new(Now {
                requests: 0,
                quiet_since: Instant::now(),
                head_since: None,
                blocked_since: None,
                may_read: usize::MAX,
                is_last_answer: false,
                has_unread: false,
            }),
        }
    }

    /// What it is doing now.
    pub(super) fn now(&self) -> Now {
        *self.lock()
    }

    /// Changes something.
    pub(super) fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.lock());
    }

    /// Notes that bytes have come.
    pub(super) fn read(&self, bytes: usize) {
        let mut now = self.lock();
        now.may_read = now.may_read.saturating_sub(bytes);
        if bytes > 0 && now.requests == 0 && now.head_since.is_none() {
            now.head_since = Some(Instant::now());
        }
    }

    /// Notes whether bytes could be written.
    pub(super) fn wrote(&self, is_blocked: bool) {
        let mut now = self.lock();
        now.blocked_since = match is_blocked {
            true => now.blocked_since.or_else(|| Some(Instant::now())),
            false => None,
        };
    }

    /// Notes that a request has begun.
    pub(super) fn begin(&self) -> OpenRequest<'_> {
        let mut now = self.lock();
        now.requests += 1;
        now.head_since = None;
        now.has_unread = false;
        OpenRequest(self)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let mut now = self.0.lock();
        now.requests = now.requests.saturating_sub(1);
        now.quiet_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_begins_with_its_first_byte_and_ends_with_the_request() {
        let activity = Activity::new();
        activity.read(0);
        assert_eq!(activity.now().head_since, None, "the end is no byte");
        activity.read(1);
        let begun = activity.now().head_since;
        assert_eq!(begun, Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(1)).await;
        activity.read(1);
        assert_eq!(activity.now().head_since, begun);

        let request = activity.begin();
        assert_eq!(activity.now().head_since, None);
        activity.read(1);
        assert_eq!(activity.now().head_since, None, "it is the body's");
        drop(request);
        activity.read(1);
        assert_eq!(activity.now().head_since, Some(Instant::now()));
    }
}
