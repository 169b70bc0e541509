//! Each scripted answer over gRPC, seen by tonic's client or by a bare HTTP/2 client.

use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::Code;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic_types::StatusExt;

use crate::support::*;
use outspan_testkit::*;

const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Sends one request of three spans to a collector with this script.
async fn export_to(collector: &Collector) -> Result<ExportTraceServiceResponse, Status> {
    let exporting = async {
        let mut client = tonic_client(collector).await;
        let response = client.export(request_from(1, 3)).await?;
        Ok(response.into_inner())
    };
    tokio::time::timeout(SOON, exporting)
        .await
        .expect("an answer or an error comes soon")
}

async fn answer_to(answer: Answer) -> (Result<ExportTraceServiceResponse, Status>, Collector) {
    let collector = Collector::grpc();
    collector.script([answer]);
    (export_to(&collector).await, collector)
}

/// Sends one request with bare HTTP/2 and shows the answer as it is on the wire.
async fn raw_answer_to(answer: Answer) -> Result<Answered, String> {
    let collector = Collector::grpc();
    collector.script([answer]);
    let message = request_from(1, 1).encode_to_vec();
    send(&raw_http2(), call(&collector, METHOD, &message)).await
}

fn call(collector: &Collector, path: &str, message: &[u8]) -> Request<Full<Bytes>> {
    let mut request = post(collector, path, "application/grpc", grpc_frame(message));
    request
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    request
}

#[tokio::test]
async fn a_partial_success_keeps_all_but_the_refused() {
    let (answered, collector) = answer_to(Answer::partial(1, "too old")).await;
    let partial = answered.unwrap().partial_success.unwrap();
    assert_eq!(
        (partial.rejected_spans, partial.error_message.as_str()),
        (1, "too old")
    );
    assert_eq!(collector.span_ids(), [id(1), id(2)]);
}

#[tokio::test]
async fn acceptance_leaves_the_partial_success_unset() {
    let (answered, collector) = answer_to(Answer::Accept).await;
    assert_eq!(answered.unwrap(), ExportTraceServiceResponse::default());
    assert_eq!(collector.span_count(), 3);
}

#[tokio::test]
async fn a_refusal_has_its_code_and_words_and_keeps_nothing() {
    let (answered, collector) = answer_to(Answer::refuse(3, "bad, \"très\" bad")).await;
    let status = answered.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "bad, \"très\" bad");
    assert_eq!(collector.span_ids(), []);
    assert_eq!(collector.requests()[0].outcome, Outcome::NotKept);
    assert_eq!(collector.requests()[0].span_ids().len(), 3);
}

#[tokio::test]
async fn a_delay_is_retry_info() {
    let delay = Duration::from_millis(1500);
    let (answered, _collector) = answer_to(Answer::retry_after(14, delay)).await;
    let status = answered.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let details = status.get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(delay));
}

#[tokio::test]
async fn a_date_is_retry_info_with_what_is_left() {
    let time = SystemTime::now() + Duration::from_secs(100);
    let (answered, _collector) = answer_to(Answer::RetryLater {
        code: AnswerCode::UNAVAILABLE,
        delay: RetryDelay::At(time),
    })
    .await;
    let details = answered.unwrap_err().get_error_details();
    let delay = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(delay > Duration::from_secs(50) && delay <= Duration::from_secs(100));
}

#[tokio::test]
async fn a_nonsensical_delay_is_no_protobuf() {
    let (answered, _collector) = answer_to(Answer::RetryLater {
        code: AnswerCode::UNAVAILABLE,
        delay: RetryDelay::Nonsense,
    })
    .await;
    let status = answered.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!status.details().is_empty());
    assert!(status.check_error_details().is_err());
}

#[tokio::test]
async fn the_script_is_used_up_and_then_the_default_holds() {
    let collector = Collector::grpc();
    collector.script([Answer::refuse(14, "one"), Answer::refuse(13, "two")]);
    collector.always(Answer::refuse(16, "always"));
    assert_eq!(export_to(&collector).await.unwrap_err().message(), "one");
    assert_eq!(collector.answers_left(), 1);
    assert_eq!(export_to(&collector).await.unwrap_err().message(), "two");
    assert_eq!(export_to(&collector).await.unwrap_err().message(), "always");
    assert_eq!(export_to(&collector).await.unwrap_err().message(), "always");
}

#[tokio::test]
async fn a_missing_header_is_unauthenticated() {
    let collector = Collector::grpc();
    collector.always(Answer::require_header("Authorization", "Bearer one"));
    let refused = export_to(&collector).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let mut request = tonic::Request::new(request_from(1, 3));
    request
        .metadata_mut()
        .insert("authorization", "Bearer one".parse().unwrap());
    tonic_client(&collector)
        .await
        .export(request)
        .await
        .unwrap();
    assert_eq!(collector.span_count(), 3);
    let seen = collector.requests();
    assert_eq!(seen[1].header("authorization"), Some("Bearer one"));
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_without_retry_info() {
    let collector = Collector::grpc();
    let size = request_from(1, 3).encoded_len();
    collector.always(Answer::AtMost { bytes: size });
    export_to(&collector)
        .await
        .expect("the limit itself is allowed");
    collector.always(Answer::AtMost { bytes: size - 1 });
    let status = export_to(&collector).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.details().is_empty());
}

#[tokio::test]
async fn a_function_may_decide() {
    let collector = Collector::grpc();
    collector.always(Answer::decide(|request| match request.span_count() {
        3 => Answer::refuse(11, "three"),
        _ => Answer::Accept,
    }));
    assert_eq!(export_to(&collector).await.unwrap_err().message(), "three");
    let mut client = tonic_client(&collector).await;
    client.export(request_from(1, 2)).await.unwrap();
}

#[tokio::test]
async fn a_stalled_request_is_in_flight_until_its_client_goes() {
    let collector = Collector::grpc();
    collector.script([Answer::Stall]);
    let mut client = tonic_client(&collector).await;
    let exporting = tokio::spawn(async move { client.export(request_from(1, 3)).await });
    collector.wait_for_requests(1, SOON).await;
    assert_eq!(collector.in_flight(), 1);
    assert_eq!(collector.requests()[0].outcome, Outcome::Pending);
    exporting.abort();
    collector.wait_for_in_flight(0, SOON).await;
    assert_eq!(collector.span_count(), 0);
}

#[tokio::test]
async fn a_gate_holds_requests_until_it_is_opened() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let client = tonic_client(&collector).await;
    let exports: Vec<_> = (0..5)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move { client.export(request_from(number * 10, 2)).await })
        })
        .collect();
    collector.wait_for_in_flight(5, SOON).await;
    assert_eq!(collector.span_count(), 0);
    gate.open();
    for export in exports {
        export.await.unwrap().unwrap();
    }
    assert_eq!(collector.span_count(), 10);
    assert_eq!(collector.in_flight_most(), 5);
    assert_eq!(
        collector.connections(),
        1,
        "the clones share one connection"
    );
}

#[tokio::test]
async fn a_disconnect_ends_the_call_wherever_it_happens() {
    for (disconnect, requests, spans) in [
        (Disconnect::BeforeReading, 0, 0),
        (Disconnect::AfterReading, 1, 0),
        (Disconnect::MidAnswer, 1, 3),
    ] {
        let (answered, collector) = answer_to(Answer::Disconnect(disconnect)).await;
        answered.expect_err("the connection is gone");
        assert_eq!(collector.requests().len(), requests, "{disconnect:?}");
        assert_eq!(collector.span_count(), spans, "{disconnect:?}");
        collector.wait_for_open_connections(0, SOON).await;
        export_to(&collector).await.expect("the next one is served");
    }
}

#[tokio::test]
async fn an_answer_is_cut_after_its_first_bytes() {
    let collector = Collector::grpc();
    collector.script([Answer::Disconnect(Disconnect::MidAnswer)]);
    let message = request_from(1, 1).encode_to_vec();
    let mut response = raw_http2()
        .request(call(&collector, METHOD, &message))
        .await
        .expect("the headers arrive");
    let first = http_body_util::BodyExt::frame(response.body_mut()).await;
    let first = first.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, [0, 0, 0, 0, 100, 0x0a, 0x02][..]);
    let rest = http_body_util::BodyExt::frame(response.body_mut()).await;
    assert!(
        matches!(rest, Some(Err(_))),
        "and then the connection breaks"
    );
}

#[tokio::test]
async fn a_message_of_garbage_is_framed_but_no_protobuf() {
    let answered = raw_answer_to(Answer::Garbage(Garbage::Message))
        .await
        .unwrap();
    assert_eq!(answered.header("content-type"), "application/grpc");
    assert_eq!(answered.trailers.get("grpc-status").unwrap(), "0");
    assert!(ExportTraceServiceResponse::decode(&answered.body[5..]).is_err());

    let (answered, collector) = answer_to(Answer::Garbage(Garbage::Message)).await;
    answered.expect_err("tonic cannot decode it either");
    assert_eq!(collector.span_count(), 0);
}

#[tokio::test]
async fn html_comes_without_a_grpc_status() {
    let answered = raw_answer_to(Answer::Garbage(Garbage::Html(502)))
        .await
        .unwrap();
    assert_eq!(answered.status, 502);
    assert!(answered.header("content-type").starts_with("text/html"));
    assert!(answered.body.starts_with(b"<html>"));
    assert_eq!(answered.header("grpc-status"), "");
}

#[tokio::test]
async fn a_wrong_content_type_has_a_sound_message() {
    let answered = raw_answer_to(Answer::Garbage(Garbage::ContentType))
        .await
        .unwrap();
    assert_eq!(answered.header("content-type"), "text/plain");
    assert_eq!(answered.body, [0; 5][..]);
}

#[tokio::test]
async fn a_truncated_frame_says_more_than_it_has() {
    let answered = raw_answer_to(Answer::Garbage(Garbage::Truncated))
        .await
        .unwrap();
    assert_eq!(answered.body[..5], [0, 0, 0, 0, 100]);
    assert_eq!(answered.body.len(), 7);
    let (answered, _collector) = answer_to(Answer::Garbage(Garbage::Truncated)).await;
    answered.expect_err("tonic misses the rest");
}

#[tokio::test]
async fn an_oversize_answer_is_sound_and_long() {
    let bytes = 5 << 20;
    let answered = raw_answer_to(Answer::Garbage(Garbage::Oversize(bytes)))
        .await
        .unwrap();
    assert!(answered.body.len() > bytes);
    let response = ExportTraceServiceResponse::decode(&answered.body[5..]).unwrap();
    assert_eq!(response.partial_success.unwrap().error_message.len(), bytes);
    let (answered, _collector) = answer_to(Answer::Garbage(Garbage::Oversize(bytes))).await;
    assert_eq!(
        answered.unwrap_err().code(),
        Code::OutOfRange,
        "tonic takes 4 MiB"
    );
}

#[tokio::test]
async fn a_bomb_is_small_on_the_wire() {
    let answered = raw_answer_to(Answer::Garbage(Garbage::Bomb(16 << 20)))
        .await
        .unwrap();
    assert_eq!(answered.header("grpc-encoding"), "gzip");
    assert_eq!(answered.body[0], 1);
    assert!(answered.body.len() < 100_000);
}

#[tokio::test]
async fn an_empty_answer_is_headers_alone() {
    let answered = raw_answer_to(Answer::Garbage(Garbage::Empty))
        .await
        .unwrap();
    assert_eq!(answered.header("grpc-status"), "0");
    assert!(answered.body.is_empty() && answered.trailers.is_empty());
    let (answered, _collector) = answer_to(Answer::Garbage(Garbage::Empty)).await;
    answered.expect_err("a unary call has a message");
}

#[tokio::test]
async fn an_answer_without_status_has_no_trailers() {
    let answered = raw_answer_to(Answer::Garbage(Garbage::NoStatus))
        .await
        .unwrap();
    assert_eq!(answered.body, [0; 5][..]);
    assert!(answered.trailers.is_empty());
    assert_eq!(answered.header("grpc-status"), "");
}

#[tokio::test]
async fn an_unknown_status_is_99() {
    let answered = raw_answer_to(Answer::Garbage(Garbage::UnknownStatus))
        .await
        .unwrap();
    assert_eq!(answered.header("grpc-status"), "99");
    let (answered, _collector) = answer_to(Answer::Garbage(Garbage::UnknownStatus)).await;
    assert_eq!(answered.unwrap_err().code(), Code::Unknown);
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_accept_it() {
    let collector = Collector::over(Transport::Grpc)
        .compress_answers(Compression::Zstd)
        .start();
    collector.always(Answer::partial(0, "a warning"));
    let message = request_from(1, 1).encode_to_vec();
    let plain = send(&raw_http2(), call(&collector, METHOD, &message))
        .await
        .unwrap();
    assert_eq!((plain.header("grpc-encoding"), plain.body[0]), ("", 0));

    let mut asking = call(&collector, METHOD, &message);
    asking
        .headers_mut()
        .insert("grpc-accept-encoding", "gzip, zstd".parse().unwrap());
    let packed = send(&raw_http2(), asking).await.unwrap();
    assert_eq!(
        (packed.header("grpc-encoding"), packed.body[0]),
        ("zstd", 1)
    );

    let mut client = tonic_client(&collector)
        .await
        .accept_compressed(CompressionEncoding::Zstd);
    let answered = client
        .export(request_from(1, 1))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answered.partial_success.unwrap().error_message, "a warning");
}

#[tokio::test]
async fn what_is_no_call_of_the_trace_service_is_complained_about() {
    let collector = Collector::grpc();
    collector.script([Answer::refuse(3, "not used up by what never got there")]);
    let message = request_from(1, 1).encode_to_vec();
    let client = raw_http2();

    let elsewhere = send(&client, call(&collector, "/v1/traces", &message))
        .await
        .unwrap();
    assert_eq!(elsewhere.header("grpc-status"), "12");
    let kind = post(&collector, METHOD, "application/json", grpc_frame(&message));
    assert_eq!(
        send(&client, kind).await.unwrap().header("grpc-status"),
        "13"
    );
    let no_te = post(&collector, METHOD, "application/grpc", grpc_frame(&message));
    assert_eq!(
        send(&client, no_te).await.unwrap().header("grpc-status"),
        "13"
    );
    assert_eq!(collector.answers_left(), 1);

    let broken = send(&client, call(&collector, METHOD, b"\xff\xff\xff"))
        .await
        .unwrap();
    assert_eq!(broken.header("grpc-status"), "13");
    let mut odd = call(&collector, METHOD, &message);
    odd.headers_mut()
        .insert("grpc-encoding", "snappy".parse().unwrap());
    assert_eq!(
        send(&client, odd).await.unwrap().header("grpc-status"),
        "12"
    );
    assert_eq!(
        collector.complaints().len(),
        5,
        "{:?}",
        collector.complaints()
    );
    assert_eq!(collector.requests().len(), 0);
}

#[tokio::test]
async fn the_message_is_kept_byte_for_byte() {
    let collector = Collector::grpc();
    let mut message = request_from(1, 1).encode_to_vec();
    // Field 1000, a varint: unknown to every version of OTLP.
    message.extend([0xc0, 0x3e, 0x05]);
    let sent = send(&raw_http2(), call(&collector, METHOD, &message))
        .await
        .unwrap();
    assert_eq!(sent.trailers.get("grpc-status").unwrap(), "0");
    let kept = &collector.requests()[0];
    assert_eq!(kept.message, message);
    assert_eq!(kept.wire_bytes, message.len());
    assert_eq!(kept.body, request_from(1, 1));
}

#[tokio::test]
async fn an_empty_request_is_accepted() {
    let collector = Collector::grpc();
    let mut client = tonic_client(&collector).await;
    client
        .export(ExportTraceServiceRequest::default())
        .await
        .unwrap();
    assert_eq!(collector.requests()[0].span_count(), 0);
}
