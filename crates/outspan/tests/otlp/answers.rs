//! What the destination's answers mean, by OTLP's tables.

use std::time::Duration;
use std::time::SystemTime;

use outspan::Deadline;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::Disconnect;
use outspan_testkit::Garbage;
use outspan_testkit::OnConnect;
use outspan_testkit::RetryDelay;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;

use crate::support::Wire;
use crate::support::export;

over_each_wire![
    a_partial_success_counts_what_was_refused,
    a_warning_is_a_full_success_with_words,
    more_refused_than_sent_is_all,
    a_negative_number_refused_is_none,
    an_empty_partial_success_is_full_success,
    a_server_that_breaks_off_is_temporary,
    a_server_that_never_answers_is_temporary_and_named,
    a_server_that_says_nonsense_is_temporary,
    an_answer_over_the_limit_is_permanent,
    an_answer_within_the_limit_is_taken,
    a_web_page_is_no_acceptance,
    an_answer_of_another_protocol_is_no_acceptance,
];

async fn refused(wire: Wire, answer: Answer) -> Error {
    let collector = wire.collector();
    collector.always(answer);
    export(&wire.exporter(&collector), &batch_of(1))
        .await
        .unwrap_err()
}

/// Checklist rules 22, 49.
async fn a_partial_success_counts_what_was_refused(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::partial(2, "two are too old"));
    let exporter = wire.exporter(&collector).retry(outspan::Retry::default());
    let delivery = export(&exporter, &batch_of(5)).await.unwrap();
    assert_eq!((delivery.accepted, delivery.refused), (3, 2));
    assert!(delivery.rest.is_empty() && !delivery.is_complete());
    assert_eq!(delivery.message.as_deref(), Some("two are too old"));
    assert_eq!(
        (delivery.attempt.attempts, collector.requests().len()),
        (1, 1)
    );
}

/// Checklist rule 24.
async fn a_warning_is_a_full_success_with_words(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::partial(0, "use the new endpoint"));
    let delivery = export(&wire.exporter(&collector), &batch_of(5))
        .await
        .unwrap();
    assert!(delivery.is_complete());
    assert_eq!((delivery.accepted, delivery.refused), (5, 0));
    assert_eq!(delivery.message.as_deref(), Some("use the new endpoint"));
}

async fn more_refused_than_sent_is_all(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::partial(i64::MAX, "none of it"));
    let delivery = export(&wire.exporter(&collector), &batch_of(5))
        .await
        .unwrap();
    assert_eq!((delivery.accepted, delivery.refused), (0, 5));
}

async fn a_negative_number_refused_is_none(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::partial(-3, "a mistake"));
    let delivery = export(&wire.exporter(&collector), &batch_of(5))
        .await
        .unwrap();
    assert_eq!((delivery.accepted, delivery.refused), (5, 0));
}

/// Checklist rule 23.
async fn an_empty_partial_success_is_full_success(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::partial(0, ""));
    let delivery = export(&wire.exporter(&collector), &batch_of(5))
        .await
        .unwrap();
    assert!(delivery.is_complete());
    assert_eq!(delivery.message, None);
}

/// Checklist rules 55, 128.
async fn a_server_that_breaks_off_is_temporary(wire: Wire) {
    for disconnect in [
        Disconnect::BeforeReading,
        Disconnect::AfterReading,
        Disconnect::MidAnswer,
    ] {
        let collector = wire.collector();
        collector.script([Answer::Disconnect(disconnect)]);
        let exporter = wire.exporter(&collector);
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Unavailable,
            "{disconnect:?}: {error}"
        );
        assert!(error.is_temporary(), "{disconnect:?}: {error}");
        assert_eq!(error.attempt().attempts, 1);
        export(&exporter, &batch_of(1)).await.unwrap();
    }
}

async fn a_server_that_never_answers_is_temporary_and_named(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::Stall);
    let exporter = wire.exporter(&collector);
    let until = Deadline::after(Duration::from_millis(200)).named("patience");
    let error = exporter.export(batch_of(1), until).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_temporary());
    let text = error.to_string();
    assert!(text.contains("patience of 200ms passed"), "{text}");
    assert!(text.contains(&collector.address().to_string()), "{text}");
    assert!(error.attempt().wire_bytes > 0);
    collector.wait_for_in_flight(0, crate::support::SOON).await;
}

async fn a_server_that_says_nonsense_is_temporary(wire: Wire) {
    for what in [
        OnConnect::Say(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        OnConnect::Say(vec![0xff; 100]),
        OnConnect::Say(Vec::new()),
        OnConnect::Reset,
    ] {
        let collector = wire.collector();
        collector.on_connect(what.clone());
        let exporter = wire.exporter(&collector);
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what:?}: {error}");
        assert!(error.is_temporary(), "{what:?}: {error}");
        collector.on_connect(OnConnect::Serve);
        export(&exporter, &batch_of(1)).await.unwrap();
    }
}

/// Checklist rules 20, 21, 47, 48.
async fn an_answer_over_the_limit_is_permanent(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::Garbage(Garbage::Oversize(20_000)));
    let exporter = wire.to_collector(&collector).max_response_bytes(10_000);
    let error = export(&exporter.build().unwrap(), &batch_of(1))
        .await
        .unwrap_err();
    assert!(!error.is_temporary(), "{error}");
    assert!(
        error.to_string().contains("limit of 10000 bytes"),
        "{error}"
    );
    assert!(!error.is_too_large(), "a smaller request would not help");

    collector.always(Answer::Garbage(Garbage::Oversize(5 << 20)));
    let error = export(&wire.exporter(&collector), &batch_of(1)).await;
    let error = error.unwrap_err();
    assert!(!error.is_temporary(), "{error}");
    assert!(error.to_string().contains("limit of 4194304"), "{error}");
}

async fn an_answer_within_the_limit_is_taken(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::Garbage(Garbage::Oversize(3 << 20)));
    let delivery = export(&wire.exporter(&collector), &batch_of(1))
        .await
        .unwrap();
    assert_eq!(delivery.accepted, 1);
    let words = delivery.message.unwrap();
    assert!(
        words.len() < 1000,
        "foreign words are bounded: {}",
        words.len()
    );
}

async fn a_web_page_is_no_acceptance(wire: Wire) {
    let error = refused(wire, Answer::Garbage(Garbage::Html(200))).await;
    assert!(!error.is_temporary(), "{error}");
    assert!(!error.to_string().contains('<'), "{error}");
    let error = refused(wire, Answer::Garbage(Garbage::Html(503))).await;
    assert!(error.is_temporary(), "{error}");
    assert!(error.to_string().contains("503"), "{error}");
}

async fn an_answer_of_another_protocol_is_no_acceptance(wire: Wire) {
    let error = refused(wire, Answer::Garbage(Garbage::UnknownStatus)).await;
    assert!(!error.is_temporary(), "{error}");
    assert!(error.to_string().contains("nine"), "{error}");
}

/// Checklist rules 25-31, 33: every code of gRPC, and two that do not exist.
#[test]
fn each_grpc_code_is_temporary_or_not_as_the_table_says() {
    run_test(async {
        let collector = Collector::grpc();
        let exporter = Wire::Grpc.exporter(&collector);
        for code in 1..=16 {
            collector.always(Answer::refuse(code, "because"));
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            let temporary = [1, 4, 10, 11, 14, 15].contains(&code);
            assert_eq!(error.is_temporary(), temporary, "{code}: {error}");
            assert_eq!(error.attempt().status, Some(code));
            assert_eq!(error.attempt().attempts, 1, "{code} was sent again");
            assert!(error.to_string().contains("because"), "{error}");
            let kind = match code {
                4 => ErrorKind::Timeout,
                1 | 10 | 11 | 14 | 15 => ErrorKind::Unavailable,
                _ => ErrorKind::Refused,
            };
            assert_eq!(error.kind(), kind, "{code}: {error}");
        }
    });
}

/// Checklist rules 50-52, 61: every status from 300 to 599 that a server can answer.
#[test]
fn each_http_status_is_temporary_or_not_as_the_table_says() {
    for wire in [Wire::HttpProtobuf, Wire::HttpJson] {
        run_test(async {
            let collector = Collector::http();
            let exporter = wire.exporter(&collector);
            for status in 300..600 {
                if status == 304 {
                    // Not Modified has no body by definition; nobody answers a POST with it.
                    continue;
                }
                let code = AnswerCode {
                    grpc: 2,
                    http: status,
                };
                collector.always(Answer::refuse(code, "because"));
                let error = export(&exporter, &batch_of(1)).await.unwrap_err();
                let temporary = [429, 502, 503, 504].contains(&status);
                assert_eq!(error.is_temporary(), temporary, "{status}: {error}");
                assert_eq!(error.attempt().status, Some(status));
                assert_eq!(error.attempt().attempts, 1, "{status} was sent again");
                assert!(error.to_string().contains("because"), "{error}");
                let kind = match status {
                    429 => ErrorKind::Throttled,
                    502..=504 => ErrorKind::Unavailable,
                    413 => ErrorKind::TooLarge,
                    _ => ErrorKind::Refused,
                };
                assert_eq!(error.kind(), kind, "{status}: {error}");
            }
        });
    }
}

/// Checklist rules 31, 33, 34: a delay counts wherever trying again does.
#[test]
fn retry_info_is_honoured_where_trying_again_can_help() {
    run_test(async {
        let collector = Collector::grpc();
        let exporter = Wire::Grpc.exporter(&collector);
        let asked = Duration::from_millis(7500);
        for code in [1, 4, 8, 10, 11, 14, 15] {
            collector.always(Answer::retry_after(code, asked));
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert!(error.is_temporary(), "{code}: {error}");
            assert_eq!(error.retry_after(), Some(asked), "{code}");
        }
        collector.always(Answer::retry_after(8, asked));
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
        for code in [2, 3, 5, 6, 7, 9, 12, 13, 16] {
            collector.always(Answer::retry_after(code, asked));
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert!(!error.is_temporary(), "{code}: {error}");
            assert_eq!(error.retry_after(), None, "{code}");
        }
        collector.always(Answer::retry_after(8, Duration::ZERO));
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.is_temporary(), "RetryInfo is there: {error}");
        assert_eq!(error.retry_after(), None);
        collector.always(Answer::RetryLater {
            code: AnswerCode::THROTTLED,
            delay: RetryDelay::Nonsense,
        });
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(!error.is_temporary(), "no RetryInfo: {error}");
    });
}

/// Checklist rules 53, 54: seconds or a date, on every status that is worth another try.
#[test]
fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    for wire in [Wire::HttpProtobuf, Wire::HttpJson] {
        run_test(async {
            let collector = Collector::http();
            let exporter = wire.exporter(&collector);
            for status in [429, 502, 503, 504] {
                let later = |delay| Answer::RetryLater {
                    code: AnswerCode::from(status),
                    delay,
                };
                let seconds = RetryDelay::After(Duration::from_secs(7));
                let in_a_minute = SystemTime::now() + Duration::from_secs(60);
                collector.script([
                    later(seconds),
                    later(RetryDelay::At(in_a_minute)),
                    later(RetryDelay::Nonsense),
                    later(RetryDelay::At(SystemTime::UNIX_EPOCH)),
                ]);
                let mut delays = Vec::new();
                for _ in 0..4 {
                    let error = export(&exporter, &batch_of(1)).await.unwrap_err();
                    assert!(error.is_temporary(), "{error}");
                    delays.push(error.retry_after());
                }
                assert_eq!(delays[0], Some(Duration::from_secs(7)), "{status}");
                let date = delays[1].unwrap();
                // A date has whole seconds, and the test takes its time as well.
                assert!(date > Duration::from_secs(30), "{status}: {date:?}");
                assert!(date <= Duration::from_secs(60), "{status}: {date:?}");
                assert_eq!((delays[2], delays[3]), (None, None), "{status}");
            }
            let delay = RetryDelay::After(Duration::from_secs(7));
            collector.always(Answer::RetryLater {
                code: AnswerCode::from(500),
                delay,
            });
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert_eq!((error.is_temporary(), error.retry_after()), (false, None));
        });
    }
}

/// An answer that is OK and makes no sense is not what a unary call may answer; gRPC libraries call it INTERNAL.
#[test]
fn garbage_over_grpc_is_an_error_for_good() {
    for garbage in [
        Garbage::Message,
        Garbage::Truncated,
        Garbage::Empty,
        Garbage::NoStatus,
        Garbage::Bomb(4 << 20),
    ] {
        run_test(async {
            let error = refused(Wire::Grpc, Answer::Garbage(garbage)).await;
            assert!(!error.is_temporary(), "{garbage:?}: {error}");
            assert_eq!(error.attempt().attempts, 1, "{garbage:?}");
        });
    }
    run_test(async {
        // The status says that it was taken, and the message can be read: the wrong label changes nothing.
        let collector = Collector::grpc();
        collector.always(Answer::Garbage(Garbage::ContentType));
        let exporter = Wire::Grpc.exporter(&collector);
        assert!(export(&exporter, &batch_of(1)).await.unwrap().is_complete());
    });
}

/// HTTP's status says that the spans were taken; sending them again would only make duplicates.
#[test]
fn an_unreadable_body_under_http_200_is_an_acceptance() {
    for wire in [Wire::HttpProtobuf, Wire::HttpJson] {
        for (garbage, warns) in [
            (Garbage::Message, true),
            (Garbage::Truncated, true),
            (Garbage::Bomb(4 << 20), true),
            (Garbage::Empty, false),
            (Garbage::ContentType, false),
            (Garbage::NoStatus, false),
        ] {
            run_test(async {
                let collector = Collector::http();
                collector.always(Answer::Garbage(garbage));
                let delivery = export(&wire.exporter(&collector), &batch_of(2)).await;
                let delivery = delivery.unwrap();
                assert_eq!(delivery.accepted, 2, "{garbage:?}");
                let warned = delivery.message.is_some();
                assert_eq!(warned, warns, "{garbage:?}: {:?}", delivery.message);
            });
        }
    }
}

/// Each says where to look.
#[test]
fn refusals_say_what_to_do() {
    let cases = [
        (Wire::Grpc, AnswerCode::UNIMPLEMENTED, "check host and port"),
        (Wire::Grpc, AnswerCode::UNAUTHENTICATED, "check the token"),
        (
            Wire::Grpc,
            AnswerCode::PERMISSION_DENIED,
            "what the token may do",
        ),
        (
            Wire::HttpProtobuf,
            AnswerCode::UNIMPLEMENTED,
            "check the path",
        ),
        (
            Wire::HttpProtobuf,
            AnswerCode::UNAUTHENTICATED,
            "check the token",
        ),
        (
            Wire::HttpProtobuf,
            AnswerCode::PERMISSION_DENIED,
            "what the token may do",
        ),
        (Wire::HttpProtobuf, AnswerCode::from(405), "check the path"),
        (
            Wire::HttpJson,
            AnswerCode::from(415),
            "the other of protobuf and JSON",
        ),
        (
            Wire::HttpJson,
            AnswerCode::from(302),
            "redirects are not followed",
        ),
    ];
    for (wire, code, said) in cases {
        run_test(async {
            let error = refused(wire, Answer::refuse(code, "no")).await;
            assert!(error.to_string().contains(said), "{error}");
        });
    }
}
