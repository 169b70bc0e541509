//! What HTTP statuses and bodies mean for a batch of OTLP.

use http::HeaderMap;
use outspan_wire::otlp;
use outspan_wire::otlp::PartialSuccess;

use crate::Error;
use crate::net::Statuses;
use crate::net::check_success;
use crate::net::media_type;

/// OTLP's table ("OTLP/HTTP Failures", "Retryable Response Codes").
pub(super) const STATUSES: Statuses = Statuses {
    unavailable: &[502, 503, 504],
    usual_path: "; OTLP/HTTP usually is at /v1/traces",
    other_formats: "the other of protobuf and JSON, or another compression",
};

/// Reads the answer to an accepted request.
///
/// An empty body is full success, and so is a body in a format that is none of OTLP's (some servers answer `ok`). A web page is
/// no acceptance: a login page or a proxy answers 200 as well.
pub(super) fn read_success(headers: &HeaderMap, body: &[u8]) -> Result<PartialSuccess, Error> {
    check_success(
        headers,
        "OTLP",
        "OTLP/HTTP usually listens on port 4318, OTLP/gRPC on 4317",
    )?;
    if body.is_empty() {
        return Ok(PartialSuccess::default());
    }
    let unreadable = || PartialSuccess {
        rejected_spans: 0,
        error_message: "the server accepted the request, but its answer cannot be read".into(),
    };
    match media_type(headers).as_str() {
        "application/x-protobuf" => Ok(otlp::read_response(body).unwrap_or_else(|_| unreadable())),
        "application/json" => Ok(otlp::read_json_response(body).unwrap_or_else(|_| unreadable())),
        _ => Ok(PartialSuccess::default()),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header;

    use super::*;
    use crate::net::Answer;
    use crate::net::read_failure;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(name, value.parse().unwrap());
        map
    }

    #[test]
    fn the_table_of_otlp_decides_what_is_temporary() {
        for status in (300..600).filter_map(|status| StatusCode::from_u16(status).ok()) {
            let temporary = [429, 502, 503, 504].contains(&status.as_u16());
            let answer = Answer {
                status,
                headers: HeaderMap::new(),
                trailers: HeaderMap::new(),
                body: Vec::new(),
            };
            let error = read_failure(&STATUSES, &answer, &[]);
            assert_eq!(error.is_temporary(), temporary, "{status}");
        }
    }

    #[test]
    fn success_is_read_in_either_format() {
        let json = headers(header::CONTENT_TYPE, "application/json; charset=utf-8");
        let body = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#;
        let partial = read_success(&json, body).unwrap();
        assert_eq!(
            (partial.rejected_spans, partial.error_message.as_str()),
            (3, "no")
        );
        assert_eq!(
            read_success(&json, b"{}").unwrap(),
            PartialSuccess::default()
        );
        let garbage = read_success(&json, b"{").unwrap();
        assert!(garbage.error_message.contains("cannot be read"));
        let page = headers(header::CONTENT_TYPE, "text/html");
        assert!(read_success(&page, b"<html>").is_err());
        let grpc = headers("grpc-status".parse().unwrap(), "12");
        assert!(read_success(&grpc, b"").is_err());
        let text = headers(header::CONTENT_TYPE, "text/plain");
        assert_eq!(
            read_success(&text, b"ok").unwrap(),
            PartialSuccess::default()
        );
    }
}
