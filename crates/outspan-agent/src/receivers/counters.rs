//! What receivers count.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::listen::Kind;
use super::listen::Protocol;

/// Names how spans came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP.
    Http,
    /// Zipkin over HTTP.
    Zipkin,
    /// Jaeger's Thrift over HTTP.
    JaegerHttp,
    /// Jaeger's compact Thrift over UDP.
    JaegerCompact,
    /// Jaeger's binary Thrift over UDP.
    JaegerBinary,
    /// Messages of Kafka.
    Kafka,
}

impl Transport {
    pub(crate) const ALL: [Self; 7] = [
        Self::Grpc,
        Self::Http,
        Self::Zipkin,
        Self::JaegerHttp,
        Self::JaegerCompact,
        Self::JaegerBinary,
        Self::Kafka,
    ];

    /// How requests over HTTP come where this is spoken.
    pub(super) fn http(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Otlp => Self::Http,
            Protocol::Zipkin => Self::Zipkin,
            Protocol::Jaeger => Self::JaegerHttp,
        }
    }

    /// Those of a kind of address.
    fn of_kind(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Grpc | Kind::Http => &[Self::Grpc, Self::Http],
            Kind::Zipkin => &[Self::Zipkin],
            Kind::JaegerHttp => &[Self::JaegerHttp],
            Kind::JaegerUdp => &[Self::JaegerCompact, Self::JaegerBinary],
        }
    }

    /// The name that metrics use for the receiver; the Collector's.
    pub(crate) fn receiver(self) -> &'static str {
        match self {
            Self::Grpc | Self::Http => "otlp",
            Self::Zipkin => "zipkin",
            Self::JaegerHttp | Self::JaegerCompact | Self::JaegerBinary => "jaeger",
            Self::Kafka => "kafka",
        }
    }

    /// The name that metrics use for the way; the Collector's.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http | Self::Zipkin => "http",
            Self::JaegerHttp => "collector_http",
            Self::JaegerCompact => "udp_thrift_compact",
            Self::JaegerBinary => "udp_thrift_binary",
            Self::Kafka => "kafka",
        }
    }
}

/// Counts, for each transport.
#[derive(Debug)]
pub(crate) struct Counters {
    transports: [TransportCounters; Transport::ALL.len()],
    /// Those that are listened to; nobody asks for the others.
    shown: Vec<Transport>,
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
    /// Datagrams that were read and dropped, because there was no room: nobody can be told to come back.
    pub(crate) dropped_requests: AtomicU64,
    /// The spans in those.
    pub(crate) dropped_spans: AtomicU64,
    /// Accepted requests whose senders were told to send again, because a destination dropped spans or was too slow.
    pub(crate) unacknowledged_requests: AtomicU64,
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
    pub(crate) dropped_requests: u64,
    pub(crate) dropped_spans: u64,
    pub(crate) unacknowledged_requests: u64,
    pub(crate) bytes: u64,
}

impl Counters {
    /// Counts what comes to addresses of these kinds.
    pub(crate) fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        let is_shown = |transport: &Transport| {
            let mut of_each = kinds.iter().map(|kind| Transport::of_kind(*kind));
            of_each.any(|of| of.contains(transport))
        };
        Self {
            transports: Default::default(),
            shown: Transport::ALL.into_iter().filter(is_shown).collect(),
            connections: AtomicU64::default(),
            connections_refused: AtomicU64::default(),
        }
    }

    pub(crate) fn of(&self, transport: Transport) -> &TransportCounters {
        &self.transports[transport as usize]
    }

    /// Reads what there is for each transport that is listened to.
    pub(crate) fn status(&self) -> Vec<ReceiverStatus> {
        let each = self.shown.iter();
        each.map(|&transport| self.of(transport).status(transport))
            .collect()
    }
}

impl TransportCounters {
    /// Reads what there is, as that of a transport.
    pub(super) fn status(&self, transport: Transport) -> ReceiverStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReceiverStatus {
            transport,
            accepted_requests: read(&self.accepted_requests),
            refused_requests: read(&self.refused_requests),
            deferred_requests: read(&self.deferred_requests),
            broken_requests: read(&self.broken_requests),
            accepted_spans: read(&self.accepted_spans),
            refused_spans: read(&self.refused_spans),
            deferred_spans: read(&self.deferred_spans),
            dropped_requests: read(&self.dropped_requests),
            dropped_spans: read(&self.dropped_spans),
            unacknowledged_requests: read(&self.unacknowledged_requests),
            bytes: read(&self.bytes),
        }
    }
}
