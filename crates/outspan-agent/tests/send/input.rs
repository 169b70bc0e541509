//! Makes span files with other people's encoders and compressors.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

pub(crate) use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use outspan_testkit::CollectedSpan;
use prost::Message;
use tempfile::TempDir;

/// Names how a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packed {
    Plain,
    Gzip,
    Zstd,
}

/// A directory of input files, gone after the test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The path of a file that may not exist yet.
    pub(crate) fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// A request with the spans of these numbers; equal numbers make equal spans.
pub(crate) fn request(numbers: Range<u64>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", "shop")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "test".into(),
                    version: "1".into(),
                    ..InstrumentationScope::default()
                }),
                spans: numbers.map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn span(number: u64) -> Span {
    let began = 1_700_000_000_000_000_000 + number * 1_000_000;
    Span {
        trace_id: u128::from(number / 10 + 1).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: format!("GET /basket/{number}"),
        kind: 2,
        start_time_unix_nano: began,
        end_time_unix_nano: began + 500_000,
        attributes: vec![text("http.route", "/basket/ü"), number_of("n", number)],
        events: vec![Event {
            time_unix_nano: began + 1,
            name: "cache \"miss\"".into(),
            ..Event::default()
        }],
        status: Some(Status {
            message: String::new(),
            code: 1,
        }),
        ..Span::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number_of(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(value.try_into().unwrap()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// `records` requests of `spans` spans each, all different.
pub(crate) fn requests(records: u64, spans: u64) -> Vec<ExportTraceServiceRequest> {
    let numbers = |record: u64| record * spans..(record + 1) * spans;
    (0..records)
        .map(|record| request(numbers(record)))
        .collect()
}

/// OTLP JSON lines.
pub(crate) fn json_lines(requests: &[ExportTraceServiceRequest]) -> Vec<u8> {
    let mut out = Vec::new();
    for request in requests {
        serde_json::to_writer(&mut out, request).unwrap();
        out.push(b'\n');
    }
    out
}

/// One OTLP JSON document over many lines.
pub(crate) fn json_document(request: &ExportTraceServiceRequest) -> Vec<u8> {
    serde_json::to_vec_pretty(request).unwrap()
}

/// OTLP protobuf, each request with its length in four bytes, big-endian, before it.
pub(crate) fn length_prefixed(requests: &[ExportTraceServiceRequest]) -> Vec<u8> {
    let mut out = Vec::new();
    for request in requests {
        let bytes = request.encode_to_vec();
        let length = u32::try_from(bytes.len()).unwrap();
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
    out
}

/// Reads what [`length_prefixed`] writes.
pub(crate) fn read_length_prefixed(mut bytes: &[u8]) -> Vec<ExportTraceServiceRequest> {
    let mut out = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        out.push(ExportTraceServiceRequest::decode(&rest[..length]).unwrap());
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "{} bytes at the end", bytes.len());
    out
}

/// Compresses.
pub(crate) fn pack(plain: &[u8], packed: Packed) -> Vec<u8> {
    match packed {
        Packed::Plain => plain.to_vec(),
        Packed::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Packed::Zstd => zstd::encode_all(plain, 1).unwrap(),
    }
}

/// The spans of requests, in the order of their ids, each with its resource and scope.
pub(crate) fn spans_of(requests: &[ExportTraceServiceRequest]) -> Vec<CollectedSpan> {
    let mut spans = Vec::new();
    for resource in requests.iter().flat_map(|request| &request.resource_spans) {
        for scope in &resource.scope_spans {
            spans.extend(scope.spans.iter().map(|span| CollectedSpan {
                resource: resource.resource.clone(),
                resource_schema_url: resource.schema_url.clone(),
                scope: scope.scope.clone(),
                scope_schema_url: scope.schema_url.clone(),
                span: span.clone(),
            }));
        }
    }
    in_order(spans)
}

/// Spans in the order of their ids.
pub(crate) fn in_order(mut spans: Vec<CollectedSpan>) -> Vec<CollectedSpan> {
    spans.sort_by_key(CollectedSpan::id);
    spans
}
