//! What only Zipkin's exporter does.

use outspan::zipkin;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use prost::Message;
use serde_json::Value;

use crate::support::ListOfSpans;
use crate::support::Options;
use crate::support::Wire;
use crate::support::export;
use crate::support::over_each;

async fn body(wire: Wire) -> Vec<u8> {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector, Options::default());
    export(&exporter, &batch_of(2)).await.unwrap();
    collector.requests()[0].message.to_vec()
}

#[test]
fn spans_are_those_of_zipkin() {
    over_each(|wire| async move {
        match wire {
            Wire::ZipkinJson => {
                let spans: Vec<Value> = serde_json::from_slice(&body(wire).await).unwrap();
                assert_eq!(spans.len(), 2);
                let service = &spans[0]["localEndpoint"]["serviceName"];
                assert_eq!(service, "promises");
                assert_eq!(spans[0]["tags"]["otel.scope.name"], "outspan-testkit");
                assert_eq!(spans[0]["traceId"].as_str().unwrap().len(), 32);
            }
            Wire::ZipkinProtobuf => {
                let list = ListOfSpans::decode(&body(wire).await[..]).unwrap();
                assert_eq!(list.spans.len(), 2);
                assert_eq!(list.spans[0].trace_id.len(), 16);
                assert!(list.spans[0].name.starts_with("span "));
            }
            Wire::Jaeger | Wire::HttpJson => {}
        }
    });
}

#[test]
fn the_collectors_dialect_is_another() {
    over_each(|wire| async move {
        if wire != Wire::ZipkinJson {
            return;
        }
        let collector: Collector = wire.collector();
        let mut statuses = Vec::new();
        for dialect in [zipkin::Dialect::Specification, zipkin::Dialect::Collector] {
            let exporter = zipkin::http(collector.endpoint()).dialect(dialect);
            let batch = outspan_testkit::batch_with(1, |_, span| {
                span.status = Some(opentelemetry_proto::tonic::trace::v1::Status {
                    message: "broken".to_owned(),
                    code: 2,
                });
            });
            export(&exporter.build().unwrap(), &batch).await.unwrap();
            let requests = collector.requests();
            let body = &requests.last().unwrap().message;
            let spans: Vec<Value> = serde_json::from_slice(body).unwrap();
            statuses.push(spans[0]["tags"]["error"].as_str().unwrap().to_owned());
        }
        assert_eq!(statuses, ["broken", "true"]);
    });
}
