//! Everything that the SDK can say in spans, through two exporters: `rich FORM ENDPOINT REFERENCE` sends it to ENDPOINT by
//! ours, and to REFERENCE, over OTLP/gRPC, by the SDK's.

use std::time::Duration;
use std::time::SystemTime;

use opentelemetry::Array;
use opentelemetry::Context;
use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::StringValue;
use opentelemetry::Value;
use opentelemetry::trace::Event;
use opentelemetry::trace::Link;
use opentelemetry::trace::Span;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::BatchSpanProcessor;
use opentelemetry_sdk::trace::SdkTracer;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::SpanLimits;
use outspan::Exporter;
use outspan::jaeger;
use outspan::otlp;
use outspan::sdk::BatchProcessor;
use outspan::zipkin;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [form, endpoint, reference] = &arguments[..] else {
        return Err("usage: rich FORM ENDPOINT REFERENCE".into());
    };
    // The SDK's exporter wants one.
    let runtime = tokio::runtime::Runtime::new()?;
    let _entered = runtime.enter();
    let ours = ours(form, endpoint)?;

    let shop = provider(
        Resource::builder_empty()
            .with_schema_url(
                [
                    KeyValue::new("service.name", "shop"),
                    KeyValue::new("process.pid", 4711),
                    KeyValue::new("shop.open", true),
                    KeyValue::new("shop.load", 0.25),
                    KeyValue::new("shop.tills", texts(&["one", "", "zwei ✓"])),
                ],
                SCHEMA,
            )
            .build(),
        SpanLimits::default(),
        &ours,
        reference,
    )?;
    let scope = InstrumentationScope::builder("shop/checkout")
        .with_version("1.4.2")
        .with_schema_url(SCHEMA)
        .with_attributes([
            KeyValue::new("scope.tier", "front"),
            KeyValue::new("scope.level", 7),
        ])
        .build();
    kinds_and_statuses(&shop.tracer_with_scope(scope));
    values(&shop.tracer("shop/values"));
    edges(&shop.tracer(""));

    let few = SpanLimits {
        max_events_per_span: 2,
        max_attributes_per_span: 2,
        max_links_per_span: 1,
        max_attributes_per_event: 1,
        max_attributes_per_link: 1,
    };
    let store = Resource::builder_empty()
        .with_service_name("Störe ✓")
        .build();
    let store = provider(store, few, &ours, reference)?;
    more_than_the_limits(&store.tracer("store"));

    shop.shutdown_with_timeout(DAY)?;
    store.shutdown_with_timeout(DAY)?;
    Ok(())
}

fn ours(form: &str, endpoint: &str) -> outspan::Result<Exporter> {
    match form {
        "otlp-grpc" => otlp::grpc(endpoint).build(),
        "otlp-http" => otlp::http(endpoint).build(),
        "otlp-json" => otlp::http(endpoint)
            .protocol(otlp::Protocol::HttpJson)
            .build(),
        "zipkin-json" => zipkin::http(endpoint).build(),
        "zipkin-protobuf" => zipkin::http(endpoint)
            .format(zipkin::Format::Protobuf)
            .build(),
        "jaeger-http" => jaeger::collector(endpoint).build(),
        form => panic!("no exporter is called {form}"),
    }
}

fn provider(
    resource: Resource,
    limits: SpanLimits,
    ours: &Exporter,
    reference: &str,
) -> Fallible<SdkTracerProvider> {
    let theirs = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(reference)
        .build()?;
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_limits(limits)
        .with_span_processor(BatchSpanProcessor::builder(theirs).build())
        .with_span_processor(BatchProcessor::new(ours.clone()))
        .build())
}

/// A span of every kind with each status, one within the other.
fn kinds_and_statuses(tracer: &SdkTracer) {
    let kinds = [
        (SpanKind::Internal, Status::Unset),
        (SpanKind::Server, Status::Ok),
        (SpanKind::Client, Status::error("card declined")),
        (SpanKind::Producer, Status::error("")),
        (SpanKind::Consumer, Status::Unset),
    ];
    let mut context = Context::new();
    for (kind, status) in kinds {
        let name = format!("{kind:?} ✓");
        let mut span = tracer
            .span_builder(name)
            .with_kind(kind)
            .start_with_context(tracer, &context);
        span.set_status(status);
        context = context.with_span(span);
    }
}

/// Attributes of each kind of value, and an event and a link that have some as well.
fn values(tracer: &SdkTracer) {
    let large = "0123456789".repeat(1024);
    let attributes = [
        KeyValue::new("text", "plain"),
        KeyValue::new("text.empty", ""),
        KeyValue::new(
            "text.unicode",
            "grün 東京 🛒 \u{0} \u{2028} \"quoted\" \\ <tag>\n\ttab",
        ),
        KeyValue::new("text.large", large),
        KeyValue::new("bool.true", true),
        KeyValue::new("bool.false", false),
        KeyValue::new("int.zero", 0),
        KeyValue::new("int.max", i64::MAX),
        KeyValue::new("int.min", i64::MIN),
        KeyValue::new("double", 3.25),
        KeyValue::new("double.whole", 2.0),
        KeyValue::new("double.small", f64::from_bits(1)),
        KeyValue::new("double.large", f64::MAX),
        KeyValue::new("double.nan", f64::NAN),
        KeyValue::new("double.infinite", f64::INFINITY),
        KeyValue::new("double.negative", f64::NEG_INFINITY),
        KeyValue::new("double.minus_zero", -0.0),
        KeyValue::new("texts", texts(&["a", "", "ü"])),
        KeyValue::new("texts.none", texts(&[])),
        KeyValue::new("ints", Value::Array(Array::I64(vec![1, -2, i64::MAX]))),
        KeyValue::new("doubles", Value::Array(Array::F64(vec![0.5, f64::NAN]))),
        KeyValue::new("bools", Value::Array(Array::Bool(vec![true, false]))),
        KeyValue::new("schlüssel ✓", "a key beyond ASCII"),
    ];
    let elsewhere = SpanContext::new(
        TraceId::from(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128),
        SpanId::from(0x0123_4567_89ab_cdef_u64),
        TraceFlags::SAMPLED,
        true,
        state("vendor=xyz"),
    );
    let near = tracer.start("near").span_context().clone();
    let mut span = tracer
        .span_builder("values")
        .with_attributes(attributes.clone())
        .with_links(vec![
            Link::new(elsewhere, attributes[..3].to_vec(), 2),
            Link::with_context(near),
        ])
        .with_events(vec![Event::with_name("plain")])
        .start(tracer);
    span.add_event("rich", attributes[4..].to_vec());
    span.add_event_with_timestamp("", SystemTime::now() - DAY, Vec::new());
    span.record_error(&std::io::Error::other("disk: \"full\"\n| pipe"));
}

/// No duration, a very long one, a parent in another process, an empty name.
fn edges(tracer: &SdkTracer) {
    let now = SystemTime::now();
    let remote = SpanContext::new(
        TraceId::from(0xfedc_ba98_7654_3210_fedc_ba98_7654_3210_u128),
        SpanId::from(0xfedc_ba98_7654_3210_u64),
        TraceFlags::SAMPLED,
        true,
        state("vendor=abc,other=1"),
    );
    let parent = Context::new().with_remote_span_context(remote);
    let lengths = [
        ("zero duration", now, now),
        ("long duration", now - 7 * DAY, now),
        ("", now, now + Duration::from_nanos(1)),
    ];
    for (name, start, end) in lengths {
        let mut span = tracer
            .span_builder(name)
            .with_start_time(start)
            .start_with_context(tracer, &parent);
        span.end_with_timestamp(end);
    }
}

/// Twice as much as the limits of the provider let through, so that the SDK counts what it drops.
fn more_than_the_limits(tracer: &SdkTracer) {
    let attributes: Vec<KeyValue> = (0..5)
        .map(|number| KeyValue::new(format!("number.{number}"), number))
        .collect();
    let links = (1..4_u64).map(|number| {
        let context = SpanContext::new(
            TraceId::from(u128::from(number)),
            SpanId::from(number),
            TraceFlags::default(),
            false,
            TraceState::NONE,
        );
        Link::new(context, attributes.clone(), 0)
    });
    let mut span = tracer
        .span_builder("more than the limits")
        .with_attributes(attributes.clone())
        .with_links(links.collect())
        .start(tracer);
    for _ in 0..5 {
        span.add_event("event", attributes.clone());
    }
}

fn texts(values: &[&'static str]) -> Value {
    let values = values.iter().map(|&value| StringValue::from(value));
    Value::Array(Array::String(values.collect()))
}

fn state(header: &str) -> TraceState {
    header.parse().expect("it is a trace state")
}
