//! The formats beside OTLP: ours against what there is for them in Rust.

mod jaeger;
mod zipkin;

use crate::measure::Outcome;

pub(crate) fn run(quick: bool) -> Outcome {
    zipkin::run(quick)?;
    jaeger::run(quick)
}
