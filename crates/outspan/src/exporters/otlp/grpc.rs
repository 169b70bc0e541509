//! What gRPC statuses mean for a batch.

use std::time::Duration;

use http::HeaderMap;
use http::StatusCode;
use outspan_wire::grpc::Code;
use outspan_wire::grpc::read_binary;
use outspan_wire::grpc::read_code;
use outspan_wire::grpc::read_message;
use outspan_wire::otlp;

use crate::Attempt;
use crate::Error;
use crate::ErrorKind;
use crate::net::named_limit;

/// How a call ended.
#[derive(Debug, PartialEq)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
    pub(super) retry_delay: Option<Duration>,
}

impl Status {
    /// Reads the status from trailers, or from headers when the answer has nothing else.
    ///
    /// An answer without one did not come from a gRPC server: the HTTP status is translated
    /// (gRPC over HTTP/2, "HTTP to gRPC Status Code Mapping").
    pub(super) fn of(http: StatusCode, headers: &HeaderMap, trailers: &HeaderMap) -> Self {
        let source = [trailers, headers]
            .into_iter()
            .find(|map| map.contains_key("grpc-status"));
        let Some(map) = source else {
            let (code, hint) = from_http(http);
            return Self {
                code,
                message: format!("the server answered HTTP {http} without a gRPC status{hint}"),
                retry_delay: None,
            };
        };
        let text = |name| map.get(name).map(|value| value.as_bytes());
        let code = text("grpc-status")
            .and_then(read_code)
            .and_then(|code| u16::try_from(code).ok());
        let details = text("grpc-status-details-bin")
            .and_then(read_binary)
            .and_then(|details| otlp::read_status(&details).ok());
        Self {
            code: code.unwrap_or(2),
            message: text("grpc-message").map(read_message).unwrap_or_default(),
            retry_delay: details.and_then(|details| details.retry_delay),
        }
    }

    /// Turns a status other than OK into an error, by OTLP's table ("OTLP/gRPC Failures").
    pub(super) fn into_error(self) -> Error {
        let Self {
            code,
            message,
            retry_delay,
        } = self;
        let (kind, name, hint) = match code {
            _ if says_too_large(code, &message, retry_delay) => {
                (ErrorKind::TooLarge, name_of(code), "")
            }
            1 | 10 | 11 | 14 | 15 => (ErrorKind::Unavailable, name_of(code), ""),
            4 => (ErrorKind::Timeout, name_of(code), ""),
            8 if retry_delay.is_some() => (ErrorKind::Throttled, name_of(code), ""),
            12 => (
                ErrorKind::Refused,
                name_of(code),
                " (no OTLP trace service at this address: check host and port)",
            ),
            16 => (
                ErrorKind::Refused,
                name_of(code),
                " (the server does not know us: check the token in the headers)",
            ),
            7 => (
                ErrorKind::Refused,
                name_of(code),
                " (the server knows us but does not allow it: check what the token may do)",
            ),
            _ => (ErrorKind::Refused, name_of(code), ""),
        };
        let colon = if message.is_empty() { "" } else { ": " };
        let mut error = Error::new(
            kind,
            format!("the server answered {name}{colon}{message}{hint}"),
        )
        .with_attempt(Attempt::default().with_status(code));
        if error.is_temporary()
            && let Some(delay) = retry_delay.filter(|delay| !delay.is_zero())
        {
            error = error.with_retry_after(delay);
        }
        match named_limit(&message).filter(|_| error.is_too_large()) {
            Some(limit) => error.with_limit(limit),
            None => error,
        }
    }
}

/// Whether the server means: this message is too large.
///
/// gRPC libraries say so with RESOURCE_EXHAUSTED (Go, Java, C++, Python, Node, .NET) or OUT_OF_RANGE (tonic), in words of
/// their own. OTLP's table would drop the first and repeat the second for ever; splitting helps in both cases.
fn says_too_large(code: u16, message: &str, retry_delay: Option<Duration>) -> bool {
    const WORDS: [&str; 5] = [
        "larger than max",
        "too large",
        "exceeds maximum",
        "exceeds the maximum",
        "message size",
    ];
    let message = message.to_ascii_lowercase();
    matches!(code, 8 | 11)
        && retry_delay.is_none()
        && WORDS.iter().any(|words| message.contains(words))
}

fn from_http(status: StatusCode) -> (u16, &'static str) {
    match status.as_u16() {
        400 => (13, ""),
        401 => (16, ""),
        403 => (7, ""),
        404 => (
            12,
            ": is this the OTLP/HTTP port? OTLP/gRPC usually listens on 4317",
        ),
        413 => (8, ": the request is too large"),
        429 | 502 | 503 | 504 => (14, ""),
        _ => (2, ": is this a gRPC server?"),
    }
}

fn name_of(code: u16) -> &'static str {
    Code::from_number(code.into()).map_or("an unknown gRPC status", Code::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str, delay: Option<u64>) -> Error {
        Status {
            code,
            message: message.into(),
            retry_delay: delay.map(Duration::from_secs),
        }
        .into_error()
    }

    #[test]
    fn the_table_of_otlp_decides_what_is_temporary() {
        for code in 1..=16 {
            let temporary = [1, 4, 10, 11, 14, 15].contains(&code);
            assert_eq!(status(code, "", None).is_temporary(), temporary, "{code}");
        }
        assert!(status(8, "", Some(3)).is_temporary());
        assert!(status(8, "", Some(0)).is_temporary());
        assert_eq!(status(8, "", Some(0)).retry_after(), None);
        assert_eq!(
            status(14, "", Some(3)).retry_after(),
            Some(Duration::from_secs(3))
        );
        assert_eq!(status(3, "", Some(3)).retry_after(), None);
        assert!(!status(99, "", None).is_temporary());
    }

    #[test]
    fn a_status_is_named_in_the_specification_s_words() {
        for (code, said) in [
            (7, "the server answered PERMISSION_DENIED"),
            (14, "the server answered UNAVAILABLE"),
            (99, "the server answered an unknown gRPC status"),
        ] {
            let error = status(code, "", None);
            assert!(error.message().starts_with(said), "{error}");
        }
    }

    #[test]
    fn an_http_status_without_grpc_s_is_translated() {
        let read = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            Status::of(status, &HeaderMap::new(), &HeaderMap::new())
        };
        for (http, code) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (413, 8),
            (429, 14),
            (502, 14),
            (503, 14),
            (504, 14),
            (200, 2),
            (500, 2),
            (302, 2),
        ] {
            let status = read(http);
            assert_eq!(status.code, code, "{http}");
            let temporary = [429, 502, 503, 504].contains(&http);
            let error = status.into_error();
            assert_eq!(error.is_temporary(), temporary, "{http}");
            assert_eq!(error.is_too_large(), http == 413, "{http}");
        }
        assert!(read(404).message.contains("is this the OTLP/HTTP port?"));
        assert!(read(500).message.contains("is this a gRPC server?"));
    }

    #[test]
    fn each_library_s_words_for_too_large_are_understood() {
        for (code, words) in [
            (8, "grpc: received message larger than max (5 vs. 4)"),
            (
                8,
                "grpc: received message after decompression larger than max 4194304",
            ),
            (8, "gRPC message exceeds maximum size 4194304: 5000000"),
            (8, "CLIENT: Received message larger than max (10 vs. 4)"),
            (
                8,
                "Received message exceeds the maximum configured message size.",
            ),
            (
                11,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
            ),
        ] {
            assert!(status(code, words, None).is_too_large(), "{words}");
        }
        assert!(!status(8, "quota of tenant used up", None).is_too_large());
        assert!(!status(14, "too large", None).is_too_large());
    }

    #[test]
    fn a_limit_is_read_from_words_about_size_alone() {
        for (code, words, limit) in [
            (8, "received message larger than max (5 vs. 4)", Some(4)),
            (8, "gRPC message exceeds maximum size 4: 5", Some(4)),
            (
                11,
                "message length too large: found 5 bytes, the limit is: 4 bytes",
                Some(4),
            ),
            (8, "exceeds the maximum configured message size.", None),
            (8, "limit of 4 exports used up", None),
            (14, "message size limit 4", None),
        ] {
            assert_eq!(status(code, words, None).limit(), limit, "{words}");
        }
        assert_eq!(
            status(8, "larger than max (5 vs. 4)", Some(1)).limit(),
            None
        );
    }

    #[test]
    fn a_status_is_found_in_trailers_headers_or_http() {
        let mut map = HeaderMap::new();
        map.insert("grpc-status", "3".parse().unwrap());
        map.insert("grpc-message", "b%C3%A4d".parse().unwrap());
        let empty = HeaderMap::new();
        for (headers, trailers) in [(&map, &empty), (&empty, &map)] {
            let status = Status::of(StatusCode::OK, headers, trailers);
            assert_eq!((status.code, status.message.as_str()), (3, "bäd"));
        }
        assert_eq!(Status::of(StatusCode::BAD_GATEWAY, &empty, &empty).code, 14);
        assert_eq!(Status::of(StatusCode::NOT_FOUND, &empty, &empty).code, 12);
        assert_eq!(Status::of(StatusCode::OK, &empty, &empty).code, 2);
    }
}
