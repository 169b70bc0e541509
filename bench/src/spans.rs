//! The spans that both sides get: 8 attributes and 1 event, about 430 bytes as OTLP.

use std::time::Duration;
use std::time::SystemTime;

use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::SpanId;
use opentelemetry::TraceFlags;
use opentelemetry::TraceId;
use opentelemetry::trace::Event;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceState;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanEvents;
use opentelemetry_sdk::trace::SpanLinks;

/// The number of spans in a batch, as both processors make it by default.
pub(crate) const BATCH: usize = 512;

/// A resource as a service has it.
pub(crate) fn resource() -> Resource {
    Resource::builder_empty()
        .with_service_name("checkout")
        .with_attribute(KeyValue::new("service.version", "1.4.2"))
        .with_attribute(KeyValue::new("deployment.environment.name", "production"))
        .build()
}

/// The span number `n`, as the SDK hands it over.
pub(crate) fn span(n: u64) -> SpanData {
    let began = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_000 + n * 1000);
    let trace = (u128::from(n / 8) << 64) | 0x5bd6_6ef5_095d_369c;
    let context = SpanContext::new(
        TraceId::from(trace + (1 << 64)),
        SpanId::from(n + 1),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let attributes = vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", "/api/v1/cart/{cart_id}/items"),
        KeyValue::new("http.response.status_code", 200),
        KeyValue::new("url.scheme", "https"),
        KeyValue::new("server.address", "checkout.shop.example.com".to_owned()),
        KeyValue::new("server.port", 8443),
        KeyValue::new("user.id", format!("user-{:08}", n % 100_000)),
        KeyValue::new("cache.hit", n.is_multiple_of(2)),
    ];
    let mut events = SpanEvents::default();
    events.events.push(Event::new(
        "cart.updated",
        began + Duration::from_micros(150),
        vec![KeyValue::new("cart.items", (n % 17) as i64)],
        0,
    ));
    SpanData {
        span_context: context,
        parent_span_id: SpanId::from(n / 8 + 1),
        parent_span_is_remote: false,
        span_kind: SpanKind::Server,
        name: "POST /api/v1/cart/{cart_id}/items".into(),
        start_time: began,
        end_time: began + Duration::from_micros(300),
        attributes,
        dropped_attributes_count: 0,
        events,
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope(),
    }
}

/// Spans `first` and following.
pub(crate) fn spans(first: u64, count: usize) -> Vec<SpanData> {
    (first..).take(count).map(span).collect()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("shop.http")
        .with_version("0.9.1")
        .build()
}
