//! Our protobuf against an independent decoder and encoder, and against our JSON, which `serde_json` reads.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan_wire::PieceContent;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::validate;
use outspan_wire::zipkin::Dialect;
use outspan_wire::zipkin::Format;
use outspan_wire::zipkin::ReadLimits;
use outspan_wire::zipkin::WriteOptions;
use outspan_wire::zipkin::Writer;
use outspan_wire::zipkin::read_json;
use outspan_wire::zipkin::read_protobuf;
use proptest::prelude::*;
use prost::Message;
use serde_json::Value as Json;
use serde_json::json;

use crate::common;
use crate::zipkin_proto::ListOfSpans;
use crate::zipkin_proto::ProtoAnnotation;
use crate::zipkin_proto::ProtoEndpoint;
use crate::zipkin_proto::ProtoSpan;

fn written(options: WriteOptions, request: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(options.bytes_max(usize::MAX));
    let mut pieces = writer.pieces(request);
    let bytes = match pieces.next().unwrap().unwrap().content {
        PieceContent::Bytes(bytes) => bytes,
        other => panic!("one message, not {other:?}"),
    };
    assert!(pieces.next().is_none());
    bytes.to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tells a span of protobuf in the way of JSON.
fn as_json(span: &ProtoSpan) -> Json {
    let mut json = json!({"traceId": hex(&span.trace_id), "id": hex(&span.id)});
    if !span.parent_id.is_empty() {
        json["parentId"] = hex(&span.parent_id).into();
    }
    if span.kind != 0 {
        json["kind"] = ["", "CLIENT", "SERVER", "PRODUCER", "CONSUMER"][span.kind as usize].into();
    }
    if !span.name.is_empty() {
        json["name"] = span.name.as_str().into();
    }
    if span.timestamp != 0 {
        json["timestamp"] = span.timestamp.into();
    }
    if span.duration != 0 {
        json["duration"] = span.duration.into();
    }
    for (key, endpoint) in [
        ("localEndpoint", &span.local_endpoint),
        ("remoteEndpoint", &span.remote_endpoint),
    ] {
        if let Some(endpoint) = endpoint {
            json[key] = endpoint_as_json(endpoint);
        }
    }
    if !span.annotations.is_empty() {
        let annotations = span.annotations.iter().map(
            |annotation| json!({"timestamp": annotation.timestamp, "value": annotation.value}),
        );
        json["annotations"] = annotations.collect();
    }
    if !span.tags.is_empty() {
        json["tags"] = json!(span.tags);
    }
    for (key, is_set) in [("debug", span.debug), ("shared", span.shared)] {
        if is_set {
            json[key] = true.into();
        }
    }
    json
}

fn endpoint_as_json(endpoint: &ProtoEndpoint) -> Json {
    let mut json = json!({});
    if !endpoint.service_name.is_empty() {
        json["serviceName"] = endpoint.service_name.as_str().into();
    }
    if let Ok(address) = <[u8; 4]>::try_from(&*endpoint.ipv4) {
        json["ipv4"] = Ipv4Addr::from(address).to_string().into();
    }
    if let Ok(address) = <[u8; 16]>::try_from(&*endpoint.ipv6) {
        json["ipv6"] = Ipv6Addr::from(address).to_string().into();
    }
    if endpoint.port != 0 {
        json["port"] = endpoint.port.into();
    }
    json
}

/// Replaces what JSON has no numbers for, so that nothing but the form differs.
fn tags_of(json: &Json) -> BTreeMap<String, String> {
    serde_json::from_value(json["tags"].clone()).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn both_forms_hold_the_same_spans(request in common::valid_requests(), marks in any::<bool>()) {
        let request = request.encode_to_vec();
        let options = WriteOptions::default().marks(marks);
        let json: Vec<Json> = serde_json::from_slice(&written(options, &request)).unwrap();
        let list = written(options.format(Format::Protobuf), &request);
        let list = ListOfSpans::decode(&*list).unwrap();
        let told: Vec<_> = list.spans.iter().map(as_json).collect();
        prop_assert_eq!(json, told);
    }

    #[test]
    fn both_forms_are_read_alike(request in common::valid_requests(), collector in any::<bool>()) {
        let request = request.encode_to_vec();
        let dialect = if collector { Dialect::Collector } else { Dialect::Specification };
        let options = WriteOptions::default().dialect(dialect).format(Format::Protobuf);
        let list = written(options, &request);
        // The JSON is made by others of what the protobuf says.
        let told = ListOfSpans::decode(&*list).unwrap();
        let told: Vec<_> = told.spans.iter().map(as_json).collect();
        let mut told = serde_json::to_string(&told).unwrap();
        let limits = ReadLimits::default();
        let from_json = read_json(told.as_bytes(), &limits).unwrap();
        // Which sorts the tags, so the protobuf is encoded by others, too.
        told.clear();
        let sorted = ListOfSpans::decode(&*list).unwrap().encode_to_vec();
        let from_protobuf = read_protobuf(&sorted, &limits).unwrap();
        prop_assert_eq!(from_json, from_protobuf);
    }

    #[test]
    fn texts_ids_and_times_are_what_the_views_say(request in common::valid_requests()) {
        let request = request.encode_to_vec();
        let json: Vec<Json> = serde_json::from_slice(&written(WriteOptions::default(), &request)).unwrap();
        for (json, span) in json.iter().zip(RequestView::new(&request).spans()) {
            prop_assert_eq!(json["traceId"].as_str().unwrap(), hex(&span.trace_id()));
            prop_assert_eq!(json["id"].as_str().unwrap(), hex(&span.span_id()));
            prop_assert_eq!(json["name"].as_str().unwrap_or_default(), span.name());
            let micros = span.start_time_unix_nano() / 1000;
            prop_assert_eq!(json["timestamp"].as_u64().unwrap_or_default(), micros);
            let tags = tags_of(json);
            let mut seen = std::collections::HashSet::new();
            for attribute in span.attributes() {
                if seen.insert(attribute.key()) {
                    let is_scalar = attribute.value().as_str().is_some()
                        || attribute.value().as_int().is_some();
                    if is_scalar {
                        prop_assert_eq!(&tags[attribute.key()], &attribute.value().to_text());
                    }
                }
            }
            prop_assert_eq!(json["annotations"].as_array().map_or(0, Vec::len), span.events().count());
        }
    }
}

fn vector(name: &str) -> Vec<Json> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/zipkin");
    let text = fs::read(directory.join(name)).unwrap();
    let json: Json = serde_json::from_slice(&text).unwrap();
    json["spans"].as_array().unwrap().clone()
}

fn bytes(json: &Json) -> Vec<u8> {
    STANDARD.decode(json.as_str().unwrap_or_default()).unwrap()
}

fn endpoint(json: &Json) -> Option<ProtoEndpoint> {
    json.as_object()?;
    Some(ProtoEndpoint {
        service_name: json["service_name"].as_str().unwrap_or_default().to_owned(),
        ipv4: bytes(&json["ipv4"]),
        ipv6: bytes(&json["ipv6"]),
        port: json["port"].as_i64().unwrap_or_default() as i32,
    })
}

/// Makes protobuf of its form in JSON.
fn encoded(spans: &[Json]) -> Vec<u8> {
    let spans = spans.iter().map(|span| ProtoSpan {
        trace_id: bytes(&span["trace_id"]),
        parent_id: bytes(&span["parent_id"]),
        id: bytes(&span["id"]),
        kind: span["kind"].as_i64().unwrap_or_default() as i32,
        name: span["name"].as_str().unwrap_or_default().to_owned(),
        timestamp: span["timestamp"].as_u64().unwrap_or_default(),
        duration: span["duration"].as_u64().unwrap_or_default(),
        local_endpoint: endpoint(&span["local_endpoint"]),
        remote_endpoint: endpoint(&span["remote_endpoint"]),
        annotations: span["annotations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|annotation| ProtoAnnotation {
                timestamp: annotation["timestamp"].as_u64().unwrap_or_default(),
                value: annotation["value"].as_str().unwrap_or_default().to_owned(),
            })
            .collect(),
        tags: tags_of(span),
        debug: span["debug"].as_bool().unwrap_or_default(),
        shared: span["shared"].as_bool().unwrap_or_default(),
    });
    let list = ListOfSpans {
        spans: spans.collect(),
    };
    list.encode_to_vec()
}

#[test]
fn reads_the_payloads_of_jaeger() {
    for name in ["zipkin_proto_01.json", "zipkin_proto_02.json"] {
        let protobuf = encoded(&vector(name));
        let read = read_protobuf(&protobuf, &ReadLimits::default()).unwrap();
        assert_eq!((read.spans, read.invalid), (1, 0), "{name}");
        assert_eq!(validate(&read.bytes).unwrap().spans, 1);
        let told = ListOfSpans::decode(&*protobuf).unwrap();
        let told = serde_json::to_vec(&[as_json(&told.spans[0])]).unwrap();
        assert_eq!(
            read_json(&told, &ReadLimits::default()).unwrap(),
            read,
            "{name}"
        );
    }
    let read = read_protobuf(
        &encoded(&vector("zipkin_proto_01.json")),
        &ReadLimits::default(),
    );
    let request = ExportTraceServiceRequest::decode(&*read.unwrap().bytes).unwrap();
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.trace_id, bytes(&json!("QoVouqoJRn5CjmiKqglGfw==")));
    assert_eq!(span.parent_span_id, 1_u64.to_be_bytes());
    assert_eq!((span.kind, span.name.as_str()), (3, "foo"));
    assert_eq!(
        (span.start_time_unix_nano, span.end_time_unix_nano),
        (1000, 11_000)
    );
}

#[test]
fn ids_of_every_length_are_read_or_counted() {
    let span = |trace_id: &[u8], id: &[u8], parent_id: &[u8]| ProtoSpan {
        trace_id: trace_id.to_vec(),
        id: id.to_vec(),
        parent_id: parent_id.to_vec(),
        ..ProtoSpan::default()
    };
    let list = ListOfSpans {
        spans: vec![
            span(&[7; 8], &[1; 8], &[0; 8]),
            span(&[7; 16], &[2; 8], &[3; 8]),
            span(&[7; 4], &[1; 8], &[]),
            span(&[7; 16], &[1; 4], &[]),
            span(&[7; 16], &[1; 8], &[1; 4]),
            span(&[0; 16], &[1; 8], &[]),
            span(&[7; 16], &[], &[]),
        ],
    };
    let read = read_protobuf(&list.encode_to_vec(), &ReadLimits::default()).unwrap();
    assert_eq!((read.spans, read.invalid), (2, 5));
    assert_eq!(
        read.first_invalid.as_deref(),
        Some("span 2: its trace id has neither 8 nor 16 bytes")
    );
    let spans: Vec<_> = RequestView::new(&read.bytes).spans().collect();
    assert_eq!(spans[0].trace_id(), [[0; 8], [7; 8]].concat()[..]);
    assert_eq!(spans[0].parent_span_id(), None);
    assert_eq!(spans[1].parent_span_id(), Some([3; 8]));
}

#[test]
fn the_collector_rounds_the_time_of_an_event_in_json_only() {
    let otlp = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
        "traceId":"01010101010101010101010101010101","spanId":"0202020202020202",
        "startTimeUnixNano":"1700000000000000000",
        "events":[{"timeUnixNano":"1700000000000001500","name":"a"},
                  {"timeUnixNano":"1700000000000001499","name":"b"}]}]}]}]}"#;
    let mut request = Vec::new();
    outspan_wire::otlp::read_json(otlp, &mut request).unwrap();
    let micros = |dialect, format| {
        let options = WriteOptions::default().dialect(dialect).format(format);
        let bytes = written(options, &request);
        let json = match format {
            Format::Json => serde_json::from_slice(&bytes).unwrap(),
            _ => as_json(&ListOfSpans::decode(&*bytes).unwrap().spans[0]),
        };
        let span = json.get(0).unwrap_or(&json);
        let events = span["annotations"].as_array().unwrap();
        let micros = events
            .iter()
            .map(|event| event["timestamp"].as_u64().unwrap());
        micros
            .map(|micros| micros - 1_700_000_000_000_000)
            .collect::<Vec<_>>()
    };
    assert_eq!(micros(Dialect::Collector, Format::Json), [2, 1]);
    assert_eq!(micros(Dialect::Collector, Format::Protobuf), [1, 1]);
    assert_eq!(micros(Dialect::Specification, Format::Json), [1, 1]);
    assert_eq!(micros(Dialect::Specification, Format::Protobuf), [1, 1]);
}

#[test]
fn broken_bytes_are_refused_at_their_place() {
    let span = ProtoSpan {
        trace_id: vec![1; 16],
        id: vec![1; 8],
        name: "n".to_owned(),
        ..ProtoSpan::default()
    };
    let good = ListOfSpans { spans: vec![span] }.encode_to_vec();
    let kind = |bytes: &[u8]| {
        let error = read_protobuf(bytes, &ReadLimits::default()).unwrap_err();
        (error.kind(), error.offset())
    };
    assert_eq!(kind(&good[..good.len() - 1]).0, WireErrorKind::Truncated);
    let mut not_utf8 = good.clone();
    *not_utf8.last_mut().unwrap() = 0xFF;
    assert_eq!(kind(&not_utf8), (WireErrorKind::Utf8, good.len() - 1));
    assert_eq!(kind(&[0x08, 0x01]), (WireErrorKind::WireType, 0));
    // A name that is a number.
    assert_eq!(
        kind(&[0x0A, 0x02, 0x28, 0x01]),
        (WireErrorKind::WireType, 2)
    );
    let error = read_protobuf(b"[{\"traceId\"", &ReadLimits::default());
    assert!(error.is_err(), "JSON is no protobuf");
    let empty = read_protobuf(b"", &ReadLimits::default()).unwrap();
    assert_eq!(empty.spans, 0);
}

#[test]
fn more_than_allowed_is_refused() {
    let span = ProtoSpan {
        tags: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
        annotations: vec![ProtoAnnotation::default()],
        ..ProtoSpan::default()
    };
    let list = ListOfSpans {
        spans: vec![span.clone(), span],
    }
    .encode_to_vec();
    let kind = |limits: ReadLimits| read_protobuf(&list, &limits).map_err(|error| error.kind());
    let limits = ReadLimits::default();
    assert_eq!(kind(limits.spans_max(1)), Err(WireErrorKind::Limit));
    assert_eq!(
        kind(limits.entries_per_span_max(1)),
        Err(WireErrorKind::Limit)
    );
    assert_eq!(
        kind(limits.bytes_max(list.len() - 1)),
        Err(WireErrorKind::Limit)
    );
    assert_eq!(
        kind(limits.spans_max(2).entries_per_span_max(2))
            .unwrap()
            .invalid,
        2
    );
}
