//! Fixed spans, and files that hold how they should look.
//!
//! `OUTSPAN_BLESS=1 cargo test -p outspan` writes the files anew; read the difference before you commit it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::KeyValueList;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use outspan::Batch;
use outspan::Deadline;
use prost::Message;

/// 2026-01-02T03:04:05 UTC, in nanoseconds since 1970.
pub(crate) const START: u64 = 1_767_323_045_000_000_000;

const MILLISECOND: u64 = 1_000_000;

/// Compares `text` with a file of this directory.
#[track_caller]
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("OUTSPAN_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        text == expected,
        "{name} looks different:\n--- expected\n{expected}\n--- found\n{text}"
    );
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

pub(crate) fn batch(request: &ExportTraceServiceRequest) -> Batch {
    let checked = Batch::from_request(request.encode_to_vec()).unwrap();
    assert_eq!(checked.refused, 0);
    checked.batch
}

/// A request of plain spans of one service: `(trace, span, parent, name)`, 0 for no parent.
pub(crate) fn plain(service: &str, spans: &[(u8, u64, u64, &str)]) -> ExportTraceServiceRequest {
    let spans = spans.iter().map(|(trace, id, parent, name)| Span {
        trace_id: vec![*trace; 16],
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: match parent {
            0 => Vec::new(),
            parent => parent.to_be_bytes().to_vec(),
        },
        name: (*name).to_owned(),
        start_time_unix_nano: START + id * MILLISECOND,
        end_time_unix_nano: START + (id + 5) * MILLISECOND,
        ..Span::default()
    });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(service_named(service)),
            scope_spans: vec![ScopeSpans {
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn service_named(name: &str) -> Resource {
    Resource {
        attributes: vec![text("service.name", name)],
        ..Resource::default()
    }
}

/// Everything a span can hold, in two traces of two services.
pub(crate) fn everything() -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![shop(), payment()],
    }
}

fn shop() -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource {
            attributes: vec![
                text("service.name", "shop"),
                text("host.name", "wěb-1"),
                pair("process.pid", Value::IntValue(4242)),
            ],
            dropped_attributes_count: 1,
            ..Resource::default()
        }),
        scope_spans: vec![
            ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "shop.web".to_owned(),
                    version: "1.2.0".to_owned(),
                    attributes: vec![pair("beta", Value::BoolValue(true))],
                    dropped_attributes_count: 0,
                }),
                spans: vec![checkout(), render()],
                schema_url: "https://opentelemetry.io/schemas/1.30.0".to_owned(),
            },
            ScopeSpans {
                spans: vec![hostile()],
                ..ScopeSpans::default()
            },
        ],
        schema_url: "https://opentelemetry.io/schemas/1.29.0".to_owned(),
    }
}

fn payment() -> ResourceSpans {
    ResourceSpans {
        resource: Some(service_named("payment")),
        scope_spans: vec![ScopeSpans {
            spans: vec![charge(), night_job(), unfinished(), backwards()],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn checkout() -> Span {
    Span {
        trace_id: vec![0xA1; 16],
        span_id: vec![0x01; 8],
        trace_state: "vendor=1,other=2".to_owned(),
        flags: 0x101,
        name: "POST /checkout".to_owned(),
        kind: 2,
        start_time_unix_nano: START,
        end_time_unix_nano: START + 182_400_000,
        attributes: vec![
            text("http.request.method", "POST"),
            pair("http.response.status_code", Value::IntValue(500)),
            pair("retry", Value::BoolValue(false)),
            pair("smallest", Value::IntValue(i64::MIN)),
            pair("share", Value::DoubleValue(0.25)),
            pair("nothing.measured", Value::DoubleValue(f64::NAN)),
            pair("endless", Value::DoubleValue(f64::NEG_INFINITY)),
            pair("cookie", Value::BytesValue(vec![0, 1, 0xFE, 0xFF])),
            pair("list", list()),
            pair("map", map()),
            KeyValue {
                key: "empty".to_owned(),
                ..KeyValue::default()
            },
            text("empty.text", ""),
        ],
        dropped_attributes_count: 2,
        events: vec![
            Event {
                time_unix_nano: START + 3_200_000,
                name: "cart loaded".to_owned(),
                attributes: vec![pair("items", Value::IntValue(3))],
                dropped_attributes_count: 1,
            },
            Event {
                time_unix_nano: START + 180_000_000,
                name: "exception".to_owned(),
                attributes: vec![
                    text("exception.type", "CardDeclined"),
                    text(
                        "exception.message",
                        "the \"card\" was declined\nby the bank",
                    ),
                    text("exception.stacktrace", "at charge\nat checkout"),
                ],
                dropped_attributes_count: 0,
            },
        ],
        dropped_events_count: 3,
        links: vec![Link {
            trace_id: vec![0xB2; 16],
            span_id: vec![0x05; 8],
            trace_state: "a=b".to_owned(),
            attributes: vec![text("reason", "follows")],
            dropped_attributes_count: 0,
            flags: 1,
        }],
        dropped_links_count: 4,
        status: Some(Status {
            code: 2,
            message: "payment failed".to_owned(),
        }),
        ..Span::default()
    }
}

fn render() -> Span {
    Span {
        trace_id: vec![0xA1; 16],
        span_id: vec![0x02; 8],
        parent_span_id: vec![0x01; 8],
        name: "vykresli 注文 😀".to_owned(),
        kind: 1,
        start_time_unix_nano: START + 181 * MILLISECOND,
        end_time_unix_nano: START + 181 * MILLISECOND,
        status: Some(Status {
            code: 1,
            message: String::new(),
        }),
        ..Span::default()
    }
}

/// Texts that would do harm on a terminal.
fn hostile() -> Span {
    Span {
        trace_id: vec![0xA1; 16],
        span_id: vec![0x03; 8],
        parent_span_id: vec![0x77; 8],
        name: "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\r\nname\u{202e}".to_owned(),
        trace_state: "\u{1b}c".to_owned(),
        kind: 99,
        start_time_unix_nano: START + 5_000_500,
        end_time_unix_nano: START + 5_001_749,
        attributes: vec![
            text(
                "\u{1b}[31mkey\u{7f}",
                "tab\there, \"quotes\", back\\slash, nul\0, é",
            ),
            pair(
                "inside",
                Value::ArrayValue(ArrayValue {
                    values: vec![any(Value::StringValue("\u{1b}[1m".to_owned()))],
                }),
            ),
        ],
        events: vec![Event {
            name: "\u{1b}[5mevent".to_owned(),
            ..Event::default()
        }],
        status: Some(Status {
            code: 2,
            message: "\u{1b}]8;;http://example.com\u{7}click".to_owned(),
        }),
        ..Span::default()
    }
}

fn charge() -> Span {
    Span {
        trace_id: vec![0xA1; 16],
        span_id: vec![0x04; 8],
        parent_span_id: vec![0x01; 8],
        name: "charge".to_owned(),
        kind: 3,
        start_time_unix_nano: START + 60 * MILLISECOND,
        end_time_unix_nano: START + 179_999_999,
        ..Span::default()
    }
}

fn night_job() -> Span {
    Span {
        trace_id: vec![0xB2; 16],
        span_id: vec![0x05; 8],
        name: "settle accounts".to_owned(),
        kind: 5,
        start_time_unix_nano: START - 90_061_000_000_000,
        end_time_unix_nano: START,
        ..Span::default()
    }
}

fn unfinished() -> Span {
    Span {
        trace_id: vec![0xB2; 16],
        span_id: vec![0x06; 8],
        parent_span_id: vec![0x05; 8],
        name: String::new(),
        start_time_unix_nano: 0,
        end_time_unix_nano: 0,
        ..Span::default()
    }
}

fn backwards() -> Span {
    Span {
        trace_id: vec![0xB2; 16],
        span_id: vec![0x07; 8],
        parent_span_id: vec![0x05; 8],
        name: "clock went back".to_owned(),
        kind: 4,
        start_time_unix_nano: START - 1_000_000_000,
        end_time_unix_nano: START - 2_500_000_000,
        ..Span::default()
    }
}

fn list() -> Value {
    Value::ArrayValue(ArrayValue {
        values: vec![
            any(Value::IntValue(1)),
            any(Value::StringValue("two".to_owned())),
            any(Value::DoubleValue(f64::INFINITY)),
            AnyValue { value: None },
            any(Value::BytesValue(vec![1])),
        ],
    })
}

fn map() -> Value {
    Value::KvlistValue(KeyValueList {
        values: vec![
            pair(
                "inner",
                Value::KvlistValue(KeyValueList {
                    values: vec![text("deep", "yes")],
                }),
            ),
            pair("on", Value::BoolValue(true)),
        ],
    })
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(value.to_owned()))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// A writer that keeps what it gets, and can be told to have so much room and no more.
#[derive(Clone, Default)]
pub(crate) struct Page(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    room: Option<usize>,
    flushes: usize,
}

impl Page {
    pub(crate) fn with_room(room: usize) -> Self {
        let page = Self::default();
        page.make_room(Some(room));
        page
    }

    pub(crate) fn make_room(&self, room: Option<usize>) {
        self.0.lock().unwrap().room = room;
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().bytes.clone()).unwrap()
    }

    pub(crate) fn flushes(&self) -> usize {
        self.0.lock().unwrap().flushes
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap();
        let fits = bytes.len().min(inner.room.unwrap_or(usize::MAX));
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.room = inner.room.map(|room| room - fits);
        inner.bytes.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().flushes += 1;
        Ok(())
    }
}
