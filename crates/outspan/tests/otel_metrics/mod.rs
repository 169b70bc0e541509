//! What the OpenTelemetry SDK makes of the metrics that we record.

use std::collections::BTreeMap;

use opentelemetry_sdk::metrics::InMemoryMetricExporter;
use opentelemetry_sdk::metrics::PeriodicReader;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::metrics::data::AggregatedMetrics;
use opentelemetry_sdk::metrics::data::MetricData;

/// A meter, and what the SDK made of what it recorded.
pub(crate) struct Metrics {
    pub(crate) provider: SdkMeterProvider,
    collected: InMemoryMetricExporter,
    component: Component,
}

/// What every series says about who it is.
#[derive(Clone, Copy)]
pub(crate) struct Component {
    pub(crate) component_type: &'static str,
    pub(crate) is_name: fn(&str) -> bool,
}

impl Metrics {
    pub(crate) fn of(component: Component) -> Self {
        let collected = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(collected.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        Self {
            provider,
            collected,
            component,
        }
    }

    /// Every series with its value (for histograms count and sum), and its unit.
    pub(crate) fn read(&self) -> BTreeMap<String, f64> {
        self.collected.reset();
        self.provider.force_flush().unwrap();
        let mut series = BTreeMap::new();
        for resource in self.collected.get_finished_metrics().unwrap() {
            for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
                let name = format!("{} {}", metric.name(), metric.unit());
                read_metric(&name, metric.data(), self.component, &mut series);
            }
        }
        series
    }
}

fn read_metric(
    name: &str,
    data: &AggregatedMetrics,
    component: Component,
    series: &mut BTreeMap<String, f64>,
) {
    let mut add = |name: String, value: f64| {
        assert!(series.insert(name.clone(), value).is_none(), "{name} twice");
    };
    match data {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            assert!(sum.is_monotonic());
            for point in sum.data_points() {
                let labels = labels(point.attributes(), component);
                add(format!("{name} {labels}"), point.value() as f64);
            }
        }
        AggregatedMetrics::I64(MetricData::Sum(sum)) => {
            assert!(!sum.is_monotonic());
            for point in sum.data_points() {
                let labels = labels(point.attributes(), component);
                add(format!("{name} {labels}"), point.value() as f64);
            }
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            for point in histogram.data_points() {
                let labels = labels(point.attributes(), component);
                assert_eq!(point.bounds().count(), 0, "no boundaries are advised");
                add(format!("{name} count {labels}"), point.count() as f64);
                add(format!("{name} sum {labels}"), point.sum());
            }
        }
        other => panic!("{name}: {other:?}"),
    }
}

/// The attributes but for the component's, which all have.
fn labels<'a>(
    attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>,
    component: Component,
) -> String {
    let mut all: BTreeMap<_, _> = attributes
        .map(|attribute| (attribute.key.as_str(), attribute.value.to_string()))
        .collect();
    let name = all.remove("otel.component.name").unwrap();
    assert!((component.is_name)(&name), "{name}");
    let component_type = all.remove("otel.component.type");
    assert_eq!(component_type.as_deref(), Some(component.component_type));
    let others = all.into_iter().map(|(key, value)| format!("{key}={value}"));
    others.collect::<Vec<_>>().join(",")
}
