//! A span on many lines, for people.

use outspan_wire::otlp::AttributesView;
use outspan_wire::otlp::Hex;
use outspan_wire::otlp::SpanKind;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::StatusCode;

use super::text;
use super::text::TextBuffer;
use super::text::push;
use super::text::push_plain;
use super::text::push_quoted;

/// Appends a span and an empty line.
pub(super) fn push_span(out: &mut impl TextBuffer, span: &SpanView<'_>, with_times: bool) {
    match span.name() {
        "" => out.push_str("(no name)"),
        name => push_plain(out, name),
    }
    out.push('\n');
    push_ids(out, span);
    if span.kind() != SpanKind::Unspecified {
        push(
            out,
            format_args!("  kind        {}\n", text::kind(span.kind())),
        );
    }
    if with_times {
        push_times(out, span);
    }
    push_status(out, span);
    push_attributes(out, "attributes", "  ", span.attributes());
    push_dropped(out, "  ", "attributes", span.dropped_attributes_count());
    push_events(out, span, with_times);
    push_links(out, span);
    push_scope(out, span);
    push_resource(out, span);
    out.push('\n');
}

fn push_ids(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    push(
        out,
        format_args!("  trace       {}\n", Hex(&span.trace_id())),
    );
    push(
        out,
        format_args!("  span        {}\n", Hex(&span.span_id())),
    );
    if let Some(parent) = span.parent_span_id() {
        push(out, format_args!("  parent      {}\n", Hex(&parent)));
    }
    if !span.trace_state().is_empty() {
        out.push_str("  state       ");
        push_plain(out, span.trace_state());
        out.push('\n');
    }
    if span.flags() != 0 {
        push(out, format_args!("  flags       {:#x}\n", span.flags()));
    }
}

fn push_times(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let (start, end) = (span.start_time_unix_nano(), span.end_time_unix_nano());
    push_time_line(out, "start", start);
    push_time_line(out, "end", end);
    if start != 0 && end != 0 {
        let took = text::duration(text::nanos_between(start, end));
        push(out, format_args!("  duration    {took}\n"));
    }
}

fn push_time_line(out: &mut impl TextBuffer, label: &str, unix_nanos: u64) {
    push(out, format_args!("  {label:<12}"));
    match unix_nanos {
        0 => out.push_str("not set"),
        nanos => text::push_time(out, nanos),
    }
    out.push('\n');
}

fn push_status(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let status = span.status();
    if status.code() == StatusCode::Unset && status.message().is_empty() {
        return;
    }
    push(
        out,
        format_args!("  status      {}", text::status(status.code())),
    );
    if !status.message().is_empty() {
        out.push_str(": ");
        push_plain(out, status.message());
    }
    out.push('\n');
}

fn push_attributes(
    out: &mut impl TextBuffer,
    title: &str,
    indent: &str,
    attributes: AttributesView<'_>,
) {
    if attributes.is_empty() {
        return;
    }
    push(out, format_args!("{indent}{title}\n"));
    push_pairs(out, &format!("{indent}  "), attributes);
}

fn push_pairs(out: &mut impl TextBuffer, indent: &str, attributes: AttributesView<'_>) {
    for attribute in attributes.iter() {
        if out.is_over() {
            return;
        }
        out.push_str(indent);
        push_plain(out, attribute.key());
        out.push_str(" = ");
        text::push_value(out, attribute.value());
        out.push('\n');
    }
}

fn push_dropped(out: &mut impl TextBuffer, indent: &str, what: &str, count: u32) {
    if count > 0 {
        push(out, format_args!("{indent}dropped {what}: {count}\n"));
    }
}

fn push_events(out: &mut impl TextBuffer, span: &SpanView<'_>, with_times: bool) {
    let mut events = span.events().peekable();
    if events.peek().is_some() {
        out.push_str("  events\n");
    }
    for event in events {
        if out.is_over() {
            return;
        }
        out.push_str("    ");
        if with_times {
            let offset = text::nanos_between(span.start_time_unix_nano(), event.time_unix_nano());
            let sign = if offset < 0 { "" } else { "+" };
            match event.time_unix_nano() {
                0 => out.push_str("(no time) "),
                _ => push(out, format_args!("{sign}{} ", text::duration(offset))),
            }
        }
        push_plain(out, event.name());
        out.push('\n');
        push_pairs(out, "      ", event.attributes());
        push_dropped(
            out,
            "      ",
            "attributes",
            event.dropped_attributes_count(),
        );
    }
    push_dropped(out, "  ", "events", span.dropped_events_count());
}

fn push_links(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let mut links = span.links().peekable();
    if links.peek().is_some() {
        out.push_str("  links\n");
    }
    for link in links {
        if out.is_over() {
            return;
        }
        push(
            out,
            format_args!(
                "    trace {} span {}",
                Hex(link.trace_id_bytes()),
                Hex(link.span_id_bytes())
            ),
        );
        if !link.trace_state().is_empty() {
            out.push_str(" state ");
            push_plain(out, link.trace_state());
        }
        if link.flags() != 0 {
            push(out, format_args!(" flags {:#x}", link.flags()));
        }
        out.push('\n');
        push_pairs(out, "      ", link.attributes());
        push_dropped(out, "      ", "attributes", link.dropped_attributes_count());
    }
    push_dropped(out, "  ", "links", span.dropped_links_count());
}

fn push_scope(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let scope = span.scope();
    if !scope.name().is_empty() || !scope.version().is_empty() {
        out.push_str("  scope       ");
        push_plain(out, scope.name());
        if !scope.version().is_empty() {
            out.push(' ');
            push_plain(out, scope.version());
        }
        out.push('\n');
    }
    push_schema(out, "scope schema", span.scope_schema_url());
    push_attributes(out, "scope attributes", "  ", scope.attributes());
    push_dropped(
        out,
        "  ",
        "scope attributes",
        scope.dropped_attributes_count(),
    );
}

fn push_resource(out: &mut impl TextBuffer, span: &SpanView<'_>) {
    let resource = span.resource();
    push_attributes(out, "resource", "  ", resource.attributes());
    push_dropped(
        out,
        "  ",
        "resource attributes",
        resource.dropped_attributes_count(),
    );
    push_schema(out, "resource schema", span.resource_schema_url());
}

fn push_schema(out: &mut impl TextBuffer, label: &str, url: &str) {
    if url.is_empty() {
        return;
    }
    push(out, format_args!("  {label} "));
    push_quoted(out, url);
    out.push('\n');
}
