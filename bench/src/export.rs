//! From the end of a span to bytes that a gRPC server in another process has accepted, saturated.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::BatchSpanProcessor;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanExporter;
use opentelemetry_sdk::trace::SpanProcessor;
use outspan::otlp;
use outspan::sdk::BatchProcessor;

use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::cpu_time_of_others;
use crate::measure::less_is_better;
use crate::measure::more_is_better;
use crate::measure::note;
use crate::measure::time;
use crate::roles::receiver::Arrived;
use crate::roles::receiver::Options;
use crate::roles::receiver::Receiver;
use crate::spans;

/// Spans on their way before the maker waits: below the peer's default queue of 2048, so that it drops nothing.
const OPEN_MAX: u64 = 1536;

/// Spans that are made between two looks at the clock.
const BLOCK: usize = 64;

/// What one side came to.
#[derive(Debug)]
struct Side {
    spans: u64,
    took: Duration,
    /// The time in which spans were ended, and the CPU time of every thread but the one that ends them: making spans is
    /// not what is measured.
    cpu: Duration,
    arrived: Arrived,
}

pub(crate) fn run(quick: bool) -> Outcome {
    let length = Duration::from_secs(if quick { 1 } else { 20 });
    let ours = run_ours(length)?;
    let peer = run_peer(length)?;
    for (name, side) in [("ours", &ours), ("peer", &peer)] {
        note(&format!(
            "{name}: {} spans ended, {} arrived in {} requests of {} bytes in all; {} looked into, {} wrong",
            side.spans,
            side.arrived.spans,
            side.arrived.requests,
            side.arrived.bytes,
            side.arrived.looked_into,
            side.arrived.wrong,
        ));
        check(side.spans == side.arrived.spans, || {
            format!("{name}: not every span arrived")
        })?;
        check(
            side.arrived.wrong == 0 && side.arrived.looked_into > 0,
            || format!("{name}: spans arrived that are not whole"),
        )?;
    }
    let micros = |side: &Side| side.cpu.as_secs_f64() / side.spans as f64 * 1e6;
    let rate = |side: &Side| side.spans as f64 / side.took.as_secs_f64();
    less_is_better("export/cpu", "us/span", micros(&ours), micros(&peer));
    more_is_better("export/throughput", "spans/s", rate(&ours), rate(&peer));
    Ok(())
}

fn run_ours(length: Duration) -> Result<Side, String> {
    let receiver = Receiver::start(Options::default())?;
    let exporter = otlp::grpc(&receiver.endpoint)
        .build()
        .map_err(|e| e.to_string())?;
    let mut processor = BatchProcessor::new(exporter);
    processor.set_resource(&spans::resource());
    let handle = processor.handle();
    // What is counted as gone is what the server has acknowledged, for both sides.
    drive(&processor, length, || handle.account().delivered, receiver)
}

fn run_peer(length: Duration) -> Result<Side, String> {
    let receiver = Receiver::start(Options::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    // The peer's gRPC exporter needs a runtime when it is built and a worker of it later.
    let _entered = runtime.enter();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&receiver.endpoint)
        .build()
        .map_err(|e| e.to_string())?;
    let gone = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        inner: exporter,
        gone: Arc::clone(&gone),
    };
    let mut processor = BatchSpanProcessor::builder(counted).build();
    processor.set_resource(&spans::resource());
    drive(
        &processor,
        length,
        || gone.load(Ordering::Acquire),
        receiver,
    )
}

/// Ends spans as fast as they go away, for `length`.
fn drive(
    processor: &impl SpanProcessor,
    length: Duration,
    gone: impl Fn() -> u64,
    receiver: Receiver,
) -> Result<Side, String> {
    let cpu_before = cpu_time_of_others()?;
    let began = Instant::now();
    let mut made = 0;
    let mut ending = Duration::ZERO;
    while began.elapsed() < length {
        let block = spans::spans(made, BLOCK);
        ending += time(|| {
            for span in block {
                processor.on_end(span);
            }
        });
        made += BLOCK as u64;
        while made.saturating_sub(gone()) > OPEN_MAX && began.elapsed() < length * 2 {
            // Sleeping leaves the processor to the other side and costs next to nothing, on both sides alike.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    processor
        .shutdown_with_timeout(Duration::from_secs(10))
        .map_err(|e| e.to_string())?;
    let took = began.elapsed();
    let cpu = ending + cpu_time_of_others()?.saturating_sub(cpu_before);
    let arrived = receiver.finish()?;
    Ok(Side {
        spans: made,
        took,
        cpu,
        arrived,
    })
}

/// The peer's exporter, with a count of the spans whose export has succeeded.
#[derive(Debug)]
struct Counted {
    inner: opentelemetry_otlp::SpanExporter,
    gone: Arc<AtomicU64>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        self.gone.fetch_add(spans, Ordering::AcqRel);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
