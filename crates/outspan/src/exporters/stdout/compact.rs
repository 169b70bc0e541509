//! A span on one line, for people.

use outspan_wire::otlp::Hex;
use outspan_wire::otlp::SpanKind;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::StatusCode;

use super::text;
use super::text::TextBuffer;
use super::text::push;
use super::text::push_plain;
use super::text::push_quoted;

/// Appends a span and a line feed:
/// `START SERVICE NAME DURATION [KIND] [STATUS] trace=... span=... [parent=...] KEY=VALUE... [events=N] [links=N]`.
pub(super) fn push_span(out: &mut impl TextBuffer, span: &SpanView<'_>, with_times: bool) {
    let (start, end) = (span.start_time_unix_nano(), span.end_time_unix_nano());
    if with_times {
        match start {
            0 => out.push('-'),
            start => text::push_time(out, start),
        }
        out.push(' ');
    }
    push_service(out, span);
    out.push(' ');
    push_quoted(out, span.name());
    if with_times && start != 0 && end != 0 {
        let took = text::duration(text::nanos_between(start, end)).replace(' ', "");
        push(out, format_args!(" {took}"));
    }
    if span.kind() != SpanKind::Unspecified {
        push(out, format_args!(" {}", text::kind(span.kind())));
    }
    push_status(out, span);
    push(
        out,
        format_args!(
            " trace={} span={}",
            Hex(&span.trace_id()),
            Hex(&span.span_id())
        ),
    );
    if let Some(parent) = span.parent_span_id() {
        push(out, format_args!(" parent={}", Hex(&parent)));
    }
    for attribute in span.attributes().iter() {
        if out.is_over() {
            return;
        }
        out.push(' ');
        push_plain(out, attribute.key());
        out.push('=');
        text::push_value(out, attribute.value());
    }
    push_count(out, "events", span.events().count());
    push_count(out, "links", span.links().count());
    out.push('\n');
}

fn push_service(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let service = span.resource().attribute("service.name");
    match service.and_then(|service| service.as_str()) {
        Some(name) if !name.is_empty() => push_plain(out, name),
        _ => out.push('-'),
    }
}

fn push_status(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let status = span.status();
    if status.code() == StatusCode::Unset {
        return;
    }
    push(out, format_args!(" {}", text::status(status.code())));
    if !status.message().is_empty() {
        out.push(':');
        push_quoted(out, status.message());
    }
}

fn push_count(out: &mut impl TextBuffer, what: &str, count: usize) {
    if count > 0 {
        push(out, format_args!(" {what}={count}"));
    }
}
