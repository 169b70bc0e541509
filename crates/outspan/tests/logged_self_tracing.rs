//! The lines of a logged exporter make no spans and are attached to none, however much of the program is traced. In a
//! program of its own, because the subscriber is the process's.
#![cfg(feature = "sdk")]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::combinators::Logged;
use outspan::sdk::BatchProcessor;
use outspan::sdk::SimpleProcessor;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tracing_subscriber::layer::SubscriberExt;

/// Remembers the name of each span and how many events it has. Fails in every way in turn, so that there is much to tell.
#[derive(Clone, Debug, Default)]
struct Recording {
    spans: Arc<Mutex<Vec<(String, usize)>>>,
    calls: Arc<Mutex<usize>>,
}

impl Export for Recording {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        let call = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        if call == 1 {
            return Err(Error::refused("the first one is refused"));
        }
        let spans = batch.iter();
        let spans = spans.map(|span| (span.name().to_owned(), span.events().count()));
        self.spans.lock().unwrap().extend(spans);
        match call % 2 {
            0 => Ok(Delivery::of(&batch)),
            _ => Ok(Delivery::partial(&batch, 1, "one is refused")),
        }
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[test]
fn log_lines_are_not_exported_by_the_exporter_that_they_are_about() {
    let [batched, single] = [(); 2].map(|()| Recording::default());
    let logged = |child: &Recording| {
        let logged = Logged::new(Exporter::new(child.clone()));
        logged.interval(Duration::from_millis(1)).build()
    };
    let direct = logged(&Recording::default());
    let processor = BatchProcessor::new(logged(&batched));
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        // It exports on the very thread that ends the span, while the subscriber is closing it.
        .with_span_processor(SimpleProcessor::new(logged(&single)))
        .build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    let everything = tracing_opentelemetry::layer().with_tracer(provider.tracer("program"));
    let subscriber = tracing_subscriber::registry().with(everything);
    tracing::subscriber::set_global_default(subscriber).unwrap();

    tracing::info_span!("outside").in_scope(|| {
        for _ in 0..20 {
            tracing::info_span!("work").in_scope(|| tracing::info!("working"));
            // What was refused makes it an error.
            drop(provider.force_flush());
            // An export in a span of the user's: what is told of it is no event of that span.
            let export = direct.export(batch_of(2), soon());
            drop(futures_executor::block_on(export));
        }
    });
    drop(futures_executor::block_on(direct.shutdown(soon())).unwrap());
    drop(provider.shutdown());
    assert_eq!(handle.account().received, 21);
    let mut expected = vec![("work".to_owned(), 1); 19];
    expected.push(("outside".to_owned(), 0));
    assert_eq!(*batched.spans.lock().unwrap(), expected);
    assert_eq!(*single.spans.lock().unwrap(), expected);
}
