//! Room: before the body is read, while it is, and afterwards.

use std::task::Waker;

use proptest::prelude::*;

use super::bodies::gzip;
use super::bodies::zstd_with_window;
use super::*;

/// Takes all of the intake but `free` bytes.
fn take_all_but(rig: &Rig, free: usize) -> Taken {
    let mut others = rig.intake.begin();
    assert!(others.grow(rig.intake.free() - free));
    others
}

#[tokio::test]
async fn with_a_full_intake_senders_are_told_to_come_back_and_nothing_leaks() {
    let rig = Rig::new();
    let others = take_all_but(&rig, 100);
    for form in FORMS {
        let response = rig
            .service
            .answer(Protocol::Otlp, post_spans(form, 10))
            .await;
        let seen = Seen::read(response).await;
        match form {
            Form::Grpc => {
                let status = seen.grpc();
                assert_eq!(status.code(), tonic::Code::Unavailable);
                assert!(status.get_details_retry_info().is_some());
            }
            _ => {
                assert_eq!(seen.status, 503);
                assert_eq!(seen.header("retry-after"), Some("1"));
            }
        }
        assert_eq!(rig.intake.used(), others.bytes());
    }
    drop(others);
    for form in FORMS {
        assert_eq!(rig.send(post_spans(form, 10)).await.status, 200);
    }
    let grpc = rig.counted(Transport::Grpc);
    assert_eq!((grpc.deferred_requests, grpc.accepted_requests), (1, 1));
    let http = rig.counted(Transport::Http);
    assert_eq!((http.deferred_requests, http.accepted_requests), (2, 2));
    assert_eq!((http.accepted_spans, http.deferred_spans), (20, 0));
    assert_eq!(rig.delivered().await, 30);
}

#[tokio::test]
async fn a_claim_takes_its_room_at_once_while_there_is_plenty_and_later_only_what_arrived() {
    let rig = Rig::with(|plan| plan.memory = 1 << 20);
    let claim = || {
        let body = Script::pieces([vec![0x0A; 100]])
            .saying(400 << 10)
            .ending(End::Stalls);
        post(Form::Protobuf, body)
    };
    let mut context = Context::from_waker(Waker::noop());
    let mut first = std::pin::pin!(rig.service.answer(Protocol::Otlp, claim()));
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert_eq!(rig.intake.used(), 400 << 10);
    let mut second = std::pin::pin!(rig.service.answer(Protocol::Otlp, claim()));
    assert!(second.as_mut().poll(&mut context).is_pending());
    assert_eq!(rig.intake.used(), (400 << 10) + 100);
}

#[tokio::test]
async fn a_large_request_grows_into_what_is_left() {
    let rig = Rig::with(|plan| plan.settings.max_request_bytes = 8 << 20);
    let body = request_with(100, |_, span| span.name = "n".repeat(50_000)).encode_to_vec();
    let others = take_all_but(&rig, body.len() + (64 << 10));
    let script = Script::cut(&body, 16 << 10).saying(body.len() as u64);
    let response = rig
        .service
        .answer(Protocol::Otlp, post(Form::Protobuf, script))
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(rig.intake.used(), others.bytes());
}

#[tokio::test]
async fn a_full_queue_is_said_before_the_body_is_read() {
    let rig = Rig::with(|plan| plan.queue = 3000);
    while rig.send(post_spans(Form::Protobuf, 2)).await.status == 200 {}
    let before = rig.counted(Transport::Http);
    let body = Script::default().saying(2000).ending(End::Stalls);
    assert_eq!(rig.send(post(Form::Protobuf, body)).await.status, 503);
    let prefix = Prefix {
        compressed: false,
        length: 2000,
    };
    let body = Script::pieces([prefix.write().to_vec()]).ending(End::Stalls);
    let status = rig.send(post(Form::Grpc, body)).await.grpc();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let after = rig.counted(Transport::Http);
    assert_eq!(after.deferred_requests, before.deferred_requests + 1);
}

#[tokio::test]
async fn spans_that_were_read_for_nothing_are_counted_as_deferred() {
    let rig = Rig::with(|plan| plan.queue = 2000);
    // Without a length nothing is known before it is read.
    let body = request(3).encode_to_vec();
    loop {
        let seen = rig.send(post(Form::Protobuf, Script::cut(&body, 50))).await;
        if seen.status != 200 {
            break;
        }
    }
    let counted = rig.counted(Transport::Http);
    assert_eq!((counted.deferred_requests, counted.deferred_spans), (1, 3));
    assert_eq!(counted.accepted_spans, 3 * counted.accepted_requests);
}

#[tokio::test]
async fn what_no_queue_can_ever_hold_is_too_large() {
    let rig = Rig::with(|plan| plan.queue = 4000);
    let large = request_with(1, |_, span| span.name = "n".repeat(4000)).encode_to_vec();
    for body in [Script::of(large.clone()), Script::cut(&large, 500)] {
        let seen = rig.send(post(Form::Protobuf, body)).await;
        assert_eq!(seen.status, 413);
        assert!(
            seen.http_status()
                .message
                .contains("4000 bytes, which no destination")
        );
    }
    assert_eq!(rig.counted(Transport::Http).refused_spans, 1);
    // JSON shrinks, so the length of its text says nothing.
    let json = encoded(Form::Json, &request(8));
    assert!(json.len() < 4000 && json.len() > 2000);
    assert_eq!(
        rig.send(post(Form::Json, Script::of(json))).await.status,
        200
    );
}

#[tokio::test]
async fn json_that_needs_more_than_there_is_in_all_is_too_large() {
    let rig = Rig::with(|plan| plan.memory = 10_000);
    let seen = rig
        .send(post(Form::Json, Script::of(vec![b' '; 5001])))
        .await;
    assert_eq!(seen.status, 413);
    let json = encoded(Form::Json, &request(8));
    assert_eq!(
        rig.send(post(Form::Json, Script::of(json))).await.status,
        200
    );
}

#[tokio::test]
async fn spans_that_nobody_took_are_counted_with_the_invalid_ones_beside_them() {
    let rig = Rig::with(|plan| plan.queue = 2000);
    let body = request_with_one_bad().encode_to_vec();
    while rig
        .send(post(Form::Protobuf, Script::cut(&body, 50)))
        .await
        .status
        == 200
    {}
    assert_eq!(rig.counted(Transport::Http).deferred_spans, 3);

    let rig = Rig::with(|plan| plan.queue = 2000);
    let large = request_with(4, |number, span| match number {
        0 => span.trace_id = vec![0; 16],
        _ => span.name = "n".repeat(1000),
    });
    let body = Script::cut(&large.encode_to_vec(), 500);
    assert_eq!(rig.send(post(Form::Protobuf, body)).await.status, 413);
    assert_eq!(rig.counted(Transport::Http).refused_spans, 4);
}

/// What a sender of so many bytes hears which never come.
async fn heard_without_a_body(rig: &Rig, form: Form, declared: usize) -> String {
    let body = Script::default()
        .saying(declared as u64)
        .ending(End::Stalls);
    rig.send(post(form, body)).await.http_status().message
}

const READ: &str = "the request did not arrive";

#[tokio::test(start_paused = true)]
async fn a_length_that_can_never_fit_is_said_before_the_body_is_read() {
    let rig = Rig::with(|plan| plan.queue = 4000);
    let heard = heard_without_a_body(&rig, Form::Protobuf, 4000).await;
    assert!(heard.starts_with(READ), "{heard}");
    let heard = heard_without_a_body(&rig, Form::Protobuf, 4001).await;
    assert!(heard.contains("which no destination"), "{heard}");

    // JSON needs room twice: as it came, and for what it becomes.
    let rig = Rig::with(|plan| plan.memory = 10_000);
    let heard = heard_without_a_body(&rig, Form::Json, 5000).await;
    assert!(heard.starts_with(READ), "{heard}");
    let heard = heard_without_a_body(&rig, Form::Json, 5001).await;
    assert!(heard.contains("5000 bytes"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn json_is_expected_to_become_a_quarter_of_its_length() {
    let rig = Rig::with(|plan| plan.queue = 20_000);
    let large = request_with(1, |_, span| span.name = "n".repeat(16_000));
    let body = Script::of(large.encode_to_vec());
    assert_eq!(rig.send(post(Form::Protobuf, body)).await.status, 200);
    let fits = |bytes: &usize| rig.pipeline.check(*bytes).is_ok();
    let free = (0..20_000).rev().find(fits).unwrap();
    assert!((1000..4000).contains(&free), "{free}");

    let heard = heard_without_a_body(&rig, Form::Json, free * 4 + 3).await;
    assert!(heard.starts_with(READ), "{heard}");
    let heard = heard_without_a_body(&rig, Form::Json, free * 4 + 4).await;
    assert!(heard.contains("no destination has room"), "{heard}");
    // What is kept as it comes is not guessed at.
    let heard = heard_without_a_body(&rig, Form::Protobuf, free + 1).await;
    assert!(heard.contains("no destination has room"), "{heard}");
}

#[tokio::test]
async fn a_guess_alone_sends_nobody_away_for_good() {
    let rig = Rig::with(|plan| plan.queue = 4000);
    let mut spaced = encoded(Form::Json, &request(1));
    spaced.resize(20_000, b' ');
    let seen = rig.send(post(Form::Json, Script::of(spaced))).await;
    assert_eq!(seen.status, 200, "{seen:?}");

    // A content that its compression only lengthens.
    let mut members = gzip(&request(1).encode_to_vec());
    while members.len() <= 4000 {
        members.extend(gzip(b""));
    }
    let request = post(Form::Protobuf, Script::of(members)).with("content-encoding", "gzip");
    let seen = rig.send(request).await;
    assert_eq!(seen.status, 200, "{seen:?}");
}

/// The status of an answer while others have taken all of the memory but `free` bytes.
async fn status_with(rig: &Rig, free: usize, request: Request<Script>) -> u16 {
    let others = take_all_but(rig, free);
    let response = rig.service.answer(protocol_of(&request), request).await;
    assert_eq!(rig.intake.used(), others.bytes());
    response.status().as_u16()
}

#[tokio::test]
async fn who_needs_more_than_there_will_ever_be_is_told_so_and_others_come_back() {
    let rig = Rig::with(|plan| plan.memory = 1 << 20);
    let all = 1 << 20;
    let plain = |bytes: usize| {
        let encoded = request_with(1, |_, span| span.name = "n".repeat(bytes)).encode_to_vec();
        assert!(encoded.len() < bytes + 200);
        encoded
    };
    let sent = |encoding, body: Vec<u8>| {
        post(Form::Protobuf, Script::of(body)).with("content-encoding", encoding)
    };
    // Decompressing takes 64 KiB besides.
    let much = || sent("gzip", gzip(&plain(all - (32 << 10))));
    assert_eq!(rig.send(much()).await.status, 413);
    let little = || sent("gzip", gzip(&plain(300 << 10)));
    assert_eq!(rig.send(little()).await.status, 200);
    assert_eq!(status_with(&rig, 200 << 10, little()).await, 503);

    // A second frame needs its window besides what came out of the first: 704 KiB.
    let frames = |bytes| {
        [
            zstd_with_window(&plain(bytes), 10),
            zstd_with_window(&plain(1), 17),
        ]
        .concat()
    };
    let much = || sent("zstd", frames(400 << 10));
    assert_eq!(rig.send(much()).await.status, 413);
    let little = || sent("zstd", frames(200 << 10));
    assert_eq!(rig.send(little()).await.status, 200);
    assert_eq!(status_with(&rig, 600 << 10, little()).await, 503);
}

#[tokio::test]
async fn who_needs_exactly_what_there_is_may_come_back() {
    let body = encoded(Form::Protobuf, &request(3));
    let json = encoded(Form::Json, &request(3));
    let held = Spans::read(Form::Protobuf, body.clone().into()).unwrap();
    let held = held.batch.memory();
    assert!(held > body.len());
    for (form, body, needed) in [
        (Form::Protobuf, body.clone(), held),
        (Form::Json, json.clone(), held.max(2 * json.len())),
    ] {
        let rig = Rig::with(|plan| plan.memory = needed);
        let whole = || post(form, Script::of(body.clone()));
        assert_eq!(status_with(&rig, needed - 1, whole()).await, 503);
        assert_eq!(rig.send(whole()).await.status, 200);
        let rig = Rig::with(|plan| plan.memory = needed - 1);
        assert_eq!(rig.send(whole()).await.status, 413);
    }
    // What is there is enough for the bytes alone, and never for what they become.
    let rig = Rig::with(|plan| plan.memory = body.len());
    let seen = rig.send(post(Form::Protobuf, Script::of(body))).await;
    assert_eq!(seen.status, 413);
}

#[tokio::test(start_paused = true)]
async fn only_who_gets_spans_in_waits_while_queues_are_crowded() {
    let rig = Rig::with(|plan| plan.queue = 100_000);
    let large = request_with(1, |_, span| span.name = "n".repeat(20_000));
    let start = tokio::time::Instant::now();
    let body = Script::of(large.encode_to_vec());
    assert_eq!(rig.send(post(Form::Protobuf, body)).await.status, 200);
    assert_eq!(start.elapsed().as_millis() / 10, 10);

    let start = tokio::time::Instant::now();
    let body = Script::of(&b"nonsense"[..]);
    assert_eq!(rig.send(post(Form::Protobuf, body)).await.status, 400);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_stopping_agent_sends_everybody_away_for_a_moment() {
    let rig = Rig::new();
    rig.pipeline.shutdown(outspan_testkit::soon()).await;
    for form in FORMS {
        let seen = rig.send(post_spans(form, 1)).await;
        match form {
            Form::Grpc => assert_eq!(seen.grpc().code(), tonic::Code::Unavailable),
            _ => assert_eq!(seen.status, 503),
        }
    }
}

#[tokio::test]
async fn a_request_that_its_sender_gives_up_is_broken_and_gives_everything_back() {
    let rig = Rig::new();
    for form in FORMS {
        let body = Script::pieces([vec![0, 0, 0, 1, 0, 0x0A, 1, 0]]).ending(End::Stalls);
        let mut answer = Box::pin(rig.service.answer(Protocol::Otlp, post(form, body)));
        assert!(
            answer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert!(rig.intake.used() > 0);
        drop(answer);
        assert_eq!(rig.intake.used(), 0);
    }
    assert_eq!(rig.counted(Transport::Grpc).broken_requests, 1);
    assert_eq!(rig.counted(Transport::Http).broken_requests, 2);
    assert_eq!(rig.counted(Transport::Http).bytes, 16);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_broken() {
    let rig = Rig::new();
    for form in FORMS {
        let body = Script::pieces([vec![0, 0, 0, 0, 9, 1]]).ending(End::Error);
        let seen = rig.send(post(form, body)).await;
        match form {
            Form::Grpc => assert_eq!(seen.grpc().code(), tonic::Code::Cancelled),
            _ => assert_eq!(seen.status, 400),
        }
    }
    assert_eq!(rig.counted(Transport::Grpc).broken_requests, 1);
    assert_eq!(rig.counted(Transport::Http).broken_requests, 2);
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_time_limit_holds_if_it_is_shorter() {
    let rig = Rig::new();
    for (timeout, expected) in [
        ("100m", 100),
        ("3S", 3000),
        ("1H", 10_000),
        ("nonsense", 10_000),
    ] {
        let start = tokio::time::Instant::now();
        let body = Script::default().ending(End::Stalls);
        let request = post(Form::Grpc, body).with("grpc-timeout", timeout);
        let status = rig.send(request).await.grpc();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(start.elapsed().as_millis() / 10, expected / 10, "{timeout}");
    }
}

#[tokio::test]
async fn large_contents_are_read_elsewhere_and_come_out_right() {
    let rig = Rig::with(|plan| plan.settings.max_request_bytes = 8 << 20);
    let large = request_with(30, |_, span| span.name = "n".repeat(50_000));
    for form in FORMS {
        let body = encoded(form, &large);
        assert!(body.len() > 1 << 20);
        assert_eq!(
            rig.send(post(form, Script::cut(&body, 16 << 10)))
                .await
                .status,
            200
        );
        let mut broken = encoded(form, &large);
        let last = broken.len() - 1;
        broken[last] = 0xFF;
        broken[last - 1] = 0xFF;
        let seen = rig.send(post(form, Script::cut(&broken, 16 << 10))).await;
        match form {
            Form::Grpc => assert_eq!(seen.grpc().code(), tonic::Code::InvalidArgument),
            _ => assert_eq!(seen.status, 400),
        }
    }
    assert_eq!(rig.delivered().await, 90);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However tight it is: what was taken comes back, and every request and span is in exactly one place.
    #[test]
    fn nothing_leaks_and_the_sums_are_right(
        steps in proptest::collection::vec((0..3_usize, 0..20_usize, 0..4_usize, 1..2000_usize), 1..12),
        memory in 200..20_000_usize,
        queue in 1000..20_000_usize,
    ) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let rig = Rig::with(|plan| {
                plan.memory = memory;
                plan.queue = queue;
                plan.settings.max_request_bytes = memory.min(queue);
            });
            let (mut answered_spans, mut requests) = (0, 0);
            for (form, spans, end, cut) in steps {
                let form = FORMS[form];
                let end = [End::Whole, End::Whole, End::Error, End::Stalls][end];
                let body = Script::cut(&encoded(form, &request(spans)), cut).ending(end);
                let seen = rig.send(post(form, body)).await;
                let accepted = match form {
                    Form::Grpc => seen.grpc().code() == tonic::Code::Ok,
                    _ => seen.status == 200,
                };
                answered_spans += if accepted { spans } else { 0 };
                requests += 1;
            }
            prop_assert_eq!(rig.requests(), requests);
            let counted = rig.counters.status();
            let accepted: u64 = counted.iter().map(|of| of.accepted_spans).sum();
            prop_assert_eq!(accepted as usize, answered_spans);
            Ok(())
        })?;
    }
}
