//! The worked example of an exporter of one's own.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::KeyValueList;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Status;
use outspan::Export;
use outspan::Exporter;
use outspan::http_json;
use outspan::http_post;
use outspan_testkit::Collector;
use outspan_testkit::SpanId;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::soon;
use serde_json::Value;
use serde_json::json;

use crate::support::Wire;
use crate::support::export;

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[tokio::test]
async fn a_span_is_a_plain_object() {
    let list = |values: Vec<any_value::Value>| {
        let values = values
            .into_iter()
            .map(|value| AnyValue { value: Some(value) });
        any_value::Value::ArrayValue(ArrayValue {
            values: values.collect(),
        })
    };
    let batch = batch_with(1, |_, span| {
        span.trace_id = vec![0xab; 16];
        span.span_id = vec![1; 8];
        span.parent_span_id = vec![2; 8];
        span.name = "say \"hello\"\n\u{1}\u{7f} äö\u{2028}".to_owned();
        span.kind = 2;
        span.start_time_unix_nano = 1_700_000_000_000_000_001;
        span.end_time_unix_nano = 1_700_000_000_000_000_500;
        span.status = Some(Status {
            message: "broken".to_owned(),
            code: 2,
        });
        span.attributes = vec![
            attribute("int", any_value::Value::IntValue(-5)),
            attribute("double", any_value::Value::DoubleValue(0.25)),
            attribute("whole", any_value::Value::DoubleValue(1e300)),
            attribute("infinite", any_value::Value::DoubleValue(f64::INFINITY)),
            attribute("bytes", any_value::Value::BytesValue(vec![0, 255])),
            attribute("list", list(vec![any_value::Value::BoolValue(true)])),
            attribute(
                "map",
                any_value::Value::KvlistValue(KeyValueList {
                    values: vec![attribute("key", any_value::Value::StringValue("x".into()))],
                }),
            ),
        ];
    });
    let collector = Wire::HttpJson.collector();
    let url = format!("{}/spans", collector.endpoint());
    let exporter = http_json::exporter(http_post::to(url)).unwrap();
    export(&exporter, &batch).await.unwrap();
    let body: Value = serde_json::from_slice(&collector.requests()[0].message).unwrap();
    let expected = json!([{
        "trace_id": "ab".repeat(16),
        "span_id": "0101010101010101",
        "parent_span_id": "0202020202020202",
        "service": "promises",
        "scope": "outspan-testkit",
        "name": "say \"hello\"\n\u{1}\u{7f} äö\u{2028}",
        "kind": "server",
        "start_unix_nano": 1_700_000_000_000_000_001_u64,
        "duration_nano": 499,
        "status": "error",
        "status_message": "broken",
        "attributes": {
            "int": -5,
            "double": 0.25,
            "whole": 1e300,
            "infinite": "inf",
            "bytes": "00ff",
            "list": [true],
            "map": {"key": "x"},
        },
    }]);
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_copy_of_the_source_does_the_same() {
    let collector = Wire::HttpJson.collector();
    let url = format!("{}/spans", collector.endpoint());
    let batch = batch_of(2);
    let ours = http_json::exporter(http_post::to(&url)).unwrap();
    let copy = crate::copied::exporter(http_post::to(&url)).unwrap();
    for exporter in [ours, copy] {
        export(&exporter, &batch).await.unwrap();
        drop(exporter.shutdown(soon()).await.unwrap());
    }
    let requests = collector.requests();
    assert_eq!(requests[0].message, requests[1].message);
}

#[tokio::test]
async fn a_body_of_exactly_the_bound_is_sent_whole_and_a_larger_one_in_halves() {
    const BOUND: usize = 10_000;

    for (bytes_a_span, requests) in [(BOUND / 2, 1), (BOUND / 2 + 1, 2)] {
        let collector = Collector::over(Transport::Http)
            .path("/spans")
            .reads(|_, _| Ok(Vec::new()))
            .start();
        let poster = http_post::to(format!("{}/spans", collector.endpoint()))
            .max_request_bytes(BOUND)
            .build(move |batch| Ok(vec![b'x'; batch.spans() * bytes_a_span]))
            .unwrap();
        let delivery = poster.deliver(batch_of(2), soon()).await.unwrap();
        assert_eq!(delivery.accepted, 2);
        assert_eq!(collector.requests().len(), requests);
    }
}

#[tokio::test]
async fn a_poster_that_was_closed_delivers_nothing() {
    let collector = Wire::HttpJson.collector();
    let poster = http_post::to(format!("{}/spans", collector.endpoint()))
        .build(|_| Ok(Vec::new()))
        .unwrap();
    poster.close();
    let error = poster.deliver(batch_of(1), soon()).await.unwrap_err();
    assert_eq!(error.kind(), outspan::ErrorKind::ShutDown);
    assert_eq!(collector.connections(), 0);
}

#[tokio::test]
async fn a_function_s_own_error_is_the_error() {
    let collector = Wire::HttpJson.collector();
    let poster = http_post::to(format!("{}/spans", collector.endpoint()))
        .build(|_| Err(outspan::Error::refused("no such thing")))
        .unwrap();
    let error = poster.deliver(batch_of(2), soon()).await.unwrap_err();
    assert!(error.to_string().contains("no such thing"), "{error}");
    assert_eq!(collector.requests().len(), 0);
}

#[tokio::test]
async fn a_panic_of_the_function_is_an_error() {
    for spans in [1, 2000] {
        let poster = http_post::to("http://127.0.0.1:9/")
            .build(|_| panic!("the function's own"))
            .unwrap();
        let error = poster.deliver(batch_of(spans), soon()).await.unwrap_err();
        assert!(!error.is_temporary(), "{error}");
    }
}

#[tokio::test]
async fn any_content_type_can_be_posted() {
    let collector = Collector::over(Transport::Http)
        .path("/names")
        .reads(|content_type, body| {
            assert_eq!(content_type, "text/plain");
            let names = String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?;
            Ok(names
                .lines()
                .map(|name| SpanId::new(name.as_bytes()))
                .collect())
        })
        .start();
    let poster = http_post::to(format!("{}/names", collector.endpoint()))
        .content_type("text/plain")
        .build(|batch| {
            let names: Vec<_> = batch.iter().map(|span| span.name().to_owned()).collect();
            Ok(names.join("\n").into_bytes())
        })
        .unwrap();
    let delivery = poster.deliver(batch_of(3), soon()).await.unwrap();
    assert_eq!(delivery.accepted, 3);
    assert_eq!(collector.span_count(), 3);
}

#[tokio::test]
async fn an_exporter_of_one_s_own_can_be_built_in_any_stack() {
    #[derive(Debug)]
    struct Own(http_post::Poster);

    impl Export for Own {
        async fn export(
            &self,
            batch: outspan::Batch,
            until: outspan::Deadline,
        ) -> outspan::Result<outspan::Delivery> {
            self.0.deliver(batch, until).await
        }

        async fn flush(&self, _until: outspan::Deadline) -> outspan::Result<outspan::Drained> {
            Ok(outspan::Drained::default())
        }

        async fn shutdown(&self, _until: outspan::Deadline) -> outspan::Result<outspan::Drained> {
            self.0.close();
            Ok(outspan::Drained::default())
        }
    }

    let collector = Wire::HttpJson.collector();
    collector.script([outspan_testkit::Answer::refuse(503, "not now")]);
    let poster = http_post::to(format!("{}/spans", collector.endpoint()))
        .build(|batch| {
            let ids = batch
                .iter()
                .map(|span| json!({ "span_id": hex(&span.span_id()) }));
            Ok(Value::Array(ids.collect()).to_string().into_bytes())
        })
        .unwrap();
    let retry = outspan::Retry::default().initial_interval(std::time::Duration::from_millis(1));
    let exporter = Exporter::new(Own(poster)).retry(retry);
    let delivery = export(&exporter, &batch_of(2)).await.unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (2, 2));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
