//! The examples of `docs/from-go.md` that a Go programmer would run: each does what the Go guide's exporter of that name does.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::FanOut;
use outspan::combinators::Limited;
use outspan::combinators::Measured;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tracing::Subscriber;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt;

fn children() -> [ScriptedExporter; 2] {
    [ScriptedExporter::new(), ScriptedExporter::new()]
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), soon()).await
}

/// Keeps the names of the spans it gets.
#[derive(Debug)]
struct Names(Arc<Mutex<Vec<String>>>);

impl Export for Names {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        let mut names = self.0.lock().unwrap();
        names.extend(batch.iter().map(|span| span.name().to_owned()));
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[tokio::test]
async fn a_custom_exporter_gets_the_spans() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let exporter = Exporter::new(Names(Arc::clone(&names)));
    let batch = batch_of(3);
    assert!(export(&exporter, &batch).await.unwrap().is_complete());
    let sent: Vec<_> = batch.iter().map(|span| span.name().to_owned()).collect();
    assert_eq!(*names.lock().unwrap(), sent);
}

#[tokio::test]
async fn a_multi_exporter_sends_to_all_and_joins_their_errors() {
    let [backend, archive] = children();
    archive.script([Act::unavailable()]);
    let both = FanOut::new()
        .to("backend", backend.exporter())
        .to("archive", archive.exporter())
        .build()
        .unwrap();
    let delivery = export(&both, &batch_of(2)).await.unwrap();
    let error = &delivery.rest[0].error;
    assert!(error.to_string().contains("archive"), "{error}");
    assert_eq!(backend.received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_exporter_tries_so_often_and_no_more() {
    let [backend, _] = children();
    backend.always(Act::unavailable());
    let retry = Retry::default().max_retries(3).max_elapsed(None);
    let exporter = backend.exporter().retry(retry);
    let until = Deadline::after(Duration::from_secs(600));
    let error = exporter.export(batch_of(1), until).await.unwrap_err();
    assert!(error.is_temporary());
    assert_eq!(backend.exports().len(), 4);

    backend.always(Act::refused());
    export(&exporter, &batch_of(1)).await.unwrap_err();
    assert_eq!(
        backend.exports().len(),
        5,
        "what is refused for good is not tried again"
    );
}

#[tokio::test]
async fn a_fallback_exporter_goes_to_the_backup() {
    let [primary, backup] = children();
    primary.always(Act::unavailable());
    let exporter = primary
        .exporter()
        .timeout(Duration::from_secs(5))
        .fallback(backup.exporter());
    let delivery = export(&exporter, &batch_of(2)).await.unwrap();
    assert_eq!(delivery.destination.as_deref(), Some("fallback"));
    assert_eq!(backup.received().len(), 2);
}

#[tokio::test]
async fn a_monitored_exporter_counts_and_raises_the_alarm() {
    let [backend, _] = children();
    backend.script([Act::Deliver, Act::refused()]);
    let (sender, alarms) = std::sync::mpsc::channel();
    let (exporter, handle) = Measured::new(backend.exporter())
        .name("backend")
        .on_failure_rate(0.1, Duration::from_secs(300), move |event| {
            sender.send((event.name.to_string(), event.rate)).unwrap();
        })
        .build()
        .unwrap();
    export(&exporter, &batch_of(3)).await.unwrap();
    export(&exporter, &batch_of(1)).await.unwrap_err();
    let stats = handle.stats();
    assert_eq!((stats.spans.delivered, stats.spans.missed()), (3, 1));
    let (name, rate) = alarms.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((name.as_str(), rate), ("backend", 0.25));
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> tracing_subscriber::Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
}

#[tokio::test]
async fn a_logging_exporter_tells_of_the_first_failure() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let [backend, _] = children();
    backend.script([Act::refused()]);
    let exporter = backend.exporter().logged();
    export(&exporter, &batch_of(1)).await.unwrap_err();
    export(&exporter, &batch_of(1)).await.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
    let lines = lines.0.lock().unwrap();
    let told = |words: &str| lines.iter().any(|line| line.contains(words));
    assert!(told("the script says refused"), "{lines:?}");
}

#[tokio::test]
async fn spans_are_filtered_on_their_way() {
    let [backend, _] = children();
    let exporter = backend
        .exporter()
        .limited(Limited::new().spans_per_second(10_000))
        .scrubbed()
        .filtered(|span| span.name() != "GET /healthz");
    let batch = outspan_testkit::batch_with(4, |number, span| {
        if number % 2 == 0 {
            span.name = "GET /healthz".into();
        }
    });
    let delivery = export(&exporter, &batch).await.unwrap();
    assert_eq!((delivery.accepted, delivery.filtered), (2, 2));
    assert_eq!(backend.received().len(), 2);
}
