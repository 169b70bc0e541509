//! Receives spans over OTLP: addresses, connections, requests.

mod accept;
mod activity;
mod answer;
mod body;
mod connection;
mod cors;
mod counters;
mod failure;
mod grpc;
mod inflate;
mod limits;
mod listen;
mod remarks;
mod requests;
mod route;
mod service;
mod spans;
mod stream;
mod tally;
#[cfg(test)]
mod tests;
mod tls;
mod token;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http::Response;
use outspan::Deadline;
use tokio::sync::watch;

use self::accept::Hub;
use self::accept::accept;
use self::limits::Limits;
use self::listen::Socket;
use self::remarks::Remarks;
use self::requests::Answers;
use self::requests::RequestBody;
use self::tls::Tls;
use crate::agent::Intake;
use crate::pipeline::Pipeline;

pub(crate) use self::answer::Answer;
pub(crate) use self::counters::Counters;
pub(crate) use self::counters::ReceiverStatus;
pub(crate) use self::listen::Listen;
pub(crate) use self::service::Service;
pub(crate) use self::tls::TlsFiles;
pub(crate) use self::token::Tokens;

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
    /// For the addresses that want TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// Origins whose scripts may send.
    pub(crate) cors_origins: Vec<String>,
    /// What senders have to show; nothing if there are none.
    pub(crate) tokens: Tokens,
}

/// Receives on all addresses.
#[derive(Debug)]
pub(crate) struct Receivers {
    addresses: Vec<String>,
    counters: Arc<Counters>,
    /// By when to stop, once that is known. Every address and every connection listens to it until it is gone.
    stopping: watch::Sender<Option<Deadline>>,
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
        let tls = tls(listen, settings.tls.as_ref())?;
        let mut sockets = Vec::new();
        for address in listen {
            sockets.extend(address.open().await?);
        }
        let counters = Arc::new(Counters::default());
        let connections_max = connections_max(settings.max_connections, limits::open_files_max());
        let limits = Limits::new(settings.max_connection_age);
        if let Some(socket) = open_to_strangers(&sockets, &settings) {
            tracing::warn!(
                target: "outspan",
                "anyone on the network can send to {}: ask for a token with --listen-token, or for certificates with --listen-client-ca",
                socket.shown,
            );
        }
        let heads = Arc::new(Intake::new(intake.max() / limits::HEADS_SHARE));
        let answers = Service::new(settings, intake, pipeline, Arc::clone(&counters));
        Ok(Self::serve(
            sockets,
            Hub {
                answers: Arc::new(answers),
                counters,
                limits,
                heads,
                tls,
                connections_max,
                remarks: Remarks::default(),
            },
        ))
    }

    fn serve<A: Answers>(sockets: Vec<Socket>, hub: Hub<A>) -> Self {
        let (stopping, stop) = watch::channel(None);
        let addresses = sockets.iter().map(|socket| socket.shown.clone()).collect();
        let hub = Arc::new(hub);
        for socket in sockets {
            tokio::spawn(accept(Arc::clone(&hub), socket, stop.clone()));
        }
        Self {
            addresses,
            counters: Arc::clone(&hub.counters),
            stopping,
        }
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
    ///
    /// # Cancellation
    ///
    /// The stop goes on. Called again with an earlier deadline it goes faster.
    pub(crate) async fn stop(&self, until: Deadline) {
        self.stopping.send_modify(|by| {
            *by = Some(by.map_or(until, |by| by.min(until)));
        });
        self.stopping.closed().await;
    }
}

impl Answers for Service {
    type Body = Answer;

    async fn answer(&self, request: Request<RequestBody>) -> Response<Answer> {
        Self::answer(self, request).await
    }
}

/// Reads the files of TLS, if an address wants it.
fn tls(listen: &[Listen], files: Option<&TlsFiles>) -> Result<Option<Tls>, String> {
    let secure = listen.iter().find(|address| address.is_secure);
    match (secure, files) {
        (None, None) => Ok(None),
        (Some(_), Some(files)) => Tls::new(files.clone()).map(Some),
        (Some(address), None) => Err(format!(
            "{address} needs a certificate and its key: give --listen-cert and --listen-key"
        )),
        (None, Some(_)) => Err(
            "no address uses the certificate of --listen-cert: listen on grpcs:// or https://"
                .into(),
        ),
    }
}

/// How many connections may be open: what was asked for, as far as there are files for them.
fn connections_max(asked: usize, files: Option<usize>) -> usize {
    let Some(files) = files else {
        return asked;
    };
    // With hardly any files, half of them.
    let free = files.saturating_sub(limits::FILES_RESERVED).max(files / 2);
    asked.min(free).max(1)
}

/// The first address that anyone on the network can send to.
fn open_to_strangers<'a>(sockets: &'a [Socket], settings: &Settings) -> Option<&'a Socket> {
    let demands_certificates = settings
        .tls
        .as_ref()
        .is_some_and(|files| files.client_authorities.is_some());
    let is_guarded =
        |socket: &Socket| !settings.tokens.is_empty() || (socket.is_secure && demands_certificates);
    sockets
        .iter()
        .find(|socket| socket.is_public && !is_guarded(socket))
}
