//! OTLP to Jaeger and back: what the tables in `docs/jaeger.md` say is kept, is kept.

#![allow(clippy::unwrap_used)]

use std::ops::Range;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use outspan_wire::PieceContent;
use outspan_wire::ReadRequest;
use outspan_wire::jaeger::Dialect;
use outspan_wire::jaeger::Envelope;
use outspan_wire::jaeger::Protocol;
use outspan_wire::jaeger::ReadLimits;
use outspan_wire::jaeger::WriteOptions;
use outspan_wire::jaeger::Writer;
use outspan_wire::jaeger::read_batch;
use outspan_wire::jaeger::read_datagram;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::validate;
use proptest::prelude::*;
use prost::Message;

use crate::common::FlatSpan;
use crate::common::flat;
use crate::common::valid_requests;

/// Keys that mean something in one of the formats.
const SPECIAL_KEYS: &[&str] = &[
    "span.kind",
    "error",
    "event",
    "message",
    "otel.status_code",
    "otel.status_description",
    "w3c.tracestate",
    "otel.scope.name",
    "otel.scope.version",
    "otel.library.name",
    "otel.library.version",
    "otel.dropped_attributes_count",
    "otel.dropped_events_count",
    "otel.dropped_links_count",
    "otel.event.dropped_attributes_count",
    "outspan.otlp",
    "service.name",
    "opentracing.ref_type",
    "trace_id",
    "span_id",
    "jaeger.flags",
    "a b=c%d",
];

/// Values that mean something under those keys.
const SPECIAL_TEXTS: &[&str] = &[
    "server", "OK", "child_of", "ERROR", "own=x", "link=0", "[1]",
];

/// Requests in which attributes have the keys and values that are likeliest to be mistaken.
fn requests() -> impl Strategy<Value = ExportTraceServiceRequest> {
    (valid_requests(), any::<u64>()).prop_map(|(mut request, seed)| {
        let mut seed = seed | 1;
        let mut next = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % below
        };
        for envelope in &mut request.resource_spans {
            if let Some(resource) = &mut envelope.resource {
                season(&mut resource.attributes, &mut next);
            }
            for scope_spans in &mut envelope.scope_spans {
                if let Some(scope) = &mut scope_spans.scope {
                    season(&mut scope.attributes, &mut next);
                }
                for span in &mut scope_spans.spans {
                    season_span(span, &mut next);
                }
            }
        }
        request
    })
}

fn season_span(span: &mut Span, next: &mut impl FnMut(usize) -> usize) {
    season(&mut span.attributes, next);
    for event in &mut span.events {
        if next(3) == 0 {
            event.name.clear();
        }
        season(&mut event.attributes, next);
    }
    for link in &mut span.links {
        season(&mut link.attributes, next);
        if next(3) == 0 {
            link.trace_id.clone_from(&span.trace_id);
        }
        if next(3) == 0 && !span.parent_span_id.is_empty() {
            link.span_id.clone_from(&span.parent_span_id);
        }
    }
    // Times of which microseconds keep something, and flags as SDKs set them.
    span.start_time_unix_nano >>= next(4);
    if next(2) == 0 {
        span.flags = 0x101;
    }
}

/// Replaces some keys and values, and makes all keys different, as OTLP wants them.
fn season(attributes: &mut Vec<KeyValue>, next: &mut impl FnMut(usize) -> usize) {
    for attribute in attributes.iter_mut() {
        if next(2) == 0 {
            SPECIAL_KEYS[next(SPECIAL_KEYS.len())].clone_into(&mut attribute.key);
        }
        let special = match next(8) {
            0 => Value::StringValue(SPECIAL_TEXTS[next(SPECIAL_TEXTS.len())].to_owned()),
            1 => Value::BoolValue(true),
            2 => Value::IntValue(next(20) as i64),
            _ => continue,
        };
        attribute.value = Some(AnyValue {
            value: Some(special),
        });
    }
    let mut keys = Vec::new();
    attributes.retain(|attribute| {
        let is_new = !keys.contains(&attribute.key);
        keys.push(attribute.key.clone());
        is_new
    });
}

/// What comes back of a request.
fn expected(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    for envelope in &mut request.resource_spans {
        expect_resource(envelope);
        for scope_spans in &mut envelope.scope_spans {
            let scope = scope_spans.scope.get_or_insert_default();
            expect_attributes(&mut scope.attributes);
            for span in &mut scope_spans.spans {
                expect_span(span);
            }
        }
    }
    request
}

fn expect_resource(envelope: &mut ResourceSpans) {
    let resource = envelope.resource.get_or_insert_default();
    resource.entity_refs.clear();
    expect_attributes(&mut resource.attributes);
    let is_name = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|any| any.value.as_ref());
        attribute.key == "service.name" && matches!(value, Some(Value::StringValue(_)))
    };
    // The process's name comes first.
    if let Some(index) = resource.attributes.iter().position(is_name) {
        let name = resource.attributes.remove(index);
        resource.attributes.insert(0, name);
    }
}

fn expect_span(span: &mut Span) {
    let is_reversed = span.end_time_unix_nano < span.start_time_unix_nano;
    let duration = span
        .end_time_unix_nano
        .saturating_sub(span.start_time_unix_nano)
        / 1_000;
    let start = span.start_time_unix_nano / 1_000;
    span.start_time_unix_nano = start * 1_000;
    if !is_reversed {
        span.end_time_unix_nano = (start + duration) * 1_000;
    }
    let flags = span.flags;
    if span.flags & 0xFE == 0 {
        span.flags &= 1;
    }
    expect_attributes(&mut span.attributes);
    // What looks as if it came from Jaeger goes back to where it came from, and comes back last.
    let is_from_jaeger = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|any| any.value.as_ref());
        let Some(&Value::IntValue(number)) = value else {
            return false;
        };
        let is_i32 = i32::try_from(number).is_ok();
        let bits = number as u32;
        is_i32 && bits > 1 && bits & 1 == flags & 1
    };
    let is_flags = |attribute: &KeyValue| attribute.key == "jaeger.flags";
    let first = span.attributes.iter().position(is_flags);
    let is_alone = span.attributes.iter().filter(|it| is_flags(it)).count() == 1;
    let alone = first.filter(|&index| is_alone && is_from_jaeger(&span.attributes[index]));
    if let Some(index) = alone {
        let kept = span.attributes.remove(index);
        span.attributes.push(kept);
    }
    for event in &mut span.events {
        expect_event(event);
    }
    for link in &mut span.links {
        expect_link(link, &span.trace_id, &span.parent_span_id);
    }
    if span
        .status
        .as_ref()
        .is_some_and(|status| *status == Default::default())
    {
        span.status = None;
    }
}

fn expect_event(event: &mut Event) {
    event.time_unix_nano = event.time_unix_nano / 1_000 * 1_000;
    expect_attributes(&mut event.attributes);
}

fn expect_link(link: &mut Link, trace_id: &[u8], parent: &[u8]) {
    link.trace_id.resize(16, 0);
    link.span_id.resize(8, 0);
    expect_attributes(&mut link.attributes);
    // The reference to the parent is no link.
    if link.trace_id == trace_id && link.span_id == parent {
        return;
    }
    // What says the type of the reference comes first, where there is room for it.
    let mut attributes = link.attributes.iter();
    let Some(index) = attributes.position(|attribute| attribute.key == "opentracing.ref_type")
    else {
        return;
    };
    let value = link.attributes[index].value.as_ref();
    if value.and_then(|any| any.value.as_ref()) == Some(&Value::StringValue("child_of".to_owned()))
    {
        link.attributes[..=index].rotate_right(1);
    }
}

fn expect_attributes(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        let value = attribute.value.get_or_insert_default();
        if let Some(Value::ArrayValue(_) | Value::KvlistValue(_)) = value.value {
            expect_in_json(value);
        }
    }
}

/// What JSON keeps of a value inside a list or map.
fn expect_in_json(any: &mut AnyValue) {
    match &mut any.value {
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(expect_in_json),
        Some(Value::KvlistValue(map)) => {
            for entry in &mut map.values {
                expect_in_json(entry.value.get_or_insert_default());
            }
        }
        Some(Value::BytesValue(bytes)) => {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            any.value = Some(Value::StringValue(text));
        }
        Some(Value::DoubleValue(number)) => any.value = Some(expect_number(*number)),
        _ => {}
    }
}

fn expect_number(number: f64) -> Value {
    if number.is_nan() {
        return Value::StringValue("NaN".to_owned());
    }
    if number.is_infinite() {
        let words = if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        return Value::StringValue(words.to_owned());
    }
    // JSON has one kind of number, and what is written without a fraction reads as an integer.
    let is_plain = number == 0.0 || (1e-6..1e21).contains(&number.abs());
    let integer = number.to_string().parse();
    if let (true, Ok(integer)) = (is_plain, integer) {
        return Value::IntValue(integer);
    }
    Value::DoubleValue(number)
}

/// The spans of a request, in an order of their own, because scopes that come again are put together.
fn sorted(bytes: &[u8]) -> Vec<FlatSpan> {
    let mut spans = flat(bytes);
    spans.sort();
    spans
}

/// Writes, reads what was written, and returns which spans each piece is about and what was read.
fn through(options: &WriteOptions, request: &[u8]) -> Vec<(Range<usize>, ReadRequest)> {
    let mut writer = Writer::new(options.clone());
    let limits = ReadLimits::default();
    let pieces = writer.pieces(request).map(|piece| {
        let piece = piece.unwrap();
        let PieceContent::Bytes(bytes) = piece.content else {
            panic!("no span is that large");
        };
        assert!(bytes.len() <= options.bytes_max);
        let read = match options.envelope {
            Envelope::Batch => read_batch(&bytes, options.protocol, &limits),
            _ => read_datagram(&bytes, &limits),
        };
        (piece.spans, read.unwrap())
    });
    pieces.collect()
}

fn joined(pieces: &[(Range<usize>, ReadRequest)]) -> Bytes {
    let mut all = Vec::new();
    let mut next = 0;
    for (spans, read) in pieces {
        assert_eq!(spans.start, next);
        assert_eq!((spans.len(), 0), (read.spans, read.invalid));
        let summary = validate(&read.bytes).unwrap();
        assert_eq!(summary.spans, read.spans);
        all.extend_from_slice(&read.bytes);
        next = spans.end;
    }
    all.into()
}

fn every_form() -> [WriteOptions; 4] {
    let batch = WriteOptions::default();
    let datagram = WriteOptions::datagram().bytes_max(1 << 20);
    [
        batch.clone(),
        batch.protocol(Protocol::Compact),
        datagram.clone(),
        datagram.protocol(Protocol::Binary),
    ]
}

proptest! {
    #[test]
    fn opentelemetrys_dialect_keeps_what_its_table_says(request in requests()) {
        let wanted = sorted(&expected(request.clone()).encode_to_vec());
        let bytes = request.encode_to_vec();
        for options in every_form() {
            let pieces = through(&options, &bytes);
            let found = sorted(&joined(&pieces));
            prop_assert!(wanted == found, "{:?}: {}", options, difference(&wanted, &found));
        }
    }

    #[test]
    fn the_collectors_dialect_keeps_ids_names_times_and_counts(mut request in requests()) {
        // By its rules a link of the same trace is the parent of a span that has none.
        for span in spans_of(&mut request) {
            let has_parent = !span.parent_span_id.is_empty();
            span.links.retain(|link| has_parent || link.trace_id != span.trace_id);
            // And nothing keeps an attribute from looking like our marks.
            for event in &mut span.events {
                event.attributes.retain(|attribute| attribute.key != "outspan.otlp");
            }
            span.attributes.retain(|attribute| attribute.key != "outspan.otlp");
        }
        let bytes = request.encode_to_vec();
        for options in every_form() {
            let options = options.dialect(Dialect::Collector);
            let pieces = through(&options, &bytes);
            let found = joined(&pieces);
            let written: Vec<_> = RequestView::new(&bytes).spans().collect();
            let read: Vec<_> = RequestView::new(&found).spans().collect();
            prop_assert_eq!(written.len(), read.len());
            let mut written: Vec<_> = written.iter().map(essentials).collect();
            let mut read: Vec<_> = read.iter().map(essentials).collect();
            written.sort();
            read.sort();
            prop_assert_eq!(written, read);
        }
    }

    #[test]
    fn small_bounds_only_cut_between_spans(request in requests(), bytes_max in 200_usize..3_000) {
        let bytes = request.encode_to_vec();
        let total = RequestView::new(&bytes).spans().count();
        for options in every_form() {
            let mut writer = Writer::new(options.clone().bytes_max(usize::MAX));
            let whole: Vec<_> = writer.pieces(&bytes).map(Result::unwrap).collect();
            let mut writer = Writer::new(options.bytes_max(bytes_max));
            let mut next = 0;
            for piece in writer.pieces(&bytes) {
                let piece = piece.unwrap();
                prop_assert_eq!(piece.spans.start, next);
                prop_assert!(!piece.spans.is_empty());
                next = piece.spans.end;
                // All of one resource.
                prop_assert!(whole.iter().any(|other| other.spans.start <= piece.spans.start && piece.spans.end <= other.spans.end));
                match piece.content {
                    PieceContent::Bytes(message) => prop_assert!(message.len() <= bytes_max),
                    PieceContent::TooLarge { bytes } => {
                        prop_assert_eq!(piece.spans.len(), 1);
                        prop_assert!(bytes > bytes_max);
                    }
                    _ => prop_assert!(false, "an unknown piece"),
                }
            }
            prop_assert_eq!(next, total);
        }
    }
}

fn spans_of(request: &mut ExportTraceServiceRequest) -> impl Iterator<Item = &mut Span> {
    let scopes = request
        .resource_spans
        .iter_mut()
        .flat_map(|envelope| &mut envelope.scope_spans);
    scopes.flat_map(|scope_spans| &mut scope_spans.spans)
}

fn essentials(span: &outspan_wire::otlp::SpanView<'_>) -> String {
    let parent = span.parent_span_id();
    let ids = (span.trace_id(), span.span_id(), parent);
    let start = span.start_time_unix_nano() / 1_000;
    let duration = span.duration().as_micros();
    format!(
        "{ids:?} {:?} {start} {duration} {}",
        span.name(),
        span.events().count()
    )
}

fn decoded(spans: &[FlatSpan]) -> Vec<(String, String, Span)> {
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    let decode = |span: &FlatSpan| {
        let resource = Resource::decode(&*span.0).unwrap();
        let scope = InstrumentationScope::decode(&*span.2).unwrap();
        let span_itself = Span::decode(&*span.4).unwrap();
        (
            format!("{resource:?} {:?}", span.1),
            format!("{scope:?} {:?}", span.3),
            span_itself,
        )
    };
    spans.iter().map(decode).collect()
}

/// Shows the first lines that differ.
fn difference(wanted: &[FlatSpan], found: &[FlatSpan]) -> String {
    let (wanted, found) = (
        format!("{:#?}", decoded(wanted)),
        format!("{:#?}", decoded(found)),
    );
    let pairs = wanted.lines().zip(found.lines()).enumerate();
    let differing = pairs.filter(|(_, (wanted, found))| wanted != found);
    let shown: Vec<_> = differing.take(3).collect();
    format!("{shown:#?}")
}
