//! The variables of the Zipkin and Jaeger exporters, and `init` with them.

#![cfg(all(feature = "jaeger", feature = "sdk", feature = "zipkin"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::time::Duration;

use opentelemetry::trace::Tracer;
use outspan::ErrorKind;
use outspan::Export;
use outspan::env::ExporterName;
use outspan::env::JaegerProtocol;
use outspan::env::Settings;
use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::SpanId;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

const ZIPKIN: (&str, &str) = ("OTEL_TRACES_EXPORTER", "zipkin");
const JAEGER: (&str, &str) = ("OTEL_TRACES_EXPORTER", "jaeger");

fn lookup(variables: &[(&str, &str)], name: &str) -> Option<OsString> {
    let found = variables.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| OsString::from(value))
}

fn read(variables: &[(&str, &str)]) -> Settings {
    Settings::from_lookup(|name| lookup(variables, name)).unwrap()
}

/// Reads settings that have nothing wrong with them.
fn good(variables: &[(&str, &str)]) -> Settings {
    let settings = read(variables);
    assert_eq!(settings.warnings, [], "{variables:?}");
    settings
}

/// A server that takes any body for one span.
fn server(path: &str) -> Collector {
    Collector::over(Transport::Http)
        .path(path)
        .reads(|_, _| Ok(vec![SpanId::new(&[1])]))
        .start()
}

#[test]
fn nothing_set_gives_the_defaults_of_the_specification() {
    let settings = good(&[("OTEL_TRACES_EXPORTER", "zipkin,jaeger")]);
    assert_eq!(
        settings.exporters,
        [ExporterName::Zipkin, ExporterName::Jaeger]
    );
    let zipkin = settings.zipkin;
    assert_eq!(zipkin.endpoint, "http://localhost:9411/api/v2/spans");
    assert_eq!(zipkin.attempt_timeout(), Duration::from_secs(10));
    assert_eq!(zipkin.export_limit(), None);
    let jaeger = settings.jaeger;
    assert_eq!(jaeger.protocol, JaegerProtocol::HttpThriftBinary);
    assert_eq!(jaeger.endpoint, "http://localhost:14268/api/traces");
    assert_eq!(
        (jaeger.agent_host.as_str(), jaeger.agent_port),
        ("localhost", 6831)
    );
    assert_eq!(jaeger.user, None);
    assert_eq!(jaeger.export_limit(), None);
}

#[test]
fn a_timeout_limits_the_whole_export() {
    let settings = good(&[
        ("OTEL_TRACES_EXPORTER", "zipkin,jaeger"),
        ("OTEL_EXPORTER_ZIPKIN_TIMEOUT", "25000"),
        ("OTEL_EXPORTER_JAEGER_TIMEOUT", "0"),
    ]);
    let limit = Duration::from_secs(25);
    assert_eq!(settings.zipkin.export_limit(), Some(limit));
    assert_eq!(settings.zipkin.attempt_timeout(), limit);
    assert_eq!(settings.jaeger.export_limit(), None);
    assert!(settings.jaeger.attempt_timeout() > Duration::from_secs(600));
}

#[test]
fn jaeger_s_protocol_follows_what_is_set() {
    let agent = ("OTEL_EXPORTER_JAEGER_AGENT_HOST", "agent");
    let port = ("OTEL_EXPORTER_JAEGER_AGENT_PORT", "7000");
    let endpoint = ("OTEL_EXPORTER_JAEGER_ENDPOINT", "http://c:1");
    let of = |more: &[(&str, &str)]| good(&[&[JAEGER], more].concat()).jaeger;
    assert_eq!(of(&[agent]).protocol, JaegerProtocol::UdpThriftCompact);
    assert_eq!(of(&[agent]).agent_port, 6831);
    assert_eq!(of(&[port]).protocol, JaegerProtocol::UdpThriftCompact);
    assert_eq!(of(&[port]).agent_port, 7000);
    let both = of(&[agent, endpoint]);
    assert_eq!(both.protocol, JaegerProtocol::HttpThriftBinary);
    let named = ("OTEL_EXPORTER_JAEGER_PROTOCOL", "UDP/thrift.binary");
    let binary = of(&[named, endpoint]);
    assert_eq!(binary.protocol, JaegerProtocol::UdpThriftBinary);
    assert_eq!(binary.agent_port, 6832);
}

#[test]
fn mistakes_are_told() {
    let told = |variables: &[(&str, &str)]| {
        let settings = read(&[&[JAEGER], variables].concat());
        let told = settings.warnings.iter().map(ToString::to_string);
        told.collect::<Vec<_>>().join("\n")
    };
    let protocol = told(&[("OTEL_EXPORTER_JAEGER_PROTOCOL", "smoke")]);
    assert!(protocol.contains("udp/thrift.compact"), "{protocol}");
    let port = told(&[("OTEL_EXPORTER_JAEGER_AGENT_PORT", "70000")]);
    assert!(port.contains("65535"), "{port}");
    let user = told(&[("OTEL_EXPORTER_JAEGER_USER", "shop")]);
    assert!(
        user.contains("OTEL_EXPORTER_JAEGER_PASSWORD is not set"),
        "{user}"
    );
    let password = told(&[("OTEL_EXPORTER_JAEGER_PASSWORD", "hunter2")]);
    assert!(password.contains("OTEL_EXPORTER_JAEGER_USER is not set"));
    assert!(!password.contains("hunter2"), "{password}");
}

#[test]
fn what_decides_where_spans_go_is_an_error() {
    let zipkin = good(&[ZIPKIN, ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "here:1")]);
    let error = zipkin.zipkin.exporter().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("OTEL_EXPORTER_ZIPKIN_ENDPOINT"),
        "{error}"
    );
    let jaeger = good(&[JAEGER, ("OTEL_EXPORTER_JAEGER_ENDPOINT", "here:1")]);
    let error = jaeger.jaeger.exporter().unwrap_err();
    assert!(
        error.to_string().contains("OTEL_EXPORTER_JAEGER_ENDPOINT"),
        "{error}"
    );
    let grpc = good(&[JAEGER, ("OTEL_EXPORTER_JAEGER_PROTOCOL", "grpc")]);
    let error = grpc.jaeger.exporter().unwrap_err();
    assert!(error.to_string().contains("4317"), "{error}");
}

#[tokio::test]
async fn the_exporters_go_where_the_environment_says() {
    let collector = server("/api/v2/spans");
    let settings = good(&[
        ZIPKIN,
        ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", &collector.endpoint()),
    ]);
    let exporter = settings.zipkin.exporter().unwrap();
    exporter.export(batch_of(1), soon()).await.unwrap();
    assert_eq!(collector.span_count(), 1);

    let collector = server("/api/traces");
    collector.always(Answer::require_header(
        "authorization",
        "Basic c2hvcDpodW50ZXIy",
    ));
    let settings = good(&[
        JAEGER,
        ("OTEL_EXPORTER_JAEGER_ENDPOINT", &collector.endpoint()),
        ("OTEL_EXPORTER_JAEGER_USER", "shop"),
        ("OTEL_EXPORTER_JAEGER_PASSWORD", "hunter2"),
    ]);
    assert!(!format!("{settings:?}").contains("hunter2"));
    let exporter = settings.jaeger.exporter().unwrap();
    exporter.export(batch_of(1), soon()).await.unwrap();
    assert_eq!(collector.span_count(), 1);
}

#[tokio::test]
async fn an_agent_gets_datagrams_in_the_protocol_that_is_named() {
    let host = ("OTEL_EXPORTER_JAEGER_AGENT_HOST", "127.0.0.1");
    let binary = ("OTEL_EXPORTER_JAEGER_PROTOCOL", "udp/thrift.binary");
    for (more, first) in [(host, 0x82), (binary, 0x80)] {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port().to_string();
        let port = ("OTEL_EXPORTER_JAEGER_AGENT_PORT", port.as_str());
        let settings = good(&[JAEGER, host, port, more]);
        let exporter = settings.jaeger.exporter().unwrap();
        exporter.export(batch_of(1), soon()).await.unwrap();
        let mut datagram = [0; 65_536];
        let bytes = soon().run(socket.recv(&mut datagram)).await.unwrap();
        assert!(bytes.unwrap() > 50);
        assert_eq!(datagram[0], first);
    }
    let nowhere = ("OTEL_EXPORTER_JAEGER_AGENT_HOST", "not a host");
    let error = good(&[JAEGER, nowhere]).jaeger.exporter().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("OTEL_EXPORTER_JAEGER_AGENT_HOST"),
        "{error}"
    );
    let v6 = ("OTEL_EXPORTER_JAEGER_AGENT_HOST", "::1");
    good(&[JAEGER, v6]).jaeger.exporter().unwrap();
}

#[test]
fn init_sends_to_each_that_is_named() {
    let zipkin = server("/api/v2/spans");
    let jaeger = server("/api/traces");
    let (zipkin_url, jaeger_url) = (zipkin.endpoint(), jaeger.endpoint());
    let variables = [
        ("OTEL_TRACES_EXPORTER", "zipkin,jaeger"),
        ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", &*zipkin_url),
        ("OTEL_EXPORTER_JAEGER_ENDPOINT", &*jaeger_url),
    ];
    let guard = outspan::builder()
        .settings(good(&variables))
        .global(false)
        .init()
        .unwrap();
    guard.tracer("test").in_span("one", |_| {});
    assert!(
        guard
            .shutdown(Duration::from_secs(10))
            .unwrap()
            .is_complete()
    );
    assert_eq!((zipkin.span_count(), jaeger.span_count()), (1, 1));
}
