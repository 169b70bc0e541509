//! What a connection may take: time, memory, streams.
//!
//! ```text
//!   connected ── first byte ── head of a request ── body ── answer ── idle ── old ── closed
//!              60 s           10 s                 as asked  30 s      10 min  asked
//! ```
//!
//! The time for a body is the request's own, [`Settings::request_timeout`](super::Settings).

use std::time::Duration;

/// How much of a request's head is read at most, in bytes. What sends spans needs a few hundred.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;

/// The same for HTTP/2, which counts 32 bytes more for each header.
pub(super) const HEAD_LIST_BYTES_MAX: u32 = 16 << 10;

/// What an HTTP/1 connection's buffer grows to, in bytes; each idle connection may keep one.
pub(super) const HTTP1_BUFFER_BYTES: usize = 16 << 10;

/// What a stream of HTTP/2 may send before we have taken it, in bytes: two requests of 512 usual spans.
pub(super) const STREAM_WINDOW_BYTES: u32 = 512 << 10;

/// The same for all streams of a connection together, in bytes: 20 MB/s at a distance of 50 ms.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// How much a connection reads before its requests get their turn to take it, in bytes.
///
/// They take what there is, against the bound of requests on their way in, or turn it away. So what was read and is not
/// counted yet is this much for each thread that runs connections, whatever the windows allow.
pub(super) const BURST_BYTES: usize = 128 << 10;

/// How long the frames of HTTP/2 may be, in bytes: the least there is, for a frame is buffered until it is whole.
pub(super) const FRAME_BYTES_MAX: u32 = 16 << 10;

/// How many requests a connection of HTTP/2 may have open: RFC 9113, 6.5.2, wants at least 100.
pub(super) const STREAMS_MAX: u32 = 100;

/// How many streams a sender may reset before we looked at them; more are an attack and end the connection.
pub(super) const RESET_STREAMS_MAX: usize = 20;

/// How many streams we reset for a sender's mistakes before we end the connection.
pub(super) const ERRORS_MAX: usize = 100;

/// What HTTP/2 may hold of answers that are not read, in bytes for a stream; our longest answers are a few KiB.
pub(super) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// How much is read and thrown away behind an answer that came before the request's end, in bytes.
pub(super) const LINGER_BYTES_MAX: usize = 64 << 20;

/// What a frame that is thrown away counts as at least, however short it is, in bytes.
pub(super) const DRAINED_FRAME_BYTES_MIN: usize = 512;

/// How often TCP asks an idle sender whether it is there, and after how many silences it is not.
pub(super) const TCP_KEEP_ALIVE: Duration = Duration::from_secs(60);
pub(super) const TCP_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
pub(super) const TCP_KEEP_ALIVE_RETRIES: u32 = 4;

/// How many files are left to others than senders: exporters' connections, the admin address, what is written and read.
pub(super) const FILES_RESERVED: usize = 128;

/// Of the room for requests on their way in, how much the heads of open requests may take besides: thousands of usual
/// requests at the same time.
pub(super) const HEADS_SHARE: usize = 4;

/// The same for requests whose answer is given while the rest of their body is thrown away.
pub(super) const DRAINS_SHARE: usize = 16;

/// How long to leave an address alone when no connection can be taken there, at first and at most.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
pub(super) const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Says how long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until the handshake of TLS is done.
    pub(super) handshake: Duration,
    /// Until the first byte comes. Connection pools open connections before they need them.
    pub(super) first_byte: Duration,
    /// From the first byte of a request's head to its last.
    pub(super) head: Duration,
    /// Without a request, over HTTP/1. Longer than senders keep idle connections themselves, or a request may meet the
    /// closing connection.
    pub(super) idle: Duration,
    /// Until a sender reads on.
    pub(super) write: Duration,
    /// Between pings of HTTP/2, and until one is answered.
    pub(super) ping: Duration,
    pub(super) pong: Duration,
    /// For requests that have begun on a connection that is too old.
    pub(super) grace: Duration,
    /// For a connection without requests to end by itself when everything stops.
    pub(super) farewell: Duration,
    /// For a sender to read an answer that came before the end of its request.
    pub(super) linger: Duration,
    /// After which connections are closed in an orderly way.
    pub(super) age: Option<Duration>,
}

impl Limits {
    /// The usual ones.
    pub(super) const fn new(age: Option<Duration>) -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            write: Duration::from_secs(30),
            ping: Duration::from_secs(30),
            pong: Duration::from_secs(20),
            grace: Duration::from_secs(30),
            farewell: Duration::from_secs(1),
            linger: Duration::from_secs(5),
            age,
        }
    }

    /// Requests that have begun may take so much longer, because their answers wait.
    pub(super) fn with_waiting_answers(mut self, timeout: Duration) -> Self {
        // Far beyond any answer, and no sum of times overflows.
        const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

        self.grace += timeout.min(LONGEST);
        self
    }

    /// How old this one connection may get: up to a tenth more or less, so that those that came together do not go
    /// together.
    pub(super) fn age_with_jitter(&self) -> Option<Duration> {
        self.age.map(|age| age.mul_f64(0.9 + 0.2 * fastrand::f64()))
    }
}

/// How many files this process may open, where the system tells it.
pub(super) fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    open_files_in(&limits)
}

fn open_files_in(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        let limits = Limits::new(Some(Duration::from_secs(100)));
        let ages: Vec<_> = (0..200)
            .map(|_| limits.age_with_jitter().unwrap())
            .collect();
        let (least, most) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(90) && *least < Duration::from_secs(98));
        assert!(*most <= Duration::from_secs(110) && *most > Duration::from_secs(102));
        assert_eq!(Limits::new(None).age_with_jitter(), None);
    }

    #[test]
    fn old_connections_outlast_answers_that_wait() {
        let timeout = Duration::from_secs(90);
        let limits = Limits::new(None).with_waiting_answers(timeout);
        assert_eq!(limits.grace, Limits::new(None).grace + timeout);
        let endless = Limits::new(None).with_waiting_answers(Duration::MAX);
        assert!(endless.grace < Duration::from_secs(2 * 24 * 60 * 60));
    }

    #[test]
    fn the_limit_of_open_files_is_read_where_there_is_one() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 4096                 files     \n";
        assert_eq!(open_files_in(text), Some(1024));
        assert_eq!(
            open_files_in("Max open files  unlimited unlimited files"),
            None
        );
        assert_eq!(open_files_in(""), None);
        #[cfg(target_os = "linux")]
        assert!(open_files_max().is_some_and(|files| files > 2));
    }
}
