//! The OpenTelemetry SDK: processors for finished spans, and exporters of either side as ones of the other.

mod batch_processor;
mod from_sdk;
mod loss_report;
#[cfg(feature = "metrics")]
mod metrics;
mod outcome;
mod sdk_exporter;
mod simple_processor;
pub(crate) mod span_data;
mod wait;

pub use batch_processor::BatchProcessor;
pub use batch_processor::BatchProcessorBuilder;
pub use batch_processor::ProcessorHandle;
pub use batch_processor::WhenFull;
pub use from_sdk::Conversions;
pub use from_sdk::FromSdk;
pub use from_sdk::from_sdk;
pub use sdk_exporter::SdkExporter;
pub use simple_processor::SimpleHandle;
pub use simple_processor::SimpleProcessor;
pub use span_data::SdkSpan;
pub use span_data::encode_resource;

/// How long dropping a processor that was not shut down may take. The SDK gives its processors as long.
const DROP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
