//! Plain threads, and no async runtime of one's own.

use std::thread;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;

fn main() -> outspan::Result<()> {
    let guard = outspan::init()?;
    let tracer = guard.tracer("threads");
    let context = Context::current_with_span(tracer.start("work"));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                drop(tracer.start_with_context("part", &context));
            });
        }
    });
    Ok(())
}
