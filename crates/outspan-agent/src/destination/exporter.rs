//! From arguments to the exporter that delivers.

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use outspan::Compression;
use outspan::Error;
use outspan::Exporter;
use outspan::Runtime;
use outspan::Secret;
use outspan::file;
use outspan::http_json;
use outspan::http_post;
use outspan::jaeger;
use outspan::otlp;
use outspan::stdout;
use outspan::zipkin;

use crate::arguments::DestinationArguments;
use crate::arguments::Dialect;
use crate::arguments::KeepAlive;
use crate::arguments::OtlpArguments;
use crate::arguments::Protocol;
use crate::arguments::When;
use crate::screen::wants_colours;

use super::Destination;
use super::JaegerAgent;
use super::Other;
use super::OtherFormat;
use super::Receiver;
use super::StdoutFormat;
use super::TargetFile;
use super::Transport;
use super::header;
use super::header::FileHeaders;
use super::header::Header;

/// How long an attempt may take unless told: OTLP's own default.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many batches are on the way at the same time unless told: enough to hide a round trip.
const CONCURRENCY: u16 = 4;

/// Sets the options of a destination over HTTP. The builders have them in common, and no trait.
macro_rules! with_http_options {
    ($builder:expr, $receiver:expr, $options:expr, $headers:expr, $runtime:expr) => {{
        let options: &OtlpArguments = $options;
        let headers: Vec<Header> = $headers;
        let timeout = options.timeout.unwrap_or(ATTEMPT_TIMEOUT);
        let mut builder = $builder
            .runtime($runtime.clone())
            .compression(options.compression.unwrap_or_default())
            .max_concurrent_exports(usize::from(options.concurrency.unwrap_or(CONCURRENCY)))
            .user_agent(concat!("outspan/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout.min(ATTEMPT_TIMEOUT));
        if let Some(provider) = FileHeaders::of(&headers) {
            builder = builder.header_provider(provider);
        }
        let headers = headers.into_iter();
        builder = builder.headers(headers.map(|header| (header.name, header.value)));
        if let Some(level) = options.compression_level {
            builder = builder.compression_level(level);
        }
        if $receiver.is_secure {
            builder = builder.tls(tls(options));
        }
        match options.keep_alive {
            None => {}
            Some(KeepAlive::Off) => builder = builder.no_keep_alive(),
            Some(KeepAlive::Every { interval, timeout }) => {
                builder = builder.keep_alive(interval, timeout);
            }
        }
        match options.proxy.as_deref() {
            None => builder,
            Some("none") => builder.no_proxy(),
            Some(url) => builder.proxy(proxy(url)?),
        }
    }};
}

/// How standard output is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) colours: When,
    /// Bytes of the traces that wait for the rest of their spans, at most; unless told what the library says.
    pub(crate) trees_bytes: Option<usize>,
    /// How long a trace waits for the rest of its spans at most.
    pub(crate) trees_max_wait: Option<Duration>,
}

/// An option that was given and that the destination has no use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Meaningless {
    /// The option's name on the command line, without the dashes.
    pub(crate) option: &'static str,
    /// What it needs.
    need: &'static str,
}

impl Meaningless {
    /// The name by which the parser of the command line knows the option.
    pub(crate) fn id(self) -> String {
        self.option.replace('-', "_")
    }
}

impl fmt::Display for Meaningless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, need } = self;
        write!(f, "--{option} has no meaning here: it needs {need}")
    }
}

/// Checks that every option that was given has a meaning for the destination: none is ignored in silence.
///
/// # Errors
///
/// Words for the user: the first option that has none.
pub(crate) fn check_options(
    destination: &Destination,
    options: &DestinationArguments,
) -> Result<(), String> {
    match meaningless(destination, options).first() {
        Some(option) => Err(option.to_string()),
        None => Ok(()),
    }
}

/// Lists the options that were given and have no meaning for the destination.
pub(crate) fn meaningless(
    destination: &Destination,
    options: &DestinationArguments,
) -> Vec<Meaningless> {
    const OTLP: &str = "a destination over gRPC or HTTP";
    const TLS: &str = "grpcs:// or https://";
    const FILE: &str = "file:";

    let DestinationArguments { otlp, local } = options;
    let receiver = match destination {
        Destination::Otlp(receiver) => Some(receiver),
        Destination::Other(other) => Some(&other.receiver),
        _ => None,
    };
    let is_otlp = receiver.is_some();
    let is_agent = matches!(destination, Destination::JaegerAgent(_));
    let is_remote = is_otlp || is_agent || is_kafka(destination);
    let is_secure = receiver.is_some_and(|receiver| receiver.is_secure);
    let has_dialect =
        is_agent || is_other(destination, &[OtherFormat::Zipkin, OtherFormat::Jaeger]);
    let is_http = match destination {
        Destination::Otlp(receiver) => receiver.transport == Transport::Http,
        _ => is_other(destination, &[OtherFormat::Zipkin]),
    };
    let is_file = matches!(destination, Destination::File(_));
    let is_trees = *destination == Destination::Stdout(StdoutFormat::Trees);
    let compresses = match destination {
        Destination::Otlp(_) | Destination::Other(_) => otlp.compression.is_some(),
        Destination::File(file) => file.compression != Compression::None,
        _ => false,
    };
    let needs = [
        ("header", !otlp.header.is_empty(), is_otlp, OTLP),
        ("timeout", otlp.timeout.is_some(), is_remote, OTLP),
        ("retries", otlp.retries.is_some(), is_remote, OTLP),
        ("max-elapsed", otlp.max_elapsed.is_some(), is_remote, OTLP),
        ("concurrency", otlp.concurrency.is_some(), is_remote, OTLP),
        ("keep-alive", otlp.keep_alive.is_some(), is_otlp, OTLP),
        (
            "compression",
            otlp.compression.is_some(),
            is_otlp,
            "a destination over gRPC or HTTP; a file is compressed when its name ends in .gz or .zst",
        ),
        (
            "protocol",
            otlp.protocol.is_some(),
            is_http,
            "OTLP over http:// or https://, or zipkin+http://",
        ),
        (
            "dialect",
            local.dialect.is_some(),
            has_dialect,
            "zipkin+http://, jaeger+http:// or jaeger+udp://",
        ),
        (
            "proxy",
            otlp.proxy.is_some(),
            receiver.is_some_and(|receiver| !receiver.is_socket()),
            "a destination over gRPC or HTTP that is no unix socket",
        ),
        ("ca", otlp.ca.is_some(), is_secure, TLS),
        ("cert", otlp.cert.is_some(), is_secure, TLS),
        ("key", otlp.key.is_some(), is_secure, TLS),
        ("server-name", otlp.server_name.is_some(), is_secure, TLS),
        (
            "insecure-skip-verify",
            otlp.insecure_skip_verify,
            is_secure,
            TLS,
        ),
        (
            "attributes",
            local.attributes,
            is_trees,
            "the trees of stdout:",
        ),
        ("append", local.append, is_file, FILE),
        ("overwrite", local.overwrite, is_file, FILE),
        ("rotate-bytes", local.rotate_bytes.is_some(), is_file, FILE),
        ("rotate-after", local.rotate_after.is_some(), is_file, FILE),
        ("keep-files", local.keep_files.is_some(), is_file, FILE),
        (
            "compression-level",
            otlp.compression_level.is_some(),
            compresses,
            "--compression, or a file that ends in .gz or .zst",
        ),
    ];
    let meaningless = needs
        .into_iter()
        .filter(|(_, is_given, has_meaning, _)| *is_given && !has_meaning);
    meaningless
        .map(|(option, .., need)| Meaningless { option, need })
        .collect()
}

/// How many batches are on the way at the same time. Kafka, files and standard output keep the order; Kafka unless told.
pub(crate) fn concurrency(destination: &Destination, options: &DestinationArguments) -> usize {
    match destination {
        Destination::Otlp(_) | Destination::Other(_) => {
            usize::from(options.otlp.concurrency.unwrap_or(CONCURRENCY))
        }
        _ => usize::from(options.otlp.concurrency.unwrap_or(1)),
    }
}

/// How long an attempt may take. What is written on this machine takes as long as it takes: whoever reads may pause.
pub(crate) fn attempt_timeout(
    destination: &Destination,
    options: &DestinationArguments,
) -> Option<Duration> {
    match destination {
        Destination::File(_) | Destination::Stdout(_) => None,
        _ => Some(options.otlp.timeout.unwrap_or(ATTEMPT_TIMEOUT)),
    }
}

/// Whether the destination takes one of these formats over HTTP.
fn is_other(destination: &Destination, formats: &[OtherFormat]) -> bool {
    match destination {
        Destination::Other(other) => formats.contains(&other.format),
        _ => false,
    }
}

fn is_kafka(destination: &Destination) -> bool {
    #[cfg(feature = "kafka")]
    return matches!(destination, Destination::Kafka(_));
    #[cfg(not(feature = "kafka"))]
    {
        let _ = destination;
        false
    }
}

/// Builds the exporter, which makes one attempt of any length. What it does over a network runs on `runtime`.
///
/// # Errors
///
/// Words for the user, whatever is wrong with the options. Nothing was sent.
pub(crate) fn build(
    destination: &Destination,
    options: &DestinationArguments,
    look: Look,
    runtime: &Runtime,
) -> Result<Exporter, String> {
    let exporter = match destination {
        Destination::Otlp(receiver) => {
            build_otlp(receiver, &options.otlp, headers(options)?, runtime)
        }
        Destination::Other(other) => build_other(other, options, headers(options)?, runtime),
        Destination::JaegerAgent(agent) => build_agent(agent, options, runtime),
        #[cfg(feature = "kafka")]
        Destination::Kafka(target) => {
            return target.build(options.otlp.timeout.unwrap_or(ATTEMPT_TIMEOUT));
        }
        Destination::File(target) => build_file(target, options),
        Destination::Stdout(format) => build_stdout(*format, options, look),
    };
    exporter.map_err(|error| error.chain().to_string())
}

/// Names the files that hold certificates and tokens of one destination over a network, to read them again.
#[derive(Clone, Debug)]
pub(crate) struct DestinationFiles {
    name: String,
    destination: Destination,
    options: DestinationArguments,
}

impl DestinationFiles {
    /// Takes the options that name files; nothing if none does.
    pub(crate) fn of(
        name: &str,
        destination: &Destination,
        options: &DestinationArguments,
    ) -> Option<Self> {
        let is_remote = matches!(destination, Destination::Otlp(_) | Destination::Other(_));
        let otlp = &options.otlp;
        let headers = otlp.header.iter();
        let mut headers = headers.filter_map(|text| text.parse::<Header>().ok());
        let has_files =
            otlp.ca.is_some() || otlp.cert.is_some() || headers.any(|header| header.file.is_some());
        (is_remote && has_files).then(|| Self {
            name: name.to_owned(),
            destination: destination.clone(),
            options: options.clone(),
        })
    }

    /// Reads the files again. The next connection uses the certificates, the next export the headers.
    ///
    /// # Errors
    ///
    /// Words for the user: which file is wrong. The content of before stays in use.
    pub(crate) fn reload(&self) -> Result<String, String> {
        let look = Look {
            colours: When::Never,
            trees_bytes: None,
            trees_max_wait: None,
        };
        // Everything is read and checked by what reads it at the start. The exporter that is in use looks at the files
        // of certificates at its next connection by itself.
        build(&self.destination, &self.options, look, &Runtime::shared())
            .map_err(|e| format!("{}: {e}", self.name))?;
        header::reload();
        Ok(format!("files of {}", self.name))
    }
}

/// Reads the headers. Of several with the same name the last one holds.
fn headers(options: &DestinationArguments) -> Result<Vec<Header>, String> {
    let mut headers: Vec<Header> = Vec::new();
    for text in &options.otlp.header {
        let header: Header = text.parse()?;
        headers.retain(|known| !known.name.eq_ignore_ascii_case(&header.name));
        headers.push(header);
    }
    Ok(headers)
}

fn build_otlp(
    receiver: &Receiver,
    options: &OtlpArguments,
    headers: Vec<Header>,
    runtime: &Runtime,
) -> outspan::Result<Exporter> {
    let mut builder = match receiver.transport {
        Transport::Grpc => otlp::grpc(&receiver.endpoint),
        Transport::Http => otlp::http(&receiver.endpoint),
    };
    if options.protocol == Some(Protocol::Json) {
        builder = builder.protocol(otlp::Protocol::HttpJson);
    }
    with_http_options!(builder, receiver, options, headers, runtime).build()
}

fn build_other(
    other: &Other,
    options: &DestinationArguments,
    headers: Vec<Header>,
    runtime: &Runtime,
) -> outspan::Result<Exporter> {
    let Other { format, receiver } = other;
    let endpoint = receiver.endpoint.as_str();
    let otlp = &options.otlp;
    match format {
        OtherFormat::Zipkin => {
            let mut builder = zipkin::http(endpoint);
            if otlp.protocol == Some(Protocol::Protobuf) {
                builder = builder.format(zipkin::Format::Protobuf);
            }
            if options.local.dialect == Some(Dialect::Collector) {
                builder = builder.dialect(zipkin::Dialect::Collector);
            }
            with_http_options!(builder, receiver, otlp, headers, runtime).build()
        }
        OtherFormat::Jaeger => {
            let builder = jaeger::collector(endpoint).dialect(jaeger_dialect(options));
            with_http_options!(builder, receiver, otlp, headers, runtime).build()
        }
        OtherFormat::Json => {
            let builder = http_post::to(endpoint);
            http_json::exporter(with_http_options!(
                builder, receiver, otlp, headers, runtime
            ))
        }
    }
}

fn build_agent(
    agent: &JaegerAgent,
    options: &DestinationArguments,
    runtime: &Runtime,
) -> outspan::Result<Exporter> {
    let protocol = match agent.is_binary {
        true => jaeger::Protocol::Binary,
        false => jaeger::Protocol::Compact,
    };
    jaeger::agent(&agent.address)
        .protocol(protocol)
        .dialect(jaeger_dialect(options))
        .runtime(runtime.clone())
        .build()
}

fn jaeger_dialect(options: &DestinationArguments) -> jaeger::Dialect {
    match options.local.dialect {
        Some(Dialect::Collector) => jaeger::Dialect::Collector,
        Some(Dialect::Opentelemetry) | None => jaeger::Dialect::default(),
    }
}

/// Reads the URL of a proxy, or where it stands: it may hold a password.
fn proxy(text: &str) -> outspan::Result<Secret> {
    if let Some(path) = text.strip_prefix('@') {
        return Secret::file(path);
    }
    match text.strip_prefix("env:") {
        Some(name) => Secret::env(name),
        None => Ok(Secret::new(text)),
    }
}

fn tls(options: &OtlpArguments) -> otlp::Tls {
    let mut tls = otlp::Tls::new();
    if let Some(file) = &options.ca {
        tls = tls.ca_file(file);
    }
    if let (Some(certificate), Some(key)) = (&options.cert, &options.key) {
        tls = tls.identity_files(certificate, key);
    }
    if let Some(name) = &options.server_name {
        tls = tls.server_name(name);
    }
    match options.insecure_skip_verify {
        true => tls.insecure_skip_verify(),
        false => tls,
    }
}

fn build_file(target: &TargetFile, options: &DestinationArguments) -> outspan::Result<Exporter> {
    let path = &target.path;
    let holds_something =
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0);
    let is_decided = options.local.append || options.local.overwrite;
    if holds_something && !is_decided {
        return Err(Error::config(format!(
            "{} exists: add --append or --overwrite",
            path.display()
        )));
    }
    let mut builder = match target.is_json {
        true => file::json_lines(path),
        false => file::protobuf(path),
    };
    builder = builder.compression(target.compression);
    if options.local.overwrite {
        builder = builder.truncate();
    }
    if let Some(bytes) = options.local.rotate_bytes {
        builder = builder.rotate_bytes(bytes as u64);
    }
    if let Some(age) = options.local.rotate_after {
        builder = builder.rotate_after(age);
    }
    if let Some(files) = options.local.keep_files {
        builder = builder.keep_files(files as usize);
    }
    if let Some(level) = options.otlp.compression_level {
        builder = builder.compression_level(level);
    }
    builder.build()
}

fn build_stdout(
    format: StdoutFormat,
    options: &DestinationArguments,
    look: Look,
) -> outspan::Result<Exporter> {
    match format {
        StdoutFormat::Trees => build_trees(options, look),
        StdoutFormat::Pretty => stdout::pretty().build(),
        StdoutFormat::Compact => stdout::compact().build(),
        StdoutFormat::Json => stdout::json_lines().build(),
        StdoutFormat::Otlp => stdout::otlp_json_lines().build(),
    }
}

fn build_trees(options: &DestinationArguments, look: Look) -> outspan::Result<Exporter> {
    let is_terminal = std::io::stdout().is_terminal();
    let mut builder = stdout::trees()
        .max_wait(look.trees_max_wait)
        .attributes(options.local.attributes)
        .colors(wants_colours(look.colours, is_terminal));
    if let Some((terminal_size::Width(columns), _)) = terminal_size::terminal_size()
        && is_terminal
    {
        builder = builder.width(usize::from(columns));
    }
    if let Some(bytes) = look.trees_bytes {
        builder = builder.bytes_max(bytes);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use outspan::Deadline;
    use outspan::ErrorKind;
    use outspan::Export;
    use outspan_testkit::batch_of;

    use super::*;
    use crate::arguments::Arguments;
    use crate::arguments::Command;

    #[tokio::test]
    async fn destinations_over_a_network_run_on_the_given_runtime() {
        let look = Look {
            colours: When::Never,
            trees_bytes: None,
            trees_max_wait: None,
        };
        // Nothing drives it, so nothing that runs there ever ends by itself.
        let idle = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let runtime = Runtime::from(idle.handle().clone());
        let exports = [
            "grpc://localhost:1",
            "http://localhost:1",
            "unix:/no/such/socket",
            "zipkin+http://localhost:1",
            "jaeger+http://localhost:1",
            "json+http://localhost:1",
            "jaeger+udp://localhost:1",
        ]
        .map(|to| {
            let line = ["outspan", "send", "--to", to, "spans.pb"];
            let arguments = Arguments::try_parse_from(line).unwrap();
            let Command::Send(send) = arguments.command else {
                panic!("another command");
            };
            let destination = Destination::parse(to).unwrap();
            let exporter = build(&destination, &send.options, look, &runtime).unwrap();
            async move {
                let deadline = Deadline::after(Duration::from_millis(20));
                let error = exporter.export(batch_of(1), deadline).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout, "{to}: {error}");
                assert!(error.to_string().contains("runtime"), "{to}: {error}");
            }
        });
        futures_util::future::join_all(exports).await;
        idle.shutdown_background();
    }
}
