//! What to do about an error, for whoever started the program.

use outspan::Error;
use outspan::ErrorKind;

use crate::destination::Destination;
use crate::destination::Receiver;
use crate::destination::Transport;

/// Says whether going on with other batches is of no use: the destination is down, wrong or does not let us in.
///
/// A refusal of data goes on, because the next batch may be better.
pub(crate) fn is_final(destination: &Destination, error: &Error) -> bool {
    if matches!(destination, Destination::File(_) | Destination::Stdout(_)) {
        return true;
    }
    match error.kind() {
        ErrorKind::Refused => refuses_everything(error.attempt().status),
        ErrorKind::TooLarge => false,
        _ => true,
    }
}

/// Whether a status is about us and our address, not about the data.
///
/// HTTP: 401, 403, 404, 405, 407 and redirects, which an exporter does not follow. gRPC: PERMISSION_DENIED (7),
/// UNIMPLEMENTED (12), UNAUTHENTICATED (16).
fn refuses_everything(status: Option<u16>) -> bool {
    matches!(
        status,
        Some(7 | 12 | 16 | 300..=399 | 401 | 403 | 404 | 405 | 407)
    )
}

/// Says what to do about an error on this command line. Errors themselves say what is wrong, and with what.
pub(crate) fn advice(destination: &Destination, error: &Error) -> Option<&'static str> {
    let Destination::Otlp(receiver) = destination else {
        return None;
    };
    let is_grpc = receiver.transport == Transport::Grpc;
    match error.attempt().status {
        Some(16 | 401) => {
            Some("give the token with --header, such as --header authorization=env:TOKEN")
        }
        Some(12 | 404 | 405) if is_grpc => {
            Some("OTLP/gRPC usually listens on port 4317; for OTLP/HTTP, on 4318, use http://")
        }
        Some(404 | 405) => Some("without a path in the URL, /v1/traces is used"),
        Some(_) => None,
        None if error.kind() == ErrorKind::Timeout => {
            Some("check the address, or give each attempt more time with --timeout")
        }
        None if error.kind() == ErrorKind::Unavailable => no_connection(receiver, error.message()),
        None => None,
    }
}

/// The network's errors come as text; what is advised here is never wrong, only more or less helpful.
fn no_connection(receiver: &Receiver, message: &str) -> Option<&'static str> {
    let is_refused = message.contains("refused");
    let has_said_tls = message.contains("TLS");
    match receiver.transport {
        // What is said of a proxy or of a socket's file needs no other words.
        _ if receiver.is_socket() || message.contains("proxy ") => None,
        _ if is_refused && receiver.has_no_port() => {
            Some("the URL has no port, so that of HTTP is used; OTLP/HTTP usually listens on 4318")
        }
        _ if is_refused => {
            Some("OTLP/gRPC usually listens on port 4317 (grpc://), OTLP/HTTP on 4318 (http://)")
        }
        _ if receiver.is_secure || has_said_tls || message.starts_with("cannot connect") => None,
        Transport::Grpc => Some("if the receiver expects TLS, use grpcs://"),
        Transport::Http => Some("if the receiver expects TLS, use https://"),
    }
}

#[cfg(test)]
mod tests {
    use outspan::Attempt;

    use super::*;

    fn to(text: &str) -> Destination {
        Destination::parse(text).unwrap()
    }

    fn refused(status: u16) -> Error {
        Error::refused("no").with_attempt(Attempt::one().with_status(status))
    }

    #[test]
    fn refused_data_is_not_the_end_and_a_refused_token_is() {
        let otlp = to("http://localhost:4318");
        assert!(!is_final(&otlp, &refused(400)));
        assert!(!is_final(&otlp, &refused(3)));
        assert!(!is_final(&otlp, &Error::too_large("x")));
        for status in [401, 403, 404, 7, 12, 16, 308] {
            assert!(is_final(&otlp, &refused(status)), "{status}");
        }
        assert!(is_final(&otlp, &Error::unavailable("x")));
        assert!(is_final(&to("file:x.pb"), &Error::refused("x")));
    }

    #[test]
    fn advice_fits_the_error() {
        let closed = Error::unavailable("cannot connect: connection refused");
        let told = |url, error: &Error| advice(&to(url), error).unwrap_or_default();
        assert!(told("http://localhost", &closed).contains("no port"));
        assert!(told("http://localhost:80", &closed).contains("4318"));
        assert!(told("grpc://localhost", &closed).contains("4317"));
        let cut = Error::unavailable("the connection failed: stream closed");
        assert!(told("grpc://localhost", &cut).contains("grpcs://"));
        assert_eq!(told("grpcs://localhost", &cut), "");
        assert!(told("http://localhost", &refused(404)).contains("/v1/traces"));
        assert!(told("grpc://localhost", &refused(12)).contains("4317"));
        assert!(told("grpc://localhost", &refused(16)).contains("--header"));
        assert_eq!(advice(&to("stdout:"), &closed), None);
        assert_eq!(advice(&to("grpc://localhost"), &refused(3)), None);
    }
}
