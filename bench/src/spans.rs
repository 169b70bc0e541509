//! The spans that all sides get: 8 attributes and 1 event; a request of 512 of them has 423 bytes a span as prost encodes it.
//!
//! Ids are spread as random ones are, so that compressing them is as hard as in life.

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
    let trace = (u128::from(spread(n / 8)) << 64) | u128::from(spread(!(n / 8)));
    let context = SpanContext::new(
        TraceId::from(trace),
        SpanId::from(spread(n)),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let attributes = vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", "/api/v1/cart/{cart_id}/items"),
        KeyValue::new("http.response.status_code", 200),
        KeyValue::new("user_agent.original", "ShopApp/4.12.1 (Android 9)"),
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
        parent_span_id: SpanId::from(spread(n & !7)),
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

/// Gives each number another one, as if by chance: the finalizer of SplitMix64, which is a permutation. Never 0 for what is
/// counted here.
fn spread(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("shop.http")
        .with_version("0.9.1")
        .build()
}
