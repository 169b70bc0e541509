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
//! - `encode` reads a batch through views, without copying or decoding it first, and writes what it reads at once. It is
//!   called with parts of a batch where the whole is too large, and ends early where the writer takes no more;
//! - [`http_post::Poster`] sends, splits, and says what became of each span;
//! - [`Export`] is the seam: three methods, none of which retries, times out, logs or counts, because combinators do
//!   that for every exporter alike.
//!
//! What talks something else than HTTP does the sending itself: return [`Delivery::of`](Delivery::of) for what arrived,
//! an [`Error`](crate::Error) for what did not, temporary where trying again can help, and be back by the deadline.
//! `outspan-testkit` has the promises that every exporter keeps, as tests to run.

use std::fmt;
use std::fmt::Write;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::http_post;
use crate::http_post::BodyWriter;
use crate::wire::otlp::Hex;
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
    let poster = http
        .content_type("application/json")
        .build_writing(encode)?;
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

/// Writes the body of a request. It fails where the body becomes larger than a request may be.
fn encode(batch: &Batch, out: &mut BodyWriter) -> fmt::Result {
    out.write_char('[')?;
    for (number, one) in batch.iter().enumerate() {
        out.write_str(if number > 0 { ",\n" } else { "" })?;
        span(&one, out)?;
    }
    out.write_char(']')
}

fn span(span: &SpanView<'_>, out: &mut impl Write) -> fmt::Result {
    write!(out, "{{\"trace_id\":\"{}\"", Hex(&span.trace_id()))?;
    write!(out, ",\"span_id\":\"{}\"", Hex(&span.span_id()))?;
    match span.parent_span_id() {
        Some(id) => write!(out, ",\"parent_span_id\":\"{}\"", Hex(&id))?,
        None => out.write_str(",\"parent_span_id\":null")?,
    }
    out.write_str(",\"service\":")?;
    let service = span.resource().attribute("service.name");
    value(service.unwrap_or(ValueView::Empty), out)?;
    out.write_str(",\"scope\":")?;
    text(span.scope().name(), out)?;
    out.write_str(",\"name\":")?;
    text(span.name(), out)?;
    write!(out, ",\"kind\":\"{}\"", kind(span.kind()))?;
    write!(out, ",\"start_unix_nano\":{}", span.start_time_unix_nano())?;
    write!(out, ",\"duration_nano\":{}", span.duration().as_nanos())?;
    write!(out, ",\"status\":\"{}\"", status(span.status().code()))?;
    out.write_str(",\"status_message\":")?;
    text(span.status().message(), out)?;
    out.write_str(",\"attributes\":")?;
    let attributes = span.attributes().iter();
    object(attributes.map(|pair| (pair.key(), pair.value())), out)?;
    out.write_char('}')
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
fn value(value: ValueView<'_>, out: &mut impl Write) -> fmt::Result {
    match value {
        ValueView::Str(string) => text(string, out),
        ValueView::Bool(truth) => write!(out, "{truth}"),
        ValueView::Int(number) => write!(out, "{number}"),
        ValueView::Double(number) if number.is_finite() => write!(out, "{number}"),
        ValueView::Double(number) => write!(out, "\"{number}\""),
        ValueView::Bytes(bytes) => write!(out, "\"{}\"", Hex(bytes)),
        ValueView::Array(array) => {
            out.write_char('[')?;
            for (number, item) in array.iter().enumerate() {
                out.write_str(if number > 0 { "," } else { "" })?;
                self::value(item, out)?;
            }
            out.write_char(']')
        }
        ValueView::Map(map) => object(map.iter().map(|pair| (pair.key(), pair.value())), out),
        ValueView::Empty => out.write_str("null"),
    }
}

fn object<'a>(
    pairs: impl Iterator<Item = (&'a str, ValueView<'a>)>,
    out: &mut impl Write,
) -> fmt::Result {
    out.write_char('{')?;
    for (number, (key, one)) in pairs.enumerate() {
        out.write_str(if number > 0 { "," } else { "" })?;
        text(key, out)?;
        out.write_char(':')?;
        value(one, out)?;
    }
    out.write_char('}')
}

/// A JSON string (RFC 8259, section 7).
fn text(plain: &str, out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = plain;
    while let Some(place) = rest.find(|c| matches!(c, '"' | '\\' | '\0'..='\u{1f}')) {
        let (before, special) = rest.split_at(place);
        out.write_str(before)?;
        // One that is found is of one byte.
        let (special, after) = special.split_at(1);
        match special {
            "\"" | "\\" => write!(out, "\\{special}")?,
            control => write!(out, "\\u{:04x}", control.as_bytes()[0])?,
        }
        rest = after;
    }
    out.write_str(rest)?;
    out.write_char('"')
}
