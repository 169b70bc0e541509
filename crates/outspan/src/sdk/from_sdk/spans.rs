//! From views of a batch to the spans of the SDK.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use opentelemetry::Array;
use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::SpanId;
use opentelemetry::StringValue;
use opentelemetry::TraceFlags;
use opentelemetry::TraceId;
use opentelemetry::Value;
use opentelemetry::trace::Event;
use opentelemetry::trace::Link;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceState;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanEvents;
use opentelemetry_sdk::trace::SpanLinks;
use outspan_wire::otlp;
use outspan_wire::otlp::ArrayView;
use outspan_wire::otlp::AttributesView;
use outspan_wire::otlp::EventView;
use outspan_wire::otlp::LinkView;
use outspan_wire::otlp::ResourceSpansView;
use outspan_wire::otlp::ScopeSpansView;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::StatusCode;
use outspan_wire::otlp::StatusView;
use outspan_wire::otlp::ValueView;

/// Bit 9 of the flags: the parent, or the linked span, is in another process (`Span.flags` in `trace.proto`).
const IS_REMOTE: u32 = 0x200;

/// Makes spans of the SDK, and counts what those cannot hold.
#[derive(Debug, Default)]
pub(super) struct Converter {
    /// Values that became text, and trace states that were left out.
    pub(super) changed: u64,
}

impl Converter {
    pub(super) fn resource(&mut self, envelope: ResourceSpansView<'_>) -> Resource {
        let attributes = self.attributes(envelope.resource().attributes());
        Resource::builder_empty()
            .with_schema_url(attributes, envelope.schema_url().to_owned())
            .build()
    }

    pub(super) fn spans(&mut self, envelope: ResourceSpansView<'_>, spans: &mut Vec<SpanData>) {
        for scope_spans in envelope.scope_spans() {
            let scope = self.scope(scope_spans);
            for span in scope_spans.spans() {
                spans.push(self.span(&span, scope.clone()));
            }
        }
    }

    fn scope(&mut self, scope_spans: ScopeSpansView<'_>) -> InstrumentationScope {
        let scope = scope_spans.scope();
        let mut builder = InstrumentationScope::builder(scope.name().to_owned())
            .with_attributes(self.attributes(scope.attributes()));
        if !scope.version().is_empty() {
            builder = builder.with_version(scope.version().to_owned());
        }
        if !scope_spans.schema_url().is_empty() {
            builder = builder.with_schema_url(scope_spans.schema_url().to_owned());
        }
        builder.build()
    }

    fn span(&mut self, span: &SpanView<'_>, scope: InstrumentationScope) -> SpanData {
        let mut events = SpanEvents::default();
        events.events = span.events().map(|event| self.event(event)).collect();
        events.dropped_count = span.dropped_events_count();
        let mut links = SpanLinks::default();
        links.links = span.links().map(|link| self.link(link)).collect();
        links.dropped_count = span.dropped_links_count();
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(span.trace_id()),
                SpanId::from_bytes(span.span_id()),
                trace_flags(span.flags()),
                false,
                self.trace_state(span.trace_state()),
            ),
            parent_span_id: span
                .parent_span_id()
                .map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: span.flags() & IS_REMOTE != 0,
            span_kind: kind(span.kind()),
            name: span.name().to_owned().into(),
            start_time: time(span.start_time_unix_nano()),
            end_time: time(span.end_time_unix_nano()),
            attributes: self.attributes(span.attributes()),
            dropped_attributes_count: span.dropped_attributes_count(),
            events,
            links,
            status: status(span.status()),
            instrumentation_scope: scope,
        }
    }

    fn event(&mut self, event: EventView<'_>) -> Event {
        Event::new(
            event.name().to_owned(),
            time(event.time_unix_nano()),
            self.attributes(event.attributes()),
            event.dropped_attributes_count(),
        )
    }

    fn link(&mut self, link: LinkView<'_>) -> Link {
        let context = SpanContext::new(
            TraceId::from_bytes(link.trace_id()),
            SpanId::from_bytes(link.span_id()),
            trace_flags(link.flags()),
            link.flags() & IS_REMOTE != 0,
            self.trace_state(link.trace_state()),
        );
        let attributes = self.attributes(link.attributes());
        Link::new(context, attributes, link.dropped_attributes_count())
    }

    fn trace_state(&mut self, header: &str) -> TraceState {
        if header.is_empty() {
            return TraceState::NONE;
        }
        header.parse().unwrap_or_else(|_| {
            self.changed += 1;
            TraceState::NONE
        })
    }

    fn attributes(&mut self, attributes: AttributesView<'_>) -> Vec<KeyValue> {
        attributes
            .iter()
            .map(|attribute| {
                let value = self.value(attribute.value());
                KeyValue::new(attribute.key().to_owned(), value)
            })
            .collect()
    }

    fn value(&mut self, value: ValueView<'_>) -> Value {
        match value {
            ValueView::Str(text) => Value::String(text.to_owned().into()),
            ValueView::Bool(value) => Value::Bool(value),
            ValueView::Int(value) => Value::I64(value),
            ValueView::Double(value) => Value::F64(value),
            ValueView::Array(array) => match array_of_one_kind(array) {
                Some(array) => Value::Array(array),
                None => self.text(value),
            },
            ValueView::Map(_) | ValueView::Bytes(_) | ValueView::Empty => self.text(value),
        }
    }

    fn text(&mut self, value: ValueView<'_>) -> Value {
        self.changed += 1;
        Value::String(value.to_text().into())
    }
}

/// The arrays that the SDK can hold: of one simple kind. An empty one counts as one of strings.
fn array_of_one_kind(array: ArrayView<'_>) -> Option<Array> {
    match array.iter().next() {
        None => Some(Array::String(Vec::new())),
        Some(ValueView::Str(_)) => {
            let texts = array.iter().map(|value| value.as_str().map(str::to_owned));
            let texts: Option<Vec<String>> = texts.collect();
            texts.map(|texts| Array::String(texts.into_iter().map(StringValue::from).collect()))
        }
        Some(ValueView::Int(_)) => {
            let numbers: Option<Vec<i64>> = array.iter().map(ValueView::as_int).collect();
            numbers.map(Array::I64)
        }
        Some(ValueView::Double(_)) => {
            let numbers = array.iter().map(|value| match value {
                ValueView::Double(number) => Some(number),
                _ => None,
            });
            numbers.collect::<Option<Vec<f64>>>().map(Array::F64)
        }
        Some(ValueView::Bool(_)) => {
            let values = array.iter().map(|value| match value {
                ValueView::Bool(value) => Some(value),
                _ => None,
            });
            values.collect::<Option<Vec<bool>>>().map(Array::Bool)
        }
        Some(_) => None,
    }
}

/// The lowest byte of the flags is that of W3C's `traceparent`.
fn trace_flags(flags: u32) -> TraceFlags {
    TraceFlags::new(flags.to_le_bytes()[0])
}

fn kind(kind: otlp::SpanKind) -> SpanKind {
    match kind {
        otlp::SpanKind::Server => SpanKind::Server,
        otlp::SpanKind::Client => SpanKind::Client,
        otlp::SpanKind::Producer => SpanKind::Producer,
        otlp::SpanKind::Consumer => SpanKind::Consumer,
        // What the specification calls unspecified "may be interpreted as internal" (`SpanKind` in `trace.proto`).
        _ => SpanKind::Internal,
    }
}

fn status(status: StatusView<'_>) -> Status {
    match status.code() {
        StatusCode::Ok => Status::Ok,
        StatusCode::Error => Status::error(status.message().to_owned()),
        _ => Status::Unset,
    }
}

fn time(unix_nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}
