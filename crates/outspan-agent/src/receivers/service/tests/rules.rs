//! The rules of OTLP for servers, by their numbers in our checklist: 74 to 85 for gRPC, 86 to 101 for HTTP; 1, 6 and 8
//! for both.

use outspan::wire::otlp::PartialSuccess;

use super::*;

async fn answer(rig: &Rig, form: Form, body: Vec<u8>) -> Seen {
    rig.send(post(form, Script::of(body))).await
}

/// A valid request of exactly so many bytes, whose form is protobuf: one span with a long name.
fn request_of_bytes(bytes: usize) -> Vec<u8> {
    let named = |length: usize| {
        let request = request_with(1, |_, span| span.name = "n".repeat(length));
        request.encode_to_vec()
    };
    let mut length = bytes;
    while named(length).len() > bytes {
        length -= named(length).len() - bytes;
    }
    let request = named(length);
    assert_eq!(request.len(), bytes);
    request
}

#[tokio::test]
async fn rule_1_plain_and_gzip_are_taken_over_both() {
    let rig = Rig::new();
    for form in FORMS {
        let plain = match form {
            Form::Grpc => request(2).encode_to_vec(),
            _ => encoded(form, &request(2)),
        };
        let gzip = bodies::gzip(&plain);
        let request = match form {
            Form::Grpc => {
                post(form, Script::of(message(true, &gzip))).with("grpc-encoding", "gzip")
            }
            _ => post(form, Script::of(gzip)).with("content-encoding", "gzip"),
        };
        let seen = rig.send(request).await;
        assert_eq!(seen.status, 200, "{form:?} {seen:?}");
        assert_eq!(rig.send(post_spans(form, 1)).await.status, 200);
    }
    assert_eq!(rig.delivered().await, 9);
}

#[tokio::test]
async fn rule_6_and_8_empty_envelopes_and_unknown_fields_are_no_trouble() {
    let rig = Rig::new();
    // An empty `ResourceSpans`, and field 1000 with a number, which nobody knows yet.
    let unknown = [0x0A, 0x00, 0xC0, 0x3E, 0x07];
    let body = [&unknown[..], &request(1).encode_to_vec()].concat();
    assert_eq!(
        answer(&rig, Form::Protobuf, body).await.http_response(),
        Default::default()
    );
    let json = br#"{"resourceSpans":[{}],"newThing":{"a":[1]}}"#.to_vec();
    assert_eq!(answer(&rig, Form::Json, json).await.status, 200);
    assert_eq!(rig.delivered().await, 1);
}

#[tokio::test]
async fn rule_74_and_89_the_limit_holds_after_decompression() {
    let limit = 20_000;
    let rig = Rig::with(|plan| plan.settings.max_request_bytes = limit);
    for (bytes, fits) in [(limit, true), (limit + 1, false)] {
        let gzip = bodies::gzip(&request_of_bytes(bytes));
        assert!(gzip.len() < 1000, "it compresses well");
        let grpc = post(Form::Grpc, Script::of(message(true, &gzip))).with("grpc-encoding", "gzip");
        let expected = if fits {
            tonic::Code::Ok
        } else {
            tonic::Code::ResourceExhausted
        };
        assert_eq!(rig.send(grpc).await.grpc().code(), expected);
        let http = post(Form::Protobuf, Script::of(gzip)).with("content-encoding", "gzip");
        assert_eq!(rig.send(http).await.status, if fits { 200 } else { 413 });

        let plain = request_of_bytes(bytes);
        let grpc = post(Form::Grpc, Script::of(message(false, &plain)));
        assert_eq!(rig.send(grpc).await.grpc().code(), expected);
        let says_nothing = Script::of(plain.clone());
        let says_its_size = Script::of(plain).saying(bytes as u64);
        for body in [says_nothing, says_its_size] {
            let http = post(Form::Protobuf, body);
            assert_eq!(rig.send(http).await.status, if fits { 200 } else { 413 });
        }
    }
    assert_eq!(rig.delivered().await, 5);
}

#[tokio::test]
async fn rule_75_too_large_over_grpc_is_resource_exhausted_without_retry_info() {
    let rig = Rig::with(|plan| plan.settings.max_request_bytes = 1000);
    // The prefix says it, so nothing more is read.
    let body = Script::of(message(false, &request_of_bytes(1001))).ending(End::Stalls);
    let status = rig.send(post(Form::Grpc, body)).await.grpc();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert!(status.get_details_retry_info().is_none());
    assert!(
        status.message().contains("1000 bytes"),
        "{}",
        status.message()
    );
    assert!(status.message().contains("--max-request-size"));
    assert_eq!(rig.counted(Transport::Grpc).refused_requests, 1);
}

#[tokio::test]
async fn rule_76_77_and_93_answers_are_bounded_by_cutting_their_words() {
    let rig = Rig::new();
    let long = "x".repeat(8000);
    let mut request = post_spans(Form::Protobuf, 1);
    *request.uri_mut() = format!("/{long}").parse().unwrap();
    let seen = rig.send(request).await;
    assert!(seen.body.len() < 1500, "{}", seen.body.len());

    let refused = PartialSuccess {
        rejected_spans: 7,
        error_message: "é\u{1F980}\u{7}".repeat(100_000),
    };
    for form in FORMS {
        let seen = Seen::read(form.partial_success(refused.clone())).await;
        assert!(seen.body.len() < 8 << 10);
        let response = match form {
            Form::Grpc => seen.grpc_response(),
            _ => seen.http_response(),
        };
        let partial = response.partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 7);
        assert!(partial.error_message.ends_with('…'), "cut, not left out");

        let mut failure = Failure::internal();
        failure.status.message = refused.error_message.clone();
        failure.status.retry_delay = Some(Duration::from_secs(1));
        let seen = Seen::read(form.failure(failure)).await;
        let headers: usize = seen
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        assert!(headers < 8 << 10, "{headers}");
        assert!(seen.body.len() < 8 << 10);
    }
}

#[tokio::test]
async fn rule_78_and_94_an_empty_request_succeeds() {
    let rig = Rig::new();
    let grpc = answer(&rig, Form::Grpc, message(false, b"")).await;
    assert_eq!(grpc.grpc_response(), Default::default());
    let protobuf = answer(&rig, Form::Protobuf, Vec::new()).await;
    assert_eq!(protobuf.http_response(), Default::default());
    for text in ["{}", r#"{"resourceSpans":[]}"#, " {} \n"] {
        let json = answer(&rig, Form::Json, text.into()).await;
        assert_eq!(json.http_response(), Default::default(), "{text}");
    }
    assert_eq!(rig.delivered().await, 0);
}

#[tokio::test]
async fn rule_79_full_success_over_grpc_leaves_partial_success_unset() {
    let rig = Rig::new();
    let seen = rig.send(post_spans(Form::Grpc, 3)).await;
    assert_eq!(seen.grpc_response().partial_success, None);
    assert_eq!(seen.body.as_ref(), [0; 5]);
    assert_eq!(
        seen.header("grpc-status"),
        None,
        "it comes behind the message"
    );
    assert_eq!(rig.delivered().await, 3);
}

#[tokio::test]
async fn rule_80_81_and_96_invalid_spans_are_told_with_reason_and_guidance_and_the_rest_is_accepted()
 {
    for form in FORMS {
        let rig = Rig::new();
        let seen = answer(&rig, form, encoded(form, &request_with_one_bad())).await;
        let response = match form {
            Form::Grpc => seen.grpc_response(),
            _ => seen.http_response(),
        };
        let partial = response.partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 1);
        let words = partial.error_message;
        assert!(
            words.starts_with("1 of 3 spans are invalid, the first is span 1 "),
            "{words}"
        );
        assert!(words.contains("trace_id is all zero"), "{words}");
        assert!(words.contains("a trace id has 16 bytes"), "{words}");
        let transport = if form == Form::Grpc {
            Transport::Grpc
        } else {
            Transport::Http
        };
        let counted = rig.counted(transport);
        assert_eq!(
            (counted.accepted_requests, counted.refused_requests),
            (1, 0)
        );
        assert_eq!((counted.accepted_spans, counted.refused_spans), (2, 1));
        assert_eq!(rig.delivered().await, 2);
    }
}

#[tokio::test]
async fn rule_82_a_warning_has_no_rejected_spans_and_says_something() {
    let rig = Rig::new();
    let text = r#"{"resource_spans":[{"scope_spans":[]}]}"#;
    let partial = answer(&rig, Form::Json, text.into())
        .await
        .http_response()
        .partial_success;
    let partial = partial.unwrap();
    assert_eq!(partial.rejected_spans, 0);
    assert!(
        partial.error_message.contains("resourceSpans"),
        "{}",
        partial.error_message
    );
}

#[tokio::test]
async fn rule_83_and_85_overload_over_grpc_is_unavailable_with_a_delay() {
    let rig = Rig::with(|plan| plan.queue = 2000);
    while rig.send(post_spans(Form::Grpc, 1)).await.grpc().code() == tonic::Code::Ok {}
    let status = rig.send(post_spans(Form::Grpc, 1)).await.grpc();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let delay = status
        .get_details_retry_info()
        .unwrap()
        .retry_delay
        .unwrap();
    assert!((Duration::from_secs(1)..=Duration::from_secs(5)).contains(&delay));
}

#[tokio::test]
async fn rule_84_bad_data_over_grpc_is_invalid_argument_and_says_where() {
    let rig = Rig::new();
    let mut bad = request_with(2, |_, _| {}).encode_to_vec();
    let broken = bad.len() - 1;
    bad.truncate(broken);
    let status = answer(&rig, Form::Grpc, message(false, &bad)).await.grpc();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("at byte"), "{}", status.message());
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1);
    assert!(
        violations[0].field.contains("resource_spans"),
        "{violations:?}"
    );
    assert!(
        violations[0].description.contains("beyond the end"),
        "{violations:?}"
    );
    assert_eq!(rig.counted(Transport::Grpc).refused_requests, 1);
}

#[tokio::test]
async fn rule_86_87_and_91_one_address_takes_all_and_answers_in_the_form_that_was_sent() {
    let rig = Rig::new();
    for (form, content_type) in [
        (Form::Grpc, "application/grpc"),
        (Form::Protobuf, "application/x-protobuf"),
        (Form::Json, "application/json"),
    ] {
        let seen = rig.send(post_spans(form, 1)).await;
        assert_eq!(seen.header("content-type"), Some(content_type));
        match form {
            Form::Grpc => drop(seen.grpc_response()),
            _ => drop(seen.http_response()),
        }
        let seen = answer(&rig, form, b"\xFFnonsense".into()).await;
        assert_eq!(seen.header("content-type"), Some(content_type));
    }
    assert_eq!(rig.delivered().await, 3);
}

#[tokio::test]
async fn rule_88_gzip_is_taken_in_any_spelling() {
    let rig = Rig::new();
    for name in ["gzip", "GZIP", " gzip ", "x-gzip", "identity, gzip"] {
        let body = bodies::gzip(&request(1).encode_to_vec());
        let seen = rig
            .send(post(Form::Protobuf, Script::of(body)).with("content-encoding", name))
            .await;
        assert_eq!(seen.status, 200, "{name}");
    }
}

#[tokio::test]
async fn rule_90_too_large_over_http_is_413_and_says_which_bound() {
    let rig = Rig::with(|plan| plan.settings.max_request_bytes = 1000);
    for form in HTTP_FORMS {
        // Said beforehand, and found out.
        for body in [Script::of(vec![0; 1001]), Script::cut(&[0; 1001], 100)] {
            let seen = rig.send(post(form, body.ending(End::Stalls))).await;
            assert_eq!(seen.status, 413);
            let status = seen.http_status();
            assert_eq!(status.code, 8);
            assert_eq!(status.delay, None);
            assert!(status.message.contains("1000 bytes"), "{}", status.message);
            assert_eq!(seen.header("retry-after"), None);
            assert_eq!(
                seen.header("connection"),
                Some("close"),
                "the rest is not read"
            );
        }
    }
}

#[tokio::test]
async fn rule_92_answers_are_never_compressed() {
    let rig = Rig::new();
    let seen = rig
        .send(post_spans(Form::Json, 1).with("accept-encoding", "gzip"))
        .await;
    assert_eq!(seen.header("content-encoding"), None);
    assert_eq!(seen.body, "{}");
}

#[tokio::test]
async fn rule_95_success_and_partial_success_over_http_are_200_with_a_response() {
    let rig = Rig::new();
    for form in HTTP_FORMS {
        let seen = rig.send(post_spans(form, 2)).await;
        assert_eq!(seen.http_response().partial_success, None);
        assert_eq!(seen.header("connection"), None);
        let seen = answer(&rig, form, encoded(form, &request_with_one_bad())).await;
        assert_eq!(
            seen.http_response().partial_success.unwrap().rejected_spans,
            1
        );
    }
}

#[tokio::test]
async fn rule_97_and_98_every_failure_over_http_has_a_status_in_the_form_of_the_request() {
    let tokens = Tokens::parse(&["s3cret".into()]).unwrap();
    let rig = Rig::with(|plan| plan.settings.tokens = tokens);
    for form in HTTP_FORMS {
        let with_path = |path: &str| {
            let mut request = post_spans(form, 1);
            *request.uri_mut() = path.parse().unwrap();
            request
        };
        let with_method = |method: Method| {
            let mut request = post_spans(form, 1);
            *request.method_mut() = method;
            request
        };
        let allowed = || post(form, Script::of("\u{1}")).with("authorization", "Bearer s3cret");
        for (request, expected) in [
            (with_path("/"), 404),
            (with_path("/v1/metrics"), 404),
            (with_method(Method::PUT), 405),
            (post_spans(form, 1), 401),
            (allowed().with("content-encoding", "br"), 415),
            (allowed(), 400),
        ] {
            let seen = rig.send(request).await;
            assert_eq!(seen.status, expected);
            let status = seen.http_status();
            assert!(!status.message.is_empty());
            assert_ne!(status.code, 0);
        }
    }
}

#[tokio::test]
async fn rule_99_bad_data_over_http_is_400_with_the_place() {
    let rig = Rig::new();
    let seen = answer(&rig, Form::Protobuf, vec![0x0A, 0x05, 0x12]).await;
    assert_eq!(seen.status, 400);
    let status = seen.http_status();
    assert_eq!(status.code, 3);
    assert!(status.message.ends_with("at byte 1"), "{}", status.message);
    assert!(
        status.violations[0].0.contains("resource_spans"),
        "{:?}",
        status.violations
    );

    let text = "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[\n {\"traceId\":\"xyz\"}]}]}]}";
    let seen = answer(&rig, Form::Json, text.into()).await;
    assert_eq!(seen.status, 400);
    let status = seen.http_status();
    assert!(
        status.message.contains("line 2, column"),
        "{}",
        status.message
    );
    assert_eq!(
        status.violations[0].0,
        "resourceSpans[0].scopeSpans[0].spans[0].traceId"
    );
}

#[tokio::test]
async fn rule_100_overload_over_http_is_503_with_whole_seconds() {
    for form in HTTP_FORMS {
        let rig = Rig::with(|plan| plan.queue = 2000);
        while rig.send(post_spans(form, 1)).await.status == 200 {}
        let seen = rig.send(post_spans(form, 1)).await;
        assert_eq!(seen.status, 503);
        let seconds: u64 = seen.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=5).contains(&seconds));
        let status = seen.http_status();
        assert_eq!((status.code, status.delay), (14, Some(seconds as f64)));
    }
}

#[tokio::test]
async fn rule_100_a_part_of_a_second_is_waited_as_a_whole_one() {
    for (delay, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (4200, "5")] {
        let refusal = Refusal::Full {
            retry_after: Duration::from_millis(delay),
        };
        let seen = Seen::read(Form::Json.failure(refusal.into())).await;
        assert_eq!(seen.header("retry-after"), Some(seconds));
    }
}

#[tokio::test(start_paused = true)]
async fn rule_101_codes_make_senders_do_what_is_wanted() {
    // Slow: come again.
    let rig = Rig::new();
    for form in FORMS {
        let body = Script::pieces([encoded(form, &request(1))[..7].to_vec()]).ending(End::Stalls);
        let seen = rig.send(post(form, body)).await;
        match form {
            Form::Grpc => assert_eq!(seen.grpc().code(), tonic::Code::DeadlineExceeded),
            _ => {
                assert_eq!(seen.status, 503, "408 is not tried again");
                assert_eq!(seen.header("retry-after"), Some("1"));
            }
        }
    }
    assert_eq!(rig.counted(Transport::Grpc).broken_requests, 1);
    assert_eq!(rig.counted(Transport::Http).broken_requests, 2);
    // Stopping: come again. Malformed, too large: never (rules 75, 84, 90, 99).
    rig.pipeline.shutdown(outspan_testkit::soon()).await;
    assert_eq!(
        rig.send(post_spans(Form::Grpc, 1)).await.grpc().code(),
        tonic::Code::Unavailable
    );
    let seen = rig.send(post_spans(Form::Json, 1)).await;
    assert_eq!(
        (seen.status.as_u16(), seen.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(
        rig.counted(Transport::Http).deferred_spans,
        0,
        "it was not read"
    );
}
