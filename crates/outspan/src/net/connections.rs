//! The connections of one exporter, opened when needed and shared by its clones.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::Request;
use http::Response;
use http::header::PROXY_AUTHORIZATION;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioTimer;

use super::Body;
use super::Endpoint;
use super::Tls;
use super::connector::Connector;
use super::connector::Heard;
use super::connector::Route;
use super::connector::Speaks;
use super::connector::root_cause;
use super::proxy::Proxied;
use super::proxy::ProxyFailure;
use super::proxy::ProxyOptions;
use super::tls::TlsInUse;
use crate::Error;
use crate::Result;
use crate::runtime::Runtime;

/// Which versions of HTTP an exporter speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// HTTP/2 only, without negotiation: gRPC.
    Two,
    /// HTTP/1.1, and HTTP/2 where TLS negotiates it.
    OneOrTwo,
}

/// How connections are kept.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionOptions {
    pub(crate) connect_timeout: Duration,
    /// HTTP/2 pings: interval and how long to wait for the answer.
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
        let connector = Connector::new(route, tls, options.connect_timeout);
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
                .http2_keep_alive_while_idle(true);
        }
        Ok(Self {
            pool: Mutex::new(Some(builder.build(connector))),
            heard,
            versions,
            wrong_version_hint: options.wrong_version_hint,
            is_secure,
            is_socket: endpoint.socket().is_some(),
            proxied,
        })
    }

    /// Sends a request and waits for the head of the answer. Has to be called on the runtime of the connections.
    ///
    /// # Errors
    ///
    /// Temporary, with words about what to do, when the server cannot be reached or not be understood.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>> {
        let pool = self.lock().clone();
        let pool = pool.ok_or_else(Error::shut_down)?;
        let proxied = self.proxied.as_ref();
        if let Some(value) = proxied.and_then(|proxied| proxied.authorization()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let answer = pool.request(request).await.map_err(|e| self.explain(&e))?;
        match proxied.and_then(|proxied| proxied.refusal(answer.status())) {
            Some(error) => Err(error),
            None => Ok(answer),
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

    /// Closes the connections as soon as they are idle; later requests are refused.
    pub(crate) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, error: &hyper_util::client::legacy::Error) -> Error {
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

    fn mark_refused(&self, explained: Error, error: &hyper_util::client::legacy::Error) -> Error {
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
