//! Combinators and the queue, around scripted exporters and, where it says so, in front of real servers.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "metrics")]
#[path = "../otel_metrics/mod.rs"]
mod otel_metrics;

mod balance;
mod basic;
mod editing;
mod fallback;
mod fan_out;
mod fan_out_log;
mod from_go;
mod limited;
mod logged;
mod logged_self_tracing;
mod look_ups;
mod measured;
mod merger;
mod named_limits;
mod queue;
mod queue_edges;
mod queue_log;
mod queue_runtime;
mod queued;
mod retiring;
mod retry;
mod shares;
mod span_queue;
mod split;
mod stacks;

/// Whether a retry outside makes another attempt after a temporary error like this one: not if a retry inside has given up.
async fn is_tried_again(error: &outspan::Error) -> bool {
    use std::time::Duration;

    use outspan::Export;

    let child = outspan_testkit::ScriptedExporter::new();
    let error = error.clone().with_temporary(true);
    let at_once = error.with_retry_after(Duration::ZERO);
    child.script([outspan_testkit::Act::Fail(at_once)]);
    let settings = outspan::Retry::default()
        .initial_interval(Duration::ZERO)
        .max_interval(Duration::ZERO);
    let exporter = child.exporter().retry(settings);
    let batch = outspan_testkit::batch_of(1);
    let result = exporter.export(batch, outspan::Deadline::never()).await;
    assert_eq!(result.is_ok(), child.exports().len() == 2);
    result.is_ok()
}
