//! Receives spans over OTLP, and as Zipkin and Jaeger send them: addresses, connections, requests, datagrams.

mod accept;
mod acks;
mod activity;
mod answer;
mod body;
mod connection;
mod cors;
mod counters;
mod failure;
mod grpc;
mod inflate;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
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
mod udp;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http::Response;
use outspan::Deadline;
use outspan::engine::AckLevel;
use tokio::sync::watch;

use self::accept::Door;
use self::accept::Hub;
use self::accept::accept;
use self::limits::Limits;
use self::listen::Socket;
use self::listen::Source;
use self::remarks::Remarks;
use self::requests::Answers;
use self::requests::RequestBody;
use self::tls::Tls;
use self::udp::Datagrams;
use crate::agent::Intake;
use crate::pipeline::Pipeline;

use self::acks::WaitingAnswers;

pub(crate) use self::acks::ACK_TIMEOUT;
pub(crate) use self::acks::AckSettings;
pub(crate) use self::acks::AckStatus;
pub(crate) use self::answer::Answer;
pub(crate) use self::counters::Counters;
pub(crate) use self::counters::ReceiverStatus;
pub(crate) use self::listen::Kind;
pub(crate) use self::listen::Listen;
pub(crate) use self::listen::Protocol;
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
    /// When senders get their answers.
    pub(crate) acks: AckSettings,
}

/// Receives on all addresses.
#[derive(Debug)]
pub(crate) struct Receivers {
    addresses: Vec<String>,
    counters: Arc<Counters>,
    /// By when to stop, once that is known. Every address and every connection listens to it until it is gone.
    stopping: watch::Sender<Option<Deadline>>,
    /// The answers that wait for destinations. The receivers of tests answer without a service.
    waiting: Option<Arc<WaitingAnswers>>,
    files: SecretFiles,
}

/// Holds open sockets that nobody is served on yet: clients can connect to them, and wait.
#[derive(Debug)]
pub(crate) struct Bound {
    sockets: Vec<Socket>,
    kinds: Vec<Kind>,
    tls: Option<Tls>,
    settings: Settings,
}

impl Bound {
    /// Opens every address, and reads the files of TLS.
    ///
    /// # Errors
    ///
    /// Words for the user: which address cannot be listened on, and why.
    pub(crate) async fn open(listen: &[Listen], settings: Settings) -> Result<Self, String> {
        let tls = tls(listen, settings.tls.as_ref())?;
        let mut sockets = Vec::new();
        for address in listen {
            sockets.extend(address.open().await?);
        }
        Ok(Self {
            sockets,
            kinds: listen.iter().map(|address| address.kind).collect(),
            tls,
            settings,
        })
    }

    /// Answers from now on.
    pub(crate) fn serve(self, intake: Arc<Intake>, pipeline: Arc<Pipeline>) -> Receivers {
        let Self {
            sockets,
            kinds,
            tls,
            settings,
        } = self;
        let counters = Arc::new(Counters::new(kinds));
        let connections_max = connections_max(settings.max_connections, limits::open_files_max());
        let limits = limits_of(&settings);
        warn_of_strangers(&sockets, &settings);
        let heads = Arc::new(Intake::new(intake.max() / limits::HEADS_SHARE));
        let drains = Arc::new(Intake::new(intake.max() / limits::DRAINS_SHARE));
        let datagrams = Datagrams::new(Arc::clone(&pipeline), Arc::clone(&counters));
        let tokens = settings.tokens.clone();
        let answers = Service::new(settings, intake, pipeline, Arc::clone(&counters));
        let waiting = answers.waiting();
        let tls = tls.map(Arc::new);
        let hub = Hub {
            answers: Arc::new(answers),
            counters,
            limits,
            heads,
            drains,
            tls: tls.clone(),
            connections_max,
            remarks: Remarks::default(),
        };
        let mut receivers = Receivers::serve(sockets, hub, Some(datagrams));
        receivers.files = SecretFiles { tls, tokens };
        receivers.waiting = Some(waiting);
        receivers
    }
}

/// Holds the files that show who we are and who may send.
#[derive(Clone, Debug, Default)]
struct SecretFiles {
    tls: Option<Arc<Tls>>,
    tokens: Tokens,
}

impl Receivers {
    fn serve<A: Answers>(sockets: Vec<Socket>, hub: Hub<A>, datagrams: Option<Datagrams>) -> Self {
        let (stopping, stop) = watch::channel(None);
        let addresses = sockets.iter().map(|socket| socket.shown.clone()).collect();
        let hub = Arc::new(hub);
        let datagrams = datagrams.map(Arc::new);
        for socket in sockets {
            let stop = stop.clone();
            match (socket.source, &datagrams) {
                (Source::Connections(listener, spoken), _) => {
                    let door = Door {
                        listener,
                        spoken,
                        shown: socket.shown,
                    };
                    tokio::spawn(accept(Arc::clone(&hub), door, stop));
                }
                (Source::Datagrams(socket), Some(datagrams)) => {
                    tokio::spawn(Arc::clone(datagrams).receive(socket, stop));
                }
                (Source::Datagrams(_), None) => {}
            }
        }
        Self {
            addresses,
            counters: Arc::clone(&hub.counters),
            stopping,
            waiting: None,
            files: SecretFiles::default(),
        }
    }

    /// Reads the files of TLS and tokens again, whether they have changed or not. Says what became of each kind: what
    /// is in use now, or why the content of before stays in use.
    pub(crate) async fn reload(&self) -> Vec<Result<String, String>> {
        let SecretFiles { tls, tokens } = self.files.clone();
        // A disk may be slow, and this thread has connections to serve.
        let reloaded = tokio::task::spawn_blocking(move || {
            let tls = tls.into_iter().map(|tls| tls.reload());
            tls.chain(tokens.reload()).collect()
        });
        reloaded
            .await
            .unwrap_or_else(|error| vec![Err(format!("reading files did not finish: {error}"))])
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

    /// Says how many answers wait.
    pub(crate) fn acks(&self) -> Option<AckStatus> {
        self.waiting.as_ref().map(|waiting| waiting.status())
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
        if let Some(waiting) = &self.waiting {
            waiting.stop(until);
        }
        self.stopping.send_modify(|by| {
            *by = Some(by.map_or(until, |by| by.min(until)));
        });
        self.stopping.closed().await;
    }
}

impl Answers for Service {
    type Body = Answer;

    async fn answer(&self, protocol: Protocol, request: Request<RequestBody>) -> Response<Answer> {
        Self::answer(self, protocol, request).await
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
            "no address uses the certificate of --listen-cert: listen on grpcs://, https://, zipkin+https:// or jaeger+https://"
                .into(),
        ),
    }
}

/// What connections may take.
fn limits_of(settings: &Settings) -> Limits {
    let limits = Limits::new(settings.max_connection_age);
    match settings.acks.level {
        AckLevel::Delivered => limits.with_waiting_answers(settings.acks.timeout),
        _ => limits,
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

/// Warns of the addresses that anyone on the network can send to.
fn warn_of_strangers(sockets: &[Socket], settings: &Settings) {
    if let Some(socket) = open_to_strangers(sockets, settings) {
        tracing::warn!(
            target: "outspan",
            "anyone on the network can send to {}: ask for a token with --listen-token, or for certificates with --listen-client-ca",
            socket.shown,
        );
    }
    let is_open =
        |socket: &&Socket| socket.is_public && matches!(socket.source, Source::Datagrams(_));
    if let Some(socket) = sockets.iter().find(is_open) {
        tracing::warn!(
            target: "outspan",
            "anyone on the network can send to {}: UDP asks nobody who they are, so listen on localhost, or let a firewall decide",
            socket.shown,
        );
    }
}

/// The first address of connections that anyone on the network can send to.
fn open_to_strangers<'a>(sockets: &'a [Socket], settings: &Settings) -> Option<&'a Socket> {
    let demands_certificates = settings
        .tls
        .as_ref()
        .is_some_and(|files| files.client_authorities.is_some());
    let is_open = |socket: &&Socket| match &socket.source {
        Source::Connections(_, spoken) => {
            let is_guarded =
                !settings.tokens.is_empty() || (spoken.is_secure && demands_certificates);
            socket.is_public && !is_guarded
        }
        Source::Datagrams(_) => false,
    };
    sockets.iter().find(is_open)
}
