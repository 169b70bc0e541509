//! OpenTelemetry metrics by the semantic conventions for SDKs (`docs/otel/sdk-metrics.md` of semantic-conventions).

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use opentelemetry::metrics::Histogram;
use opentelemetry::metrics::Meter;
use opentelemetry::metrics::UpDownCounter;

use super::outcome::Outcome;

/// The instruments of one exporter, with the attributes that never change.
pub(super) struct Instruments {
    /// Spans of operations that have begun and not ended, waits between attempts included.
    inflight: UpDownCounter<i64>,
    /// Spans of operations that have ended, each once, however many attempts were made.
    exported: Counter<u64>,
    /// One observation an operation.
    duration: Histogram<f64>,
    component: Vec<KeyValue>,
    has_server: bool,
    /// The attributes of the last answer, because the next one mostly comes from the same server in the same way.
    last: Mutex<Arc<Answered>>,
}

/// The attributes that come with an answer.
struct Answered {
    server: Option<String>,
    status: Option<u16>,
    /// Who and where.
    spans: Vec<KeyValue>,
    /// The status as well.
    operation: Vec<KeyValue>,
}

impl Instruments {
    pub(super) fn new(
        meter: &Meter,
        name: &str,
        component_type: &str,
        server: Option<&(String, u16)>,
    ) -> Self {
        let mut component = vec![
            KeyValue::new("otel.component.name", shared(name)),
            KeyValue::new("otel.component.type", shared(component_type)),
        ];
        if let Some((address, port)) = server {
            component.push(KeyValue::new("server.address", shared(address)));
            component.push(KeyValue::new("server.port", i64::from(*port)));
        }
        let unknown = Answered {
            server: None,
            status: None,
            spans: component.clone(),
            operation: component.clone(),
        };
        Self {
            inflight: meter
                .i64_up_down_counter("otel.sdk.exporter.span.inflight")
                .with_unit("{span}")
                .with_description("Spans that were handed to the exporter and have no outcome yet.")
                .build(),
            exported: meter
                .u64_counter("otel.sdk.exporter.span.exported")
                .with_unit("{span}")
                .with_description("Spans whose export has ended, well or badly.")
                .build(),
            // The conventions advise no boundaries: count and sum.
            duration: meter
                .f64_histogram("otel.sdk.exporter.operation.duration")
                .with_unit("s")
                .with_description("How long exporting a batch took, from the first attempt to the end of the last.")
                .with_boundaries(Vec::new())
                .build(),
            component,
            has_server: server.is_some(),
            last: Mutex::new(Arc::new(unknown)),
        }
    }

    pub(super) fn begin(&self, spans: u64) {
        self.inflight.add(signed(spans), &self.component);
    }

    pub(super) fn end(&self, spans: u64, outcome: &Outcome<'_>, elapsed: Duration) {
        let answered = self.answered(outcome);
        let Answered {
            spans: of_spans,
            operation,
            ..
        } = &*answered;
        self.inflight.add(-signed(spans), &self.component);
        if outcome.delivered > 0 {
            self.exported.add(outcome.delivered, of_spans);
        }
        let failed = outcome.failed.iter();
        let failed = failed.map(|(kind, spans)| (kind.as_str(), spans));
        // `rejected` is the word for spans that a destination refused out of a batch that it took.
        let others = [
            ("rejected", outcome.refused),
            ("cancelled", outcome.cancelled),
        ];
        for (error_type, spans) in failed.chain(others) {
            if spans > 0 {
                self.exported.add(spans, &with_error(of_spans, error_type));
            }
        }
        let seconds = elapsed.as_secs_f64();
        match outcome.error_type() {
            None => self.duration.record(seconds, operation),
            Some(error_type) => self
                .duration
                .record(seconds, &with_error(operation, error_type)),
        }
    }

    /// The attributes that come with an answer, made anew only when it comes from elsewhere or with another status.
    fn answered(&self, outcome: &Outcome<'_>) -> Arc<Answered> {
        let server = outcome.server.filter(|_| !self.has_server);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.server.as_deref() != server || last.status != outcome.status {
            *last = Arc::new(self.make_answered(server, outcome.status));
        }
        Arc::clone(&last)
    }

    fn make_answered(&self, server: Option<&str>, status: Option<u16>) -> Answered {
        let mut spans = self.component.clone();
        if let Some(server) = server {
            let (address, port) = address_and_port(server);
            spans.push(KeyValue::new("server.address", shared(address)));
            spans.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        }
        let mut operation = spans.clone();
        operation.extend(status.map(status_attribute));
        Answered {
            server: server.map(str::to_owned),
            status,
            spans,
            operation,
        }
    }
}

impl fmt::Debug for Instruments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instruments")
            .field("component", &self.component)
            .finish_non_exhaustive()
    }
}

fn with_error(attributes: &[KeyValue], error_type: &'static str) -> Vec<KeyValue> {
    let mut attributes = attributes.to_vec();
    attributes.push(KeyValue::new("error.type", error_type));
    attributes
}

/// HTTP's numbers begin at 100, gRPC's end at 16.
fn status_attribute(status: u16) -> KeyValue {
    match grpc_name(status) {
        Some(name) => KeyValue::new("rpc.response.status_code", name),
        None => KeyValue::new("http.response.status_code", i64::from(status)),
    }
}

/// gRPC's names of its status codes (`doc/statuscodes.md` of grpc).
fn grpc_name(status: u16) -> Option<&'static str> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(usize::from(status)).copied()
}

/// Takes `host:port` apart; the brackets of an IPv6 address belong to neither.
fn address_and_port(server: &str) -> (&str, Option<u16>) {
    let parts = server.rsplit_once(':');
    let parts = parts.and_then(|(address, port)| Some((address, port.parse().ok()?)));
    let (address, port) = match parts {
        Some((address, port)) => (address, Some(port)),
        None => (server, None),
    };
    let inside = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    (inside.unwrap_or(address), port)
}

/// Text that is cloned for the price of a reference count.
fn shared(text: &str) -> Arc<str> {
    text.into()
}

fn signed(spans: u64) -> i64 {
    i64::try_from(spans).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_an_address_and_mostly_a_port() {
        assert_eq!(
            address_and_port("collector.example.com:4317"),
            ("collector.example.com", Some(4317))
        );
        assert_eq!(address_and_port("[::1]:4318"), ("::1", Some(4318)));
        assert_eq!(address_and_port("[::1]"), ("::1", None));
        assert_eq!(address_and_port("collector"), ("collector", None));
    }

    #[test]
    fn a_status_is_grpc_s_or_http_s_by_its_number() {
        let of = |status| {
            let attribute = status_attribute(status);
            (attribute.key.to_string(), attribute.value.to_string())
        };
        let rpc = "rpc.response.status_code".to_owned();
        assert_eq!(of(0), (rpc.clone(), "OK".to_owned()));
        assert_eq!(of(16), (rpc, "UNAUTHENTICATED".to_owned()));
        let http = "http.response.status_code".to_owned();
        assert_eq!(of(503), (http, "503".to_owned()));
    }
}
