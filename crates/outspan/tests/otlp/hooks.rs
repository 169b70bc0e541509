//! Headers, header providers and interceptors.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan::Deadline;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Result;
use outspan::Retry;
use outspan::Secret;
use outspan::otlp::OutgoingRequest;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Gate;
use outspan_testkit::batch_of;
use outspan_testkit::span_ids;

use crate::support::Wire;
use crate::support::export;

over_each_wire![
    headers_are_sent,
    the_provider_is_asked_at_each_attempt,
    an_unknown_token_is_refreshed_once,
    a_token_that_stays_unknown_is_refreshed_only_once,
    without_a_provider_an_unknown_token_is_final,
    a_rotating_token_is_followed,
    a_provider_that_fails_fails_the_attempt,
    a_provider_that_hangs_ends_with_the_deadline,
    a_provider_s_bad_header_is_named,
    an_interceptor_signs_what_is_sent,
    an_interceptor_changes_the_body,
    an_interceptor_that_fails_fails_the_attempt,
    an_interceptor_cannot_break_the_protocol,
    an_interceptor_signs_again_at_each_attempt,
];

type Given = Result<Vec<(String, Secret)>>;

fn authorization(value: impl Into<Secret>) -> Given {
    Ok(vec![("authorization".to_owned(), value.into())])
}

async fn headers_are_sent(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire
        .to_collector(&collector)
        .header("x-tenant", "first")
        .header("X-Tenant", "second")
        .headers([("x-one", "1"), ("x-two", "2")])
        .build()
        .unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();

    let requests = collector.requests();
    let tenants: Vec<_> = requests[0].headers.get_all("x-tenant").iter().collect();
    assert_eq!(tenants, ["second"]);
    assert_eq!(requests[0].header("x-one"), Some("1"));
    assert_eq!(requests[0].header("x-two"), Some("2"));
}

async fn the_provider_is_asked_at_each_attempt(wire: Wire) {
    let collector = wire.collector();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&asked);
    let exporter = wire
        .to_collector(&collector)
        .header("authorization", "fixed")
        .header("x-fixed", "stays")
        .header_provider(move |refresh| {
            let mut asked = record.lock().unwrap();
            asked.push(refresh);
            let value = format!("asked {} times", asked.len());
            async move { authorization(value) }
        })
        .build()
        .unwrap()
        .retry(Retry::default().initial_interval(Duration::from_millis(1)));
    collector.script([
        Answer::refuse(AnswerCode::UNAVAILABLE, "not now"),
        Answer::refuse(AnswerCode::UNAVAILABLE, "not now"),
    ]);
    let delivery = export(&exporter, &batch_of(1)).await.unwrap();

    assert_eq!(delivery.attempt.attempts, 3);
    assert_eq!(*asked.lock().unwrap(), [false, false, false]);
    for (request, number) in collector.requests().iter().zip(1..) {
        let expected = format!("asked {number} times");
        assert_eq!(request.header("authorization"), Some(expected.as_str()));
        assert_eq!(request.header("x-fixed"), Some("stays"));
    }
}

async fn an_unknown_token_is_refreshed_once(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::require_header("authorization", "Bearer new"));
    let exporter = wire
        .to_collector(&collector)
        .header_provider(|refresh| async move {
            authorization(if refresh { "Bearer new" } else { "Bearer old" })
        })
        .build()
        .unwrap();
    let batch = batch_of(3);
    let delivery = export(&exporter, &batch).await.unwrap();

    assert_eq!((delivery.accepted, delivery.attempt.attempts), (3, 2));
    let requests = collector.requests();
    let sent: usize = requests.iter().map(|request| request.wire_bytes).sum();
    assert_eq!(delivery.attempt.wire_bytes, sent as u64);
    assert_eq!(requests[0].header("authorization"), Some("Bearer old"));
    assert_eq!(collector.span_ids(), span_ids(&batch));
}

async fn a_token_that_stays_unknown_is_refreshed_only_once(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::refuse(AnswerCode::UNAUTHENTICATED, "who are you"));
    let exporter = wire
        .to_collector(&collector)
        .header_provider(|_| async { authorization("Bearer unknown") })
        .build()
        .unwrap()
        .retry(Retry::default());
    let error = export(&exporter, &batch_of(1)).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(!error.is_temporary());
    assert_eq!(error.attempt().attempts, 2);
    assert_eq!(collector.requests().len(), 2);
    let text = error.to_string();
    assert!(text.contains("who are you"), "{text}");
    assert!(text.contains("check the token"), "{text}");
}

async fn without_a_provider_an_unknown_token_is_final(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::require_header("authorization", "Bearer right"));
    let builder = wire.to_collector(&collector);
    let exporter = builder.header("authorization", "Bearer wrong");
    let error = export(&exporter.build().unwrap(), &batch_of(1))
        .await
        .unwrap_err();
    assert_eq!(
        (error.attempt().attempts, collector.requests().len()),
        (1, 1)
    );
    assert!(!error.is_temporary());
}

/// The token changes at the server with every second request; no span is lost over it.
async fn a_rotating_token_is_followed(wire: Wire) {
    let collector = wire.collector();
    let requests = Arc::new(AtomicU64::new(0));
    let served = Arc::clone(&requests);
    let valid = |requests: u64| format!("token {}", requests / 2);
    collector.always(Answer::decide(move |request| {
        let wanted = valid(served.load(Ordering::SeqCst));
        if request.header("authorization") != Some(&wanted) {
            return Answer::refuse(AnswerCode::UNAUTHENTICATED, "old token");
        }
        served.fetch_add(1, Ordering::SeqCst);
        Answer::Accept
    }));
    let cached = Arc::new(Mutex::new("none".to_owned()));
    let exporter = wire
        .to_collector(&collector)
        .header_provider(move |refresh| {
            let mut cached = cached.lock().unwrap();
            if refresh {
                *cached = valid(requests.load(Ordering::SeqCst));
            }
            let value = cached.clone();
            async move { authorization(value) }
        })
        .build()
        .unwrap();
    for round in 0..10 {
        let delivery = export(&exporter, &batch_of(2)).await.unwrap();
        let expected = if round % 2 == 0 { 2 } else { 1 };
        assert_eq!(
            (delivery.accepted, delivery.attempt.attempts),
            (2, expected)
        );
    }
    assert_eq!(collector.span_count(), 20);
}

async fn a_provider_that_fails_fails_the_attempt(wire: Wire) {
    let collector = wire.collector();
    for temporary in [true, false] {
        let exporter = wire
            .to_collector(&collector)
            .header_provider(move |_| async move {
                Err(Error::internal("the vault is locked").with_temporary(temporary))
            })
            .build()
            .unwrap();
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.to_string().contains("the vault is locked"), "{error}");
        assert_eq!(error.is_temporary(), temporary);
    }
    assert_eq!(collector.connections(), 0);
}

async fn a_provider_that_hangs_ends_with_the_deadline(wire: Wire) {
    let collector = wire.collector();
    let gate = Gate::new();
    let held = gate.clone();
    let exporter = wire
        .to_collector(&collector)
        .header_provider(move |_| {
            let held = held.clone();
            async move {
                held.passed().await;
                authorization("late")
            }
        })
        .build()
        .unwrap();
    let until = Deadline::after(Duration::from_millis(50)).named("patience");
    let error = exporter.export(batch_of(1), until).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("patience"), "{error}");
    gate.open();
    export(&exporter, &batch_of(1)).await.unwrap();
}

async fn a_provider_s_bad_header_is_named(wire: Wire) {
    let collector = wire.collector();
    for (name, value, said) in [
        ("bad name", "x", "invalid header name \"bad name\""),
        ("x-key", "line\nbreak", "x-key"),
        ("content-type", "x", "content-type"),
    ] {
        let exporter = wire
            .to_collector(&collector)
            .header_provider(move |_| async move { Ok(vec![(name.to_owned(), value.into())]) })
            .build()
            .unwrap();
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.to_string().contains("break"), "{error}");
    }
    assert_eq!(collector.requests().len(), 0);
}

/// A signature over method, URL and body; a stand-in for HMAC, which works the same way.
fn signature(url: &str, body: &[u8]) -> String {
    const KEY: &[u8] = b"shared key";

    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in [KEY, b"POST", url.as_bytes(), body].concat() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{state:016x}")
}

fn sign(request: &mut OutgoingRequest<'_>) -> Result<()> {
    assert_eq!(request.method(), "POST");
    let signed = signature(request.url(), request.body());
    request.set_header("x-signature", signed)
}

async fn an_interceptor_signs_what_is_sent(wire: Wire) {
    let collector = wire.collector();
    let path = match wire {
        Wire::Grpc => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        _ => "/v1/traces",
    };
    let url = format!("{}{path}", collector.endpoint());
    collector.always(Answer::decide(move |request| {
        let expected = signature(&url, &request.message);
        if request.header("x-signature") == Some(&expected) {
            return Answer::Accept;
        }
        Answer::refuse(AnswerCode::PERMISSION_DENIED, "wrong signature")
    }));
    let builder = wire.to_collector(&collector);
    let exporter = builder.interceptor(sign).build().unwrap();
    export(&exporter, &batch_of(3)).await.unwrap();

    let without = export(&wire.exporter(&collector), &batch_of(1)).await;
    assert!(without.unwrap_err().to_string().contains("wrong signature"));
}

async fn an_interceptor_changes_the_body(wire: Wire) {
    let collector = wire.collector();
    let other = batch_of(2);
    let other_body = match wire {
        Wire::HttpJson => other.to_json(),
        _ => other.as_request().to_vec(),
    };
    let body_bytes = other_body.len() as u64;
    let exporter = wire
        .to_collector(&collector)
        .interceptor(move |request: &mut OutgoingRequest<'_>| {
            assert!(request.header("user-agent").is_some());
            let content_type = request.header("content-type").unwrap();
            assert!(content_type.starts_with("application/"), "{content_type}");
            assert_eq!(request.header("x-absent"), None);
            request.set_body(other_body.clone());
            Ok(())
        })
        .build()
        .unwrap();
    let delivery = export(&exporter, &batch_of(3)).await.unwrap();
    assert_eq!(collector.span_ids(), span_ids(&other));
    assert_eq!(delivery.attempt.wire_bytes, body_bytes);
}

async fn an_interceptor_that_fails_fails_the_attempt(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire
        .to_collector(&collector)
        .interceptor(|_: &mut OutgoingRequest<'_>| Err(Error::config("no key to sign with")))
        .build()
        .unwrap();
    let error = export(&exporter, &batch_of(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no key to sign with"), "{error}");
    assert_eq!(error.attempt().wire_bytes, 0);
    assert_eq!(collector.connections(), 0);
}

async fn an_interceptor_cannot_break_the_protocol(wire: Wire) {
    let collector = wire.collector();
    for name in ["content-type", "Content-Length", "te", "grpc-encoding"] {
        let exporter = wire
            .to_collector(&collector)
            .interceptor(move |request: &mut OutgoingRequest<'_>| request.set_header(name, "x"))
            .build()
            .unwrap();
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{name}");
        let error = wire.to_collector(&collector).header(name, "x").build();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Config, "{name}");
    }
}

async fn an_interceptor_signs_again_at_each_attempt(wire: Wire) {
    let collector = wire.collector();
    collector.script([Answer::refuse(AnswerCode::UNAVAILABLE, "not now")]);
    let attempts = AtomicUsize::new(0);
    let exporter = wire
        .to_collector(&collector)
        .interceptor(move |request: &mut OutgoingRequest<'_>| {
            let number = attempts.fetch_add(1, Ordering::SeqCst);
            request.set_header("x-attempt", number.to_string())
        })
        .build()
        .unwrap()
        .retry(Retry::default().initial_interval(Duration::from_millis(1)));
    export(&exporter, &batch_of(1)).await.unwrap();
    let requests = collector.requests();
    let numbers: Vec<_> = requests.iter().map(|r| r.header("x-attempt")).collect();
    assert_eq!(numbers, [Some("0"), Some("1")]);
}
