//! Exporters of the SDK as exporters of ours.

#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::thread::ThreadId;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::Array;
use opentelemetry::Key;
use opentelemetry::StringValue;
use opentelemetry::Value;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as proto;
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanExporter;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::otlp;
use outspan::sdk;
use outspan::sdk::FromSdk;
use outspan::sdk::SdkExporter;
use outspan_testkit::Collector;
use outspan_testkit::batch_from;
use outspan_testkit::batch_of;
use outspan_testkit::request_with;
use outspan_testkit::soon;

const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

/// What an exporter of the SDK was asked, and what it is to do.
#[derive(Clone, Debug, Default)]
struct Record {
    exports: Arc<Mutex<Vec<Exported>>>,
    threads: Arc<Mutex<Vec<ThreadId>>>,
    resources_set: Arc<AtomicUsize>,
    flushes: Arc<AtomicUsize>,
    shutdowns: Arc<AtomicUsize>,
    acts: Arc<Mutex<Vec<Act>>>,
}

#[derive(Clone, Debug)]
struct Exported {
    resource: Resource,
    spans: Vec<SpanData>,
}

#[derive(Debug)]
enum Act {
    Succeed,
    Fail,
    TimeOut,
    Panic,
    /// Waits for ever, as a future does.
    Wait,
    /// Blocks the thread until the sender says so.
    Block(mpsc::Receiver<()>),
}

/// An exporter as others write them.
#[derive(Debug)]
struct Theirs {
    record: Record,
    resource: Resource,
}

impl Record {
    fn exporter(&self) -> Theirs {
        Theirs {
            record: self.clone(),
            resource: Resource::builder_empty().build(),
        }
    }

    /// The acts, from the first to the last; after them everything succeeds.
    fn script(&self, acts: impl IntoIterator<Item = Act>) {
        let mut acts: Vec<_> = acts.into_iter().collect();
        acts.reverse();
        *self.acts.lock().unwrap() = acts;
    }

    fn spans(&self) -> Vec<SpanData> {
        let exports = self.exports.lock().unwrap();
        exports
            .iter()
            .flat_map(|export| export.spans.clone())
            .collect()
    }
}

impl SpanExporter for Theirs {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.record
            .threads
            .lock()
            .unwrap()
            .push(thread::current().id());
        let act = self.record.acts.lock().unwrap().pop();
        match act.unwrap_or(Act::Succeed) {
            Act::Succeed => {
                let resource = self.resource.clone();
                self.record.exports.lock().unwrap().push(Exported {
                    resource,
                    spans: batch,
                });
                Ok(())
            }
            Act::Fail => Err(OTelSdkError::InternalFailure("no such host".to_owned())),
            Act::TimeOut => Err(OTelSdkError::Timeout(SHORT)),
            Act::Panic => panic!("out of luck"),
            Act::Wait => std::future::pending().await,
            Act::Block(until) => {
                until.recv().unwrap();
                Ok(())
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.record.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        assert!(timeout <= SOON && timeout > SOON / 2, "{timeout:?}");
        self.record.shutdowns.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.record.resources_set.fetch_add(1, Ordering::SeqCst);
        self.resource = resource.clone();
    }
}

fn export_until(exporter: &Exporter, batch: Batch, until: Deadline) -> Result<Delivery> {
    futures_executor::block_on(exporter.export(batch, until))
}

fn export(exporter: &Exporter, batch: Batch) -> Result<Delivery> {
    export_until(exporter, batch, soon())
}

fn attribute(key: &str, value: Option<proto::any_value::Value>) -> proto::KeyValue {
    proto::KeyValue {
        key: key.to_owned(),
        value: Some(proto::AnyValue { value }),
        ..Default::default()
    }
}

fn text(text: &str) -> Option<proto::any_value::Value> {
    Some(proto::any_value::Value::StringValue(text.to_owned()))
}

fn array(values: Vec<Option<proto::any_value::Value>>) -> Option<proto::any_value::Value> {
    let values = values.into_iter().map(|value| proto::AnyValue { value });
    Some(proto::any_value::Value::ArrayValue(proto::ArrayValue {
        values: values.collect(),
    }))
}

/// A request with an envelope for each service, of so many spans.
fn request_of(services: &[(&str, usize)]) -> ExportTraceServiceRequest {
    let mut request = ExportTraceServiceRequest::default();
    for (service, spans) in services {
        let mut one = request_with(*spans, |_, _| {});
        one.resource_spans[0].resource = Some(ProtoResource {
            attributes: vec![attribute("service.name", text(service))],
            ..Default::default()
        });
        request.resource_spans.append(&mut one.resource_spans);
    }
    request
}

fn service(resource: &Resource) -> String {
    let name = resource.get(&Key::from_static_str("service.name"));
    name.unwrap().to_string()
}

#[test]
fn the_sdk_s_own_otlp_exporter_delivers() {
    let collector = Collector::grpc();
    // It wants a runtime when it is built; then ours carries it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let entered = runtime.enter();
    let theirs = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector.endpoint())
        .build()
        .unwrap();
    drop(entered);
    let exporter = sdk::from_sdk(theirs).unwrap();
    let request = request_of(&[("shop", 3), ("cart", 2)]);
    let delivery = export(&exporter, batch_from(&request)).unwrap();
    assert_eq!(delivery.accepted, 5);
    assert!(delivery.is_complete());
    let spans = collector.wait_for_spans_blocking(5, SOON);
    let services: Vec<_> = spans
        .iter()
        .map(|span| format!("{:?}", span.resource.as_ref().unwrap().attributes[0].value))
        .collect();
    assert!(
        services[0].contains("shop") && services[4].contains("cart"),
        "{services:?}"
    );
    drop(futures_executor::block_on(exporter.shutdown(soon())).unwrap());
}

#[test]
fn every_field_of_a_span_arrives() {
    let record = Record::default();
    let from_sdk = FromSdk::new(record.exporter());
    let conversions = from_sdk.conversions();
    let exporter = from_sdk.build().unwrap();
    let request = request_with(1, |_, span| {
        span.trace_id = vec![0xab; 16];
        span.span_id = vec![0xcd; 8];
        span.parent_span_id = vec![0xef; 8];
        span.trace_state = "a=1,b=2".to_owned();
        span.flags = 0x301;
        span.name = "GET /cart".to_owned();
        span.kind = 3;
        span.start_time_unix_nano = 1_700_000_000_000_000_001;
        span.end_time_unix_nano = 1_700_000_000_000_000_099;
        span.attributes = vec![
            attribute("text", text("ü")),
            attribute("int", Some(proto::any_value::Value::IntValue(-7))),
            attribute("double", Some(proto::any_value::Value::DoubleValue(0.5))),
            attribute("bool", Some(proto::any_value::Value::BoolValue(true))),
            attribute("texts", array(vec![text("a"), text("b")])),
            attribute("none", array(vec![])),
        ];
        span.dropped_attributes_count = 1;
        span.events = vec![trace::span::Event {
            time_unix_nano: 1_700_000_000_000_000_050,
            name: "exception".to_owned(),
            attributes: vec![attribute("exception.type", text("E"))],
            dropped_attributes_count: 2,
        }];
        span.dropped_events_count = 3;
        span.links = vec![trace::span::Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            trace_state: "c=3".to_owned(),
            attributes: vec![attribute("why", text("batch"))],
            dropped_attributes_count: 4,
            flags: 0x301,
        }];
        span.dropped_links_count = 5;
        span.status = Some(trace::Status {
            code: 2,
            message: "no".to_owned(),
        });
    });
    export(&exporter, batch_from(&request)).unwrap();
    let span = record.spans().remove(0);
    assert_eq!(span.span_context.trace_id().to_bytes(), [0xab; 16]);
    assert_eq!(span.span_context.span_id().to_bytes(), [0xcd; 8]);
    assert_eq!(span.span_context.trace_state().header(), "a=1,b=2");
    assert!(span.span_context.is_sampled());
    assert_eq!(span.parent_span_id.to_bytes(), [0xef; 8]);
    assert!(span.parent_span_is_remote);
    assert_eq!(span.name, "GET /cart");
    assert_eq!(span.span_kind, SpanKind::Client);
    let nanos = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos()
            % 1000
    };
    assert_eq!((nanos(span.start_time), nanos(span.end_time)), (1, 99));
    let values: Vec<_> = span
        .attributes
        .iter()
        .map(|one| one.value.clone())
        .collect();
    assert_eq!(
        values,
        [
            Value::from("ü"),
            Value::I64(-7),
            Value::F64(0.5),
            Value::Bool(true),
            Value::Array(Array::String(vec!["a".into(), "b".into()])),
            Value::Array(Array::String(Vec::<StringValue>::new())),
        ]
    );
    assert_eq!(span.dropped_attributes_count, 1);
    let event = &span.events.events[0];
    assert_eq!((&*event.name, event.attributes.len()), ("exception", 1));
    assert_eq!(
        (event.dropped_attributes_count, span.events.dropped_count),
        (2, 3)
    );
    let link = &span.links.links[0];
    assert_eq!(link.span_context.trace_id().to_bytes(), [1; 16]);
    assert_eq!(link.span_context.trace_state().header(), "c=3");
    assert!(link.span_context.is_remote());
    assert_eq!(
        (link.dropped_attributes_count, span.links.dropped_count),
        (4, 5)
    );
    assert_eq!(span.status, Status::error("no"));
    assert_eq!(conversions.values(), 0);
}

#[test]
fn a_round_through_the_sdk_and_back_changes_nothing() {
    let collector = Collector::grpc();
    let ours = otlp::grpc(collector.endpoint()).build().unwrap();
    let exporter = sdk::from_sdk(SdkExporter::new(ours)).unwrap();
    let request = request_with(7, |number, span| {
        span.flags = 0x100 | 1;
        span.kind = 1 + number as i32 % 5;
        span.events = vec![trace::span::Event {
            time_unix_nano: 5,
            name: "e".to_owned(),
            ..Default::default()
        }];
    });
    export(&exporter, batch_from(&request)).unwrap();
    let mut sent = request.resource_spans[0].scope_spans[0].spans.clone();
    let mut arrived: Vec<_> = collector
        .wait_for_spans_blocking(7, SOON)
        .into_iter()
        .map(|collected| collected.span)
        .collect();
    sent.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    arrived.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    assert_eq!(arrived, sent);
}

#[test]
fn values_that_the_sdk_cannot_hold_become_text_and_are_counted() {
    let record = Record::default();
    let from_sdk = FromSdk::new(record.exporter());
    let conversions = from_sdk.conversions();
    let exporter = from_sdk.build().unwrap();
    let request = request_with(1, |_, span| {
        let mixed = array(vec![text("a"), Some(proto::any_value::Value::IntValue(1))]);
        let nested = array(vec![array(vec![text("x")])]);
        let map = proto::any_value::Value::KvlistValue(proto::KeyValueList {
            values: vec![attribute("k", text("v")), attribute("n", None)],
        });
        span.attributes = vec![
            attribute(
                "bytes",
                Some(proto::any_value::Value::BytesValue(vec![255, 0, 1])),
            ),
            attribute("map", Some(map)),
            attribute("mixed", mixed),
            attribute("nested", nested),
            attribute("empty", None),
        ];
        span.trace_state = "not a trace state".to_owned();
    });
    let delivery = export(&exporter, batch_from(&request)).unwrap();
    let span = record.spans().remove(0);
    let values: Vec<_> = span
        .attributes
        .iter()
        .map(|one| one.value.to_string())
        .collect();
    assert_eq!(
        values,
        [
            "/wAB",
            r#"{"k":"v","n":null}"#,
            r#"["a",1]"#,
            r#"[["x"]]"#,
            ""
        ]
    );
    assert_eq!(conversions.values(), 6);
    let said = delivery.message.unwrap();
    assert!(said.starts_with("6 values became text"), "{said}");
}

#[test]
fn each_resource_gets_a_call_of_its_own() {
    let record = Record::default();
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    let request = request_of(&[("shop", 2), ("cart", 3), ("shop", 4), ("idle", 0)]);
    let delivery = export(&exporter, batch_from(&request)).unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (9, 2));
    let exports = record.exports.lock().unwrap();
    let seen: Vec<_> = exports
        .iter()
        .map(|export| (service(&export.resource), export.spans.len()))
        .collect();
    assert_eq!(seen, [("shop".to_owned(), 6), ("cart".to_owned(), 3)]);
    assert_eq!(record.resources_set.load(Ordering::SeqCst), 2);
}

#[test]
fn a_resource_that_stays_is_set_once() {
    let record = Record::default();
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    for _ in 0..3 {
        export(&exporter, batch_from(&request_of(&[("shop", 1)]))).unwrap();
    }
    assert_eq!(record.resources_set.load(Ordering::SeqCst), 1);
}

#[test]
fn the_resources_that_failed_are_the_rest() {
    let record = Record::default();
    record.script([Act::Succeed, Act::Fail, Act::Succeed]);
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    let request = request_of(&[("shop", 2), ("cart", 3), ("stock", 1)]);
    let delivery = export(&exporter, batch_from(&request)).unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (3, 3));
    let [rest] = delivery.rest.as_slice() else {
        panic!("{delivery:?}");
    };
    let left = outspan_testkit::decode(&rest.batch);
    assert_eq!(left.resource_spans, request.resource_spans[1..2]);
    assert_eq!(rest.error.kind(), ErrorKind::Unavailable);
    assert!(
        rest.error.to_string().contains("no such host"),
        "{}",
        rest.error
    );
    // The rest is a batch like any other.
    assert!(export(&exporter, rest.batch.clone()).unwrap().is_complete());
}

#[test]
fn failures_are_final_unless_told_otherwise() {
    for temporary in [false, true] {
        let record = Record::default();
        record.script([Act::Fail]);
        let exporter = FromSdk::new(record.exporter())
            .failures_are_temporary(temporary)
            .build()
            .unwrap();
        let error = export(&exporter, batch_of(1)).unwrap_err();
        assert_eq!(error.is_temporary(), temporary);
        assert_eq!(error.attempt().attempts, 1);
    }
}

#[test]
fn an_exporter_that_says_it_took_too_long_is_believed() {
    let record = Record::default();
    record.script([Act::TimeOut]);
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    let error = export(&exporter, batch_of(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn a_panic_is_caught_and_the_exporter_stays_in_use() {
    let record = Record::default();
    record.script([Act::Panic]);
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    let error = export(&exporter, batch_of(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(
        error.to_string().ends_with("panicked: out of luck"),
        "{error}"
    );
    assert_eq!(export(&exporter, batch_of(2)).unwrap().accepted, 2);
}

#[test]
fn exporters_may_block_wait_on_timers_and_bring_executors_of_their_own() {
    #[derive(Debug)]
    struct Busy;
    impl SpanExporter for Busy {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            let moment = Duration::from_millis(1);
            // Sleeps: that a timer of the runtime around us works is what is tested.
            tokio::time::timeout(SOON, tokio::time::sleep(moment))
                .await
                .unwrap();
            // A runtime of their own, as blocking HTTP clients have, made and dropped here.
            let own = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            // Sleeps: and so does one of their own.
            own.block_on(tokio::time::sleep(moment));
            drop(own);
            // An executor of their own.
            futures_executor::block_on(async {});
            Ok(())
        }
    }
    let exporter = sdk::from_sdk(Busy).unwrap();
    assert_eq!(export(&exporter, batch_of(2)).unwrap().accepted, 2);
}

#[test]
fn what_an_exporter_does_makes_no_spans() {
    outspan_testkit::alone!();
    use opentelemetry::trace::Span;
    use opentelemetry::trace::Tracer;
    #[derive(Debug)]
    struct Traced;
    impl SpanExporter for Traced {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            let tracer = opentelemetry::global::tracer("exporter");
            match tracer.start("export").is_recording() {
                false => Ok(()),
                true => Err(OTelSdkError::InternalFailure("it traces itself".to_owned())),
            }
        }
    }
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_sampler(opentelemetry_sdk::trace::Sampler::AlwaysOn)
        .build();
    opentelemetry::global::set_tracer_provider(provider);
    let outside = opentelemetry::global::tracer("test").start("outside");
    assert!(outside.is_recording());
    let exporter = sdk::from_sdk(Traced).unwrap();
    export(&exporter, batch_of(1)).unwrap();
}

#[test]
fn calls_come_one_at_a_time_and_on_one_thread() {
    let record = Record::default();
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| export(&exporter, batch_of(3)).unwrap());
        }
    });
    let threads = record.threads.lock().unwrap();
    assert_eq!(threads.len(), 8);
    assert!(threads.iter().all(|thread| *thread == threads[0]));
    assert_ne!(threads[0], thread::current().id());
}

#[test]
fn one_that_waits_for_ever_is_dropped_at_the_deadline() {
    let record = Record::default();
    record.script([Act::Wait]);
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    let began = Instant::now();
    let error = export_until(&exporter, batch_of(1), Deadline::after(SHORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_temporary());
    assert!(began.elapsed() < SOON);
    // It is free at once, since its future is gone.
    assert_eq!(export(&exporter, batch_of(1)).unwrap().accepted, 1);
}

#[test]
fn one_that_blocks_is_abandoned_and_comes_back() {
    let record = Record::default();
    let (release, blocked) = mpsc::channel();
    record.script([Act::Block(blocked)]);
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    let error = export_until(&exporter, batch_of(1), Deadline::after(SHORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);

    let began = Instant::now();
    for _ in 0..3 {
        let error = export(&exporter, batch_of(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_temporary());
        assert!(error.to_string().contains("has not returned"), "{error}");
    }
    assert!(began.elapsed() < SOON / 2, "nothing piles up behind it");
    let flushed = futures_executor::block_on(exporter.flush(Deadline::after(SHORT)));
    assert_eq!(flushed.unwrap_err().kind(), ErrorKind::Unavailable);

    release.send(()).unwrap();
    let until = Instant::now() + SOON;
    while let Err(error) = export(&exporter, batch_of(1)) {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(Instant::now() < until, "it has not come back");
    }
    assert_eq!(record.spans().len(), 1);
}

#[test]
fn those_behind_a_slow_call_wait_until_their_own_deadline() {
    let record = Record::default();
    let (release, blocked) = mpsc::channel();
    record.script([Act::Block(blocked)]);
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    thread::scope(|scope| {
        let slow = scope.spawn(|| export(&exporter, batch_of(1)));
        let until = Instant::now() + SOON;
        while record.threads.lock().unwrap().is_empty() {
            assert!(Instant::now() < until, "the slow call has not begun");
            thread::yield_now();
        }
        let error = export_until(&exporter, batch_of(1), Deadline::after(SHORT)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("is busy"), "{error}");
        release.send(()).unwrap();
        slow.join().unwrap().unwrap();
    });
    assert!(export(&exporter, batch_of(1)).is_ok());
}

#[test]
fn a_dropped_export_frees_the_exporter() {
    let record = Record::default();
    record.script([Act::Wait]);
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    let (batch, released) = outspan_testkit::watched_batch(3);
    let mut export_of_it = Box::pin(exporter.export(batch, soon()));
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    assert!(export_of_it.as_mut().poll(&mut context).is_pending());
    drop(export_of_it);
    futures_executor::block_on(released.by(soon()));
    assert!(export(&exporter, batch_of(1)).is_ok());
}

#[test]
fn flush_and_shutdown_reach_the_exporter_and_end_its_thread() {
    let record = Record::default();
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    let held = Arc::downgrade(&record.flushes);
    futures_executor::block_on(async {
        drop(exporter.flush(soon()).await.unwrap());
        drop(exporter.shutdown(soon()).await.unwrap());
        drop(exporter.shutdown(soon()).await.unwrap());
    });
    assert_eq!(record.flushes.load(Ordering::SeqCst), 1);
    assert_eq!(record.shutdowns.load(Ordering::SeqCst), 1);
    let error = export(&exporter, batch_of(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    // The thread owns the exporter and drops it when it ends.
    drop(record);
    let until = Instant::now() + SOON;
    while held.upgrade().is_some() {
        assert!(Instant::now() < until, "the thread has not ended");
        thread::yield_now();
    }
}

#[test]
fn an_empty_batch_asks_nobody() {
    let record = Record::default();
    let exporter = sdk::from_sdk(record.exporter()).unwrap();
    export(&exporter, Batch::empty()).unwrap();
    assert!(record.threads.lock().unwrap().is_empty());
}

#[test]
fn under_our_own_processor_the_account_closes() {
    use opentelemetry::trace::Tracer;
    use opentelemetry::trace::TracerProvider;
    let record = Record::default();
    record.script([Act::Panic, Act::Fail]);
    let processor = sdk::BatchProcessor::builder(sdk::from_sdk(record.exporter()).unwrap())
        .max_batch_spans(10)
        .concurrent_exports(1)
        .build()
        .unwrap();
    let handle = processor.handle();
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    let tracer = provider.tracer("test");
    for _ in 0..50 {
        drop(tracer.start("work"));
    }
    let drained = handle.shutdown(SOON).unwrap();
    let account = handle.account();
    assert!(account.closes());
    assert_eq!(account.received, 50);
    let delivered = record.spans().len() as u64;
    assert_eq!(account.delivered, delivered, "{account}; {drained}");
    assert_eq!(drained.left, 0);
    assert!(account.dropped.total() >= 2, "{account}");
}
