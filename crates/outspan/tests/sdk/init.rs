//! Tracing in one call, with settings that the tests make up; `init_env.rs` takes them from a real environment.

#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::trace::Span;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;
use outspan::DropReason;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Guard;
use outspan::InitBuilder;
use outspan::env::Settings;
use outspan_testkit::Act;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Certificates;
use outspan_testkit::CollectedSpan;
use outspan_testkit::Collector;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::ServerTls;
use outspan_testkit::Transport;

const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

/// Starts `init` as if only these variables were set. Tests share the process, so none is global.
fn with(variables: &[(&str, &str)]) -> InitBuilder {
    let settings = Settings::from_lookup(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    });
    outspan::builder().settings(settings.unwrap()).global(false)
}

/// The variables for a collector, and others.
fn to(collector: &Collector, more: &[(&str, &str)]) -> InitBuilder {
    let endpoint = collector.endpoint();
    let protocol = match collector.transport() {
        Transport::Grpc => "grpc",
        _ => "http/protobuf",
    };
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
    ];
    variables.extend_from_slice(more);
    with(&variables)
}

fn make_spans(guard: &Guard, spans: usize) {
    let tracer = guard.tracer("test");
    for _ in 0..spans {
        tracer.start("work").end();
    }
}

fn resource_of(span: &CollectedSpan) -> Vec<(String, String)> {
    let resource = span.resource.as_ref().unwrap();
    let mut attributes: Vec<_> = resource
        .attributes
        .iter()
        .map(
            |one| match one.value.as_ref().and_then(|v| v.value.clone()) {
                Some(Value::StringValue(text)) => (one.key.clone(), text),
                other => (one.key.clone(), format!("{other:?}")),
            },
        )
        .collect();
    attributes.sort();
    attributes
}

fn of<'a>(resource: &'a [(String, String)], key: &str) -> Option<&'a str> {
    let found = resource.iter().find(|(known, _)| known == key);
    found.map(|(_, value)| value.as_str())
}

#[test]
fn spans_reach_a_collector_over_grpc_and_http() {
    for collector in [Collector::grpc(), Collector::http()] {
        let guard = to(&collector, &[("OTEL_SERVICE_NAME", "shop")])
            .init()
            .unwrap();
        make_spans(&guard, 3);
        let drained = guard.shutdown(SOON).unwrap();
        assert_eq!(drained.delivered, 3);
        assert!(drained.is_complete());
        assert_eq!(guard.account().delivered, 3);
        let spans = collector.spans();
        assert_eq!(spans.len(), 3);
        let resource = resource_of(&spans[0]);
        assert_eq!(of(&resource, "service.name"), Some("shop"));
        assert_eq!(of(&resource, "telemetry.sdk.language"), Some("rust"));
        assert_eq!(spans[0].scope.as_ref().unwrap().name, "test");
        assert_eq!(collector.complaints(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn it_works_in_a_runtime_with_one_thread() {
    let collector = Collector::grpc();
    let guard = to(&collector, &[]).init().unwrap();
    make_spans(&guard, 2);
    assert_eq!(guard.flush(SOON).unwrap().delivered, 2);
    drop(guard);
    assert_eq!(collector.span_count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_works_in_a_runtime_with_one_worker() {
    let collector = Collector::http();
    let guard = to(&collector, &[]).init().unwrap();
    let worker = tokio::spawn(async move {
        make_spans(&guard, 2);
        drop(guard);
    });
    worker.await.unwrap();
    assert_eq!(collector.span_count(), 2);
}

#[test]
fn dropping_the_guard_delivers_what_is_left() {
    let collector = Collector::grpc();
    let guard = to(&collector, &[]).init().unwrap();
    make_spans(&guard, 5);
    drop(guard);
    assert_eq!(collector.span_count(), 5);
}

#[test]
fn headers_compression_and_certificates_of_the_environment_are_used() {
    let certificates = Certificates::new();
    let authority = certificates.authority_file();
    let client = certificates.write("client", &certificates.client("shop"));
    let tls = ServerTls::new(certificates.server()).demand_client(certificates.authority());
    for transport in [Transport::Grpc, Transport::Http] {
        let collector = Collector::over(transport).tls(tls.clone()).start();
        let guard = to(
            &collector,
            &[
                (
                    "OTEL_EXPORTER_OTLP_HEADERS",
                    "authorization=Bearer%20hunter2",
                ),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
                (
                    "OTEL_EXPORTER_OTLP_CERTIFICATE",
                    authority.to_str().unwrap(),
                ),
                (
                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                    client.certificate.to_str().unwrap(),
                ),
                (
                    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
                    client.key.to_str().unwrap(),
                ),
            ],
        )
        .init()
        .unwrap();
        make_spans(&guard, 1);
        assert!(guard.shutdown(SOON).unwrap().is_complete());
        let requests = collector.requests();
        assert_eq!(requests[0].header("authorization"), Some("Bearer hunter2"));
        assert_eq!(requests[0].compression(), Some("gzip"));
        assert_eq!(requests[0].peer.as_deref(), Some("shop"));
    }
}

#[test]
fn a_base_endpoint_gets_the_path_of_traces() {
    let collector = Collector::over(Transport::Http)
        .path("/base/v1/traces")
        .start();
    let base = format!("http://{}/base/", collector.address());
    let guard = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &base)])
        .init()
        .unwrap();
    make_spans(&guard, 1);
    assert!(guard.shutdown(SOON).unwrap().is_complete());
    assert_eq!(collector.requests()[0].path, "/base/v1/traces");
}

#[test]
fn the_resource_is_code_s_over_the_environment_s_over_the_defaults() {
    let attributes = (
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=listed,team=a%2Cb,zone=x,region=y",
    );
    let collector = Collector::grpc();
    let last = || resource_of(collector.spans().last().unwrap());
    let run = |builder: InitBuilder| {
        let guard = builder.init().unwrap();
        make_spans(&guard, 1);
        assert!(guard.shutdown(SOON).unwrap().is_complete());
    };

    run(to(&collector, &[]));
    let name = of(&last(), "service.name").unwrap().to_owned();
    assert!(name.starts_with("unknown_service:sdk-"), "{name}");

    run(to(&collector, &[attributes]));
    assert_eq!(of(&last(), "service.name"), Some("listed"));
    assert_eq!(of(&last(), "team"), Some("a,b"));

    let named = ("OTEL_SERVICE_NAME", "named");
    run(to(&collector, &[attributes, named]));
    assert_eq!(of(&last(), "service.name"), Some("named"));

    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("zone", "code"),
            KeyValue::new("region", "code"),
        ])
        .with_service_name("from resource")
        .build();
    run(to(&collector, &[attributes, named]).resource(resource.clone()));
    assert_eq!(of(&last(), "service.name"), Some("from resource"));
    assert_eq!(of(&last(), "zone"), Some("code"));
    assert_eq!(of(&last(), "team"), Some("a,b"));

    run(to(&collector, &[attributes, named])
        .resource(resource)
        .attribute(KeyValue::new("region", "attribute"))
        .service_name("from code"));
    assert_eq!(of(&last(), "service.name"), Some("from code"));
    assert_eq!(of(&last(), "zone"), Some("code"));
    assert_eq!(of(&last(), "region"), Some("attribute"));
    assert_eq!(of(&last(), "telemetry.sdk.name"), Some("opentelemetry"));
}

#[test]
fn an_exporter_in_code_takes_the_place_of_the_environment_s() {
    let collector = Collector::grpc();
    let child = ScriptedExporter::new();
    let guard = to(&collector, &[])
        .exporter(child.exporter())
        .init()
        .unwrap();
    make_spans(&guard, 2);
    assert!(guard.shutdown(SOON).unwrap().is_complete());
    assert_eq!(child.received().len(), 2);
    assert!(collector.requests().is_empty());
    assert_eq!(
        guard.accounts().map(|(name, _)| name).collect::<Vec<_>>(),
        ["code"]
    );
}

#[test]
fn batches_are_as_the_environment_says_unless_code_says_otherwise() {
    let sizes = |builder: InitBuilder| {
        let child = ScriptedExporter::new();
        let guard = builder.exporter(child.exporter()).init().unwrap();
        make_spans(&guard, 20);
        assert!(guard.shutdown(SOON).unwrap().is_complete());
        let sizes = child
            .exports()
            .iter()
            .map(|call| call.span_ids().len())
            .max();
        sizes.unwrap()
    };
    let small = [("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")];
    assert_eq!(sizes(with(&[])), 20);
    assert_eq!(sizes(with(&small)), 5);
    assert_eq!(
        sizes(with(&small).batch(|batch| batch.max_batch_spans(10))),
        10
    );
}

#[test]
fn a_queue_size_in_the_environment_bounds_the_spans_that_wait() {
    let child = ScriptedExporter::new();
    child.always(Act::unavailable());
    let guard = with(&[("OTEL_BSP_MAX_QUEUE_SIZE", "10")])
        .exporter(child.exporter())
        .drop_timeout(SHORT)
        .init()
        .unwrap();
    make_spans(&guard, 25);
    let account = guard.account();
    assert!(account.closes());
    assert_eq!(account.dropped.of(DropReason::QueueFull), 15, "{account}");
    let drained = guard.shutdown(SHORT).unwrap();
    assert_eq!(drained.lost.of(DropReason::Shutdown), 10, "{drained}");
}

#[test]
fn the_delay_of_the_environment_is_kept() {
    let child = ScriptedExporter::new();
    let guard = with(&[("OTEL_BSP_SCHEDULE_DELAY", "10")])
        .exporter(child.exporter())
        .init()
        .unwrap();
    make_spans(&guard, 1);
    // Nobody flushes, and the default is 5 s.
    let began = Instant::now();
    futures_executor::block_on(child.wait_for_exports(1));
    assert!(began.elapsed() < Duration::from_secs(4));
    drop(guard);
}

#[test]
fn an_attempt_that_hangs_ends_after_the_export_timeout_and_is_tried_again() {
    let child = ScriptedExporter::new();
    child.script([Act::Hang]);
    let retry = outspan::Retry::default().initial_interval(Duration::from_millis(1));
    let guard = with(&[
        ("OTEL_BSP_EXPORT_TIMEOUT", "100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ])
    .exporter(child.exporter())
    .batch(move |batch| batch.retry(retry.clone()))
    .init()
    .unwrap();
    make_spans(&guard, 1);
    futures_executor::block_on(child.wait_for_exports(2));
    assert!(guard.shutdown(SOON).unwrap().lost.total() == 0);
    assert_eq!(guard.account().delivered, 1);
}

#[test]
fn a_timeout_of_the_environment_limits_the_whole_export() {
    let collector = Collector::grpc();
    collector.always(Answer::refuse(AnswerCode::UNAVAILABLE, "come again"));
    let retry = outspan::Retry::default().initial_interval(Duration::from_millis(1));
    let guard = to(
        &collector,
        &[
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "150"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ],
    )
    .batch(move |batch| batch.retry(retry.clone()))
    .drop_timeout(SHORT)
    .init()
    .unwrap();
    make_spans(&guard, 1);
    let until = Instant::now() + SOON;
    while guard.account().open() > 0 {
        assert!(Instant::now() < until, "{}", guard.account());
        thread::yield_now();
    }
    assert_eq!(
        guard.account().dropped.of(DropReason::Expired),
        1,
        "{}",
        guard.account()
    );
    assert!(collector.requests().len() > 1, "it was tried again");
}

#[test]
fn the_exporter_alone_ends_at_the_timeout_of_the_environment() {
    let collector = Collector::http();
    collector.always(Answer::Stall);
    let endpoint = collector.endpoint();
    let settings = Settings::from_lookup(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone().into()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("150".into()),
        _ => None,
    });
    let exporter = settings.unwrap().otlp.exporter().unwrap();
    let batch = outspan_testkit::batch_of(1);
    let until = outspan::Deadline::after(SOON);
    let error = futures_executor::block_on(exporter.export(batch, until)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let said = "export deadline of 150ms passed";
    assert!(error.to_string().contains(said), "{error}");
}

#[test]
fn limits_of_the_environment_hold() {
    let collector = Collector::grpc();
    let guard = to(
        &collector,
        &[
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3"),
            ("OTEL_SPAN_EVENT_COUNT_LIMIT", "1"),
            ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "1"),
        ],
    )
    .init()
    .unwrap();
    let mut span = guard.tracer("test").start("work");
    for key in ["a", "b", "c"] {
        span.set_attribute(KeyValue::new(key, "äöüß"));
    }
    let attributes = vec![KeyValue::new("x", "12345"), KeyValue::new("y", 1)];
    span.add_event("first", attributes);
    span.add_event("second", Vec::new());
    span.end();
    assert!(guard.shutdown(SOON).unwrap().is_complete());
    let span = collector.spans().remove(0).span;
    assert_eq!(
        (span.attributes.len(), span.dropped_attributes_count),
        (2, 1)
    );
    let value = span.attributes[0].value.clone().unwrap().value;
    assert_eq!(value, Some(Value::StringValue("äöü".to_owned())));
    assert_eq!((span.events.len(), span.dropped_events_count), (1, 1));
    let event = &span.events[0];
    assert_eq!(
        (event.attributes.len(), event.dropped_attributes_count),
        (1, 1)
    );
    let value = event.attributes[0].value.clone().unwrap().value;
    assert_eq!(value, Some(Value::StringValue("123".to_owned())));
}

#[test]
fn the_sampler_is_code_s_over_the_environment_s() {
    let spans = |builder: InitBuilder| {
        let child = ScriptedExporter::new();
        let guard = builder.exporter(child.exporter()).init().unwrap();
        make_spans(&guard, 3);
        assert!(guard.shutdown(SOON).unwrap().is_complete());
        child.received().len()
    };
    let off = [("OTEL_TRACES_SAMPLER", "parentbased_always_off")];
    assert_eq!(spans(with(&[])), 3);
    assert_eq!(spans(with(&off)), 0);
    assert_eq!(spans(with(&off).sampler(Sampler::AlwaysOn)), 3);
    let none = [
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ];
    assert_eq!(spans(with(&none)), 0);
}

#[test]
fn a_disabled_sdk_makes_no_spans_whatever_code_says() {
    let child = ScriptedExporter::new();
    let guard = with(&[("OTEL_SDK_DISABLED", "true")])
        .exporter(child.exporter())
        .init()
        .unwrap();
    guard.tracer("test").in_span("work", |context| {
        assert!(!context.span().is_recording());
    });
    assert!(guard.flush(SOON).unwrap().is_complete());
    assert!(guard.shutdown(SOON).unwrap().is_complete());
    assert_eq!(guard.account(), outspan::Account::default());
    assert!(child.calls().is_empty());
}

#[test]
fn without_exporters_spans_still_have_ids_to_pass_on() {
    let guard = with(&[("OTEL_TRACES_EXPORTER", "none")]).init().unwrap();
    guard.tracer("test").in_span("work", |context| {
        assert!(context.span().span_context().is_valid());
        assert!(context.span().span_context().is_sampled());
    });
    assert_eq!(guard.accounts().count(), 0);
    assert!(guard.shutdown(SOON).unwrap().is_complete());
}

#[test]
fn one_deadline_holds_for_all_destinations_and_their_results_add_up() {
    let healthy = ScriptedExporter::new();
    let hanging = [
        ScriptedExporter::new(),
        ScriptedExporter::new(),
        ScriptedExporter::new(),
    ];
    let mut builder = with(&[]).exporter(healthy.exporter());
    for child in &hanging {
        child.always(Act::Hang);
        builder = builder.exporter(child.exporter());
    }
    let guard = builder.init().unwrap();
    make_spans(&guard, 2);
    let began = Instant::now();
    let flushed = guard.flush(Duration::from_millis(500)).unwrap();
    assert_eq!((flushed.delivered, flushed.left), (2, 6));
    let drained = guard.shutdown(Duration::from_millis(500)).unwrap();
    assert_eq!(drained.lost.total(), 6, "{drained}");
    // One after the other would take twice 1.5 s.
    assert!(
        began.elapsed() < Duration::from_millis(2500),
        "{:?}",
        began.elapsed()
    );
    let account = guard.account();
    assert!(account.closes());
    assert_eq!((account.received, account.delivered), (8, 2));
    assert_eq!(guard.accounts().count(), 4);
}

#[test]
fn a_second_shutdown_has_nothing_to_do_and_the_tracers_are_over() {
    let child = ScriptedExporter::new();
    let guard = with(&[]).exporter(child.exporter()).init().unwrap();
    drop(guard.shutdown(SOON).unwrap());
    assert!(guard.shutdown(SOON).unwrap().is_complete());
    assert_eq!(guard.flush(SOON).unwrap_err().kind(), ErrorKind::ShutDown);
    make_spans(&guard, 1);
    assert_eq!(guard.account().received, 0);
    drop(guard);
    assert_eq!(child.shutdowns(), 1);
}

#[test]
fn mistakes_that_matter_are_errors() {
    for (variables, said) in [
        (
            [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ],
            "set by: OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        (
            [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:4318"),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
            ],
            "OTEL_EXPORTER_OTLP_CLIENT_KEY is set without OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        ),
    ] {
        let error = with(&variables).init().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = with(&[])
        .batch(|batch| batch.max_batch_spans(0))
        .init()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn the_provider_takes_further_options() {
    let child = ScriptedExporter::new();
    let extra = ScriptedExporter::new();
    let processor = outspan::sdk::SimpleProcessor::new(extra.exporter());
    let guard = with(&[])
        .exporter(child.exporter())
        .provider(|provider| provider.with_span_processor(processor))
        .init()
        .unwrap();
    make_spans(&guard, 1);
    drop(guard.shutdown(SOON).unwrap());
    assert_eq!(extra.received(), child.received());
    assert_eq!(extra.shutdowns(), 1);
}
