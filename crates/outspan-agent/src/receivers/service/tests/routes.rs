//! Paths, methods, content types, tokens, browsers.

use super::*;

fn get(path: &str) -> Request<Script> {
    Request::builder()
        .uri(path)
        .body(Script::default())
        .unwrap()
}

fn at(path: &str, mut request: Request<Script>) -> Request<Script> {
    *request.uri_mut() = path.parse().unwrap();
    request
}

fn typed(content_type: &str, version: Version) -> Request<Script> {
    let mut request = post_spans(Form::Grpc, 1);
    *request.version_mut() = version;
    let value = HeaderValue::from_str(content_type).unwrap();
    request.headers_mut().insert(header::CONTENT_TYPE, value);
    request
}

#[tokio::test]
async fn a_person_with_a_browser_is_told_what_is_here() {
    let rig = Rig::new();
    let seen = rig.send(get("/")).await;
    assert_eq!(seen.status, 404);
    assert_eq!(
        seen.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let words = String::from_utf8(seen.body.to_vec()).unwrap();
    assert!(
        words.contains("/v1/traces") && words.ends_with('\n'),
        "{words}"
    );
}

#[tokio::test]
async fn other_signals_are_told_that_only_traces_are_taken() {
    let rig = Rig::new();
    for (path, signal) in [
        ("/v1/metrics", "metrics"),
        ("/v1/logs", "logs"),
        ("/v1/profiles", "profiles"),
        ("/v1development/profiles", "profiles"),
    ] {
        let seen = rig.send(at(path, post_spans(Form::Json, 1))).await;
        assert_eq!(seen.status, 404);
        let words = seen.http_status().message;
        let said = format!("traces only: send {signal} elsewhere");
        assert!(words.contains(&said), "{words}");
    }
    for (service, signal) in [
        ("metrics.v1", "Metrics"),
        ("logs.v1", "Logs"),
        ("profiles.v1development", "Profiles"),
    ] {
        let path = format!("/opentelemetry.proto.collector.{service}.{signal}Service/Export");
        let status = rig.send(at(&path, post_spans(Form::Grpc, 1))).await.grpc();
        assert_eq!(status.code(), tonic::Code::Unimplemented);
        assert!(
            status.message().contains("traces only"),
            "{}",
            status.message()
        );
    }
    let status = rig
        .send(at(
            "/grpc.health.v1.Health/Check",
            post_spans(Form::Grpc, 1),
        ))
        .await
        .grpc();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(status.message().contains("nothing is at"), "{status}");
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let rig = Rig::new();
    for method in [Method::GET, Method::PUT, Method::OPTIONS, Method::DELETE] {
        let mut request = get("/v1/traces");
        *request.method_mut() = method;
        let seen = rig.send(request).await;
        assert_eq!(seen.status, 405);
        assert_eq!(seen.header("allow"), Some("POST"));
    }
    let mut request = post_spans(Form::Grpc, 1);
    *request.method_mut() = Method::GET;
    assert_eq!(rig.send(request).await.status, 405);
    let rig = Rig::with(|plan| plan.settings.cors_origins = vec!["*".into()]);
    assert_eq!(
        rig.send(get("/v1/traces")).await.header("allow"),
        Some("POST, OPTIONS")
    );
}

#[tokio::test]
async fn other_content_types_are_415_with_what_is_taken() {
    let rig = Rig::new();
    for content_type in [
        "text/plain",
        "application/protobuf",
        "application/jsonl",
        "",
        "multipart/form-data; boundary=x",
    ] {
        let request = at("/v1/traces", typed(content_type, Version::HTTP_11));
        let seen = rig.send(request).await;
        assert_eq!(seen.status, 415, "{content_type}");
        assert_eq!(
            seen.header("accept-post"),
            Some("application/x-protobuf, application/json")
        );
    }
    let mut request = post_spans(Form::Json, 1);
    request.headers_mut().remove(header::CONTENT_TYPE);
    let words = rig.send(request).await.body;
    assert!(words.starts_with(b"the content type is missing"));
}

#[tokio::test]
async fn parameters_and_letter_case_of_content_types_do_not_matter() {
    let rig = Rig::new();
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json;",
    ] {
        let mut request = post_spans(Form::Json, 1);
        let value = HeaderValue::from_static(content_type);
        request.headers_mut().insert(header::CONTENT_TYPE, value);
        assert_eq!(rig.send(request).await.status, 200, "{content_type}");
    }
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;x=y",
        "Application/Grpc",
    ] {
        let seen = rig.send(typed(content_type, Version::HTTP_2)).await;
        assert_eq!(seen.grpc().code(), tonic::Code::Ok, "{content_type}");
    }
}

#[tokio::test]
async fn relatives_of_grpc_are_refused_in_words() {
    let rig = Rig::new();
    let status = rig
        .send(typed("application/grpc+json", Version::HTTP_2))
        .await
        .grpc();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(
        status.message().contains("application/grpc+json"),
        "{}",
        status.message()
    );
    for content_type in ["application/grpc-web", "application/grpc-web-text+proto"] {
        let seen = rig.send(typed(content_type, Version::HTTP_11)).await;
        assert_eq!(seen.status, 415);
        assert!(seen.body.starts_with(b"gRPC-Web"));
    }
    let seen = rig.send(typed("application/grpc", Version::HTTP_11)).await;
    assert_eq!(seen.status, 505);
    assert!(seen.body.starts_with(b"gRPC needs HTTP/2"));
    let seen = rig
        .send(typed("application/x-protobuf", Version::HTTP_2))
        .await;
    assert_eq!(seen.status, 415);
    assert!(seen.http_status().message.contains("application/grpc"));
}

#[tokio::test]
async fn protobuf_over_http_2_and_with_a_query_is_taken() {
    let rig = Rig::new();
    let mut request = at("/v1/traces?key=1", post_spans(Form::Protobuf, 1));
    *request.version_mut() = Version::HTTP_2;
    assert_eq!(rig.send(request).await.status, 200);
}

#[tokio::test]
async fn without_the_token_nothing_is_read() {
    let tokens = Tokens::parse(&["s3cret".into(), "0ther".into()]).unwrap();
    let rig = Rig::with(|plan| plan.settings.tokens = tokens);
    let stalled = |form| post(form, Script::default().ending(End::Stalls));
    let seen = rig
        .send(stalled(Form::Json).with("authorization", "Bearer wrong"))
        .await;
    assert_eq!(seen.status, 401);
    assert_eq!(seen.header("www-authenticate"), Some("Bearer"));
    assert_eq!(seen.http_status().code, 16);
    let status = rig.send(stalled(Form::Grpc)).await.grpc();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    for token in ["s3cret", "0ther"] {
        let value = format!("Bearer {token}");
        let seen = rig
            .send(post_spans(Form::Grpc, 1).with("authorization", &value))
            .await;
        assert_eq!(seen.grpc().code(), tonic::Code::Ok);
    }
    assert!(!format!("{:?}", rig.service).contains("s3cret"));
}

fn preflight(origin: &str) -> Request<Script> {
    let mut request = get("/v1/traces")
        .with("origin", origin)
        .with("access-control-request-method", "POST")
        .with(
            "access-control-request-headers",
            "api-key,baggage,content-type,traceparent,x-api-key",
        );
    *request.method_mut() = Method::OPTIONS;
    request
}

#[tokio::test]
async fn browsers_may_send_from_the_origins_that_were_given() {
    let origin = "https://shop.example.com";
    let rig = Rig::with(|plan| plan.settings.cors_origins = vec![origin.into()]);
    let seen = Seen::read(rig.service.answer(Protocol::Otlp, preflight(origin)).await).await;
    assert_eq!(seen.status, 204);
    assert_eq!(seen.header("access-control-allow-origin"), Some(origin));
    assert_eq!(seen.header("access-control-allow-methods"), Some("POST"));
    let headers = seen.header("access-control-allow-headers").unwrap();
    assert!(headers.starts_with("content-type, content-encoding, authorization"));
    assert!(headers.ends_with("api-key, baggage, traceparent, x-api-key"));
    assert_eq!(seen.header("access-control-max-age"), Some("7200"));
    assert_eq!(seen.header("vary"), Some("origin"));
    assert_eq!(rig.requests(), 0, "a question beforehand is no request");

    let seen = rig
        .send(post_spans(Form::Json, 1).with("origin", origin))
        .await;
    assert_eq!(seen.header("access-control-allow-origin"), Some(origin));
    assert_eq!(seen.header("vary"), Some("origin"));
    let seen = rig
        .send(post(Form::Json, Script::of("nonsense")).with("origin", origin))
        .await;
    assert_eq!(
        seen.header("access-control-allow-origin"),
        Some(origin),
        "also of failures"
    );

    let other = Seen::read(
        rig.service
            .answer(Protocol::Otlp, preflight("https://other.example.com"))
            .await,
    )
    .await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    assert_eq!(other.header("access-control-allow-headers"), None);
    assert_eq!(other.header("vary"), Some("origin"));
}

#[tokio::test]
async fn a_star_lets_every_origin_send_and_the_question_needs_no_token() {
    let rig = Rig::with(|plan| {
        plan.settings.cors_origins = vec!["*".into()];
        plan.settings.tokens = Tokens::parse(&["s3cret".into()]).unwrap();
    });
    let seen = Seen::read(
        rig.service
            .answer(Protocol::Otlp, preflight("http://localhost:3000"))
            .await,
    )
    .await;
    assert_eq!(seen.status, 204);
    assert_eq!(seen.header("access-control-allow-origin"), Some("*"));
    let seen = rig
        .send(post_spans(Form::Json, 1).with("origin", "http://localhost:3000"))
        .await;
    assert_eq!(seen.status, 401);
    assert_eq!(seen.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn without_configuration_nothing_is_said_to_browsers() {
    let rig = Rig::new();
    assert_eq!(
        rig.send(preflight("https://shop.example.com")).await.status,
        405
    );
    let seen = rig
        .send(post_spans(Form::Json, 1).with("origin", "https://a.example"))
        .await;
    assert_eq!(seen.status, 200);
    let names = seen.headers.keys().map(|name| name.as_str());
    assert!(
        names
            .into_iter()
            .all(|name| !name.starts_with("access-control") && name != "vary")
    );
}
