//! Posts spans as plain JSON objects to any URL; and shows, whole, how to write an exporter of one's own.
//!
//! ```
//! # fn build() -> outspan::Result<outspan::Exporter> {
//! use outspan::Retry;
//! use outspan::http_json;
//! use outspan::http_post;
//!
//! let url = http_post::to("https://logs.example.com/spans").header("x-api-key", "2f1c");
//! let exporter = http_json::exporter(url)?.retry(Retry::default());
//! # Ok(exporter)
//! # }
//! # build().unwrap();
//! ```
//!
//! Each request is an array with one object a span:
//!
//! ```json
//! [{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","parent_span_id":null,
//!   "service":"shop","scope":"shop.cart","name":"GET /cart","kind":"server","start_unix_nano":1700000000000000000,
//!   "duration_nano":1500000,"status":"ok","status_message":"","attributes":{"http.status_code":200}}]
//! ```
//!
//! # Writing one's own
//!
//! The source of this module is about a hundred lines that use nothing but what is public. Copy it, change `span`, and
//! you have an exporter for your own API:
//!
//! - `encode` reads a batch through views, without copying or decoding it first, and is called with parts of a batch
//!   where the whole is too large;
//! - [`http_post::Poster`] sends, splits, and says what became of each span;
//! - [`Export`] is the seam: three methods, none of which retries, times out, logs or counts, because combinators do
//!   that for every exporter alike.
//!
//! What talks something else than HTTP does the sending itself: return [`Delivery::of`](Delivery::of) for what arrived,
//! an [`Error`](crate::Error) for what did not, temporary where trying again can help, and be back by the deadline.
//! `outspan-testkit` has the promises that every exporter keeps, as tests to run.

use std::fmt::Write;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::http_post;
use crate::wire::otlp::SpanKind;
use crate::wire::otlp::SpanView;
use crate::wire::otlp::StatusCode;
use crate::wire::otlp::ValueView;

/// Builds the exporter, with the URL and the options of `http`.
///
/// # Errors
///
/// [`Config`](crate::ErrorKind::Config), as [`http_post::Builder::build`].
pub fn exporter(http: http_post::Builder) -> Result<Exporter> {
    let poster = http.content_type("application/json").build(encode)?;
    Ok(Exporter::new(HttpJson { poster }))
}

/// Posts spans as JSON.
#[derive(Debug)]
struct HttpJson {
    poster: http_post::Poster,
}

impl Export for HttpJson {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        self.poster.deliver(batch, until).await
    }

    /// Waits for nothing: every export is awaited by its caller.
    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        self.poster.close();
        Ok(Drained::default())
    }
}

/// Makes the body of a request.
fn encode(batch: &Batch) -> Result<Vec<u8>> {
    let objects: Vec<String> = batch.iter().map(|one| span(&one)).collect();
    Ok(format!("[{}]", objects.join(",\n")).into_bytes())
}

fn span(span: &SpanView<'_>) -> String {
    let service = span.resource().attribute("service.name");
    let parent = span.parent_span_id().map(|id| format!("\"{}\"", hex(&id)));
    let attributes = span.attributes().iter();
    object([
        ("trace_id", text(&hex(&span.trace_id()))),
        ("span_id", text(&hex(&span.span_id()))),
        ("parent_span_id", parent.unwrap_or("null".to_owned())),
        ("service", service.map_or("null".to_owned(), value)),
        ("scope", text(span.scope().name())),
        ("name", text(span.name())),
        ("kind", text(kind(span.kind()))),
        ("start_unix_nano", span.start_time_unix_nano().to_string()),
        ("duration_nano", span.duration().as_nanos().to_string()),
        ("status", text(status(span.status().code()))),
        ("status_message", text(span.status().message())),
        (
            "attributes",
            object(attributes.map(|pair| (pair.key(), value(pair.value())))),
        ),
    ])
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        _ => "internal",
    }
}

fn status(code: StatusCode) -> &'static str {
    match code {
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
        _ => "unset",
    }
}

/// JSON has no bytes, no infinity and nothing that is not a number: they become text.
fn value(value: ValueView<'_>) -> String {
    match value {
        ValueView::Str(string) => text(string),
        ValueView::Bool(truth) => truth.to_string(),
        ValueView::Int(number) => number.to_string(),
        ValueView::Double(number) if number.is_finite() => number.to_string(),
        ValueView::Double(number) => text(&number.to_string()),
        ValueView::Bytes(bytes) => text(&hex(bytes)),
        ValueView::Array(array) => {
            let values: Vec<String> = array.iter().map(self::value).collect();
            format!("[{}]", values.join(","))
        }
        ValueView::Map(map) => object(
            map.iter()
                .map(|pair| (pair.key(), self::value(pair.value()))),
        ),
        ValueView::Empty => "null".to_owned(),
    }
}

fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs = pairs.into_iter();
    let members: Vec<String> = pairs
        .map(|(key, value)| format!("{}:{value}", text(key)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A JSON string (RFC 8259, section 7).
fn text(plain: &str) -> String {
    let mut quoted = String::with_capacity(plain.len() + 2);
    quoted.push('"');
    for character in plain.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..='\u{1f}' => quoted.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string succeeds");
        hex
    })
}
