//! OpenTelemetry metrics of span processors (`docs/otel/sdk-metrics.md` of semantic-conventions).

use std::fmt;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use opentelemetry::metrics::Meter;

use crate::component::numbered_name;
use crate::engine::HandOver;

/// What the conventions call the batch processor.
pub(super) const BATCHING: &str = "batching_span_processor";

/// What the conventions call the simple processor.
pub(super) const SIMPLE: &str = "simple_span_processor";

/// The instruments of one processor, with the attributes that never change.
pub(super) struct Instruments {
    /// Each span once: when it is handed to the exporter, whatever comes of it, or dropped before.
    processed: Counter<u64>,
    component: [KeyValue; 2],
}

impl Instruments {
    pub(super) fn new(meter: &Meter, component_type: &'static str) -> Self {
        let name: Arc<str> = numbered_name(component_type).into();
        Self {
            processed: meter
                .u64_counter("otel.sdk.processor.span.processed")
                .with_unit("{span}")
                .with_description("Spans that were handed to the exporter, or dropped before.")
                .build(),
            component: [
                KeyValue::new("otel.component.name", name),
                KeyValue::new("otel.component.type", component_type),
            ],
        }
    }

    /// Has the meter read how many spans wait, and how many may, if they are counted; until there is nothing to read.
    pub(super) fn observe_queue(
        &self,
        meter: &Meter,
        capacity: Option<usize>,
        size: impl Fn() -> Option<u64> + Send + Sync + Clone + 'static,
    ) {
        let component = self.component.clone();
        let still = size.clone();
        // The meter keeps the instruments.
        let _size = meter
            .i64_observable_up_down_counter("otel.sdk.processor.span.queue.size")
            .with_unit("{span}")
            .with_description(
                "Spans that wait in the processor, for the first export or for another.",
            )
            .with_callback(move |observer| {
                if let Some(spans) = size() {
                    observer.observe(i64::try_from(spans).unwrap_or(i64::MAX), &component);
                }
            })
            .build();
        let Some(capacity) = capacity else {
            return;
        };
        let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
        let component = self.component.clone();
        let _capacity = meter
            .i64_observable_up_down_counter("otel.sdk.processor.span.queue.capacity")
            .with_unit("{span}")
            .with_description("How many spans the processor holds at most.")
            .with_callback(move |observer| {
                if still().is_some() {
                    observer.observe(capacity, &component);
                }
            })
            .build();
    }
}

impl HandOver for Instruments {
    fn handed_over(&self, spans: u64) {
        self.processed.add(spans, &self.component);
    }

    fn dropped_before(&self, error_type: &'static str, spans: u64) {
        let [name, component_type] = self.component.clone();
        let error_type = KeyValue::new("error.type", error_type);
        self.processed
            .add(spans, &[name, component_type, error_type]);
    }
}

impl fmt::Debug for Instruments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instruments")
            .field("component", &self.component)
            .finish_non_exhaustive()
    }
}
