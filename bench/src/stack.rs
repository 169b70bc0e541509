//! What combinators cost that do not look into spans, around an exporter that does nothing.
//!
//! No peer has such stacks, so each figure stands beside its target.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::FanOut;
use outspan::wire::otlp::EncodedResource;
use outspan::wire::otlp::Encoder;
use outspan::wire::otlp::SpanLimits;
use tokio::runtime::Runtime;

use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::less_is_better;
use crate::measure::note;
use crate::measure::quantile;
use crate::measure::target_at_most;
use crate::spans;
use crate::spans::BATCH;

/// What a stack of five may add to an export.
const ADDED_US: f64 = 1.0;
const ADDED_ALLOCATIONS: f64 = 10.0;

/// What each child of a fan-out may cost.
const ALLOCATIONS_A_CHILD: f64 = 12.0;

/// How many children the fan-out has.
const CHILDREN: usize = 3;

/// Accepts everything, and knows where the bytes were that it was given last.
#[derive(Clone, Debug, Default)]
struct Accept {
    last: Arc<Mutex<Option<(usize, u64)>>>,
}

impl Accept {
    fn last(&self) -> Option<(usize, u64)> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Export for Accept {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        let place = batch.as_request().as_ptr() as usize;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = last.map_or(0, |(_, calls)| calls);
        *last = Some((place, calls + 1));
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

pub(crate) fn run(quick: bool) -> Outcome {
    let (rounds, repeats) = if quick { (5, 1_000) } else { (101, 10_000) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let batch = batch()?;
    overhead(&runtime, &batch, rounds, repeats)?;
    fan_out(&runtime, &batch)
}

fn overhead(runtime: &Runtime, batch: &Batch, rounds: usize, repeats: usize) -> Outcome {
    let bare = Exporter::new(Accept::default());
    let inside = Accept::default();
    let stack = stack(inside.clone());
    export(runtime, &stack, batch, 1)?;
    check(inside.last().is_some(), || {
        "nothing came through".to_owned()
    })?;

    let mut added = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let (of_stack, stack_result) = timed(|| export(runtime, &stack, batch, repeats));
        let (of_bare, bare_result) = timed(|| export(runtime, &bare, batch, repeats));
        stack_result.and(bare_result)?;
        added.push(of_stack.saturating_sub(of_bare));
    }
    let added = quantile(&mut added, 0.5).as_secs_f64() * 1e6 / repeats as f64;
    less_is_better("stack/overhead", "us/batch", added, ADDED_US);
    target_at_most("stack/overhead", "us/batch", ADDED_US, added);

    let of_stack = allocations(runtime, &stack, batch);
    let of_bare = allocations(runtime, &bare, batch);
    note(&format!(
        "timeout, retry, measured, logged, fallback: {of_stack} allocations a batch, the bare exporter {of_bare}"
    ));
    let added = of_stack - of_bare;
    less_is_better(
        "stack/allocations",
        "allocations/batch",
        added,
        ADDED_ALLOCATIONS,
    );
    target_at_most(
        "stack/allocations",
        "allocations/batch",
        ADDED_ALLOCATIONS,
        added,
    );
    Ok(())
}

fn fan_out(runtime: &Runtime, batch: &Batch) -> Outcome {
    let children: Vec<Accept> = (0..CHILDREN).map(|_| Accept::default()).collect();
    let mut fan_out = FanOut::new();
    for (number, child) in children.iter().enumerate() {
        fan_out = fan_out.to(number.to_string(), Exporter::new(child.clone()));
    }
    let fan_out = fan_out.build().map_err(|e| e.to_string())?;
    export(runtime, &fan_out, batch, 1)?;
    let place = batch.as_request().as_ptr() as usize;
    for child in &children {
        check(child.last() == Some((place, 1)), || {
            "a child has not got the batch's own bytes".to_owned()
        })?;
    }
    let each = allocations(runtime, &fan_out, batch) / CHILDREN as f64;
    less_is_better(
        "stack/fan-out",
        "allocations/child",
        each,
        ALLOCATIONS_A_CHILD,
    );
    target_at_most(
        "stack/fan-out",
        "allocations/child",
        ALLOCATIONS_A_CHILD,
        each,
    );
    Ok(())
}

fn stack(inside: Accept) -> Exporter {
    let (measured, _) = Exporter::new(inside)
        .timeout(Duration::from_secs(10))
        .retry(Retry::default())
        .measured("stack");
    measured.logged().fallback(Exporter::new(Accept::default()))
}

fn batch() -> std::result::Result<Batch, String> {
    let mut encoder = Encoder::new(SpanLimits::default());
    let resource = EncodedResource::default();
    for span in spans::spans(0, BATCH) {
        encoder.push(&resource, &outspan::sdk::SdkSpan(&span));
    }
    let request = encoder.finish().ok_or("nothing was encoded")?;
    let checked = Batch::from_request(request.bytes).map_err(|e| e.to_string())?;
    Ok(checked.batch)
}

fn export(
    runtime: &Runtime,
    exporter: &Exporter,
    batch: &Batch,
    repeats: usize,
) -> std::result::Result<(), String> {
    runtime.block_on(async {
        for _ in 0..repeats {
            let until = Deadline::after(Duration::from_secs(60));
            let delivery = exporter.export(batch.clone(), until).await;
            let delivery = delivery.map_err(|e| e.to_string())?;
            if delivery.accepted != BATCH as u64 {
                return Err(format!("{} spans accepted", delivery.accepted));
            }
        }
        Ok(())
    })
}

fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let began = Instant::now();
    let result = work();
    (began.elapsed(), result)
}

/// How many allocations an export makes on this thread.
fn allocations(runtime: &Runtime, exporter: &Exporter, batch: &Batch) -> f64 {
    const EXPORTS: usize = 100;

    let counted = allocation_counter::measure(|| {
        drop(black_box(export(runtime, exporter, batch, EXPORTS)));
    });
    counted.count_total as f64 / EXPORTS as f64
}
