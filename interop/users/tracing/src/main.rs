//! A program that knows `tracing` only.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> outspan::Result<()> {
    let guard = outspan::init()?;
    let spans = tracing_opentelemetry::layer().with_tracer(guard.tracer("tracing"));
    tracing_subscriber::registry().with(spans).init();
    order();
    Ok(())
}

#[tracing::instrument]
fn order() {
    for item in ["tea", "cup"] {
        tracing::info_span!("pack", item).in_scope(|| tracing::info!("packed"));
    }
}
