//! Whatever a variable sets, code can set.

#![cfg(all(
    feature = "grpc",
    feature = "http",
    feature = "jaeger",
    feature = "zipkin"
))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use outspan::Compression;
use outspan::Secret;
use outspan::env::ExporterName;
use outspan::env::JaegerProtocol;
use outspan::env::SamplerName;
use outspan::env::Settings;
use outspan::otlp::Protocol;

/// One variable, with what else has to be set so that it is read, and the same in code.
struct Case {
    variable: &'static str,
    value: &'static str,
    with: &'static [(&'static str, &'static str)],
    in_code: fn(&mut Settings),
}

const ZIPKIN: &[(&str, &str)] = &[("OTEL_TRACES_EXPORTER", "zipkin")];
const JAEGER: &[(&str, &str)] = &[("OTEL_TRACES_EXPORTER", "jaeger")];
const JAEGER_USER: &[(&str, &str)] = &[
    ("OTEL_TRACES_EXPORTER", "jaeger"),
    ("OTEL_EXPORTER_JAEGER_USER", "me"),
];
const JAEGER_PASSWORD: &[(&str, &str)] = &[
    ("OTEL_TRACES_EXPORTER", "jaeger"),
    ("OTEL_EXPORTER_JAEGER_PASSWORD", "secret"),
];
const GRPC: &[(&str, &str)] = &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
const RATIO: &[(&str, &str)] = &[("OTEL_TRACES_SAMPLER", "traceidratio")];

/// Variables that are looked at and set nothing: that they are set is told.
const ONLY_TOLD: [&str; 1] = ["OTEL_CONFIG_FILE"];

fn case(variable: &'static str, value: &'static str, in_code: fn(&mut Settings)) -> Case {
    Case {
        variable,
        value,
        with: &[],
        in_code,
    }
}

impl Case {
    fn with(self, with: &'static [(&'static str, &'static str)]) -> Self {
        Self { with, ..self }
    }
}

fn general() -> Vec<Case> {
    vec![
        case("OTEL_SDK_DISABLED", "true", |s| s.sdk_disabled = true),
        case("OTEL_TRACES_EXPORTER", "console", |s| {
            s.exporters = vec![ExporterName::Console];
        }),
        case("OTEL_TRACES_SAMPLER", "always_off", |s| {
            s.sampler = Some(SamplerName::AlwaysOff);
        }),
        case("OTEL_TRACES_SAMPLER_ARG", "0.25", |s| {
            s.sampler = Some(SamplerName::TraceIdRatio(0.25));
        })
        .with(RATIO),
        case("OTEL_SERVICE_NAME", "cart", |s| {
            s.service_name = Some("cart".to_owned());
        }),
        case("OTEL_RESOURCE_ATTRIBUTES", "a=1", |s| {
            s.resource_attributes = vec![("a".to_owned(), "1".to_owned())];
        }),
        case("OTEL_BSP_SCHEDULE_DELAY", "7", |s| {
            s.batch.schedule_delay = Some(Duration::from_millis(7));
        }),
        case("OTEL_BSP_EXPORT_TIMEOUT", "7", |s| {
            s.batch.export_timeout = Some(Duration::from_millis(7));
        }),
        case("OTEL_BSP_MAX_QUEUE_SIZE", "777", |s| {
            s.batch.max_queue_size = Some(777);
        }),
        case("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7", |s| {
            s.batch.max_export_batch_size = Some(7);
        }),
    ]
}

fn limits() -> Vec<Case> {
    vec![
        case("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7", |s| {
            s.span_limits.attribute_value_length = Some(7);
        }),
        case("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7", |s| {
            s.span_limits.attribute_value_length = Some(7);
        }),
        case("OTEL_ATTRIBUTE_COUNT_LIMIT", "7", |s| {
            s.span_limits.attributes = 7;
            s.span_limits.attributes_per_event = 7;
            s.span_limits.attributes_per_link = 7;
        }),
        case("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "7", |s| {
            s.span_limits.attributes = 7;
        }),
        case("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "7", |s| {
            s.span_limits.attributes_per_event = 7;
        }),
        case("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "7", |s| {
            s.span_limits.attributes_per_link = 7;
        }),
        case("OTEL_SPAN_EVENT_COUNT_LIMIT", "7", |s| {
            s.span_limits.events = 7;
        }),
        case("OTEL_SPAN_LINK_COUNT_LIMIT", "7", |s| {
            s.span_limits.links = 7;
        }),
    ]
}

/// The options of the OTLP exporter; each of them has a form for traces as well.
fn otlp() -> Vec<Case> {
    let both = [
        case("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", |s| {
            s.otlp.protocol = Protocol::HttpJson;
        }),
        case("OTEL_EXPORTER_OTLP_INSECURE", "true", |s| {
            s.otlp.insecure = true;
        }),
        case("OTEL_EXPORTER_OTLP_HEADERS", "k=v", |s| {
            s.otlp.headers = vec![("k".to_owned(), Secret::new("v"))];
        }),
        case("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", |s| {
            s.otlp.compression = Compression::Gzip;
        }),
        case("OTEL_EXPORTER_OTLP_TIMEOUT", "7", |s| {
            s.otlp.timeout = Some(Duration::from_millis(7));
        }),
        case("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem", |s| {
            s.otlp.certificate = Some(PathBuf::from("ca.pem"));
        }),
        case("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "me.pem", |s| {
            s.otlp.client_certificate = Some(PathBuf::from("me.pem"));
        }),
        case("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem", |s| {
            s.otlp.client_key = Some(PathBuf::from("key.pem"));
        }),
    ];
    let mut cases = vec![
        case("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1", |s| {
            s.otlp.endpoint = "http://c:1".to_owned();
        })
        .with(GRPC),
        case("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/x", |s| {
            s.otlp.endpoint = "http://c:1/x".to_owned();
        }),
    ];
    for general in both {
        let own = general.variable.replace("_OTLP_", "_OTLP_TRACES_");
        cases.push(Case {
            variable: own.leak(),
            ..general
        });
        cases.push(general);
    }
    cases
}

fn zipkin_and_jaeger() -> Vec<Case> {
    vec![
        case("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "http://z:1/x", |s| {
            s.zipkin.endpoint = "http://z:1/x".to_owned();
        })
        .with(ZIPKIN),
        case("OTEL_EXPORTER_ZIPKIN_TIMEOUT", "7", |s| {
            s.zipkin.timeout = Some(Duration::from_millis(7));
        })
        .with(ZIPKIN),
        case("OTEL_EXPORTER_JAEGER_PROTOCOL", "udp/thrift.binary", |s| {
            s.jaeger.protocol = JaegerProtocol::UdpThriftBinary;
            s.jaeger.agent_port = 6832;
        })
        .with(JAEGER),
        case("OTEL_EXPORTER_JAEGER_ENDPOINT", "http://j:1/x", |s| {
            s.jaeger.endpoint = "http://j:1/x".to_owned();
        })
        .with(JAEGER),
        case("OTEL_EXPORTER_JAEGER_AGENT_HOST", "j", |s| {
            s.jaeger.protocol = JaegerProtocol::UdpThriftCompact;
            s.jaeger.agent_host = "j".to_owned();
        })
        .with(JAEGER),
        case("OTEL_EXPORTER_JAEGER_AGENT_PORT", "7", |s| {
            s.jaeger.protocol = JaegerProtocol::UdpThriftCompact;
            s.jaeger.agent_port = 7;
        })
        .with(JAEGER),
        case("OTEL_EXPORTER_JAEGER_USER", "me", |s| {
            s.jaeger.user = Some(("me".to_owned(), Secret::new("secret")));
        })
        .with(JAEGER_PASSWORD),
        case("OTEL_EXPORTER_JAEGER_PASSWORD", "secret", |s| {
            s.jaeger.user = Some(("me".to_owned(), Secret::new("secret")));
        })
        .with(JAEGER_USER),
        case("OTEL_EXPORTER_JAEGER_TIMEOUT", "7", |s| {
            s.jaeger.timeout = Some(Duration::from_millis(7));
        })
        .with(JAEGER),
    ]
}

/// Reads the variables, and adds to `asked` the names that are looked up.
fn read(variables: &[(&str, &str)], asked: &RefCell<BTreeSet<String>>) -> Settings {
    let settings = Settings::from_lookup(|name| {
        asked.borrow_mut().insert(name.to_owned());
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    });
    settings.unwrap()
}

/// All that the public fields say, secrets as well.
fn shown(settings: &Settings) -> String {
    let Settings {
        otlp,
        zipkin,
        jaeger,
        ..
    } = settings;
    let headers = otlp.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name, value.expose()))
        .collect();
    let user = jaeger.user.as_ref();
    let user = user.map(|(name, password)| (name, password.expose()));
    let general = (
        settings.sdk_disabled,
        &settings.exporters,
        &settings.batch,
        &settings.span_limits,
        &settings.sampler,
        &settings.service_name,
        &settings.resource_attributes,
    );
    let of_otlp = (
        &otlp.protocol,
        &otlp.endpoint,
        otlp.insecure,
        headers,
        &otlp.compression,
        &otlp.timeout,
        (
            &otlp.certificate,
            &otlp.client_certificate,
            &otlp.client_key,
        ),
    );
    let of_zipkin = (&zipkin.endpoint, &zipkin.timeout);
    let of_jaeger = (
        &jaeger.protocol,
        &jaeger.endpoint,
        &jaeger.agent_host,
        jaeger.agent_port,
        user,
        &jaeger.timeout,
    );
    format!("{general:#?}\n{of_otlp:#?}\n{of_zipkin:#?}\n{of_jaeger:#?}")
}

#[test]
fn each_variable_that_is_read_has_its_like_in_code() {
    let asked = RefCell::new(BTreeSet::new());
    let mut known = BTreeSet::from(ONLY_TOLD.map(str::to_owned));
    let groups = [general(), limits(), otlp(), zipkin_and_jaeger()];
    for case in groups.into_iter().flatten() {
        let Case {
            variable, value, ..
        } = case;
        let without = read(case.with, &asked);
        let with: Vec<_> = [(variable, value)]
            .iter()
            .chain(case.with)
            .copied()
            .collect();
        let with = read(&with, &asked);
        let mut in_code = without.clone();
        (case.in_code)(&mut in_code);
        assert_ne!(shown(&with), shown(&without), "{variable} sets nothing");
        assert_eq!(shown(&with), shown(&in_code), "{variable}");
        known.insert(variable.to_owned());
    }
    assert_eq!(asked.into_inner(), known);
}
