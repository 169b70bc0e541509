//! Each scripted answer over HTTP, seen by a bare client.

use std::io::Read;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use crate::support::*;
use outspan_testkit::*;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

fn protobuf(collector: &Collector) -> Request<Full<Bytes>> {
    post(
        collector,
        "/v1/traces",
        PROTOBUF,
        request_from(1, 3).encode_to_vec(),
    )
}

fn json(collector: &Collector) -> Request<Full<Bytes>> {
    let body = serde_json::to_vec(&request_from(1, 3)).unwrap();
    post(collector, "/v1/traces", JSON, body)
}

async fn answer_to(answer: Answer) -> (Result<Answered, String>, Collector) {
    let collector = Collector::http();
    collector.script([answer]);
    (send(&raw_http1(), protobuf(&collector)).await, collector)
}

async fn answer_to_json(answer: Answer) -> Answered {
    let collector = Collector::http();
    collector.script([answer]);
    send(&raw_http1(), json(&collector)).await.unwrap()
}

fn decoded(answered: &Answered) -> ExportTraceServiceResponse {
    ExportTraceServiceResponse::decode(answered.body.clone()).unwrap()
}

#[tokio::test]
async fn success_is_200_in_the_encoding_of_the_request() {
    let (answered, collector) = answer_to(Answer::Accept).await;
    let answered = answered.unwrap();
    assert_eq!(answered.status, 200);
    assert_eq!(answered.header("content-type"), PROTOBUF);
    assert_eq!(decoded(&answered), ExportTraceServiceResponse::default());
    assert_eq!(collector.span_ids(), [id(1), id(2), id(3)]);

    let answered = answer_to_json(Answer::Accept).await;
    assert_eq!(answered.header("content-type"), JSON);
    let body: serde_json::Value = serde_json::from_slice(&answered.body).unwrap();
    assert!(
        body.get("partialSuccess")
            .is_none_or(serde_json::Value::is_null)
    );
}

#[tokio::test]
async fn http_2_is_served_on_the_same_port() {
    let collector = Collector::http();
    send(&raw_http2(), protobuf(&collector)).await.unwrap();
    send(&raw_http1(), protobuf(&collector)).await.unwrap();
    let versions: Vec<_> = collector
        .requests()
        .iter()
        .map(|each| each.version)
        .collect();
    assert_eq!(versions, [http::Version::HTTP_2, http::Version::HTTP_11]);
}

#[tokio::test]
async fn a_partial_success_is_200_and_keeps_the_rest() {
    let (answered, collector) = answer_to(Answer::partial(2, "no")).await;
    let partial = decoded(&answered.unwrap()).partial_success.unwrap();
    assert_eq!(
        (partial.rejected_spans, partial.error_message.as_str()),
        (2, "no")
    );
    assert_eq!(collector.span_ids(), [id(1)]);

    let answered = answer_to_json(Answer::partial(2, "no")).await;
    let body: serde_json::Value = serde_json::from_slice(&answered.body).unwrap();
    assert_eq!(body["partialSuccess"]["errorMessage"], "no");
}

#[tokio::test]
async fn a_refusal_has_a_status_and_its_words_in_the_body() {
    let (answered, collector) = answer_to(Answer::refuse(403, "not you")).await;
    let answered = answered.unwrap();
    assert_eq!(answered.status, 403);
    let status = tonic_types::Status::decode(answered.body).unwrap();
    assert_eq!((status.code, status.message.as_str()), (7, "not you"));
    assert_eq!(collector.span_count(), 0);

    let answered = answer_to_json(Answer::refuse(403, "not you")).await;
    let body: serde_json::Value = serde_json::from_slice(&answered.body).unwrap();
    assert_eq!(body["message"], "not you");
    assert_eq!(answered.header("content-type"), JSON);
}

#[tokio::test]
async fn a_delay_is_a_header_in_whole_seconds() {
    let (answered, _collector) =
        answer_to(Answer::retry_after(429, Duration::from_millis(1200))).await;
    let answered = answered.unwrap();
    assert_eq!(answered.status, 429);
    assert_eq!(answered.header("retry-after"), "2");
}

#[tokio::test]
async fn a_date_is_a_header_with_a_date() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let (answered, _collector) = answer_to(Answer::RetryLater {
        code: AnswerCode::UNAVAILABLE,
        delay: RetryDelay::At(time),
    })
    .await;
    let answered = answered.unwrap();
    assert_eq!(answered.status, 503);
    assert_eq!(
        answered.header("retry-after"),
        "Sun, 17 Mar 2030 17:46:40 GMT"
    );
}

#[tokio::test]
async fn a_nonsensical_delay_is_a_word() {
    let (answered, _collector) = answer_to(Answer::RetryLater {
        code: AnswerCode::UNAVAILABLE,
        delay: RetryDelay::Nonsense,
    })
    .await;
    assert_eq!(answered.unwrap().header("retry-after"), "soon");
}

#[tokio::test]
async fn a_missing_header_is_401() {
    let collector = Collector::http();
    collector.always(Answer::require_header("x-key", "one"));
    let client = raw_http1();
    assert_eq!(
        send(&client, protobuf(&collector)).await.unwrap().status,
        401
    );
    let mut request = protobuf(&collector);
    request
        .headers_mut()
        .insert("x-key", "one".parse().unwrap());
    assert_eq!(send(&client, request).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_request_over_the_limit_is_413_also_when_it_is_small_on_the_wire() {
    let collector = Collector::http();
    let size = request_from(1, 3).encoded_len();
    collector.always(Answer::AtMost { bytes: size });
    let client = raw_http1();
    assert_eq!(
        send(&client, protobuf(&collector)).await.unwrap().status,
        200
    );

    let many = request_from(1, 300).encode_to_vec();
    let packed = zstd::stream::encode_all(&many[..], 19).unwrap();
    collector.always(Answer::AtMost {
        bytes: packed.len(),
    });
    let mut request = post(&collector, "/v1/traces", PROTOBUF, packed);
    request
        .headers_mut()
        .insert("content-encoding", "zstd".parse().unwrap());
    assert_eq!(send(&client, request).await.unwrap().status, 413);
    assert!(collector.complaints().is_empty(), "{collector:?}");
}

#[tokio::test]
async fn compressed_bodies_are_read() {
    let collector = Collector::http();
    let plain = request_from(1, 3).encode_to_vec();
    let mut gzipped = Vec::new();
    flate2::read::GzEncoder::new(&plain[..], flate2::Compression::fast())
        .read_to_end(&mut gzipped)
        .unwrap();
    let zstd = zstd::stream::encode_all(&plain[..], 0).unwrap();
    for (name, packed) in [
        ("gzip", gzipped),
        ("zstd", zstd),
        ("identity", plain.clone()),
    ] {
        let length = packed.len();
        let mut request = post(&collector, "/v1/traces", PROTOBUF, packed);
        request
            .headers_mut()
            .insert("content-encoding", name.parse().unwrap());
        assert_eq!(send(&raw_http1(), request).await.unwrap().status, 200);
        let seen = collector.requests().pop().unwrap();
        assert_eq!(seen.compression(), Some(name));
        assert_eq!((seen.wire_bytes, &seen.message[..]), (length, &plain[..]));
    }
}

#[tokio::test]
async fn a_disconnect_ends_the_request_wherever_it_happens() {
    for (disconnect, requests, spans) in [
        (Disconnect::BeforeReading, 0, 0),
        (Disconnect::AfterReading, 1, 0),
        (Disconnect::MidAnswer, 1, 3),
    ] {
        let (answered, collector) = answer_to(Answer::Disconnect(disconnect)).await;
        assert!(answered.is_err(), "{disconnect:?}");
        assert_eq!(collector.requests().len(), requests, "{disconnect:?}");
        assert_eq!(collector.span_count(), spans, "{disconnect:?}");
        collector.wait_for_open_connections(0, SOON).await;
    }
}

#[tokio::test]
async fn an_answer_is_cut_after_its_first_bytes() {
    let collector = Collector::http();
    collector.script([Answer::Disconnect(Disconnect::MidAnswer)]);
    let mut response = raw_http1()
        .request(protobuf(&collector))
        .await
        .expect("the headers arrive");
    assert_eq!(response.headers()["content-length"], "100");
    let first = http_body_util::BodyExt::frame(response.body_mut()).await;
    assert_eq!(first.unwrap().unwrap().into_data().unwrap().len(), 2);
    let rest = http_body_util::BodyExt::frame(response.body_mut()).await;
    assert!(
        matches!(rest, Some(Err(_))),
        "and then the connection breaks"
    );
}

#[tokio::test]
async fn a_stalled_request_is_in_flight_until_its_client_goes() {
    let collector = Collector::http();
    collector.script([Answer::Stall]);
    let request = protobuf(&collector);
    let sending = tokio::spawn(async move { send(&raw_http1(), request).await.is_ok() });
    collector.wait_for_requests(1, SOON).await;
    assert_eq!(collector.in_flight(), 1);
    sending.abort();
    collector.wait_for_in_flight(0, SOON).await;
}

#[tokio::test]
async fn a_gate_lets_the_answer_through_when_it_opens() {
    let collector = Collector::http();
    let gate = Gate::new();
    collector.script([Answer::stall_until(&gate, Answer::refuse(503, "late"))]);
    let request = protobuf(&collector);
    let sending = tokio::spawn(async move { send(&raw_http1(), request).await });
    collector.wait_for_requests(1, SOON).await;
    assert!(!sending.is_finished());
    gate.open();
    assert_eq!(sending.await.unwrap().unwrap().status, 503);
}

#[tokio::test]
async fn garbage_is_as_described() {
    let (answered, collector) = answer_to(Answer::Garbage(Garbage::Message)).await;
    let answered = answered.unwrap();
    assert!(ExportTraceServiceResponse::decode(answered.body).is_err());
    assert_eq!(collector.span_count(), 0);

    let html = answer_to(Answer::Garbage(Garbage::Html(200)))
        .await
        .0
        .unwrap();
    assert_eq!(html.status, 200);
    assert!(html.header("content-type").starts_with("text/html"));

    let plain = answer_to(Answer::Garbage(Garbage::ContentType))
        .await
        .0
        .unwrap();
    assert_eq!(plain.header("content-type"), "text/plain");

    let cut = answer_to(Answer::Garbage(Garbage::Truncated))
        .await
        .0
        .unwrap();
    assert_eq!(
        (cut.status.as_u16(), cut.header("content-type")),
        (200, PROTOBUF)
    );
    assert!(ExportTraceServiceResponse::decode(cut.body).is_err());
    let cut = answer_to_json(Answer::Garbage(Garbage::Truncated)).await;
    assert!(serde_json::from_slice::<serde_json::Value>(&cut.body).is_err());

    let long = answer_to(Answer::Garbage(Garbage::Oversize(5 << 20)))
        .await
        .0
        .unwrap();
    assert!(long.body.len() > 5 << 20);
    assert_eq!(
        decoded(&long).partial_success.unwrap().error_message.len(),
        5 << 20
    );

    let bomb = answer_to(Answer::Garbage(Garbage::Bomb(16 << 20)))
        .await
        .0
        .unwrap();
    assert_eq!(bomb.header("content-encoding"), "gzip");
    assert!(bomb.body.len() < 100_000);

    let empty = answer_to(Answer::Garbage(Garbage::Empty)).await.0.unwrap();
    assert_eq!((empty.status.as_u16(), empty.body.len()), (200, 0));

    let untyped = answer_to(Answer::Garbage(Garbage::NoStatus))
        .await
        .0
        .unwrap();
    assert_eq!(untyped.header("content-type"), "");

    let unknown = answer_to(Answer::Garbage(Garbage::UnknownStatus))
        .await
        .0
        .unwrap();
    assert_eq!(unknown.status, 599);
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_accept_it() {
    let collector = Collector::over(Transport::Http)
        .compress_answers(Compression::Gzip)
        .start();
    collector.always(Answer::partial(0, "a warning"));
    let plain = send(&raw_http1(), protobuf(&collector)).await.unwrap();
    assert_eq!(plain.header("content-encoding"), "");

    let mut asking = protobuf(&collector);
    asking
        .headers_mut()
        .insert("accept-encoding", "br, gzip;q=0.5".parse().unwrap());
    let packed = send(&raw_http1(), asking).await.unwrap();
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain.body);
}

#[tokio::test]
async fn what_no_exporter_sends_is_refused_and_complained_about() {
    let collector = Collector::http();
    let client = raw_http1();
    let body = request_from(1, 1).encode_to_vec();
    let with_encoding = |encoding: &str, body: Vec<u8>| {
        let mut request = post(&collector, "/v1/traces", PROTOBUF, body);
        request
            .headers_mut()
            .insert("content-encoding", encoding.parse().unwrap());
        request
    };
    let mut get = protobuf(&collector);
    *get.method_mut() = http::Method::GET;

    for (request, status) in [
        (post(&collector, "/elsewhere", PROTOBUF, body.clone()), 404),
        (
            post(&collector, "/v1/traces?x=1", PROTOBUF, body.clone()),
            404,
        ),
        (get, 405),
        (
            post(&collector, "/v1/traces", "text/plain", body.clone()),
            415,
        ),
        (post(&collector, "/v1/traces", PROTOBUF, vec![0xff; 4]), 400),
        (post(&collector, "/v1/traces", JSON, b"{".to_vec()), 400),
        (with_encoding("gzip", body.clone()), 400),
        (with_encoding("br", body), 415),
    ] {
        let complaints = collector.complaints().len();
        assert_eq!(send(&client, request).await.unwrap().status, status);
        assert_eq!(collector.complaints().len(), complaints + 1);
    }
    assert_eq!(collector.requests().len(), 0);
}

#[tokio::test]
async fn another_path_can_be_served() {
    let collector = Collector::over(Transport::Http)
        .path("/in/v1/traces?key=1")
        .start();
    let body = request_from(1, 1).encode_to_vec();
    let request = post(&collector, "/in/v1/traces?key=1", PROTOBUF, body);
    assert_eq!(send(&raw_http1(), request).await.unwrap().status, 200);
    assert_eq!(collector.requests()[0].path, "/in/v1/traces?key=1");
    assert_eq!(
        send(&raw_http1(), protobuf(&collector))
            .await
            .unwrap()
            .status,
        404
    );
}
