//! The connections of one exporter, opened when needed and shared by its clones.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::Request;
use http::Response;
use http::header::PROXY_AUTHORIZATION;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::client::legacy;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::CaptureConnection;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::TokioTimer;

use super::Body;
use super::Endpoint;
use super::Tls;
use super::Versions;
use super::cause::root_cause;
use super::connector::Connector;
use super::connector::Heard;
use super::connector::Route;
use super::connector::Speaks;
use super::link::Links;
use super::link::Waiting;
use super::proxy::Proxied;
use super::proxy::ProxyFailure;
use super::proxy::ProxyOptions;
use super::tls::TlsInUse;
use crate::Error;
use crate::Result;
use crate::runtime::Runtime;

/// How connections are kept.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionOptions {
    pub(crate) connect_timeout: Duration,
    /// HTTP/2 pings while an answer is awaited: interval, and how long to wait for theirs.
    pub(crate) keep_alive: Option<(Duration, Duration)>,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
    pub(crate) proxy: ProxyOptions,
    pub(crate) versions: Versions,
    /// Where the connections are driven. Requests have to be sent from there.
    pub(crate) runtime: Runtime,
    /// What to say when the server speaks another version of HTTP: empty, or words that begin with a space.
    pub(crate) wrong_version_hint: &'static str,
}

/// The connections to one destination.
pub(crate) struct Connections {
    pool: Mutex<Option<Pool>>,
    heard: Heard,
    links: Links,
    versions: Versions,
    wrong_version_hint: &'static str,
    is_secure: bool,
    is_socket: bool,
    proxied: Option<Arc<Proxied>>,
}

type Pool = Client<Connector, Body>;

impl Connections {
    /// Prepares connections; none is opened before the first request.
    pub(crate) fn new(endpoint: &Endpoint, tls: &Tls, options: &ConnectionOptions) -> Result<Self> {
        let versions = options.versions;
        let protocols: &[&[u8]] = match versions {
            Versions::Two => &[b"h2"],
            Versions::OneOrTwo => &[b"h2", b"http/1.1"],
        };
        let is_secure = endpoint.is_secure();
        let proxied = options.proxy.find(endpoint, tls, versions)?.map(Arc::new);
        let tls = match is_secure {
            true => {
                let host = endpoint.uri.host().unwrap_or_default();
                Some(TlsInUse::new(tls.clone(), host, protocols)?)
            }
            false if !tls.is_default() && endpoint.socket().is_some() => {
                return Err(Error::config(format!(
                    "TLS options are set but unix sockets are not encrypted: leave them out for {endpoint}"
                )));
            }
            false if !tls.is_default() => {
                return Err(Error::config(format!(
                    "TLS options are set but the endpoint is plaintext: use https instead of {endpoint}"
                )));
            }
            false => None,
        };
        let route = match (&proxied, endpoint.socket()) {
            (Some(proxied), _) => Route::Proxied(Arc::clone(proxied)),
            (None, Some(socket)) => Route::Socket(Arc::clone(socket)),
            (None, None) => Route::Direct,
        };
        let links = Links::new(versions == Versions::Two);
        let interval = options.keep_alive.map(|(interval, _)| interval);
        let connect_timeout = options.connect_timeout;
        let connector = Connector::new(route, tls, links.clone(), connect_timeout, interval);
        let heard = connector.heard().clone();
        let mut builder = Client::builder(Drivers(options.runtime.clone()));
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.max_idle)
            .http2_only(versions == Versions::Two)
            // A batch is up to some MiB: with the protocol's 64 KiB windows an answer of this size would stall, and
            // larger frames save work on both sides.
            .http2_initial_stream_window_size(1 << 20)
            .http2_initial_connection_window_size(2 << 20)
            .http2_max_send_buf_size(1 << 20);
        if let Some((interval, timeout)) = options.keep_alive {
            builder
                .http2_keep_alive_interval(interval)
                .http2_keep_alive_timeout(timeout)
                // Servers on stock gRPC libraries hang up on clients that send pings while they wait for nothing.
                .http2_keep_alive_while_idle(false);
        }
        Ok(Self {
            pool: Mutex::new(Some(builder.build(connector))),
            heard,
            links,
            versions,
            wrong_version_hint: options.wrong_version_hint,
            is_secure,
            is_socket: endpoint.socket().is_some(),
            proxied,
        })
    }

    /// Sends a request and waits for the head of the answer. Has to be called on the runtime of the connections.
    ///
    /// A request that met the end of a connection which had answered before is sent once more, over a new one: a server
    /// may close a connection at any time, and is not at fault when a request is on its way then.
    ///
    /// The caller tells what comes back beside the answer when it has read the answer whole.
    ///
    /// # Errors
    ///
    /// Temporary, with words about what to do, when the server cannot be reached or not be understood.
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, Waiting)> {
        let pool = self.lock().clone();
        let pool = pool.ok_or_else(Error::shut_down)?;
        let proxied = self.proxied.as_ref();
        if let Some(value) = proxied.and_then(|proxied| proxied.authorization()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let again = copy_of(&request);
        let mut sent = self.send_once(&pool, request).await;
        if let Err((error, is_reused)) = &sent
            && met_an_end(error, *is_reused)
        {
            again.body().sent().repeat();
            sent = self.send_once(&pool, again).await;
        }
        let (answer, waiting) = sent.map_err(|(error, _)| self.explain(&error))?;
        match proxied.and_then(|proxied| proxied.refusal(answer.status())) {
            Some(error) => {
                waiting.answered();
                Err(error)
            }
            None => Ok((answer, waiting)),
        }
    }

    /// Sends a request over a connection of the pool. The error comes with whether the connection had answered before.
    async fn send_once(
        &self,
        pool: &Pool,
        mut request: Request<Body>,
    ) -> std::result::Result<(Response<Incoming>, Waiting), (legacy::Error, bool)> {
        let mut waiting = self.links.begin();
        let mut captured = capture_connection(&mut request);
        let mut response = pin!(pool.request(request));
        // The connection is noted as soon as it has the request, not with the answer: there may be none.
        let early = tokio::select! {
            biased;
            response = &mut response => Some(response),
            () = wait_for_connection(&mut captured) => {
                waiting.connected(&captured);
                None
            }
        };
        let result = match early {
            Some(result) => result,
            None => response.await,
        };
        waiting.connected(&captured);
        match result {
            Ok(response) => Ok((response, waiting)),
            Err(error) => Err((error, waiting.is_reused())),
        }
    }

    /// Names the proxy that requests go through in an error that does not name it already: what answers may be either.
    pub(crate) fn name_proxy(&self, error: Error) -> Error {
        match &self.proxied {
            Some(proxied) if !error.message().contains(&proxied.to_string()) => {
                error.with_context("proxy", proxied.to_string())
            }
            _ => error,
        }
    }

    /// Whether the last request that waited long had no answer, and there was none since.
    pub(crate) fn is_silent(&self) -> bool {
        self.links.is_silent()
    }

    /// Closes the connections as soon as they are idle; later requests are refused.
    pub(crate) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, error: &legacy::Error) -> Error {
        if let Some(failure) = proxy_failure(error) {
            return self.mark_refused(Error::unavailable(failure.to_string()), error);
        }
        let mut cause = root_cause(error);
        if !error.is_connect()
            && let Some(failure) = self.heard.failure()
            && !cause.contains(&failure)
        {
            cause = format!("{cause}: {failure}");
        }
        let what = match error.is_connect() {
            true => "cannot connect",
            false => "the connection failed",
        };
        let hint = self.hint(&cause);
        let explained = Error::unavailable(format!("{what}: {cause}{hint}"));
        self.mark_refused(explained, error)
    }

    fn mark_refused(&self, explained: Error, error: &legacy::Error) -> Error {
        match error.is_connect() && self.nobody_listens(error) {
            true => explained.with_connection_refused(),
            false => explained,
        }
    }

    /// Whether the system says that nothing listens there, or at the proxy.
    fn nobody_listens(&self, error: &(dyn StdError + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            let kind = io.map(std::io::Error::kind);
            // A server that has not started has not made its socket yet.
            if kind == Some(std::io::ErrorKind::ConnectionRefused)
                || self.is_socket && kind == Some(std::io::ErrorKind::NotFound)
                || io.is_some_and(is_unknown_name)
            {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Says what the user may have meant.
    fn hint(&self, cause: &str) -> &'static str {
        let hint = match self.is_secure {
            true => tls_hint(cause),
            false => self.plaintext_hint(),
        };
        if !hint.is_empty() {
            return hint;
        }
        match self.is_socket {
            true => socket_hint(cause),
            false => network_hint(cause),
        }
    }

    fn plaintext_hint(&self) -> &'static str {
        match (self.heard.speaks(), self.versions) {
            (Speaks::Tls, _) => {
                " (the server expects TLS: use https:// or grpcs:// in the endpoint)"
            }
            (Speaks::Http1, Versions::Two) | (Speaks::Http2, Versions::OneOrTwo) => {
                self.wrong_version_hint
            }
            _ => "",
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("versions", &self.versions)
            .field("is_secure", &self.is_secure)
            .field("proxy", &self.proxied)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

fn tls_hint(cause: &str) -> &'static str {
    let has = |text: &str| cause.contains(text);
    if has("NoApplicationProtocol") {
        " (the server offers no HTTP/2 here: OTLP/gRPC usually listens on port 4317, OTLP/HTTP on 4318)"
    } else if has("received fatal alert") && (has("Certificate") || has("UnknownCA")) {
        " (the server demands a client certificate, or refuses ours)"
    } else if has("InvalidContentType") || has("corrupt message") {
        " (the server does not speak TLS: use http:// or grpc:// in the endpoint)"
    } else if has("UnknownIssuer") {
        " (an unknown authority signed the server's certificate: give its CA certificate)"
    } else if has("NotValidForName") || has("not valid for name") {
        " (the certificate is for another name: correct the endpoint, or set the server name)"
    } else if has("Expired") || has("expired") {
        " (the server's certificate has expired: it has to be renewed)"
    } else if has("handshake eof") {
        " (the server hung up during the TLS handshake: does it expect TLS at this port?)"
    } else {
        ""
    }
}

fn network_hint(cause: &str) -> &'static str {
    if cause.contains("refused") {
        " (is the server running at this address?)"
    } else if cause.contains("lookup") || cause.contains("not known") {
        " (check the host name in the endpoint)"
    } else {
        ""
    }
}

fn socket_hint(cause: &str) -> &'static str {
    if cause.contains("refused") || cause.contains("No such file") {
        " (is the server running, and is this its socket?)"
    } else if cause.contains("ermission denied") {
        " (who writes to a socket needs the right to write to its file)"
    } else {
        ""
    }
}

/// Whether a host name does not exist, as opposed to a name server that does not answer now.
///
/// The standard library keeps no code of `getaddrinfo`, only the words of the C library.
fn is_unknown_name(error: &std::io::Error) -> bool {
    let text = error.to_string();
    // glibc, musl, Apple and the BSDs, Windows.
    let words = [
        "Name or service not known",
        "Name does not resolve",
        "nodename nor servname provided",
        "No such host is known",
    ];
    words.iter().any(|words| text.contains(words))
}

/// The request once more. Extensions are not copied: those that there are belong to one attempt.
fn copy_of(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Waits until a connection has the request.
async fn wait_for_connection(captured: &mut CaptureConnection) {
    drop(captured.wait_for_connection_metadata().await);
}

/// Whether the request met the end of a connection that worked, so that a new one may take it: the connection had answered
/// before, or the server has said that it did not begin with the request.
fn met_an_end(error: &legacy::Error, is_reused: bool) -> bool {
    if error.is_connect() {
        return false;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            // RFC 9113, 6.8 and 8.7: streams after the last one that GOAWAY names, and refused streams, were not processed.
            let is_end = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (is_end || is_refused)
                || is_reused && error.get_io().is_some_and(is_end_of_connection);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return is_reused && is_end_of_connection(error);
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            let is_end = error.is_incomplete_message()
                || error.is_closed()
                || error.is_canceled()
                // Nothing answered a PING.
                || error.is_timeout();
            if is_end {
                return is_reused;
            }
        }
        cause = error.source();
    }
    false
}

fn is_end_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut
            | io::ErrorKind::UnexpectedEof
    )
}

/// What went wrong with the proxy, if that is the cause.
fn proxy_failure<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a ProxyFailure> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref() {
            return Some(failure);
        }
        cause = error.source();
    }
    None
}

/// Starts the drivers of connections on the runtime of the exporter.
#[derive(Clone, Debug)]
struct Drivers(Runtime);

impl<F> Executor<F> for Drivers
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.detach_network(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_with_tls_is_told_by_its_cause() {
        for (cause, words) in [
            (
                "peer doesn't support any known protocol: NoApplicationProtocol",
                "offers no HTTP/2",
            ),
            (
                "received fatal alert: CertificateRequired",
                "client certificate",
            ),
            ("received fatal alert: UnknownCA", "client certificate"),
            ("InvalidContentType", "does not speak TLS"),
            ("received corrupt message", "does not speak TLS"),
            ("invalid peer certificate: UnknownIssuer", "authority"),
            ("certificate not valid for name", "another name"),
            ("NotValidForName", "another name"),
            ("invalid peer certificate: Expired", "has expired"),
            ("certificate expired: verification time 5", "has expired"),
            ("tls handshake eof", "hung up"),
        ] {
            let hint = tls_hint(cause);
            assert!(hint.contains(words), "{cause}: {hint}");
        }
        for cause in ["Connection reset", "received fatal alert: InternalError"] {
            assert_eq!(tls_hint(cause), "", "{cause}");
        }
        // Ours, not the server's: nobody demanded anything.
        assert_eq!(tls_hint("invalid peer certificate: Certificate"), "");
    }

    #[test]
    fn what_the_user_may_have_meant_is_told_by_the_cause() {
        let names = " (check the host name in the endpoint)";
        for (cause, hint) in [
            (
                "Connection refused (os error 111)",
                " (is the server running at this address?)",
            ),
            ("failed to lookup address information", names),
            ("Name or service not known", names),
            ("Connection reset by peer (os error 104)", ""),
        ] {
            assert_eq!(network_hint(cause), hint, "{cause}");
        }
        let socket = " (is the server running, and is this its socket?)";
        for (cause, hint) in [
            ("Connection refused (os error 111)", socket),
            ("No such file or directory (os error 2)", socket),
            (
                "Permission denied (os error 13)",
                " (who writes to a socket needs the right to write to its file)",
            ),
            ("Connection reset by peer (os error 104)", ""),
        ] {
            assert_eq!(socket_hint(cause), hint, "{cause}");
        }
    }
}
