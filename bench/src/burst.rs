//! 100,000 spans at once into default settings, with an exporter that takes 1 ms a batch.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::BatchSpanProcessor;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanExporter;
use opentelemetry_sdk::trace::SpanProcessor;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::sdk::BatchProcessor;

use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::more_is_better;
use crate::measure::note;
use crate::spans;

const SPANS: usize = 100_000;

/// What the processor may hold by default, in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// How long the exporter takes for a batch.
const EXPORT: Duration = Duration::from_millis(1);

pub(crate) fn run(_quick: bool) -> Outcome {
    let arrived = Arc::new(Arrivals::default());
    let processor = BatchProcessor::new(Exporter::new(Slow(Arc::clone(&arrived))));
    let handle = processor.handle();
    let mut most_held = 0;
    burst(processor, || {
        most_held = most_held.max(handle.held_bytes() as u64)
    })?;
    let account = handle.account();
    let ours = arrived.distinct();
    check(ours == SPANS, || {
        format!("{ours} of {SPANS} spans arrived; {account}")
    })?;
    check(
        account.closes() && account.delivered == SPANS as u64,
        || account.to_string(),
    )?;
    check(most_held <= BYTES_MAX, || {
        format!("{most_held} bytes were held")
    })?;
    note(&format!(
        "ours held at most {:.1} MiB of the 64 MiB it may; its account: {account}",
        most_held as f64 / f64::from(1 << 20)
    ));

    let arrived = Arc::new(Arrivals::default());
    let processor = BatchSpanProcessor::builder(Slow(Arc::clone(&arrived))).build();
    burst(processor, || ())?;
    let peer = arrived.distinct();
    note(&format!("of {SPANS} spans the peer lost {}", SPANS - peer));
    more_is_better("burst/delivered", "spans", ours as f64, peer as f64);
    Ok(())
}

/// Ends all spans as fast as one thread can; they are made before.
fn burst(mut processor: impl SpanProcessor, mut look: impl FnMut()) -> Outcome {
    processor.set_resource(&spans::resource());
    let all = spans::spans(0, SPANS);
    let began = Instant::now();
    for (n, span) in all.into_iter().enumerate() {
        processor.on_end(span);
        if n.is_multiple_of(512) {
            look();
        }
    }
    let took = began.elapsed();
    let ended = processor.shutdown_with_timeout(Duration::from_secs(30));
    note(&format!(
        "{SPANS} spans ended in {} ms; shutdown: {ended:?}",
        took.as_millis()
    ));
    Ok(())
}

/// The ids of what arrived.
#[derive(Debug, Default)]
struct Arrivals(Mutex<Vec<[u8; 8]>>);

impl Arrivals {
    fn add(&self, ids: impl Iterator<Item = [u8; 8]>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(ids);
    }

    fn distinct(&self) -> usize {
        let mut ids = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }
}

/// Takes 1 ms for a batch, for either side.
#[derive(Debug)]
struct Slow(Arc<Arrivals>);

impl Export for Slow {
    async fn export(&self, batch: Batch, _until: Deadline) -> outspan::Result<Delivery> {
        tokio::time::sleep(EXPORT).await;
        self.0.add(batch.iter().map(|span| span.span_id()));
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> outspan::Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> outspan::Result<Drained> {
        Ok(Drained::default())
    }
}

impl SpanExporter for Slow {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        // The SDK's thread has no runtime, so its exporter waits as a blocking one does.
        std::thread::sleep(EXPORT);
        self.0.add(
            batch
                .iter()
                .map(|span| span.span_context.span_id().to_bytes()),
        );
        Ok(())
    }
}
