//! tokio with one thread.

use opentelemetry::Context;
use opentelemetry::trace::FutureExt;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> outspan::Result<()> {
    let guard = outspan::init()?;
    let tracer = guard.tracer("current-thread");
    let context = Context::current_with_span(tracer.start("work"));
    let part = async {
        let part = tracer.start("part");
        tokio::task::yield_now().await;
        drop(part);
    };
    part.with_context(context).await;
    Ok(())
}
