//! Zipkin and Jaeger over HTTP: the same rules as for OTLP, and answers as their senders know them.

use super::bodies::gzip;
use super::bodies::zstd;
use super::*;

const OTHER_FORMS: [Form; 4] = [
    Form::ZipkinJson,
    Form::ZipkinProtobuf,
    Form::ThriftBinary,
    Form::ThriftCompact,
];

fn transport(form: Form) -> Transport {
    match form {
        Form::ZipkinJson | Form::ZipkinProtobuf => Transport::Zipkin,
        _ => Transport::JaegerHttp,
    }
}

#[tokio::test]
async fn what_is_right_is_answered_with_202_and_nothing_else_and_arrives() {
    let rig = Rig::new();
    for form in OTHER_FORMS {
        let seen = rig.send(post_spans(form, 10)).await;
        assert_eq!(
            (seen.status.as_u16(), seen.body.len()),
            (202, 0),
            "{form:?}"
        );
        assert_eq!(seen.header("content-type"), None);
        let plain = encoded(form, &request(5));
        for (encoding, packed) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
            let post = post(form, Script::of(packed)).with("content-encoding", encoding);
            assert_eq!(rig.send(post).await.status, 202, "{form:?} {encoding}");
        }
    }
    for transport in [Transport::Zipkin, Transport::JaegerHttp] {
        let counted = rig.counted(transport);
        assert_eq!((counted.accepted_requests, counted.accepted_spans), (6, 40));
    }
    assert_eq!(rig.counted(Transport::Http).accepted_requests, 0);
    assert_eq!(rig.delivered().await, 80);
}

#[tokio::test]
async fn empty_bodies_of_zipkin_are_fine() {
    let rig = Rig::new();
    for (form, body) in [
        (Form::ZipkinJson, "[]"),
        (Form::ZipkinJson, ""),
        (Form::ZipkinProtobuf, ""),
    ] {
        let seen = rig.send(post(form, Script::of(body))).await;
        assert_eq!((seen.status.as_u16(), seen.body.len()), (202, 0));
    }
    let mut untyped = post(Form::ZipkinJson, Script::of("[]"));
    untyped.headers_mut().remove(header::CONTENT_TYPE);
    assert_eq!(rig.send(untyped).await.status, 202);
}

#[tokio::test]
async fn what_is_malformed_is_refused_with_the_place_and_the_reason() {
    let rig = Rig::new();
    for (form, body, what, place) in [
        (
            Form::ZipkinJson,
            &b"[{\"traceId\":\"1\",\"id\":\"zz\"}]"[..],
            "not valid Zipkin JSON: ",
            "at line 1, column ",
        ),
        (
            Form::ZipkinProtobuf,
            b"\x0a\x05\x0a",
            "not valid Zipkin protobuf: ",
            "at byte ",
        ),
        (
            Form::ThriftBinary,
            b"\x0c\x00\x01\x0b",
            "not valid Jaeger batch in binary Thrift: ",
            "at byte ",
        ),
        (
            Form::ThriftCompact,
            b"\x1c\x18",
            "not valid Jaeger batch in compact Thrift: ",
            "at byte ",
        ),
    ] {
        let seen = rig.send(post(form, Script::of(body))).await;
        let text = String::from_utf8(seen.body.to_vec()).unwrap();
        assert_eq!(seen.status, 400, "{form:?}: {text}");
        assert!(
            text.starts_with(what) && text.contains(place),
            "{form:?}: {text}"
        );
        assert!(text.ends_with('\n'));
        assert_eq!(
            seen.headers[header::CONTENT_TYPE],
            "text/plain; charset=utf-8"
        );
    }
    assert_eq!(rig.counted(Transport::Zipkin).refused_requests, 2);
    assert_eq!(rig.counted(Transport::JaegerHttp).refused_requests, 2);
}

#[tokio::test]
async fn paths_methods_and_types_are_refused_in_words() {
    let rig = Rig::new();
    let change = |form, path: &str, kind: &'static str| {
        let mut post = post_spans(form, 1);
        *post.uri_mut() = path.parse().unwrap();
        let kind = http::HeaderValue::from_static(kind);
        post.headers_mut().insert(header::CONTENT_TYPE, kind);
        post
    };
    for (form, path, kind, status, text) in [
        (
            Form::ZipkinJson,
            "/api/v1/spans",
            "application/json",
            404,
            "send v2 to /api/v2/spans",
        ),
        (
            Form::ZipkinJson,
            "/api/v1/spans",
            "application/x-thrift",
            404,
            "send v2 to /api/v2/spans",
        ),
        (
            Form::ZipkinJson,
            "/api/v3/spans",
            "application/json",
            404,
            "at /api/v2/spans",
        ),
        (
            Form::ZipkinJson,
            "/api/v2/spans",
            "application/x-thrift",
            415,
            "application/json",
        ),
        (
            Form::ZipkinJson,
            "/api/v2/spans",
            "application/grpc",
            415,
            "does not speak gRPC",
        ),
        (
            Form::ThriftBinary,
            "/api/traces/1",
            "application/x-thrift",
            404,
            "at /api/traces",
        ),
        (
            Form::ThriftBinary,
            "/api/traces",
            "application/json",
            415,
            "application/x-thrift",
        ),
    ] {
        let seen = rig.send(change(form, path, kind)).await;
        let body = String::from_utf8(seen.body.to_vec()).unwrap();
        assert_eq!(seen.status.as_u16(), status, "{path} {kind}: {body}");
        assert!(body.contains(text), "{path} {kind}: {body}");
    }
    let query = change(
        Form::ThriftBinary,
        "/api/traces?format=jaeger.thrift",
        "application/vnd.apache.thrift.binary; charset=x",
    );
    assert_eq!(rig.send(query).await.status, 202);
    let mut get = post_spans(Form::ZipkinJson, 1);
    *get.method_mut() = Method::GET;
    assert_eq!(rig.send(get).await.status, 405);
}

#[tokio::test]
async fn spans_that_otlp_forbids_are_counted_and_told_and_none_at_all_is_refused() {
    let rig = Rig::new();
    let body = r#"[{"traceId":"1","id":"2"},{"traceId":"0","id":"3"}]"#;
    let seen = rig.send(post(Form::ZipkinJson, Script::of(body))).await;
    let text = String::from_utf8(seen.body.to_vec()).unwrap();
    assert_eq!(seen.status, 202);
    assert!(
        text.starts_with("1 of 2 spans are invalid, of the first: "),
        "{text}"
    );

    let body = r#"[{"traceId":"0","id":"3"}]"#;
    let seen = rig.send(post(Form::ZipkinJson, Script::of(body))).await;
    let text = String::from_utf8(seen.body.to_vec()).unwrap();
    assert_eq!(seen.status, 400);
    assert!(
        text.starts_with("no span of 1 in this Zipkin JSON is valid"),
        "{text}"
    );

    let counted = rig.counted(Transport::Zipkin);
    assert_eq!((counted.accepted_spans, counted.refused_spans), (1, 2));
    assert_eq!(
        (counted.accepted_requests, counted.refused_requests),
        (1, 1)
    );
}

#[tokio::test]
async fn senders_are_told_when_to_come_back_and_what_is_too_large() {
    let rig = Rig::with(|plan| plan.queue = 64 << 10);
    for form in OTHER_FORMS {
        let large = request_with(100, |_, span| span.name = "n".repeat(2000));
        let seen = rig
            .send(post(form, Script::of(encoded(form, &large))))
            .await;
        assert_eq!(seen.status, 413, "{form:?}");
    }
    let half = request_with(20, |_, span| span.name = "n".repeat(2000));
    let mut statuses = Vec::new();
    for form in OTHER_FORMS {
        let seen = rig.send(post(form, Script::of(encoded(form, &half)))).await;
        statuses.push(seen.status.as_u16());
        if seen.status == 503 {
            assert_eq!(seen.headers[header::RETRY_AFTER], "1");
        }
    }
    assert_eq!(statuses, [202, 503, 503, 503]);
    assert_eq!(rig.counted(Transport::JaegerHttp).deferred_requests, 2);
}

#[tokio::test]
async fn what_conversion_takes_is_counted_before_it_begins() {
    let rig = Rig::with(|plan| plan.memory = 1 << 20);
    for form in OTHER_FORMS {
        // Its room is there for the body, and not for what it becomes besides.
        let body = encoded(
            form,
            &request_with(100, |_, span| span.name = "n".repeat(1000)),
        );
        let mut others = rig.intake.begin();
        assert!(others.grow((1 << 20) - body.len() - 1000));
        let service = &rig.service;
        let post = post(form, Script::of(body));
        let seen = Seen::read(service.answer(protocol_of(&post), post).await).await;
        assert_eq!(seen.status, 503, "{form:?}");
        assert_eq!(rig.counted(transport(form)).accepted_requests, 0);
    }
}

/// What becomes of senders that make the most of few bytes.
#[test]
fn spans_that_become_much_longer_stay_within_what_was_taken_for_them() {
    let small = "{\"traceId\":\"1\",\"id\":\"1\"},".repeat(1000);
    let tags: String = (0..1000).map(|tag| format!("\"{tag}\":\"\",")).collect();
    let places: String = (0..1000)
        .map(|service| format!("{{\"traceId\":\"1\",\"id\":\"1\",\"localEndpoint\":{{\"serviceName\":\"{service}\"}}}},"))
        .collect();
    for body in [
        format!("[{}]", small.trim_end_matches(',')),
        format!(
            "[{{\"traceId\":\"1\",\"id\":\"1\",\"tags\":{{{}}}}}]",
            tags.trim_end_matches(',')
        ),
        format!("[{}]", places.trim_end_matches(',')),
    ] {
        let spans = Spans::read(Form::ZipkinJson, body.clone().into()).unwrap();
        let allowed = body.len() * (1 + Form::ZipkinJson.expansion());
        assert!(
            spans.batch.memory() <= allowed,
            "{} of {}",
            spans.batch.memory(),
            body.len()
        );
    }
}
