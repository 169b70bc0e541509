//! A span as one JSON object on one line.

use outspan_wire::otlp::Hex;
use outspan_wire::otlp::SpanView;

use super::text;
use super::text::Comma;
use super::text::TextBuffer;
use super::text::push;
use super::text::push_json_attributes;
use super::text::push_quoted;

/// Appends a span and a line feed. [`json_lines`](super::json_lines) documents the keys.
pub(super) fn push_span(out: &mut impl TextBuffer, span: &SpanView<'_>, with_times: bool) {
    out.push_str("{\"name\":");
    push_quoted(out, span.name());
    push_ids(out, span);
    push(
        out,
        format_args!(",\"kind\":\"{}\"", text::kind(span.kind())),
    );
    if with_times {
        push_times(out, span);
    }
    let status = span.status();
    push(
        out,
        format_args!(
            ",\"status\":{{\"code\":\"{}\",\"message\":",
            text::status(status.code())
        ),
    );
    push_quoted(out, status.message());
    out.push_str("},\"attributes\":");
    push_json_attributes(out, span.attributes());
    push_events(out, span, with_times);
    push_links(out, span);
    push(
        out,
        format_args!(
            ",\"dropped_attributes\":{},\"dropped_events\":{},\"dropped_links\":{}",
            span.dropped_attributes_count(),
            span.dropped_events_count(),
            span.dropped_links_count(),
        ),
    );
    push_scope(out, span);
    push_resource(out, span);
    out.push_str("}\n");
}

fn push_ids(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    push(
        out,
        format_args!(
            ",\"trace_id\":\"{}\",\"span_id\":\"{}\",\"parent_span_id\":",
            Hex(&span.trace_id()),
            Hex(&span.span_id()),
        ),
    );
    match span.parent_span_id() {
        Some(parent) => push(out, format_args!("\"{}\"", Hex(&parent))),
        None => out.push_str("null"),
    }
    out.push_str(",\"trace_state\":");
    push_quoted(out, span.trace_state());
    push(out, format_args!(",\"flags\":{}", span.flags()));
}

fn push_times(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let (start, end) = (span.start_time_unix_nano(), span.end_time_unix_nano());
    push_time(out, "start", start);
    push_time(out, "end", end);
    out.push_str(",\"duration_ns\":");
    match start == 0 || end == 0 {
        true => out.push_str("null"),
        false => push(out, format_args!("{}", text::nanos_between(start, end))),
    }
}

fn push_time(out: &mut impl TextBuffer, key: &str, unix_nanos: u64) {
    push(out, format_args!(",\"{key}\":"));
    if unix_nanos == 0 {
        out.push_str("null");
        return;
    }
    out.push('"');
    text::push_time(out, unix_nanos);
    out.push('"');
}

fn push_events(out: &mut impl TextBuffer, span: &SpanView<'_>, with_times: bool) {
    out.push_str(",\"events\":[");
    let mut comma = Comma::default();
    for event in span.events() {
        if out.is_over() {
            return;
        }
        comma.push(out);
        out.push_str("{\"name\":");
        push_quoted(out, event.name());
        if with_times {
            push_time(out, "time", event.time_unix_nano());
        }
        out.push_str(",\"attributes\":");
        push_json_attributes(out, event.attributes());
        let dropped = event.dropped_attributes_count();
        push(out, format_args!(",\"dropped_attributes\":{dropped}}}"));
    }
    out.push(']');
}

fn push_links(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    out.push_str(",\"links\":[");
    let mut comma = Comma::default();
    for link in span.links() {
        if out.is_over() {
            return;
        }
        comma.push(out);
        push(
            out,
            format_args!(
                "{{\"trace_id\":\"{}\",\"span_id\":\"{}\",\"trace_state\":",
                Hex(link.trace_id_bytes()),
                Hex(link.span_id_bytes()),
            ),
        );
        push_quoted(out, link.trace_state());
        push(
            out,
            format_args!(",\"flags\":{},\"attributes\":", link.flags()),
        );
        push_json_attributes(out, link.attributes());
        let dropped = link.dropped_attributes_count();
        push(out, format_args!(",\"dropped_attributes\":{dropped}}}"));
    }
    out.push(']');
}

fn push_scope(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let scope = span.scope();
    out.push_str(",\"scope\":{\"name\":");
    push_quoted(out, scope.name());
    out.push_str(",\"version\":");
    push_quoted(out, scope.version());
    out.push_str(",\"schema_url\":");
    push_quoted(out, span.scope_schema_url());
    out.push_str(",\"attributes\":");
    push_json_attributes(out, scope.attributes());
    let dropped = scope.dropped_attributes_count();
    push(out, format_args!(",\"dropped_attributes\":{dropped}}}"));
}

fn push_resource(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let resource = span.resource();
    out.push_str(",\"resource\":{\"schema_url\":");
    push_quoted(out, span.resource_schema_url());
    out.push_str(",\"attributes\":");
    push_json_attributes(out, resource.attributes());
    let dropped = resource.dropped_attributes_count();
    push(out, format_args!(",\"dropped_attributes\":{dropped}}}"));
}
