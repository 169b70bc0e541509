//! Every variable, its default, its precedence, and what happens to values that make no sense.

#![cfg(all(feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::time::Duration;

use outspan::Compression;
use outspan::ErrorKind;
use outspan::Result;
use outspan::env::ExporterName;
use outspan::env::SamplerName;
use outspan::env::Settings;
use outspan::otlp::Protocol;
use outspan::wire::otlp::SpanLimits;

/// Reads settings from the given variables alone.
fn read(variables: &[(&str, &str)]) -> Result<Settings> {
    Settings::from_lookup(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    })
}

/// Reads settings that have nothing wrong with them.
fn good(variables: &[(&str, &str)]) -> Settings {
    let settings = read(variables).unwrap();
    assert_eq!(settings.warnings, [], "{variables:?}");
    settings
}

/// Reads settings with one mistake, which is told in words and changes nothing.
fn told(variables: &[(&str, &str)], said: &str) -> Settings {
    let settings = read(variables).unwrap();
    let warnings: Vec<_> = settings.warnings.iter().map(|w| w.to_string()).collect();
    assert_eq!(warnings, [said], "{variables:?}");
    settings
}

fn unset_but_for(warnings: Settings) -> Settings {
    let mut settings = warnings;
    settings.warnings.clear();
    settings
}

#[test]
fn nothing_set_gives_the_defaults_of_the_specification() {
    let settings = good(&[]);
    assert_eq!(settings, Settings::default());
    assert!(!settings.sdk_disabled);
    assert_eq!(settings.exporters, [ExporterName::Otlp]);
    assert_eq!(settings.otlp.protocol, Protocol::HttpProtobuf);
    assert_eq!(settings.otlp.endpoint, "http://localhost:4318/v1/traces");
    assert!(!settings.otlp.insecure);
    assert_eq!(settings.otlp.compression, Compression::None);
    assert_eq!(settings.otlp.attempt_timeout(), Duration::from_secs(10));
    assert_eq!(settings.otlp.export_limit(), None);
    assert_eq!(settings.span_limits, SpanLimits::default());
    assert_eq!(settings.batch.max_queue_size, None);
}

#[test]
fn an_empty_or_blank_value_counts_as_unset() {
    const ALL: [&str; 43] = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_INSECURE",
        "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_TRACES_EXPORTER",
        "OTEL_SDK_DISABLED",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_EVENT_COUNT_LIMIT",
        "OTEL_SPAN_LINK_COUNT_LIMIT",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        // Obsolete, deprecated or of other signals: not read at all.
        "OTEL_EXPORTER_OTLP_SPAN_INSECURE",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
        "OTEL_EXPORTER_ZIPKIN_TIMEOUT",
        "OTEL_CONFIG_FILE",
        "OTEL_LOG_LEVEL",
    ];
    for name in ALL {
        for value in ["", "  ", "\t\n"] {
            assert_eq!(good(&[(name, value)]), Settings::default(), "{name}");
        }
    }
}

#[test]
fn endpoints_become_the_urls_of_the_specification() {
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const OWN: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    let grpc = (PROTOCOL, "grpc");
    let cases: [(&[(&str, &str)], &str); 15] = [
        (&[(BASE, "http://c:4318")], "http://c:4318/v1/traces"),
        (&[(BASE, "http://c:4318/")], "http://c:4318/v1/traces"),
        (&[(BASE, "http://c:4318/my/")], "http://c:4318/my/v1/traces"),
        (&[(BASE, "https://c/my")], "https://c/my/v1/traces"),
        (&[(BASE, " http://c ")], "http://c/v1/traces"),
        (&[(OWN, "http://c:4318")], "http://c:4318/"),
        (&[(OWN, "http://c:4318/my/")], "http://c:4318/my/"),
        (&[(OWN, "https://h/v1/traces/")], "https://h/v1/traces/"),
        (&[(OWN, "http://t/x"), (BASE, "http://c")], "http://t/x"),
        (&[grpc], "http://localhost:4317"),
        (
            &[(PROTOCOL, "http/json")],
            "http://localhost:4318/v1/traces",
        ),
        (&[grpc, (BASE, "http://c:4317")], "http://c:4317"),
        (
            &[grpc, (BASE, "https://c:4317/ignored")],
            "https://c:4317/ignored",
        ),
        (&[grpc, (OWN, "c:4317")], "c:4317"),
        (&[grpc, (OWN, "t:1"), (BASE, "c:4317")], "t:1"),
    ];
    for (variables, endpoint) in cases {
        let settings = good(variables);
        assert_eq!(settings.otlp.endpoint, endpoint, "{variables:?}");
        settings.otlp.exporter().unwrap();
    }
}

#[test]
fn a_form_for_traces_beats_the_general_one() {
    let settings = good(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "30000"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "false"),
        ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/a"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/b"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/c"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/d"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/e"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/f"),
    ]);
    let otlp = settings.otlp;
    assert_eq!(otlp.protocol, Protocol::Grpc);
    assert_eq!(otlp.compression, Compression::Gzip);
    assert_eq!(otlp.timeout, Some(Duration::from_secs(30)));
    assert!(otlp.insecure);
    assert_eq!(otlp.endpoint, "https://t");
    assert_eq!(otlp.certificate.unwrap().to_str(), Some("/b"));
    assert_eq!(otlp.client_key.unwrap().to_str(), Some("/d"));
    assert_eq!(otlp.client_certificate.unwrap().to_str(), Some("/f"));
}

#[test]
fn a_form_for_traces_that_makes_no_sense_leaves_the_general_one() {
    let settings = told(
        &[
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"),
        ],
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=\"10s\": expected milliseconds, a whole number of at least 0; it is ignored",
    );
    assert_eq!(settings.otlp.timeout, Some(Duration::from_millis(2500)));
}

#[test]
fn names_compare_without_case() {
    let settings = good(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZip"),
        ("OTEL_TRACES_EXPORTER", "OTLP"),
        ("OTEL_TRACES_SAMPLER", "Always_Off"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "TRUE"),
    ]);
    assert_eq!(settings.otlp.protocol, Protocol::Grpc);
    assert_eq!(settings.otlp.compression, Compression::Gzip);
    assert_eq!(settings.exporters, [ExporterName::Otlp]);
    assert_eq!(settings.sampler, Some(SamplerName::AlwaysOff));
    assert!(settings.otlp.insecure);
    let zstd = good(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")]);
    assert_eq!(zstd.otlp.compression, Compression::Zstd);
}

#[test]
fn values_that_make_no_sense_are_told_and_change_nothing() {
    let cases = [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http",
            "grpc, http/protobuf or http/json",
        ),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "br", "none, gzip or zstd"),
        (
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "0",
            "a whole number of at least 1",
        ),
        (
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "-1",
            "a whole number of at least 1",
        ),
        (
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            "0",
            "a whole number of at least 1",
        ),
        (
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            "5e2",
            "a whole number of at least 1",
        ),
        (
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "-5",
            "a whole number of at least 0",
        ),
        (
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
            "x",
            "a whole number of at least 0",
        ),
        (
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
            "1.5",
            "a whole number of at least 0",
        ),
        (
            "OTEL_SPAN_EVENT_COUNT_LIMIT",
            "99999999999999999999999",
            "a whole number of at least 0",
        ),
        (
            "OTEL_SPAN_LINK_COUNT_LIMIT",
            "many",
            "a whole number of at least 0",
        ),
        (
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "-1",
            "a whole number of at least 0",
        ),
        (
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "none",
            "a whole number of at least 0",
        ),
        (
            "OTEL_ATTRIBUTE_COUNT_LIMIT",
            "1k",
            "a whole number of at least 0",
        ),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "-1",
            "milliseconds, a whole number of at least 0",
        ),
        (
            "OTEL_BSP_SCHEDULE_DELAY",
            "-100",
            "milliseconds, a whole number of at least 0",
        ),
        (
            "OTEL_BSP_EXPORT_TIMEOUT",
            "1s",
            "milliseconds, a whole number of at least 0",
        ),
        (
            "OTEL_TRACES_SAMPLER",
            "jaeger_remote",
            "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio",
        ),
    ];
    for (name, value, expected) in cases {
        let said = format!("{name}={value:?}: expected {expected}; it is ignored");
        let settings = told(&[(name, value)], &said);
        assert_eq!(settings.warnings[0].variable(), name);
        assert_eq!(settings.warnings[0].value(), Some(value));
        assert_eq!(unset_but_for(settings), Settings::default(), "{name}");
    }
}

#[test]
fn a_configuration_file_is_told_to_be_passed_over() {
    let settings = told(
        &[
            ("OTEL_CONFIG_FILE", "/etc/otel.yaml"),
            ("OTEL_SERVICE_NAME", "shop"),
        ],
        "OTEL_CONFIG_FILE=\"/etc/otel.yaml\": configuration files are not supported; the other variables hold",
    );
    assert_eq!(settings.service_name.as_deref(), Some("shop"));
}

#[test]
fn truth_values_are_true_only_for_true() {
    for (value, is_true) in [
        ("true", true),
        ("True", true),
        ("false", false),
        ("FALSE", false),
    ] {
        let settings = good(&[("OTEL_EXPORTER_OTLP_INSECURE", value)]);
        assert_eq!(settings.otlp.insecure, is_true, "{value}");
    }
    for value in ["1", "yes", "on", "t"] {
        let said =
            format!("OTEL_SDK_DISABLED={value:?}: expected true or false; it counts as false");
        assert!(!told(&[("OTEL_SDK_DISABLED", value)], &said).sdk_disabled);
    }
}

#[test]
fn a_disabled_sdk_reads_nothing_else() {
    let settings = good(&[
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "nonsense"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "nonsense"),
    ]);
    assert!(settings.sdk_disabled);
}

#[test]
fn headers_are_decoded_and_the_last_of_equal_names_counts() {
    let settings = good(&[(
        "OTEL_EXPORTER_OTLP_HEADERS",
        " authorization = Bearer%20a%3Db%2Cc , x-tenant=shop,X-Tenant=other,x-empty=,x-eq=a=b, ",
    )]);
    let headers: Vec<_> = settings
        .otlp
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(
        headers,
        [
            ("authorization", "Bearer a=b,c"),
            ("X-Tenant", "other"),
            ("x-empty", ""),
            ("x-eq", "a=b"),
        ]
    );
    settings.otlp.exporter().unwrap();
}

#[test]
fn headers_for_traces_replace_the_general_ones_as_a_whole() {
    let settings = good(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b=2"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "c=3"),
    ]);
    assert_eq!(settings.otlp.headers.len(), 1);
    assert_eq!(settings.otlp.headers[0].0, "c");
}

#[test]
fn a_bad_header_is_told_by_its_place_alone() {
    for (bad, why) in [
        ("hunter2", "has no \"=\""),
        ("=hunter2", "does not begin with the name of a header"),
        (
            "bad name=hunter2",
            "does not begin with the name of a header",
        ),
        (
            "x=hunter2%",
            "has a \"%\" without two hexadecimal digits of UTF-8",
        ),
        (
            "x=hunter2%ff",
            "has a \"%\" without two hexadecimal digits of UTF-8",
        ),
        ("x=hunter2%0a", "has a control character in its value"),
    ] {
        let list = format!("good=1,{bad},also-good=2");
        let said = format!("OTEL_EXPORTER_OTLP_HEADERS: entry 2 {why}; it is left out");
        let settings = told(&[("OTEL_EXPORTER_OTLP_HEADERS", &list)], &said);
        assert_eq!(settings.warnings[0].value(), None);
        let names: Vec<_> = settings.otlp.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["good", "also-good"]);
        assert!(!format!("{settings:?}").contains("hunter2"), "{bad}");
    }
}

#[test]
fn header_values_are_never_shown() {
    let settings = good(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2")]);
    assert!(!format!("{settings:?} {settings:#?}").contains("hunter2"));
    let exporter = settings.otlp.exporter().unwrap();
    assert!(!format!("{exporter:?}").contains("hunter2"));
}

#[test]
fn several_exporters_can_be_named() {
    use ExporterName::Console;
    use ExporterName::Otlp;
    use ExporterName::OtlpStdout;
    for (list, names) in [
        ("otlp", &[Otlp][..]),
        ("console", &[Console]),
        ("otlp/stdout", &[OtlpStdout]),
        ("none", &[]),
        (" console , otlp,console, ", &[Console, Otlp]),
    ] {
        assert_eq!(good(&[("OTEL_TRACES_EXPORTER", list)]).exporters, names);
    }
}

#[test]
fn an_exporter_that_we_do_not_have_is_an_error_that_names_it() {
    for list in ["zipkins", "prometheus", "otlp,logging", "none,logging"] {
        let error = read(&[("OTEL_TRACES_EXPORTER", list)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let word = list.rsplit(',').next().unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "OTEL_TRACES_EXPORTER names the unknown exporter {word:?}: use otlp, zipkin, jaeger, console, otlp/stdout or none"
            )
        );
    }
    let error = read(&[("OTEL_TRACES_EXPORTER", "none,otlp")]).unwrap_err();
    assert!(
        error.to_string().contains("\"none\" beside others"),
        "{error}"
    );
}

#[test]
fn an_endpoint_that_is_no_url_is_an_error_that_names_the_variable() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "htp://c"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:99999"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
    ] {
        let error = good(&[(name, value)]).otlp.exporter().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_an_error_that_names_the_variable() {
    for name in [
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    ] {
        let settings = good(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"),
            (name, "/no/such/file.pem"),
        ]);
        let error = settings.otlp.exporter().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.to_string().contains("/no/such/file.pem"), "{error}");
    }
}

#[test]
fn a_client_certificate_and_its_key_come_together() {
    for (set, missing) in [
        ("CLIENT_KEY", "CLIENT_CERTIFICATE"),
        ("CLIENT_CERTIFICATE", "CLIENT_KEY"),
    ] {
        let name = format!("OTEL_EXPORTER_OTLP_{set}");
        let settings = good(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"),
            (&name, "/some/file.pem"),
        ]);
        let error = settings.otlp.exporter().unwrap_err();
        let said = format!("{name} is set without OTEL_EXPORTER_OTLP_{missing}");
        assert!(error.to_string().starts_with(&said), "{error}");
    }
}

#[test]
fn files_for_encryption_are_told_when_the_connection_has_none() {
    told(
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ],
        "OTEL_EXPORTER_OTLP_CERTIFICATE=\"/ca.pem\": not used, because the connection is not encrypted; set an https endpoint",
    );
}

#[test]
fn timeouts_limit_the_whole_export_and_zero_none() {
    let with = |value| good(&[("OTEL_EXPORTER_OTLP_TIMEOUT", value)]).otlp;
    assert_eq!(with("500").export_limit(), Some(Duration::from_millis(500)));
    assert_eq!(with("500").attempt_timeout(), Duration::from_secs(10));
    assert_eq!(with("60000").attempt_timeout(), Duration::from_secs(60));
    assert_eq!(with("0").export_limit(), None);
    assert!(with("0").attempt_timeout() > Duration::from_secs(600));
}

#[test]
fn a_batch_is_never_larger_than_the_queue() {
    const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
    const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
    let both = good(&[(BATCH, "100"), (QUEUE, "100")]).batch;
    assert_eq!(both.max_export_batch_size, Some(100));
    assert_eq!(good(&[(QUEUE, "10")]).batch.max_export_batch_size, Some(10));
    assert_eq!(good(&[(QUEUE, "5000")]).batch.max_export_batch_size, None);
    let settings = told(
        &[(BATCH, "200"), (QUEUE, "100")],
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=\"200\": more than OTEL_BSP_MAX_QUEUE_SIZE; 100 is used",
    );
    assert_eq!(settings.batch.max_export_batch_size, Some(100));
}

#[test]
fn times_of_the_processor_are_milliseconds() {
    let batch = good(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "250"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2147483647"),
    ])
    .batch;
    assert_eq!(batch.schedule_delay, Some(Duration::from_millis(250)));
    assert_eq!(batch.export_timeout, Some(Duration::ZERO));
    assert_eq!(batch.max_queue_size, Some(2_147_483_647));
}

#[test]
fn limits_fall_back_from_their_own_to_the_general_to_the_default() {
    let limits = good(&[
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "10"),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "0"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "7"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "8"),
    ])
    .span_limits;
    assert_eq!(limits.attributes, 10);
    assert_eq!(limits.attributes_per_event, 0);
    assert_eq!(limits.attributes_per_link, 10);
    assert_eq!(limits.attribute_value_length, Some(100));
    assert_eq!((limits.events, limits.links), (7, 8));
    let own = good(&[
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "50"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "10"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "20"),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "30"),
    ])
    .span_limits;
    assert_eq!(own.attribute_value_length, Some(50));
    assert_eq!((own.attributes, own.attributes_per_link), (20, 30));
}

#[test]
fn samplers_take_their_argument() {
    use SamplerName::*;
    for (name, argument, sampler) in [
        ("always_on", "", AlwaysOn),
        ("always_off", "0.5", AlwaysOff),
        ("traceidratio", "0.25", TraceIdRatio(0.25)),
        ("traceidratio", "", TraceIdRatio(1.0)),
        ("parentbased_always_on", "", ParentBasedAlwaysOn),
        ("parentbased_always_off", "", ParentBasedAlwaysOff),
        (
            "parentbased_traceidratio",
            "0",
            ParentBasedTraceIdRatio(0.0),
        ),
    ] {
        let settings = good(&[
            ("OTEL_TRACES_SAMPLER", name),
            ("OTEL_TRACES_SAMPLER_ARG", argument),
        ]);
        assert_eq!(settings.sampler, Some(sampler));
    }
    for argument in ["2", "-0.1", "NaN", "half"] {
        let settings = told(
            &[
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", argument),
            ],
            &format!(
                "OTEL_TRACES_SAMPLER_ARG={argument:?}: expected a number from 0 to 1, and all are sampled; it is ignored"
            ),
        );
        assert_eq!(settings.sampler, Some(TraceIdRatio(1.0)));
    }
}

#[test]
fn resource_attributes_are_decoded() {
    let settings = good(&[
        ("OTEL_SERVICE_NAME", " cart "),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=other, deployment.environment.name = prod%2Ceu ,a%3Db=%C3%BC,dup=1,dup=2,",
        ),
    ]);
    assert_eq!(settings.service_name.as_deref(), Some("cart"));
    let attributes: Vec<_> = settings
        .resource_attributes
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        attributes,
        [
            ("service.name", "other"),
            ("deployment.environment.name", "prod,eu"),
            ("a=b", "ü"),
            ("dup", "2"),
        ]
    );
}

#[test]
fn one_mistake_spoils_all_resource_attributes() {
    for list in ["a=1,b", "a=1,b=%zz", "a=1,=2", "a=1,b=%ff"] {
        let settings = told(
            &[("OTEL_RESOURCE_ATTRIBUTES", list)],
            &format!(
                "OTEL_RESOURCE_ATTRIBUTES={list:?}: entry 2 is no key=value with percent-encoded \",\", \"=\" and \"%\"; all of it is ignored"
            ),
        );
        assert_eq!(settings.resource_attributes, []);
    }
}

#[cfg(unix)]
#[test]
fn values_that_are_no_utf8_are_told() {
    use std::os::unix::ffi::OsStringExt;
    let broken = || Some(OsString::from_vec(b"x\xff".to_vec()));
    for name in ["OTEL_SERVICE_NAME", "OTEL_BSP_SCHEDULE_DELAY"] {
        let settings = Settings::from_lookup(|n| (n == name).then(broken).flatten()).unwrap();
        let said = format!("{name}=\"x\u{fffd}\": it is not valid UTF-8; it is ignored");
        assert_eq!(settings.warnings[0].to_string(), said);
        assert_eq!(unset_but_for(settings), Settings::default());
    }
    let name = "OTEL_EXPORTER_OTLP_HEADERS";
    let settings = Settings::from_lookup(|n| (n == name).then(broken).flatten()).unwrap();
    assert_eq!(
        settings.warnings[0].to_string(),
        "OTEL_EXPORTER_OTLP_HEADERS: it is not valid UTF-8; it is ignored"
    );
    // Paths need not be UTF-8.
    let name = "OTEL_EXPORTER_OTLP_CERTIFICATE";
    let settings = Settings::from_lookup(|n| match n {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("https://c".into()),
        n if n == name => broken(),
        _ => None,
    })
    .unwrap();
    assert_eq!(settings.warnings, []);
    assert_eq!(
        settings.otlp.certificate.unwrap().into_os_string(),
        broken().unwrap()
    );
}

#[test]
fn nothing_set_by_anyone_makes_it_panic() {
    let values = [
        "=",
        ",",
        "%",
        "\0",
        "://",
        "-",
        "€",
        "a=b=c;d",
        "9e99",
        "[",
        "http://[::1",
    ];
    let names = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_TRACES_EXPORTER",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
    ];
    for name in names {
        for value in values {
            for protocol in ["grpc", "http/protobuf"] {
                let settings = read(&[(name, value), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]);
                // Whether it is an error is not the question here.
                if let Ok(settings) = settings {
                    drop(settings.otlp.exporter());
                }
            }
        }
    }
}
