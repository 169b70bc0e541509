//! What receivers count.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Names how a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Grpc,
    Http,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    /// The name that metrics use.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// Counts, for each transport.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    transports: [TransportCounters; Transport::ALL.len()],
    /// Connections that are open.
    pub(crate) connections: AtomicU64,
    /// Connections that were turned away because there were too many.
    pub(crate) connections_refused: AtomicU64,
}

/// Counts what came over one transport.
#[derive(Debug, Default)]
pub(crate) struct TransportCounters {
    /// Requests that were accepted, in whole or in part.
    pub(crate) accepted_requests: AtomicU64,
    /// Requests that were refused for good: malformed, too large, not allowed.
    pub(crate) refused_requests: AtomicU64,
    /// Requests whose senders were told to come back, because there was no room.
    pub(crate) deferred_requests: AtomicU64,
    /// Requests that did not arrive in whole: the sender went away or was too slow.
    pub(crate) broken_requests: AtomicU64,
    /// Spans that were accepted.
    pub(crate) accepted_spans: AtomicU64,
    /// Spans of accepted requests that were refused for good, because they are invalid.
    pub(crate) refused_spans: AtomicU64,
    /// Spans of requests that were read, and whose senders were told to come back.
    pub(crate) deferred_spans: AtomicU64,
    /// Bytes of bodies, as they came.
    pub(crate) bytes: AtomicU64,
}

/// Says how a transport is doing.
#[derive(Clone, Debug)]
pub(crate) struct ReceiverStatus {
    pub(crate) transport: Transport,
    pub(crate) accepted_requests: u64,
    pub(crate) refused_requests: u64,
    pub(crate) deferred_requests: u64,
    pub(crate) broken_requests: u64,
    pub(crate) accepted_spans: u64,
    pub(crate) refused_spans: u64,
    pub(crate) deferred_spans: u64,
    pub(crate) bytes: u64,
}

impl Counters {
    pub(crate) fn of(&self, transport: Transport) -> &TransportCounters {
        &self.transports[transport as usize]
    }

    /// Reads everything.
    pub(crate) fn status(&self) -> Vec<ReceiverStatus> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let each = Transport::ALL.into_iter().map(|transport| {
            let of = self.of(transport);
            ReceiverStatus {
                transport,
                accepted_requests: read(&of.accepted_requests),
                refused_requests: read(&of.refused_requests),
                deferred_requests: read(&of.deferred_requests),
                broken_requests: read(&of.broken_requests),
                accepted_spans: read(&of.accepted_spans),
                refused_spans: read(&of.refused_spans),
                deferred_spans: read(&of.deferred_spans),
                bytes: read(&of.bytes),
            }
        });
        each.collect()
    }
}
