//! A function that is called now and then, and may be frozen or killed after each answer: it delivers before it answers.

use std::io::BufRead;
use std::time::Duration;

use opentelemetry::trace::Tracer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let guard = outspan::init()?;
    let tracer = guard.tracer("lambda");
    for event in std::io::stdin().lock().lines() {
        let event = event?;
        let answer = tracer.in_span("handle", |_| event.to_uppercase());
        drop(guard.flush(Duration::from_secs(2))?);
        println!("{answer}");
    }
    // As the platform ends it: at once.
    std::process::exit(0)
}
