//! The shortest program that sends spans: to any OTLP receiver, or to the terminal.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --example hello
//! OTEL_TRACES_EXPORTER=console cargo run --example hello
//! ```

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> outspan::Result<()> {
    let guard = outspan::init()?;
    let spans = tracing_opentelemetry::layer().with_tracer(guard.tracer("hello"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(spans)
        .with(lines)
        .init();

    let order = tracing::info_span!("order", items = 2);
    order.in_scope(|| {
        for item in ["tea", "cup"] {
            tracing::info_span!("pack", item).in_scope(|| tracing::info!("packed"));
        }
    });
    drop(order);
    Ok(())
} // Here the guard is dropped, and delivers what is left.
