//! What a tree shows of a span.

use std::sync::Arc;

use outspan_wire::otlp::AttributesView;
use outspan_wire::otlp::EventView;
use outspan_wire::otlp::Hex;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::StatusCode;
use outspan_wire::otlp::ValueView;

use super::super::text;
use super::super::text::LimitedText;
use super::super::text::TextBuffer;
use super::super::text::push;
use super::super::text::push_plain;
use super::width;

/// The longest text that is shown, in columns.
const TEXT_COLUMNS_MAX: usize = 200;

pub(super) type SpanId = [u8; 8];

/// A span, cut down to what is shown. All texts are safe to show.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) name: String,
    pub(super) service: Arc<str>,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) status: Option<Status>,
    pub(super) details: Vec<Detail>,
}

/// How a span ended, if it says so.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) is_error: bool,
    pub(super) text: String,
}

/// A line below a span.
#[derive(Debug)]
pub(super) struct Detail {
    /// The time in nanoseconds since 1970, of an event.
    pub(super) time: Option<u64>,
    pub(super) text: String,
    pub(super) is_error: bool,
}

impl Node {
    pub(super) fn read(span: &SpanView<'_>, with_attributes: bool) -> Self {
        Self {
            id: span.span_id(),
            parent: span.parent_span_id(),
            name: shown(|out| push_plain(out, cut_early(span.name()))),
            service: service_of(span),
            start: span.start_time_unix_nano(),
            end: span.end_time_unix_nano(),
            status: status_of(span),
            details: details_of(span, with_attributes),
        }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        /// Places in maps and lists of the trace.
        const BOOKKEEPING: usize = 96;

        let details = self.details.iter();
        let details = details.map(|detail| size_of::<Detail>() + detail.text.len());
        let status = self.status.as_ref().map_or(0, |status| status.text.len());
        size_of::<Self>()
            + BOOKKEEPING
            + self.name.len()
            + self.service.len()
            + status
            + details.sum::<usize>()
    }

    pub(super) fn is_error(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.is_error)
    }
}

fn service_of(span: &SpanView<'_>) -> Arc<str> {
    let service = span.resource().attribute("service.name");
    match service.and_then(ValueView::as_str) {
        Some(name) if !name.is_empty() => shown(|out| push_plain(out, cut_early(name))).into(),
        _ => "-".into(),
    }
}

fn status_of(span: &SpanView<'_>) -> Option<Status> {
    let status = span.status();
    if status.code() == StatusCode::Unset && status.message().is_empty() {
        return None;
    }
    Some(Status {
        is_error: status.code() == StatusCode::Error,
        text: shown(|out| {
            out.push_str(&text::status(status.code()));
            if !status.message().is_empty() {
                out.push_str(": ");
                push_plain(out, cut_early(status.message()));
            }
        }),
    })
}

fn details_of(span: &SpanView<'_>, with_attributes: bool) -> Vec<Detail> {
    let mut details = Vec::new();
    if with_attributes {
        details.push(Detail::line(format!("kind = {}", text::kind(span.kind()))));
        push_attributes(&mut details, "", span.attributes());
    }
    for event in span.events() {
        details.push(event_detail(event));
        if with_attributes {
            push_attributes(&mut details, "  ", event.attributes());
        }
    }
    for link in span.links() {
        details.push(Detail::line(format!(
            "linked to span {} of trace {}",
            Hex(&link.span_id()),
            Hex(&link.trace_id())
        )));
        if with_attributes {
            push_attributes(&mut details, "  ", link.attributes());
        }
    }
    push_dropped(&mut details, span);
    details
}

impl Detail {
    fn line(text: String) -> Self {
        Self {
            time: None,
            text,
            is_error: false,
        }
    }
}

fn push_attributes(details: &mut Vec<Detail>, indent: &str, attributes: AttributesView<'_>) {
    for attribute in attributes.iter() {
        details.push(Detail::line(shown(|out| {
            out.push_str(indent);
            push_plain(out, cut_early(attribute.key()));
            out.push_str(" = ");
            push_short_value(out, attribute.value());
        })));
    }
}

/// An event's name, and what an exception says of itself
/// (OpenTelemetry semantic conventions, "Semantic conventions for exceptions on spans").
fn event_detail(event: EventView<'_>) -> Detail {
    let attributes = event.attributes();
    let text_of = |key| attributes.get(key).and_then(ValueView::as_str);
    let exception = text_of("exception.type");
    let message = text_of("exception.message");
    let is_error = exception.is_some() || message.is_some() || event.name() == "exception";
    let text = shown(|out| {
        push_plain(out, cut_early(event.name()));
        if let Some(exception) = exception {
            out.push(' ');
            push_plain(out, cut_early(exception));
        }
        if let Some(message) = message {
            out.push_str(": ");
            push_plain(out, cut_early(message));
        }
    });
    Detail {
        time: Some(event.time_unix_nano()),
        text,
        is_error,
    }
}

fn push_dropped(details: &mut Vec<Detail>, span: &SpanView<'_>) {
    let counts = [
        (span.dropped_attributes_count(), "attributes"),
        (span.dropped_events_count(), "events"),
        (span.dropped_links_count(), "links"),
    ];
    for (count, what) in counts {
        if count > 0 {
            details.push(Detail::line(format!(
                "{count} {what} dropped by the sender"
            )));
        }
    }
}

/// Appends a value; texts without their tails, so that a large one costs nothing.
fn push_short_value(out: &mut impl TextBuffer, value: ValueView<'_>) {
    match value {
        ValueView::Str(text) => text::push_quoted(out, cut_early(text)),
        ValueView::Bytes(bytes) => push(out, format_args!("{} bytes", bytes.len())),
        other => text::push_value(out, other),
    }
}

/// Cuts a text to about what can be shown, before work is spent on it.
fn cut_early(text: &str) -> &str {
    match text.char_indices().nth(TEXT_COLUMNS_MAX + 1) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// Makes a text of at most as many columns as are shown.
fn shown(write: impl FnOnce(&mut LimitedText)) -> String {
    /// What is cut away beyond the columns need not be written: a character takes four bytes, and its escape twelve.
    const BYTES_MAX: usize = 12 * (TEXT_COLUMNS_MAX + 1);

    let mut text = LimitedText::new(BYTES_MAX);
    write(&mut text);
    let mut text = text.into_string();
    width::cut(&mut text, TEXT_COLUMNS_MAX);
    text.shrink_to_fit();
    text
}
