//! What is known of a connection: when it last answered, and for how long it has answered nothing.
//!
//! A peer may acknowledge everything, HTTP/2 pings as well, and answer no request: a proxy in front of a backend that hangs
//! does that. Neither TCP nor HTTP/2 calls such a connection broken, and over HTTP/2 every request would go on using it.
//! So a connection is judged by its answers:
//!
//! - When a request ends without an answer, and the connection has answered no other since that request began, the
//!   connection is *retired*: after one such request that waited for [`QUIET`], or after [`UNANSWERED_MAX`] in a row.
//! - A new request does not use an HTTP/2 connection that has owed an answer for [`QUIET`], as long as fewer than
//!   [`OPEN_MAX`] connections are open: it is retired as well. HTTP/1.1 opens a connection for each request that runs at the
//!   same time anyway.
//!
//! A retired connection takes no new request. Those that it has may finish; with the last of them it is closed, without
//! waiting for the peer.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::Extensions;
use hyper_util::client::legacy::connect::CaptureConnection;
use hyper_util::client::legacy::connect::Connected;
use tokio::time::Instant;

/// How long a connection may owe an answer before it counts as one that does not answer. Longer than a healthy backend
/// takes for a batch, and a fraction of the usual limit of an attempt (10 s).
pub(super) const QUIET: Duration = Duration::from_secs(2);

/// How many requests in a row may end without an answer before [`QUIET`] has passed.
const UNANSWERED_MAX: u32 = 3;

/// How many connections to a destination may be open when a quiet one is replaced.
const OPEN_MAX: usize = 4;

/// The connections to one destination. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Links {
    destination: Arc<Mutex<Destination>>,
    open: Arc<AtomicUsize>,
    /// Whether all of them speak HTTP/2, also without a negotiation.
    is_http2: bool,
}

/// What is known of the destination, over all of its connections.
#[derive(Default)]
struct Destination {
    /// The HTTP/2 connection that took the last request.
    shared: Weak<LinkState>,
    last_answer: Option<Instant>,
    is_silent: bool,
}

impl Links {
    pub(super) fn new(is_http2: bool) -> Self {
        Self {
            is_http2,
            ..Self::default()
        }
    }

    /// Takes note of a connection that was opened.
    pub(super) fn open(&self) -> Link {
        self.open.fetch_add(1, Ordering::Relaxed);
        Link(Arc::new(LinkState {
            open: Arc::clone(&self.open),
            progress: Mutex::default(),
            captured: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }))
    }

    /// Begins to wait for an answer. Retires the shared connection if it owes one for too long.
    pub(super) fn begin(&self) -> Waiting {
        let now = Instant::now();
        // The lock is not held while the connection is retired: closing it wakes its task.
        let shared = self.lock().shared.upgrade();
        if let Some(shared) = shared
            && self.open.load(Ordering::Relaxed) < OPEN_MAX
            && shared.lock().is_quiet(now)
        {
            Link(shared).retire();
        }
        Waiting {
            links: self.clone(),
            link: None,
            began: now,
            is_over: false,
        }
    }

    /// Whether the last request that waited for [`QUIET`] had no answer, and there was none since.
    pub(super) fn is_silent(&self) -> bool {
        self.lock().is_silent
    }

    fn lock(&self) -> MutexGuard<'_, Destination> {
        self.destination
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("open", &self.open.load(Ordering::Relaxed))
            .field("is_silent", &self.is_silent())
            .finish_non_exhaustive()
    }
}

/// One connection. Clones are the same one.
#[derive(Clone)]
pub(super) struct Link(Arc<LinkState>);

struct LinkState {
    /// How many connections to the destination are open, this one included.
    open: Arc<AtomicUsize>,
    progress: Mutex<Progress>,
    /// Marks the connection in the pool as one that takes no more requests. It refers to this link weakly, so they are no
    /// circle.
    captured: OnceLock<CaptureConnection>,
    is_closed: AtomicBool,
    /// Wakes the task that reads from the connection.
    waker: AtomicWaker,
}

/// Leads from what the HTTP library knows of a connection to the link.
#[derive(Clone)]
struct LinkOfConnection(Weak<LinkState>);

impl Link {
    /// Adds the link to what the HTTP library knows of the connection.
    pub(super) fn mark(&self, connected: Connected) -> Connected {
        connected.extra(LinkOfConnection(Arc::downgrade(&self.0)))
    }

    fn of(connected: &Connected) -> Option<Self> {
        let mut extras = Extensions::new();
        connected.get_extras(&mut extras);
        let LinkOfConnection(link) = extras.get()?;
        link.upgrade().map(Self)
    }

    /// Fails when the connection is to be closed, and wakes the caller's task when that happens later.
    pub(super) fn check_open(&self, context: &Context<'_>) -> io::Result<()> {
        // Registered before the flag is read: a close in between wakes the task once more.
        self.0.waker.register(context.waker());
        self.error_if_closed()
    }

    /// Fails when the connection is to be closed.
    pub(super) fn error_if_closed(&self) -> io::Result<()> {
        // Acquire pairs with the release in `close`; nothing but the flag is published.
        match self.0.is_closed.load(Ordering::Acquire) {
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection was closed because it gave no answers",
            )),
            false => Ok(()),
        }
    }

    fn begin(&self, captured: &CaptureConnection, now: Instant) {
        self.0.captured.get_or_init(|| captured.clone());
        self.0.lock().begin(now);
    }

    fn answer(&self, now: Instant) {
        let is_over = {
            let mut progress = self.0.lock();
            progress.answer(now);
            progress.is_over()
        };
        if is_over {
            self.close();
        }
    }

    fn end(&self, began: Instant, now: Instant) {
        let is_retired = {
            let mut progress = self.0.lock();
            progress.end(began, now);
            progress.is_retired
        };
        if is_retired {
            self.retire();
        }
    }

    /// Lets the connection take no new request, and closes it as soon as it has none.
    fn retire(&self) {
        if let Some(captured) = self.0.captured.get()
            && let Some(connected) = captured.connection_metadata().as_ref()
        {
            connected.poison();
        }
        let is_over = {
            let mut progress = self.0.lock();
            progress.is_retired = true;
            progress.is_over()
        };
        if is_over {
            self.close();
        }
    }

    fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn has_answered(&self) -> bool {
        self.0.lock().last_answer.is_some()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl LinkState {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LinkState {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().fmt(f)
    }
}

/// The answers of one connection.
#[derive(Debug, Default)]
struct Progress {
    /// How many requests wait for their answers.
    waiting: usize,
    /// Since when requests wait and none was answered.
    quiet_since: Option<Instant>,
    last_answer: Option<Instant>,
    /// How many requests in a row ended without an answer.
    unanswered: u32,
    is_retired: bool,
}

impl Progress {
    fn begin(&mut self, now: Instant) {
        self.waiting += 1;
        self.quiet_since.get_or_insert(now);
    }

    fn answer(&mut self, now: Instant) {
        self.waiting -= 1;
        self.quiet_since = (self.waiting > 0).then_some(now);
        self.last_answer = Some(now);
        self.unanswered = 0;
    }

    /// Takes note of the end of a request without an answer.
    fn end(&mut self, began: Instant, now: Instant) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.quiet_since = None;
        }
        if self.last_answer.is_some_and(|at| at > began) {
            return;
        }
        self.unanswered += 1;
        self.is_retired |= self.unanswered >= UNANSWERED_MAX || now - began >= QUIET;
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_since.is_some_and(|since| now - since >= QUIET)
    }

    /// Whether the connection has nothing left to do.
    fn is_over(&self) -> bool {
        self.is_retired && self.waiting == 0
    }
}

/// A request that waits for its answer. Dropping it means that there was none.
#[derive(Debug)]
pub(crate) struct Waiting {
    links: Links,
    link: Option<Link>,
    began: Instant,
    is_over: bool,
}

impl Waiting {
    /// Takes note of the connection that the request uses.
    pub(super) fn connected(&mut self, captured: &CaptureConnection) {
        let (link, is_shared) = match captured.connection_metadata().as_ref() {
            Some(connected) => (Link::of(connected), connected.is_negotiated_h2()),
            None => return,
        };
        let is_shared = is_shared || self.links.is_http2;
        let Some(link) = link else { return };
        if self.link.as_ref().is_some_and(|known| known.is(&link)) {
            return;
        }
        link.begin(captured, self.began);
        if is_shared {
            self.links.lock().shared = Arc::downgrade(&link.0);
        }
        // A connection that ended before it took the request: the request goes over another one now.
        if let Some(before) = self.link.replace(link) {
            before.end(self.began, self.began);
        }
    }

    /// Whether the connection has answered another request before.
    pub(super) fn is_reused(&self) -> bool {
        self.link.as_ref().is_some_and(Link::has_answered)
    }

    /// Takes note of the answer, which was read whole.
    pub(crate) fn answered(mut self) {
        self.is_over = true;
        let now = Instant::now();
        if let Some(link) = &self.link {
            link.answer(now);
        }
        let mut destination = self.links.lock();
        destination.last_answer = Some(now);
        destination.is_silent = false;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let now = Instant::now();
        if let Some(link) = &self.link {
            link.end(self.began, now);
        }
        let mut destination = self.links.lock();
        let is_answered = destination.last_answer.is_some_and(|at| at > self.began);
        destination.is_silent |= !is_answered && now - self.began >= QUIET;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_long_request_without_an_answer_retires_a_connection() {
        let start = Instant::now();
        for (waited, is_retired) in [(SECOND, false), (QUIET, true), (QUIET * 5, true)] {
            let mut progress = Progress::default();
            progress.begin(start);
            progress.end(start, start + waited);
            assert_eq!(progress.is_retired, is_retired, "{waited:?}");
            assert_eq!(progress.is_over(), is_retired, "{waited:?}");
        }
    }

    #[test]
    fn three_short_requests_in_a_row_without_an_answer_retire_a_connection() {
        let start = Instant::now();
        let mut progress = Progress::default();
        let fail = |progress: &mut Progress, at: Duration| {
            progress.begin(start + at);
            progress.end(start + at, start + at + SECOND / 10);
        };
        fail(&mut progress, SECOND);
        fail(&mut progress, SECOND * 2);
        progress.begin(start + SECOND * 3);
        progress.answer(start + SECOND * 4);
        fail(&mut progress, SECOND * 5);
        fail(&mut progress, SECOND * 6);
        assert!(!progress.is_retired, "an answer came in between");
        fail(&mut progress, SECOND * 7);
        assert!(progress.is_retired);
    }

    #[test]
    fn a_connection_that_answers_others_is_kept() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.begin(start);
        progress.begin(start + SECOND);
        progress.answer(start + SECOND * 2);
        progress.end(start, start + SECOND * 10);
        assert!(!progress.is_retired, "{progress:?}");
        assert_eq!(progress.quiet_since, None);
    }

    #[test]
    fn a_connection_is_quiet_while_it_owes_answers_and_gives_none() {
        let start = Instant::now();
        let mut progress = Progress::default();
        assert!(!progress.is_quiet(start + SECOND * 100), "nothing waits");
        progress.begin(start);
        progress.begin(start + SECOND);
        assert!(!progress.is_quiet(start + SECOND));
        assert!(progress.is_quiet(start + QUIET));
        progress.answer(start + QUIET);
        assert!(!progress.is_quiet(start + QUIET + SECOND), "it answered");
        assert!(progress.is_quiet(start + QUIET * 2), "one still waits");
        progress.end(start + SECOND, start + QUIET * 2);
        assert!(!progress.is_quiet(start + QUIET * 9), "nothing waits");
    }

    #[test]
    fn a_retired_connection_closes_with_its_last_request() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.begin(start);
        progress.begin(start);
        progress.end(start, start + QUIET);
        assert!(progress.is_retired && !progress.is_over());
        progress.answer(start + QUIET);
        assert!(progress.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_is_silent_from_a_long_wait_to_the_next_answer() {
        let links = Links::default();
        drop(links.begin());
        assert!(!links.is_silent(), "a short wait says nothing");
        let (long, answered) = (links.begin(), links.begin());
        tokio::time::advance(QUIET).await;
        answered.answered();
        drop(long);
        assert!(!links.is_silent(), "it answered meanwhile");
        let long = links.begin();
        tokio::time::advance(QUIET).await;
        drop(long);
        assert!(links.is_silent());
        links.begin().answered();
        assert!(!links.is_silent());
    }
}
