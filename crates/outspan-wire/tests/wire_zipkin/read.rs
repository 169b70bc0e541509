//! Zipkin payloads of others, and what real clients make of the format.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use outspan_wire::PieceContent;
use outspan_wire::ReadRequest;
use outspan_wire::otlp::WireError;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::validate;
use outspan_wire::zipkin::ReadLimits;
use outspan_wire::zipkin::WriteOptions;
use outspan_wire::zipkin::Writer;
use outspan_wire::zipkin::read_json;
use prost::Message;
use serde_json::Value as Json;
use serde_json::json;

fn vector(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/zipkin");
    fs::read(directory.join(name)).unwrap()
}

fn read(text: &[u8]) -> Result<ReadRequest, WireError> {
    read_json(text, &ReadLimits::default())
}

/// Reads good JSON, and returns the spans with their resources.
fn spans(text: &[u8]) -> Vec<(Resource, Span)> {
    let request = read(text).unwrap();
    assert_eq!((request.invalid, request.first_invalid), (0, None));
    let summary = validate(&request.bytes).unwrap();
    assert_eq!((summary.spans, summary.invalid_spans), (request.spans, 0));
    let request = ExportTraceServiceRequest::decode(&*request.bytes).unwrap();
    let mut spans = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = resource_spans.resource.unwrap_or_default();
        for span in resource_spans
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            spans.push((resource.clone(), span));
        }
    }
    spans
}

pub(crate) fn only_span(fields: Json) -> (Resource, Span) {
    let mut span = json!({"traceId": "1", "id": "2"});
    for (key, value) in fields.as_object().unwrap() {
        span[key] = value.clone();
    }
    let mut spans = spans(json!([span]).to_string().as_bytes());
    assert_eq!(spans.len(), 1);
    spans.remove(0)
}

pub(crate) fn get<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn get_text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match get(attributes, key)? {
        Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}

fn text(value: &str) -> Option<Value> {
    Some(Value::StringValue(value.to_owned()))
}

/// Holds a span against the JSON it was read from, which others read.
fn assert_is(json: &Json, resource: &Resource, span: &Span) {
    let hex = |key: &str| {
        json[key]
            .as_str()
            .map(|id| u128::from_str_radix(id, 16).unwrap())
    };
    let id = hex("id").unwrap() as u64;
    assert_eq!(span.trace_id, hex("traceId").unwrap().to_be_bytes());
    assert_eq!(span.span_id, id.to_be_bytes());
    match hex("parentId").filter(|parent| *parent as u64 != id) {
        Some(parent) => assert_eq!(span.parent_span_id, (parent as u64).to_be_bytes()),
        None => assert!(span.parent_span_id.is_empty()),
    }
    let kinds = [
        Json::Null,
        Json::Null,
        json!("SERVER"),
        json!("CLIENT"),
        json!("PRODUCER"),
        json!("CONSUMER"),
    ];
    assert_eq!(kinds[span.kind as usize], json["kind"]);
    assert_eq!(span.name, json["name"].as_str().unwrap_or_default());
    let start = json["timestamp"].as_u64().unwrap_or_default() * 1000;
    let nanos = json["duration"].as_u64().unwrap_or_default() * 1000;
    assert_eq!(
        (span.start_time_unix_nano, span.end_time_unix_nano),
        (start, start + nanos)
    );

    let local = &json["localEndpoint"];
    let remote = &json["remoteEndpoint"];
    assert_eq!(
        get_text(&resource.attributes, "service.name"),
        local["serviceName"].as_str()
    );
    let address = |endpoint: &Json| {
        let address = if endpoint["ipv4"].is_null() {
            &endpoint["ipv6"]
        } else {
            &endpoint["ipv4"]
        };
        address.as_str().map(str::to_owned)
    };
    let attributes = &span.attributes;
    assert_eq!(
        get_text(attributes, "network.local.address").map(str::to_owned),
        address(local)
    );
    let port = |endpoint: &Json| endpoint["port"].as_i64().map(Value::IntValue);
    assert_eq!(get(attributes, "network.local.port").cloned(), port(local));
    if json["tags"]["peer.service"].is_null() {
        assert_eq!(
            get_text(attributes, "peer.service"),
            remote["serviceName"].as_str()
        );
    }
    assert_eq!(
        get_text(attributes, "network.peer.address").map(str::to_owned),
        address(remote)
    );
    assert_eq!(get(attributes, "network.peer.port").cloned(), port(remote));
    let is_shared = json["shared"].as_bool().map(Value::BoolValue);
    assert_eq!(get(attributes, "zipkin.shared").cloned(), is_shared);

    let empty = Vec::new();
    let annotations = json["annotations"].as_array().unwrap_or(&empty);
    assert_eq!(span.events.len(), annotations.len());
    for (event, annotation) in span.events.iter().zip(annotations) {
        assert_eq!(event.name, annotation["value"].as_str().unwrap());
        assert_eq!(
            event.time_unix_nano,
            annotation["timestamp"].as_u64().unwrap() * 1000
        );
    }
    let tags = json["tags"].as_object().cloned().unwrap_or_default();
    for (key, value) in &tags {
        if key == "error" || key.starts_with("otel.status") {
            assert_eq!(get(attributes, key), None);
            assert_eq!(span.status.as_ref().unwrap().code, 2);
            continue;
        }
        let owners = [attributes, &resource.attributes];
        let found = owners.iter().find_map(|owner| get_text(owner, key));
        assert_eq!(found, value.as_str(), "{key}");
    }
}

#[test]
fn reads_the_payloads_of_zipkin_jaeger_and_the_collector() {
    let names = [
        ("bench.zipkin2-chinese.json", 1),
        ("bench.zipkin2-client.json", 1),
        ("lens.ascend.json", 8),
        ("lens.envoy.json", 1),
        ("lens.messaging-kafka.json", 28),
        ("lens.messaging.json", 4),
        ("lens.messaging2.json", 11),
        ("lens.simple-db-p6.json", 5),
        ("lens.skew.json", 4),
        ("lens.yelp.json", 16),
        ("zipkin_v1_merged_spans.json", 2),
        ("zipkin_v2_01.json", 1),
        ("zipkin_v2_02.json", 1),
        ("zipkin_v2_03.json", 1),
        ("zipkinreceiver.sample3.json", 1),
        ("zipkinreceiver.sample4.json", 1),
    ];
    for (name, count) in names {
        let payload = vector(name);
        let expected: Json = serde_json::from_slice(&payload).unwrap();
        let expected = match expected {
            Json::Array(spans) => spans,
            span => vec![span],
        };
        let read = spans(&payload);
        assert_eq!((read.len(), expected.len()), (count, count), "{name}");
        for json in &expected {
            let kind = |span: &Span| (span.span_id.clone(), span.kind);
            let is_it = |span: &Span| {
                let id = u64::from_str_radix(json["id"].as_str().unwrap(), 16).unwrap();
                let name = match kind(span).1 {
                    2 => "SERVER",
                    3 => "CLIENT",
                    4 => "PRODUCER",
                    5 => "CONSUMER",
                    _ => "",
                };
                kind(span).0 == id.to_be_bytes()
                    && name == json["kind"].as_str().unwrap_or_default()
            };
            let (resource, span) = read.iter().find(|(_, span)| is_it(span)).unwrap();
            assert_is(json, resource, span);
        }
    }
}

#[test]
fn writes_again_what_others_wrote() {
    for name in [
        "lens.yelp.json",
        "lens.messaging-kafka.json",
        "lens.skew.json",
        "lens.envoy.json",
    ] {
        let payload = vector(name);
        let mut expected: Vec<Json> = serde_json::from_slice(&payload).unwrap();
        let request = read(&payload).unwrap();
        let mut written: Vec<Json> = Vec::new();
        for piece in Writer::new(WriteOptions::default()).pieces(&request.bytes) {
            let PieceContent::Bytes(bytes) = piece.unwrap().content else {
                panic!("nothing is too large");
            };
            written.extend(serde_json::from_slice::<Vec<Json>>(&bytes).unwrap());
        }
        let place = |span: &Json| format!("{}{}", span["id"], span["kind"]);
        written.sort_by_key(place);
        expected.sort_by_key(place);
        assert_eq!(written.len(), expected.len());
        for (written, expected) in written.iter().zip(&expected) {
            for key in [
                "id",
                "kind",
                "name",
                "timestamp",
                "duration",
                "annotations",
                "shared",
            ] {
                assert_eq!(written[key], expected[key], "{key} in {name}");
            }
            let parent = &expected["parentId"];
            if *parent != expected["id"] {
                assert_eq!(&written["parentId"], parent);
            }
            let trace_id = expected["traceId"].as_str().unwrap();
            assert_eq!(written["traceId"], format!("{trace_id:0>32}"));
            let service = &expected["localEndpoint"]["serviceName"];
            if !service.is_null() {
                assert_eq!(&written["localEndpoint"]["serviceName"], service);
            }
            for (key, value) in expected["tags"].as_object().into_iter().flatten() {
                assert_eq!(&written["tags"][key], value, "{key} in {name}");
            }
        }
    }
}

#[test]
fn an_error_is_a_status_with_its_words() {
    let status = |name: &str| spans(&vector(name)).remove(0).1.status.unwrap();
    assert_eq!(
        status("zipkinreceiver.sample3.json"),
        Status {
            code: 2,
            message: "Something failed".to_owned()
        }
    );
    assert_eq!(
        status("zipkinreceiver.sample4.json"),
        Status {
            code: 2,
            message: "Non-basic error message".to_owned()
        }
    );
    let of_tags = |tags: Json| only_span(json!({"tags": tags})).1;
    let error = |message: &str| {
        Some(Status {
            code: 2,
            message: message.to_owned(),
        })
    };
    assert_eq!(of_tags(json!({"error": "true"})).status, error(""));
    assert_eq!(of_tags(json!({"error": ""})).status, error(""));
    assert_eq!(
        of_tags(json!({"otel.status_code": "Error"})).status,
        error("")
    );
    let ok = Some(Status {
        code: 1,
        message: String::new(),
    });
    assert_eq!(
        of_tags(json!({"otel.status_code": "STATUS_CODE_OK"})).status,
        ok
    );
    assert_eq!(of_tags(json!({"otel.status_code": "Ok"})).status, ok);

    let not_an_error = of_tags(json!({"error": "false", "otel.status_code": "good"}));
    assert_eq!(not_an_error.status, None);
    assert_eq!(
        get(&not_an_error.attributes, "error").cloned(),
        text("false")
    );
    assert_eq!(
        get(&not_an_error.attributes, "otel.status_code").cloned(),
        text("good")
    );
}

#[test]
fn a_span_without_a_kind_is_internal_where_opentelemetry_wrote_it() {
    let kind = |fields: Json| only_span(fields).1.kind;
    let internal = SpanKind::Internal as i32;
    let unspecified = SpanKind::Unspecified as i32;
    for name in ["otel.scope.name", "otel.library.name"] {
        assert_eq!(kind(json!({"tags": {name: "shop"}})), internal);
        let other = json!({"tags": {name: "shop", "span.kind": "strange"}});
        assert_eq!(kind(other), unspecified, "another kind is told by a tag");
        let client = json!({"kind": "CLIENT", "tags": {name: "shop"}});
        assert_eq!(kind(client), SpanKind::Client as i32);
        let marked = json!({"tags": {name: "shop", "outspan.otlp": "kind=0"}});
        assert_eq!(kind(marked), unspecified);
        let attribute = json!({"tags": {name: "shop", "outspan.otlp": name}});
        assert_eq!(kind(attribute), unspecified, "it is an attribute, no scope");
    }
    assert_eq!(
        kind(json!({"tags": {"otel.scope.version": "1"}})),
        unspecified
    );
    assert_eq!(kind(json!({"tags": {"a": "b"}})), unspecified);
}

#[test]
fn the_first_version_is_refused_by_its_name() {
    // Thrift in the form of JSON, which nobody sends.
    for name in [
        "v1thrift_converter.zipkin_01.json",
        "v1thrift_converter.zipkin_02.json",
        "v1thrift_converter.zipkin_03.json",
        "zipkin_thrift_v1_merged_spans.json",
    ] {
        read(&vector(name)).unwrap_err();
    }
    let v1 = br#"[{"traceId":"1","id":"2","name":"get",
        "annotations":[{"timestamp":1,"value":"sr","endpoint":{"serviceName":"a"}}]}]"#;
    let error = read(v1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this is Zipkin v1, send v2 (/api/v2/spans) in [0].annotations[0].endpoint at line 2, column 63"
    );
    let thrift = [0x0C, 0, 0, 0, 1, 0x0A, 0, 1];
    assert_eq!(read(&thrift).unwrap_err().kind(), WireErrorKind::Version);
}

#[test]
fn what_is_no_list_of_spans_is_refused() {
    for (text, kind) in [
        (r#"{"resourceSpans":[]}"#, WireErrorKind::JsonType),
        (
            r#"{"spans":[{"trace_id":"QoVouqoJRn5CjmiKqglGfw=="}]}"#,
            WireErrorKind::JsonType,
        ),
        ("[", WireErrorKind::JsonSyntax),
        ("[{}] x", WireErrorKind::JsonSyntax),
        ("[1]", WireErrorKind::JsonType),
        (r#"[{"traceId":"xyz"}]"#, WireErrorKind::Encoding),
        (r#"[{"traceId":5}]"#, WireErrorKind::JsonType),
        (r#"[{"timestamp":"soon"}]"#, WireErrorKind::JsonType),
        (r#"[{"tags":[]}]"#, WireErrorKind::JsonType),
        ("[[[{}]]]", WireErrorKind::JsonType),
    ] {
        assert_eq!(read(text.as_bytes()).unwrap_err().kind(), kind, "{text}");
    }
    assert_eq!(read(b"[\"\xFF\"]").unwrap_err().kind(), WireErrorKind::Utf8);
}

#[test]
fn no_text_and_no_spans_are_fine() {
    for text in ["", "  \n", "[]", "[[],[]]"] {
        let request = read(text.as_bytes()).unwrap();
        assert_eq!((request.spans, request.invalid), (0, 0));
        assert!(request.bytes.is_empty());
    }
}

#[test]
fn spans_that_otlp_has_not_are_left_out_and_counted() {
    let text = json!([
        {"traceId": "1", "id": "2", "name": "good"},
        {"id": "2"},
        {"traceId": "0000000000000000", "id": "2"},
        {"traceId": "1", "id": "0"},
        {"traceId": "1".repeat(33), "id": "2"},
        {"traceId": "1", "id": "1".repeat(17)},
        {"traceId": "1", "id": "3", "parentId": "1".repeat(17)},
        {"traceId": "1", "id": "3", "name": "good too"},
    ]);
    let request = read(text.to_string().as_bytes()).unwrap();
    assert_eq!((request.spans, request.invalid), (2, 6));
    assert_eq!(
        request.first_invalid.as_deref(),
        Some("span 1: its trace id is absent or zero")
    );
    assert_eq!(validate(&request.bytes).unwrap().spans, 2);
}

#[test]
fn times_of_every_kind_are_understood() {
    let times = |fields: Json| {
        let span = only_span(fields).1;
        (span.start_time_unix_nano, span.end_time_unix_nano)
    };
    let start = 1_700_000_000_002_000_000;
    assert_eq!(
        times(json!({"timestamp": 1_700_000_000_002_000.5, "duration": 0})),
        (start, start)
    );
    assert_eq!(
        times(json!({"timestamp": "1700000000002000", "duration": "7"})),
        (start, start + 7000)
    );
    assert_eq!(
        times(json!({"timestamp": 1.700000000002e15, "duration": 1.999})),
        (start, start + 1000)
    );
    assert_eq!(times(json!({"timestamp": -5, "duration": -1})), (0, 0));
    assert_eq!(times(json!({"duration": 5})), (0, 5000));
    assert_eq!(times(json!({"timestamp": null, "duration": null})), (0, 0));
    assert_eq!(
        times(json!({"timestamp": u64::MAX, "duration": 1})),
        (u64::MAX, u64::MAX)
    );
    assert_eq!(times(json!({"timestamp": 1e300})), (u64::MAX, u64::MAX));
    let text = br#"[{"traceId":"1","id":"2","timestamp":1700000000002000.5}]"#;
    assert_eq!(spans(text)[0].1.start_time_unix_nano, start);
}

#[test]
fn ids_of_every_kind_are_understood() {
    let span =
        only_span(json!({"traceId": "ABCDEF", "id": "Ff", "parentId": "0000000000000000"})).1;
    assert_eq!(span.trace_id, 0xABCDEF_u128.to_be_bytes());
    assert_eq!(span.span_id, 0xFF_u64.to_be_bytes());
    assert!(span.parent_span_id.is_empty());
    assert!(
        only_span(json!({"parentId": "2"}))
            .1
            .parent_span_id
            .is_empty()
    );
    assert_eq!(
        only_span(json!({"parentId": "3"})).1.parent_span_id,
        3_u64.to_be_bytes()
    );
}

#[test]
fn null_stands_for_nothing_everywhere() {
    let span = only_span(json!({
        "parentId": null, "kind": null, "name": null, "localEndpoint": null, "annotations": null,
        "remoteEndpoint": {"serviceName": null, "ipv4": null, "ipv6": null, "port": null},
        "debug": null, "shared": null, "tags": null, "unknown": [{"x": null}],
    }));
    assert_eq!(span, only_span(json!({})));
    let span = only_span(json!({"annotations": [null, {"timestamp": null, "value": null}]})).1;
    assert_eq!(span.events.len(), 1);
}

#[test]
fn tags_that_are_no_texts_keep_their_type() {
    let text = br#"[{"traceId":"1","id":"2","tags":
        {"a":1,"b":1.5,"c":true,"d":null,"e":[1,"x"],"f":"1","g":"lone \ud834","h":"\ud834\udd1e"}}]"#;
    let attributes = spans(text).remove(0).1.attributes;
    assert_eq!(get(&attributes, "a"), Some(&Value::IntValue(1)));
    assert_eq!(get(&attributes, "b"), Some(&Value::DoubleValue(1.5)));
    assert_eq!(get(&attributes, "c"), Some(&Value::BoolValue(true)));
    assert_eq!(get(&attributes, "d"), None);
    assert!(
        matches!(get(&attributes, "e"), Some(Value::ArrayValue(array)) if array.values.len() == 2)
    );
    assert_eq!(get_text(&attributes, "f"), Some("1"));
    assert_eq!(get_text(&attributes, "g"), Some("lone \u{FFFD}"));
    assert_eq!(get_text(&attributes, "h"), Some("\u{1D11E}"));
    assert_eq!(attributes.len(), 8);
}

#[test]
fn of_equal_tags_the_last_one_counts() {
    let text = br#"[{"traceId":"1","id":"2","tags":{"a":"1","b":"2","a":"3"},"tags":{"b":"4"}}]"#;
    let attributes = spans(text).remove(0).1.attributes;
    assert_eq!(attributes.len(), 2);
    assert_eq!(get_text(&attributes, "a"), Some("3"));
    assert_eq!(get_text(&attributes, "b"), Some("4"));
}

#[test]
fn spans_share_a_resource_when_they_say_the_same_of_it() {
    let span = |id: &str, service: &str, host: &str| {
        json!({"traceId": "1", "id": id, "localEndpoint": {"serviceName": service},
            "tags": {"host.name": host, "http.route": id}})
    };
    let text = json!([
        span("1", "a", "x"),
        span("2", "b", "x"),
        span("3", "a", "x"),
        span("4", "a", "y")
    ]);
    let request = read(text.to_string().as_bytes()).unwrap();
    let request = ExportTraceServiceRequest::decode(&*request.bytes).unwrap();
    let found: Vec<_> = request
        .resource_spans
        .iter()
        .map(|resource_spans| {
            let attributes = &resource_spans.resource.as_ref().unwrap().attributes;
            let name = |key| get_text(attributes, key).unwrap();
            let spans: usize = resource_spans
                .scope_spans
                .iter()
                .map(|scope| scope.spans.len())
                .sum();
            (name("service.name"), name("host.name"), spans)
        })
        .collect();
    assert_eq!(found, [("a", "x", 2), ("b", "x", 1), ("a", "y", 1)]);
}

#[test]
fn a_repeated_service_name_keeps_its_case() {
    let local = json!({"serviceName": "shop"});
    let (resource, span) =
        only_span(json!({"localEndpoint": local, "tags": {"service.name": "Shop"}}));
    assert_eq!(get_text(&resource.attributes, "service.name"), Some("Shop"));
    assert!(span.attributes.is_empty());

    let (resource, span) =
        only_span(json!({"localEndpoint": local, "tags": {"service.name": "other"}}));
    assert_eq!(get_text(&resource.attributes, "service.name"), Some("shop"));
    assert_eq!(get_text(&span.attributes, "service.name"), Some("other"));

    let collector = json!({"localEndpoint": {"serviceName": "run"},
        "tags": {"otlp.service.name.source": "process.executable.name"}});
    let (resource, span) = only_span(collector);
    assert_eq!(
        get_text(&resource.attributes, "process.executable.name"),
        Some("run")
    );
    assert_eq!((resource.attributes.len(), span.attributes.len()), (1, 0));

    let nameless = json!({"localEndpoint": {"serviceName": "OTLPResourceNoServiceName"}});
    assert!(only_span(nameless).0.attributes.is_empty());
}

#[test]
fn remote_endpoints_add_nothing_that_tags_say_already() {
    let span = only_span(json!({
        "remoteEndpoint": {"serviceName": "db-1", "ipv4": "10.0.0.1", "port": 5432},
        "tags": {"server.address": "DB-1", "net.sock.peer.addr": "::ffff:10.0.0.1", "net.sock.peer.port": "5432"},
    }))
    .1;
    assert_eq!(span.attributes.len(), 3);
}

#[test]
fn more_than_allowed_is_refused() {
    let text = br#"[{"traceId":"1","id":"2","tags":{"a":"1","b":"2"},"annotations":[{},{}]},{}]"#;
    let kind = |limits: ReadLimits| read_json(text, &limits).map_err(|error| error.kind());
    let limits = ReadLimits::default();
    assert_eq!(
        kind(limits.bytes_max(text.len() - 1)),
        Err(WireErrorKind::Limit)
    );
    assert_eq!(kind(limits.spans_max(1)), Err(WireErrorKind::Limit));
    assert_eq!(
        kind(limits.entries_per_span_max(3)),
        Err(WireErrorKind::Limit)
    );
    let limits = limits
        .bytes_max(text.len())
        .spans_max(2)
        .entries_per_span_max(4);
    assert_eq!(kind(limits).unwrap().spans, 1);
}
