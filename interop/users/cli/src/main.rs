//! A command-line tool that exits at once.

use opentelemetry::trace::Tracer;

fn main() -> outspan::Result<()> {
    let guard = outspan::init()?;
    let tracer = guard.tracer("cli");
    tracer.in_span("run", |_| tracer.in_span("read", |_| {}));
    Ok(())
}
