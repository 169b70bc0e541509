//! An exporter of one's own: it writes a line for each span, and hands the batch on.

use std::io::Write;
use std::sync::Mutex;

use opentelemetry::trace::Tracer;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::combinators::FanOut;

/// Names each span on standard output.
#[derive(Debug)]
struct Names<W>(Mutex<W>);

impl<W: Write + Send + std::fmt::Debug + 'static> Export for Names<W> {
    async fn export(&self, batch: Batch, _until: Deadline) -> outspan::Result<Delivery> {
        let mut out = self.0.lock().expect("nobody panics while writing");
        for span in batch.iter() {
            writeln!(out, "{}", span.name()).expect("standard output is open");
        }
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> outspan::Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> outspan::Result<Drained> {
        Ok(Drained::default())
    }
}

fn main() -> outspan::Result<()> {
    let names = Exporter::new(Names(Mutex::new(std::io::stdout())));
    let backend = outspan::env::exporter()?;
    let both = FanOut::new()
        .to("names", names)
        .to("backend", backend)
        .build()?;
    let guard = outspan::builder().exporter(both).init()?;
    let tracer = guard.tracer("custom");
    tracer.in_span("run", |_| tracer.in_span("read", |_| {}));
    Ok(())
}
