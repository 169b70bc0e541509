//! Jaeger's Thrift: written and read, against the `thrift` crate with structs as its compiler makes them.
//!
//! The peer does what `opentelemetry-jaeger` did while it lived: each span becomes a tree of owned structs, which writes itself
//! through a protocol. Reading, it makes the tree, and of the tree the `prost` types of an OTLP request.

#[path = "../../../crates/outspan-wire/tests/wire_jaeger/thrift_peer/mod.rs"]
mod thrift_peer;

use std::hint::black_box;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_sdk::trace::SpanData;
use outspan::sdk::SdkSpan;
use outspan::wire::PieceContent;
use outspan::wire::jaeger::Protocol;
use outspan::wire::jaeger::ReadLimits;
use outspan::wire::jaeger::WriteOptions;
use outspan::wire::jaeger::Writer;
use outspan::wire::jaeger::read_batch;
use outspan::wire::otlp::EncodedResource;
use outspan::wire::otlp::Encoder;
use outspan::wire::otlp::SpanLimits;
use outspan::wire::otlp::validate;
use prost::Message;

use self::thrift_peer::Batch;
use self::thrift_peer::Form;
use self::thrift_peer::Log;
use self::thrift_peer::Process;
use self::thrift_peer::Tag;
use self::thrift_peer::read_with;
use self::thrift_peer::write_with;
use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::in_turn;
use crate::measure::less_is_better;
use crate::measure::nanos_each;
use crate::measure::note;
use crate::measure::time;
use crate::spans;
use crate::spans::BATCH;

const STRING: i32 = 0;
const DOUBLE: i32 = 1;
const BOOL: i32 = 2;
const LONG: i32 = 3;
const BINARY: i32 = 4;

pub(crate) fn run(quick: bool) -> Outcome {
    let (rounds, repeats) = if quick { (5, 4) } else { (101, 20) };
    let batch = spans::spans(0, BATCH);
    let mut ours = Ours::new();
    let count = BATCH * repeats;

    let body = ours.encode(&batch);
    let written = peer_encode(&batch)?;
    check_written(&body, &written)?;
    let (our_time, peer_time) = in_turn(
        rounds,
        || time_of(repeats, || ours.encode(black_box(&batch))),
        || time_of(repeats, || peer_encode(black_box(&batch))),
    );
    less_is_better(
        "formats/jaeger-encode",
        "ns/span",
        nanos_each(our_time, count),
        nanos_each(peer_time, count),
    );
    let request = ours.request(&batch);
    let (write_time, _) = in_turn(
        rounds,
        || time_of(repeats, || ours.write(black_box(&request))),
        || Duration::ZERO,
    );
    note(&format!(
        "ours is a batch and its Thrift; the Thrift alone takes {:.2} ns/span",
        nanos_each(write_time, count)
    ));

    check_read(&body)?;
    let (our_time, peer_time) = in_turn(
        rounds,
        || time_of(repeats, || read_by_us(black_box(&body))),
        || time_of(repeats, || read_by_others(black_box(&body))),
    );
    less_is_better(
        "formats/jaeger-decode",
        "ns/span",
        nanos_each(our_time, count),
        nanos_each(peer_time, count),
    );
    Ok(())
}

fn time_of<R>(repeats: usize, mut work: impl FnMut() -> R) -> Duration {
    time(|| {
        for _ in 0..repeats {
            black_box(work());
        }
    })
}

/// Our encoder and writer, as the processor and the exporter hold them.
struct Ours {
    encoder: Encoder,
    resource: EncodedResource,
    writer: Writer,
}

impl Ours {
    fn new() -> Self {
        Self {
            encoder: Encoder::new(SpanLimits::default()),
            resource: outspan::sdk::encode_resource(&spans::resource()),
            writer: Writer::new(WriteOptions::default()),
        }
    }

    fn request(&mut self, batch: &[SpanData]) -> Bytes {
        for span in batch {
            self.encoder.push(&self.resource, &SdkSpan(span));
        }
        let request = self.encoder.finish();
        request.map(|request| request.bytes).unwrap_or_default()
    }

    fn write(&mut self, request: &[u8]) -> Bytes {
        match self.writer.pieces(request).next() {
            Some(Ok(piece)) => match piece.content {
                PieceContent::Bytes(bytes) => bytes,
                _ => Bytes::new(),
            },
            _ => Bytes::new(),
        }
    }

    fn encode(&mut self, batch: &[SpanData]) -> Bytes {
        let request = self.request(batch);
        self.write(&request)
    }
}

/// The peer's way of writing: structs, and the structs through a protocol.
fn peer_encode(batch: &[SpanData]) -> Result<Vec<u8>, String> {
    let resource = spans::resource();
    let name = resource.get(&opentelemetry::Key::new("service.name"));
    let tags = resource
        .iter()
        .filter(|(key, _)| key.as_str() != "service.name")
        .map(|(key, value)| tag_of(key.to_string(), value));
    let batch = Batch {
        process: Process {
            service_name: name.map(|name| name.to_string()).unwrap_or_default(),
            tags: Some(tags.collect()),
        },
        spans: batch.iter().map(peer_span).collect(),
    };
    write_with(Form::Binary, |output| batch.write(output)).map_err(|error| error.to_string())
}

fn peer_span(span: &SpanData) -> thrift_peer::Span {
    let trace_id = u128::from_be_bytes(span.span_context.trace_id().to_bytes());
    let logs = span.events.iter().map(|event| {
        let attributes = event.attributes.iter();
        let tags = attributes.map(|it| tag_of(it.key.to_string(), &it.value));
        let name = text_tag("event", event.name.to_string());
        Log {
            timestamp: micros(event.timestamp),
            fields: [name].into_iter().chain(tags).collect(),
        }
    });
    thrift_peer::Span {
        trace_id_low: trace_id as i64,
        trace_id_high: (trace_id >> 64) as i64,
        span_id: i64::from_be_bytes(span.span_context.span_id().to_bytes()),
        parent_span_id: i64::from_be_bytes(span.parent_span_id.to_bytes()),
        operation_name: span.name.to_string(),
        references: None,
        flags: i32::from(span.span_context.trace_flags().to_u8() & 1),
        start_time: micros(span.start_time),
        duration: micros(span.end_time) - micros(span.start_time),
        tags: Some(peer_tags(span)),
        logs: Some(logs.collect()),
    }
}

fn peer_tags(span: &SpanData) -> Vec<Tag> {
    let attributes = span.attributes.iter();
    let mut tags: Vec<Tag> = attributes
        .map(|it| tag_of(it.key.to_string(), &it.value))
        .collect();
    let kind = match span.span_kind {
        SpanKind::Client => Some("client"),
        SpanKind::Server => Some("server"),
        SpanKind::Producer => Some("producer"),
        SpanKind::Consumer => Some("consumer"),
        SpanKind::Internal => None,
    };
    tags.extend(kind.map(|kind| text_tag("span.kind", kind.to_owned())));
    match &span.status {
        Status::Unset => {}
        Status::Ok => tags.push(text_tag("otel.status_code", "OK".to_owned())),
        Status::Error { description } => {
            tags.push(text_tag("otel.status_code", "ERROR".to_owned()));
            tags.push(text_tag("otel.status_description", description.to_string()));
        }
    }
    let scope = &span.instrumentation_scope;
    for prefix in ["otel.scope", "otel.library"] {
        tags.push(text_tag(&format!("{prefix}.name"), scope.name().to_owned()));
        if let Some(version) = scope.version() {
            tags.push(text_tag(&format!("{prefix}.version"), version.to_owned()));
        }
    }
    tags
}

fn text_tag(key: &str, value: String) -> Tag {
    Tag {
        key: key.to_owned(),
        v_type: STRING,
        v_str: Some(value),
        ..Tag::default()
    }
}

fn tag_of(key: String, value: &opentelemetry::Value) -> Tag {
    let mut tag = Tag {
        key,
        ..Tag::default()
    };
    match value {
        opentelemetry::Value::Bool(value) => {
            tag.v_type = BOOL;
            tag.v_bool = Some(*value);
        }
        opentelemetry::Value::I64(value) => {
            tag.v_type = LONG;
            tag.v_long = Some(*value);
        }
        opentelemetry::Value::F64(value) => {
            tag.v_type = DOUBLE;
            tag.v_double = Some(*value);
        }
        other => tag.v_str = Some(other.to_string()),
    }
    tag
}

fn micros(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

/// Both batches must say the same; the order of a resource's attributes is the SDK's.
fn check_written(ours: &[u8], theirs: &[u8]) -> Outcome {
    let read = |bytes: &[u8]| {
        let (mut batch, _) = read_with(Form::Binary, bytes, |input| Batch::read(input))
            .map_err(|error| error.to_string())?;
        sort(&mut batch.process.tags);
        for span in &mut batch.spans {
            sort(&mut span.tags);
        }
        Ok::<_, String>(batch)
    };
    let (ours_read, theirs_read) = (read(ours)?, read(theirs)?);
    check(ours_read == theirs_read, || {
        format!(
            "ours {:?}, theirs {:?}",
            ours_read.spans.first(),
            theirs_read.spans.first()
        )
    })?;
    note(&format!(
        "{BATCH} spans, {} bytes each: the thrift crate reads ours to what it writes itself",
        ours.len() / BATCH
    ));
    Ok(())
}

fn sort(tags: &mut Option<Vec<Tag>>) {
    if let Some(tags) = tags {
        tags.sort_by(|left, right| left.key.cmp(&right.key));
    }
}

fn read_by_us(body: &[u8]) -> Bytes {
    read_batch(body, Protocol::Binary, &ReadLimits::default())
        .map(|read| read.bytes)
        .unwrap_or_default()
}

/// The peer's way of reading: structs, of those a tree of OTLP, and that as bytes.
fn read_by_others(body: &[u8]) -> Bytes {
    let Ok((batch, _)) = read_with(Form::Binary, body, |input| Batch::read(input)) else {
        return Bytes::new();
    };
    let process = batch.process;
    let mut attributes = vec![key_value(
        "service.name",
        Value::StringValue(process.service_name),
    )];
    attributes.extend(
        process
            .tags
            .unwrap_or_default()
            .into_iter()
            .map(otlp_attribute),
    );
    let mut scope = InstrumentationScope::default();
    let spans = batch
        .spans
        .into_iter()
        .map(|span| otlp_span(span, &mut scope));
    let spans = spans.collect();
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    Bytes::from(request.encode_to_vec())
}

fn otlp_span(span: thrift_peer::Span, scope: &mut InstrumentationScope) -> Span {
    let id = (span.trace_id_high as u64 as u128) << 64 | span.trace_id_low as u64 as u128;
    let start = span.start_time as u64 * 1_000;
    let mut made = Span {
        trace_id: id.to_be_bytes().to_vec(),
        span_id: span.span_id.to_be_bytes().to_vec(),
        name: span.operation_name,
        flags: span.flags as u32 & 1,
        start_time_unix_nano: start,
        end_time_unix_nano: start + span.duration as u64 * 1_000,
        ..Span::default()
    };
    if span.parent_span_id != 0 {
        made.parent_span_id = span.parent_span_id.to_be_bytes().to_vec();
    }
    for tag in span.tags.unwrap_or_default() {
        match (tag.key.as_str(), &tag.v_str) {
            ("span.kind", Some(kind)) => made.kind = kind_of(kind),
            ("otel.scope.name", Some(name)) => scope.name.clone_from(name),
            ("otel.scope.version", Some(version)) => scope.version.clone_from(version),
            ("otel.library.name" | "otel.library.version", _) => {}
            _ => made.attributes.push(otlp_attribute(tag)),
        }
    }
    made.events = span
        .logs
        .unwrap_or_default()
        .into_iter()
        .map(otlp_event)
        .collect();
    made
}

fn otlp_event(log: Log) -> Event {
    let mut event = Event {
        time_unix_nano: log.timestamp as u64 * 1_000,
        ..Event::default()
    };
    for tag in log.fields {
        match (tag.key.as_str(), tag.v_str) {
            ("event", Some(name)) => event.name = name,
            (_, v_str) => event.attributes.push(otlp_attribute(Tag {
                v_str,
                key: tag.key,
                ..tag
            })),
        }
    }
    event
}

fn kind_of(kind: &str) -> i32 {
    match kind {
        "server" => 2,
        "client" => 3,
        "producer" => 4,
        "consumer" => 5,
        _ => 1,
    }
}

fn otlp_attribute(tag: Tag) -> KeyValue {
    let value = match tag.v_type {
        DOUBLE => Value::DoubleValue(tag.v_double.unwrap_or_default()),
        BOOL => Value::BoolValue(tag.v_bool.unwrap_or_default()),
        LONG => Value::IntValue(tag.v_long.unwrap_or_default()),
        BINARY => Value::BytesValue(tag.v_binary.unwrap_or_default()),
        _ => Value::StringValue(tag.v_str.unwrap_or_default()),
    };
    KeyValue {
        key: tag.key,
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Both readers must say the same.
fn check_read(body: &[u8]) -> Outcome {
    let (ours, theirs) = (read_by_us(body), read_by_others(body));
    let summary = validate(&ours).map_err(|error| error.to_string())?;
    check(summary.spans == BATCH, || {
        format!("{} spans", summary.spans)
    })?;
    let decode =
        |bytes: &[u8]| ExportTraceServiceRequest::decode(bytes).map_err(|error| error.to_string());
    let (mut ours, theirs) = (decode(&ours)?, decode(&theirs)?);
    join(&mut ours);
    check(ours == theirs, || "what was read differs".to_owned())
}

/// Joins what is of one resource and one scope. Ours begins anew when the spans of a scope become long.
fn join(request: &mut ExportTraceServiceRequest) {
    let mut joined: Vec<ResourceSpans> = Vec::new();
    for mut of_resource in request.resource_spans.drain(..) {
        let last = joined.last_mut().filter(|last| {
            let same_scope = match (&*last.scope_spans, &*of_resource.scope_spans) {
                ([left], [right]) => left.scope == right.scope,
                _ => false,
            };
            last.resource == of_resource.resource && same_scope
        });
        match last {
            Some(last) => {
                let spans = of_resource
                    .scope_spans
                    .drain(..)
                    .flat_map(|scope| scope.spans);
                last.scope_spans[0].spans.extend(spans);
            }
            None => joined.push(of_resource),
        }
    }
    request.resource_spans = joined;
}
