//! What ending a span costs the application's thread: ours against the SDK's batch processor.

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::BatchConfigBuilder;
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
use crate::measure::less_is_better;
use crate::measure::nanos_each;
use crate::measure::note;
use crate::measure::quantile;
use crate::measure::time;
use crate::spans;

/// Spans ended in one go, timed together: reading the clock costs a tenth of ending a span.
const BLOCK: usize = 64;

/// Blocks that a thread ends in a row, all threads at the same time, as a program under load does. They are made before.
const BLOCKS_IN_A_ROW: usize = 8;

/// Spans that may wait before the next row begins: both sides keep what is less than a batch.
const OPEN_MAX: u64 = 512;

/// The peer's queue holds a row of 8 threads twice, so that it drops nothing.
const PEER_QUEUE: usize = 2 * 8 * BLOCKS_IN_A_ROW * BLOCK;

pub(crate) fn run(quick: bool) -> Outcome {
    let rows = if quick { 10 } else { 400 };
    for (threads, name) in [(1, "1-thread"), (2, "2-threads"), (8, "8-threads")] {
        let mut ours = Vec::new();
        let mut peer = Vec::new();
        // In turn and in slices, so that what disturbs the machine disturbs both.
        for _ in 0..5 {
            ours.append(&mut run_ours(threads, rows / 5)?);
            peer.append(&mut run_peer(threads, rows / 5)?);
        }
        note(&format!(
            "{name}: {} spans a side, each arrived once at the exporter; p99 ours {:.0} ns, peer {:.0} ns",
            ours.len() * BLOCK,
            nanos_each(quantile(&mut ours, 0.99), BLOCK),
            nanos_each(quantile(&mut peer, 0.99), BLOCK),
        ));
        less_is_better(
            &format!("on-end/{name}"),
            "ns/span",
            nanos_each(quantile(&mut ours, 0.5), BLOCK),
            nanos_each(quantile(&mut peer, 0.5), BLOCK),
        );
    }
    Ok(())
}

fn run_ours(threads: usize, rows: usize) -> Result<Vec<Duration>, String> {
    let arrived = Arc::new(AtomicU64::new(0));
    let exporter = Exporter::new(Count(Arc::clone(&arrived)));
    let mut processor = BatchProcessor::new(exporter);
    processor.set_resource(&spans::resource());
    drive(&processor, &arrived, threads, rows)
}

fn run_peer(threads: usize, rows: usize) -> Result<Vec<Duration>, String> {
    let arrived = Arc::new(AtomicU64::new(0));
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(PEER_QUEUE)
        .build();
    let mut processor = BatchSpanProcessor::builder(Count(Arc::clone(&arrived)))
        .with_batch_config(config)
        .build();
    processor.set_resource(&spans::resource());
    drive(&processor, &arrived, threads, rows)
}

/// Ends rows of blocks on several threads, and returns the time of each block.
fn drive(
    processor: &impl SpanProcessor,
    arrived: &AtomicU64,
    threads: usize,
    rows: usize,
) -> Result<Vec<Duration>, String> {
    let made = AtomicU64::new(0);
    let begin = Barrier::new(threads);
    let times = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (made, begin) = (&made, &begin);
                scope.spawn(move || {
                    let row = |n| {
                        let number = (thread * rows + n) * BLOCKS_IN_A_ROW * BLOCK;
                        one_row(processor, number as u64, made, arrived, begin)
                    };
                    (0..rows).flat_map(row).collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .flatten()
            .collect::<Vec<_>>()
    });
    processor.shutdown().map_err(|e| e.to_string())?;
    let (made, arrived) = (made.into_inner(), arrived.load(Ordering::Acquire));
    check(made == arrived, || {
        format!("{made} spans were ended, {arrived} arrived")
    })?;
    Ok(times)
}

fn one_row(
    processor: &impl SpanProcessor,
    first: u64,
    made: &AtomicU64,
    arrived: &AtomicU64,
    begin: &Barrier,
) -> Vec<Duration> {
    let blocks: Vec<Vec<SpanData>> = (0..BLOCKS_IN_A_ROW)
        .map(|n| spans::spans(first + (n * BLOCK) as u64, BLOCK))
        .collect();
    begin.wait();
    let mut times = Vec::with_capacity(blocks.len());
    for block in blocks {
        times.push(time(|| {
            for span in block {
                processor.on_end(span);
            }
        }));
    }
    made.fetch_add((BLOCKS_IN_A_ROW * BLOCK) as u64, Ordering::AcqRel);
    begin.wait();
    while made.load(Ordering::Acquire) - arrived.load(Ordering::Acquire) > OPEN_MAX {
        std::thread::yield_now();
    }
    times
}

/// Counts what arrives and does nothing else, for either side.
#[derive(Debug)]
struct Count(Arc<AtomicU64>);

impl Export for Count {
    async fn export(&self, batch: Batch, _until: Deadline) -> outspan::Result<Delivery> {
        self.0.fetch_add(batch.spans() as u64, Ordering::AcqRel);
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> outspan::Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> outspan::Result<Drained> {
        Ok(Drained::default())
    }
}

impl SpanExporter for Count {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.fetch_add(batch.len() as u64, Ordering::AcqRel);
        Ok(())
    }
}
