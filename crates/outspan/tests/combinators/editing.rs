//! Filters, changes and scrubbing around exporters that remember what they got.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::KeyValueList;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::DropReason;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::FanOut;
use outspan::combinators::Filtered;
use outspan::combinators::Mapped;
use outspan::combinators::Scrubbed;
use outspan::combinators::WaitFor;
use outspan::engine::Ack;
use outspan::engine::MemoryQueue;
use outspan::wire::otlp::AttributeOwner;
use outspan::wire::otlp::AttributeSlot;
use outspan::wire::otlp::AttributeView;
use outspan::wire::otlp::Decision;
use outspan::wire::otlp::Rewrite;
use outspan::wire::otlp::Settled;
use outspan::wire::otlp::SpanEdit;
use outspan::wire::otlp::SpanView;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_from;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::decode;
use outspan_testkit::request_with;
use outspan_testkit::soon;
use outspan_testkit::span_ids;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// Takes everything, and keeps it.
#[derive(Clone, Debug, Default)]
struct Keeping(Arc<Mutex<Vec<Batch>>>);

impl Keeping {
    fn exporter(&self) -> Exporter {
        Exporter::new(self.clone())
    }

    fn only(&self) -> Batch {
        let got = self.0.lock().unwrap();
        assert_eq!(got.len(), 1);
        got[0].clone()
    }
}

impl Export for Keeping {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        let delivery = Delivery::of(&batch);
        self.0.lock().unwrap().push(batch);
        Ok(delivery)
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

/// Spans named by their number.
fn numbered(spans: usize) -> Batch {
    batch_with(spans, |number, span| span.name = number.to_string())
}

fn is_even(span: &SpanView<'_>) -> bool {
    span.name().parse::<u64>().unwrap() % 2 == 0
}

fn names(batch: &Batch) -> Vec<String> {
    batch.iter().map(|span| span.name().to_owned()).collect()
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), soon()).await
}

fn sum(delivery: &Delivery) -> u64 {
    delivery.accepted + delivery.refused + delivery.filtered + delivery.undelivered()
}

fn text(value: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(value.to_owned())),
    }
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

fn of(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn list(values: impl IntoIterator<Item = AnyValue>) -> AnyValue {
    of(Value::ArrayValue(ArrayValue {
        values: values.into_iter().collect(),
    }))
}

fn map(values: impl IntoIterator<Item = KeyValue>) -> AnyValue {
    of(Value::KvlistValue(KeyValueList {
        values: values.into_iter().collect(),
    }))
}

mod filtered {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_goes_on_and_the_rest_is_counted() {
        let destination = Keeping::default();
        let filtered = Filtered::new(destination.exporter(), is_even);
        let counts = filtered.counts();
        let delivery = export(&Exporter::new(filtered), &numbered(7))
            .await
            .unwrap();
        assert_eq!((delivery.accepted, delivery.filtered), (4, 3));
        assert!(delivery.is_complete(), "it was asked for");
        assert_eq!(names(&destination.only()), ["0", "2", "4", "6"]);
        assert_eq!((counts.dropped_spans(), counts.changed_batches()), (3, 1));
    }

    #[tokio::test]
    async fn a_batch_that_is_kept_whole_is_not_copied() {
        let destination = Keeping::default();
        let batch = batch_of(5);
        let exporter = destination.exporter().filtered(|_| true);
        let exporter = exporter
            .mapped(|_, edit| edit.remove("not.there"))
            .scrubbed();
        export(&exporter, &batch).await.unwrap();
        let got = destination.only();
        assert_eq!(got.as_request().as_ptr(), batch.as_request().as_ptr());
    }

    #[tokio::test]
    async fn what_is_left_holds_no_more_memory_than_it_needs() {
        let destination = Keeping::default();
        let batch = numbered(1000);
        let exporter = destination.exporter().filtered(|span| span.name() == "7");
        export(&exporter, &batch).await.unwrap();
        let request = destination.only().as_request().clone();
        assert!(request.len() < 400);
        // Without others that share it, the bytes become the vector that they were made in.
        drop(destination);
        let vector: Vec<u8> = request.into();
        assert!(
            vector.capacity() < 2 * vector.len(),
            "{}",
            vector.capacity()
        );
    }

    #[tokio::test]
    async fn each_span_is_asked_about_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let exporter = Keeping::default().exporter().filtered(move |span| {
            counter.fetch_add(1, Ordering::Relaxed);
            is_even(span)
        });
        export(&exporter, &numbered(9)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 9);
    }

    #[tokio::test]
    async fn nothing_is_sent_when_nothing_is_kept() {
        let child = ScriptedExporter::new();
        let exporter = child.exporter().filtered(|_| false);
        let delivery = export(&exporter, &batch_of(3)).await.unwrap();
        assert_eq!((delivery.filtered, sum(&delivery)), (3, 3));
        assert!(delivery.is_complete());
        assert_eq!(child.exports().len(), 0);
    }

    #[tokio::test]
    async fn a_closure_that_panics_loses_nothing_in_silence() {
        let child = ScriptedExporter::new();
        let exporter = child.exporter().filtered(|span| match span.name() {
            "2" => panic!("a bad day"),
            _ => false,
        });
        let error = export(&exporter, &numbered(4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(!error.is_temporary());
        assert_eq!(error.to_string(), "the filter panicked, panic: a bad day");
        assert_eq!(child.exports().len(), 0);
        let delivery = export(&exporter, &numbered(1)).await.unwrap();
        assert_eq!(delivery.filtered, 1, "it goes on");
    }

    #[tokio::test]
    async fn an_error_with_nothing_dropped_is_that_of_the_whole_batch() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let exporter = child.exporter().filtered(|_| true);
        let error = export(&exporter, &batch_of(3)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.attempt().attempts, 1);
    }

    #[tokio::test]
    async fn after_an_error_what_was_kept_is_left_and_the_dropped_stay_dropped() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let exporter = child.exporter().filtered(is_even);
        let delivery = export(&exporter, &numbered(5)).await.unwrap();
        assert_eq!((delivery.filtered, delivery.undelivered()), (2, 3));
        assert_eq!(names(&delivery.rest[0].batch), ["0", "2", "4"]);
        assert_eq!(delivery.rest[0].error.kind(), ErrorKind::Unavailable);
        assert_eq!(delivery.attempt.attempts, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_outside_counts_each_dropped_span_once() {
        let child = ScriptedExporter::new();
        let half = || Act::DeliverHalf(Error::unavailable("half"));
        child.script([Act::unavailable(), half(), Act::unavailable()]);
        let exporter = child.exporter().filtered(is_even).retry(Retry::default());
        let batch = numbered(9);
        let delivery = export_patiently(&exporter, &batch).await.unwrap();
        assert_eq!((delivery.accepted, delivery.filtered), (5, 4));
        assert_eq!(delivery.attempt.attempts, 4);
        let ids = span_ids(&batch);
        let even: Vec<_> = ids.into_iter().step_by(2).collect();
        assert_eq!(child.received(), even);
    }

    async fn export_patiently(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
        exporter.export(batch.clone(), Deadline::never()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_fallback_gets_what_was_kept() {
        let [primary, other] = [ScriptedExporter::new(), ScriptedExporter::new()];
        primary.always(Act::DeliverHalf(Error::unavailable("half")));
        let exporter = primary
            .exporter()
            .filtered(is_even)
            .fallback(other.exporter());
        let delivery = export(&exporter, &numbered(8)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.filtered), (4, 4));
        assert_eq!(sum(&delivery), 8);
        assert_eq!(other.received().len(), 2);
    }

    /// The account of a queue closes whatever a filter does, and a filter is no outage and no log line.
    #[tokio::test]
    async fn the_account_of_a_queue_closes() {
        let child = ScriptedExporter::new();
        child.script([Act::Refuse(1), Act::unavailable(), Act::refused()]);
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::clone(&dropped);
        let queue = MemoryQueue::builder(child.exporter().filtered(is_even))
            .retry(Retry::default().initial_interval(Duration::from_millis(1)))
            .concurrent_exports(1)
            .on_drop(move |event| events.lock().unwrap().push((event.reason, event.spans)))
            .start()
            .unwrap();
        for spans in [6, 5, 2, 1] {
            let batch = numbered(spans);
            let permit = queue.try_reserve(batch.memory(), spans).unwrap();
            queue.push(batch, permit, Ack::none()).unwrap();
            let drained = queue.flush(soon()).await.unwrap();
            assert_eq!(drained.left, 0);
            assert_eq!(drained.lost.of(DropReason::Filtered) as usize, spans / 2);
            assert_eq!(drained.is_complete(), drained.refused == 0, "{drained:?}");
        }
        let account = queue.account();
        assert!(account.closes(), "{account}");
        assert_eq!(account.received, 14);
        assert_eq!(account.dropped.of(DropReason::Filtered), 3 + 2 + 1);
        assert_eq!(account.dropped.total(), 6);
        // One of the first batch; the second was unavailable, then refused whole.
        assert_eq!((account.refused, account.delivered), (4, 4));
        assert_eq!(queue.bytes(), 0);
        let told = dropped.lock().unwrap().clone();
        let filtered = DropReason::Filtered;
        assert_eq!(told, [(filtered, 3), (filtered, 2), (filtered, 1)]);
        drop(queue.shutdown(soon()).await.unwrap());
    }

    /// A batch of which nothing is left finds out nothing about a destination that is down, and stops nobody else.
    #[tokio::test]
    async fn a_queue_whose_probe_is_filtered_whole_goes_on() {
        let child = ScriptedExporter::new();
        child.script([Act::unavailable()]);
        let queue = MemoryQueue::builder(child.exporter().filtered(is_even))
            .retry(Retry::default().initial_interval(Duration::from_millis(50)))
            .start()
            .unwrap();
        let odd = batch_with(2, |_, span| span.name = "1".to_owned());
        for (spans, batch) in [(1, numbered(1)), (2, odd)] {
            child.wait_for_exports(spans - 1).await;
            let permit = queue.try_reserve(batch.memory(), spans).unwrap();
            queue.push(batch, permit, Ack::none()).unwrap();
        }
        let drained = queue.flush(soon()).await.unwrap();
        assert_eq!(drained.left, 0, "{:?}", queue.trouble());
        let account = queue.account();
        assert_eq!(account.delivered, 1);
        assert_eq!(account.dropped.of(DropReason::Filtered), 2);
        assert!(account.closes(), "{account}");
    }

    #[cfg(feature = "sdk")]
    #[test]
    fn the_sdk_sees_no_failure_and_the_account_of_a_processor_closes() {
        use opentelemetry::trace::Span as _;
        use opentelemetry::trace::Tracer as _;
        use opentelemetry::trace::TracerProvider as _;
        use opentelemetry_sdk::trace::SdkTracerProvider;
        use outspan::sdk::BatchProcessor;
        use outspan::sdk::SimpleProcessor;

        let make_spans = |provider: &SdkTracerProvider| {
            for name in ["wanted", "unwanted"] {
                provider.tracer("test").start(name).end();
            }
        };
        let exporter = || {
            let child = ScriptedExporter::new();
            child.exporter().filtered(|span| span.name() == "wanted")
        };
        let simple = SimpleProcessor::new(exporter());
        let handle = simple.handle();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(simple)
            .build();
        make_spans(&provider);
        provider.shutdown().unwrap();
        let account = handle.account();
        assert_eq!(account.delivered, 1);
        assert_eq!(account.dropped.of(DropReason::Filtered), 1);

        let batching = BatchProcessor::new(exporter());
        let handle = batching.handle();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(batching)
            .build();
        make_spans(&provider);
        provider.shutdown().unwrap();
        let account = handle.account();
        assert_eq!(account.delivered, 1);
        assert_eq!(account.dropped.of(DropReason::Filtered), 1);
        assert_eq!(account.received, 2);
    }

    #[tokio::test]
    async fn a_fan_out_to_all_counts_only_what_nobody_gets() {
        let children: [ScriptedExporter; 2] = std::array::from_fn(|_| ScriptedExporter::new());
        let fan_out = FanOut::new()
            .to("even", children[0].exporter().filtered(is_even))
            .to(
                "odd",
                children[1].exporter().filtered(|span| !is_even(span)),
            )
            .build()
            .unwrap();
        let delivery = export(&fan_out, &numbered(5)).await.unwrap();
        // Three even, two odd: no two are known to be filtered by both.
        assert_eq!((delivery.filtered, delivery.accepted), (2, 3));
        let fan_out = FanOut::new()
            .to("none", children[0].exporter().filtered(|_| false))
            .to("all", children[1].exporter())
            .build()
            .unwrap();
        let delivery = export(&fan_out, &numbered(5)).await.unwrap();
        assert_eq!((delivery.filtered, delivery.accepted), (0, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_around_a_fan_out_of_filters_sends_to_those_alone_that_miss_it() {
        let children: [ScriptedExporter; 2] = std::array::from_fn(|_| ScriptedExporter::new());
        children[1].script([Act::unavailable(), Act::unavailable()]);
        let fan_out = FanOut::new()
            .to("a", children[0].exporter().filtered(is_even))
            .to("b", children[1].exporter().filtered(is_even))
            .build()
            .unwrap();
        let exporter = fan_out.filtered(|span| span.name() != "4");
        let exporter = exporter.retry(Retry::default());
        let delivery = export_patiently(&exporter, &numbered(6)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.filtered), (2, 1 + 3));
        assert_eq!(sum(&delivery), 6);
        for child in &children {
            assert_eq!(child.received().len(), 2, "nothing came twice");
        }
        assert_eq!(children[0].exports().len(), 1);
    }

    /// A span that one child lost may be one that another refused.
    #[tokio::test]
    async fn a_fan_out_says_of_each_span_one_thing() {
        let children: [ScriptedExporter; 2] = std::array::from_fn(|_| ScriptedExporter::new());
        children[0].always(Act::refused());
        children[1].always(Act::Refuse(2));
        let fan_out = FanOut::new()
            .to("a", children[0].exporter())
            .to("b", children[1].exporter())
            .build()
            .unwrap();
        let delivery = export(&fan_out, &batch_of(5)).await.unwrap();
        assert_eq!(sum(&delivery), 5, "{delivery:?}");
    }

    #[tokio::test]
    async fn a_fan_out_to_any_takes_a_filtered_child_that_took_the_others() {
        let [one, other] = [ScriptedExporter::new(), ScriptedExporter::new()];
        other.always(Act::Stall);
        let fan_out = FanOut::new()
            .to("a", one.exporter().filtered(is_even))
            .to("b", other.exporter())
            .wait_for(WaitFor::Any)
            .build()
            .unwrap();
        let batch = numbered(4);
        let until = Deadline::after(5 * SECOND);
        let delivery = fan_out.export(batch, until).await.unwrap();
        assert_eq!((delivery.accepted, delivery.filtered), (2, 2));
        assert!(!until.has_passed(), "nobody waits for the other");
    }
}

mod mapped {
    use super::*;

    fn spans(batch: &Batch) -> Vec<Span> {
        let mut request = decode(batch);
        let mut resource = request.resource_spans.remove(0);
        resource.scope_spans.remove(0).spans
    }

    async fn mapped(
        batch: &Batch,
        map: impl Fn(&SpanView<'_>, &mut outspan::combinators::Edit) + Send + Sync + 'static,
    ) -> Batch {
        let destination = Keeping::default();
        let exporter = destination.exporter().mapped(map);
        let delivery = export(&exporter, batch).await.unwrap();
        assert_eq!(delivery.accepted, batch.spans() as u64);
        destination.only()
    }

    #[tokio::test]
    async fn fields_and_attributes_change_and_nothing_else() {
        let batch = batch_with(3, |number, span| {
            span.name = number.to_string();
            span.attributes = vec![
                pair("a", text("1")),
                pair("b", of(Value::IntValue(2))),
                pair("c", list([text("3")])),
            ];
            span.events = vec![Event {
                name: "event".to_owned(),
                attributes: vec![pair("a", text("of the event"))],
                ..Event::default()
            }];
            span.status = Some(Status {
                code: 2,
                message: "was".to_owned(),
            });
        });
        let got = mapped(&batch, |span, edit| {
            if span.name() == "1" {
                edit.name("one");
                edit.status_message("is");
                edit.trace_state("k=v");
                edit.remove("a");
                edit.rename("b", "renamed");
                edit.set("c", vec!["x", "y"]);
                edit.set("new", 1.5);
            }
        })
        .await;
        let (before, after) = (spans(&batch), spans(&got));
        let mut wanted = before[1].clone();
        wanted.name = "one".to_owned();
        wanted.status.as_mut().unwrap().message = "is".to_owned();
        wanted.trace_state = "k=v".to_owned();
        wanted.attributes = vec![
            pair("renamed", of(Value::IntValue(2))),
            pair("c", list([text("x"), text("y")])),
            pair("new", of(Value::DoubleValue(1.5))),
        ];
        assert_eq!(after[1], wanted);
        for place in [0, 2] {
            let bytes = |batch: &Batch| batch.iter().nth(place).unwrap().bytes().to_vec();
            assert_eq!(bytes(&got), bytes(&batch), "byte for byte");
        }
    }

    #[tokio::test]
    async fn keys_stay_unique() {
        let batch = batch_with(1, |_, span| {
            span.attributes = ["a", "b", "c", "a"]
                .map(|key| pair(key, text(key)))
                .to_vec();
        });
        let keys = |batch: &Batch| -> Vec<String> {
            let attributes = spans(batch).remove(0).attributes.into_iter();
            attributes
                .map(|attribute| {
                    let Some(Value::StringValue(text)) = attribute.value.unwrap().value else {
                        panic!("a text");
                    };
                    format!("{}={text}", attribute.key)
                })
                .collect()
        };
        let set = mapped(&batch, |_, edit| edit.set("a", "x")).await;
        assert_eq!(keys(&set), ["a=x", "b=b", "c=c"]);
        let renamed = mapped(&batch, |_, edit| edit.rename("a", "c")).await;
        assert_eq!(keys(&renamed), ["c=a", "b=b"]);
        let swapped = mapped(&batch, |_, edit| {
            edit.rename("b", "c");
            edit.rename("c", "b");
        })
        .await;
        assert_eq!(keys(&swapped), ["a=a", "c=b", "b=c", "a=a"]);
        let both = mapped(&batch, |_, edit| {
            edit.rename("a", "d");
            edit.rename("b", "d");
        })
        .await;
        assert_eq!(keys(&both), ["d=a", "c=c"]);
        let given = mapped(&batch, |_, edit| {
            edit.rename("a", "d");
            edit.set("d", "x");
        })
        .await;
        assert_eq!(keys(&given), ["b=b", "c=c", "d=x"]);
        let last = mapped(&batch, |_, edit| {
            edit.remove("a");
            edit.set("a", "x");
            edit.rename("none", "b");
        })
        .await;
        assert_eq!(keys(&last), ["a=x", "b=b", "c=c"]);
    }

    /// So a batch whose rest comes again keeps what a fan-out wrote on it.
    #[tokio::test]
    async fn the_same_change_twice_is_no_change() {
        let map = |_: &SpanView<'_>, edit: &mut outspan::combinators::Edit| {
            edit.set("environment", "test");
            edit.set("list", vec![1, 2]);
            edit.remove("greeting");
            edit.name("n");
        };
        let once = mapped(&batch_of(3), map).await;
        let twice = mapped(&once, map).await;
        assert_eq!(twice.as_request().as_ptr(), once.as_request().as_ptr());
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_around_a_changed_fan_out_sends_to_those_alone_that_miss_it() {
        let children: [ScriptedExporter; 2] = std::array::from_fn(|_| ScriptedExporter::new());
        children[1].script([Act::unavailable(), Act::unavailable()]);
        let fan_out = FanOut::new()
            .to("a", children[0].exporter())
            .to("b", children[1].exporter())
            .build()
            .unwrap();
        let exporter = fan_out
            .mapped(|_, edit| edit.set("environment", "test"))
            .retry(Retry::default());
        let batch = batch_of(4);
        let exported = exporter.export(batch, Deadline::never()).await;
        assert_eq!(exported.unwrap().accepted, 4);
        assert_eq!(children[0].exports().len(), 1);
        assert_eq!(children[1].exports().len(), 3);
    }

    #[tokio::test]
    async fn an_error_is_that_of_the_batch_as_it_came() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let mapped = Mapped::new(child.exporter(), |_, edit| edit.set("a", 1));
        let counts = mapped.counts();
        let error = export(&Exporter::new(mapped), &batch_of(2))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(
            (counts.changed_batches(), counts.changed_attributes()),
            (1, 2)
        );
    }

    #[tokio::test]
    async fn a_closure_that_panics_is_an_error() {
        let child = ScriptedExporter::new();
        let exporter = child.exporter().mapped(|_, _| panic!("a bad day"));
        let error = export(&exporter, &batch_of(4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), "the change panicked, panic: a bad day");
        assert_eq!(child.exports().len(), 0);
    }

    #[tokio::test]
    async fn a_rewriter_reaches_resources_and_removes_spans() {
        #[derive(Default)]
        struct Half(usize);

        impl Rewrite for Half {
            fn resource(
                &mut self,
                _resource: outspan::wire::otlp::ResourceSpansView<'_>,
            ) -> Decision {
                Decision::Change
            }

            fn span(&mut self, _span: &SpanView<'_>, _edit: &mut SpanEdit) -> Decision {
                self.0 += 1;
                match self.0 % 2 {
                    0 => Decision::Remove,
                    _ => Decision::Keep,
                }
            }

            fn attribute(
                &mut self,
                _owner: AttributeOwner<'_>,
                attribute: AttributeView<'_>,
                slot: AttributeSlot<'_>,
            ) -> Settled {
                slot.set(attribute.key(), "rewritten")
            }
        }

        let destination = Keeping::default();
        let exporter = destination.exporter().rewritten(Half::default);
        let delivery = export(&exporter, &numbered(5)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.filtered), (3, 2));
        let got = destination.only();
        assert_eq!(names(&got), ["0", "2", "4"]);
        let span = got.iter().next().unwrap();
        let service = span.resource().attribute("service.name");
        assert!(matches!(
            service,
            Some(outspan::wire::otlp::ValueView::Str("rewritten"))
        ));
    }
}

mod scrubbed {
    use super::*;

    fn laden() -> ExportTraceServiceRequest {
        let mut request = request_with(2, |number, span| {
            if number == 1 {
                return;
            }
            span.name = "GET https://me:hunter2@host/".to_owned();
            span.status = Some(Status {
                code: 2,
                message: "no answer from amqp://me:hunter2@mq".to_owned(),
            });
            span.attributes = vec![
                pair("http.request.method", text("GET")),
                pair(
                    "http.request.header.authorization",
                    list([text("Bearer hunter2")]),
                ),
                pair("url.full", text("https://host/?token=hunter2&q=1")),
                pair("url.query", text("sig=hunter2&q=1")),
                pair("db.connection_string", text("Server=db;Password=hunter2")),
                pair("user.password", of(Value::IntValue(1234))),
                pair("has.password", of(Value::BoolValue(true))),
                pair("max.token", of(Value::IntValue(99))),
                pair("raw.secret", of(Value::BytesValue(b"hunter2".to_vec()))),
                pair("app.card", text("hunter2")),
                pair(
                    "body",
                    map([
                        pair("login", text("me")),
                        pair("password", text("hunter2")),
                        pair("urls", list([text("x://me:hunter2@h")])),
                    ]),
                ),
            ];
            span.events = vec![Event {
                name: "e".to_owned(),
                attributes: vec![pair("api_key", text("hunter2"))],
                ..Event::default()
            }];
            span.links = vec![Link {
                trace_id: vec![1; 16],
                span_id: vec![1; 8],
                attributes: vec![pair("Set-Cookie", text("id=hunter2"))],
                ..Link::default()
            }];
        });
        let resource = &mut request.resource_spans[0];
        let attributes = &mut resource.resource.as_mut().unwrap().attributes;
        attributes.push(pair("process.env.DB_PASSWORD", text("hunter2")));
        let scope = resource.scope_spans[0].scope.as_mut().unwrap();
        scope.attributes.push(pair("clientSecret", text("hunter2")));
        request
    }

    #[tokio::test]
    async fn credentials_go_from_everywhere_and_the_rest_stays() {
        let destination = Keeping::default();
        let scrubbed = Scrubbed::new(destination.exporter()).key("App.Card");
        let counts = scrubbed.counts();
        let exporter = Exporter::new(scrubbed);
        let batch = batch_from(&laden());
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 2);
        let got = destination.only();
        let request = decode(&got);
        assert!(!format!("{request:?}").contains("hunter2"), "{request:?}");
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        assert_eq!(spans[0].name, "GET https://REDACTED:REDACTED@host/");
        assert_eq!(
            spans[0].status.as_ref().unwrap().message,
            "no answer from amqp://REDACTED:REDACTED@mq"
        );
        let redacted = || text("REDACTED");
        let wanted = vec![
            pair("http.request.method", text("GET")),
            pair("http.request.header.authorization", list([redacted()])),
            pair("url.full", text("https://host/?token=REDACTED&q=1")),
            pair("url.query", text("sig=REDACTED&q=1")),
            pair("db.connection_string", text("Server=db;Password=REDACTED")),
            pair("user.password", redacted()),
            pair("has.password", of(Value::BoolValue(true))),
            pair("max.token", of(Value::IntValue(99))),
            pair("raw.secret", redacted()),
            pair("app.card", redacted()),
            pair(
                "body",
                map([
                    pair("login", text("me")),
                    pair("password", redacted()),
                    pair("urls", list([text("x://REDACTED:REDACTED@h")])),
                ]),
            ),
        ];
        assert_eq!(spans[0].attributes, wanted);
        let bytes = |batch: &Batch| batch.iter().nth(1).unwrap().bytes().to_vec();
        assert_eq!(
            bytes(&got),
            bytes(&batch),
            "a span without any stays as it is"
        );
        // Eight of the span, and one each of its event and link, the resource and the scope.
        assert_eq!(counts.changed_attributes(), 8 + 4);
        assert_eq!((counts.changed_batches(), counts.dropped_spans()), (1, 0));
    }

    #[tokio::test]
    async fn scrubbing_twice_changes_nothing_more() {
        let destination = Keeping::default();
        let once = destination.exporter().scrubbed();
        export(&once, &batch_from(&laden())).await.unwrap();
        let scrubbed = destination.only();
        let again = Keeping::default();
        export(&again.exporter().scrubbed(), &scrubbed)
            .await
            .unwrap();
        let got = again.only();
        assert_eq!(got.as_request().as_ptr(), scrubbed.as_request().as_ptr());
    }
}

mod whatever_happens {
    use super::*;

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            Just(Act::Deliver),
            (0..4_u64).prop_map(Act::Refuse),
            Just(Act::DeliverHalf(Error::unavailable("half"))),
            Just(Act::DeliverHalf(Error::refused("half"))),
            Just(Act::unavailable()),
            Just(Act::refused()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// The account of a filter closes, and the spans that it keeps stay as they are, byte for byte.
        #[test]
        fn a_filter_accounts_for_every_span(keeps in prop::collection::vec(any::<bool>(), 0..24), acts in prop::collection::vec(act(), 0..4)) {
            let batch = numbered(keeps.len());
            let kept = keeps.iter().filter(|keep| **keep).count();
            let child = ScriptedExporter::new();
            child.script(acts);
            let destination = Keeping::default();
            let decide = move |span: &SpanView<'_>| keeps[span.name().parse::<usize>().unwrap()];
            let both = FanOut::new()
                .to("child", child.exporter())
                .to("keeping", destination.exporter())
                .build()
                .unwrap();
            let retry = Retry::default().max_retries(2).initial_interval(Duration::from_millis(1));
            let exporter = both.filtered(decide.clone()).retry(retry);
            let delivery = futures_executor::block_on(export(&exporter, &batch));
            let filtered = batch.spans() - kept;
            match delivery {
                Ok(delivery) => {
                    prop_assert_eq!(sum(&delivery), batch.spans() as u64, "{:?}", delivery);
                    prop_assert_eq!(delivery.filtered, filtered as u64);
                }
                Err(_) => prop_assert_eq!(filtered, 0),
            }
            let got = destination.0.lock().unwrap().clone();
            let got: Vec<_> = got.iter().flat_map(|batch| batch.iter().map(|span| span.bytes().to_vec()).collect::<Vec<_>>()).collect();
            let wanted: Vec<_> = batch.iter().filter(|span| decide(span)).map(|span| span.bytes().to_vec()).collect();
            prop_assert_eq!(got, wanted, "each span once");
        }

        /// Whatever stands in a text, scrubbing neither panics nor needs to be done twice.
        #[test]
        fn scrubbing_ends_and_is_done_once(key in "[a-zA-Z._-]{0,6}(password|token|dsn|url|url.query)?", value in "[a-z:/@?&=;#' \"{}é.-]{0,4}(://|password=|\\?sig=|@)?[a-z:/@?&=;#' \"{}é.-]{0,30}") {
            let batch = batch_with(1, |_, span| span.attributes = vec![pair(&key, text(&value))]);
            let destination = Keeping::default();
            let exporter = destination.exporter().scrubbed();
            futures_executor::block_on(export(&exporter, &batch)).unwrap();
            let once = destination.only();
            destination.0.lock().unwrap().clear();
            futures_executor::block_on(export(&exporter, &once)).unwrap();
            let twice = destination.only();
            prop_assert_eq!(decode(&twice), decode(&once));
        }
    }
}
