//! From arguments to the exporter that delivers.

use std::io::IsTerminal;
use std::time::Duration;

use outspan::Error;
use outspan::Exporter;
use outspan::Retry;
use outspan::file;
use outspan::otlp;
use outspan::stdout;

use crate::arguments::Protocol;
use crate::arguments::SendArguments;
use crate::screen::wants_colours;
use crate::send::Notices;

use super::Destination;
use super::Header;
use super::Receiver;
use super::StdoutFormat;
use super::TargetFile;
use super::Transport;

/// How long an attempt may take unless told: OTLP's own default.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait before trying again. Somebody is looking on, so it is shorter than a service's.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How many batches are on the way at the same time unless told: enough to hide a round trip.
const CONCURRENCY: u16 = 4;

/// Checks that every option that was given has a meaning for the destination: none is ignored in silence.
///
/// # Errors
///
/// Words for the user: the first option that has none.
pub(crate) fn check_options(destination: &Destination, send: &SendArguments) -> Result<(), String> {
    let otlp = &send.otlp;
    let local = &send.local;
    let receiver = match destination {
        Destination::Otlp(receiver) => Some(receiver),
        _ => None,
    };
    let is_otlp = receiver.is_some();
    let is_secure = receiver.is_some_and(|receiver| receiver.is_secure);
    let is_http = receiver.is_some_and(|receiver| receiver.transport == Transport::Http);
    let is_file = matches!(destination, Destination::File(_));
    let is_trees = *destination == Destination::Stdout(StdoutFormat::Trees);
    let compresses = match destination {
        Destination::Otlp(_) => otlp.compression.is_some(),
        Destination::File(file) => file.compression != outspan::Compression::None,
        Destination::Stdout(_) => false,
    };
    let needs = [
        (
            "--header",
            !otlp.header.is_empty(),
            is_otlp,
            "an OTLP destination",
        ),
        (
            "--timeout",
            otlp.timeout.is_some(),
            is_otlp,
            "an OTLP destination",
        ),
        (
            "--retries",
            otlp.retries.is_some(),
            is_otlp,
            "an OTLP destination",
        ),
        (
            "--max-elapsed",
            otlp.max_elapsed.is_some(),
            is_otlp,
            "an OTLP destination",
        ),
        (
            "--concurrency",
            otlp.concurrency.is_some(),
            is_otlp,
            "an OTLP destination",
        ),
        (
            "--compression",
            otlp.compression.is_some(),
            is_otlp,
            "an OTLP destination; a file is compressed when its name ends in .gz or .zst",
        ),
        (
            "--protocol",
            otlp.protocol.is_some(),
            is_http,
            "http:// or https://",
        ),
        ("--ca", otlp.ca.is_some(), is_secure, "grpcs:// or https://"),
        (
            "--cert",
            otlp.cert.is_some(),
            is_secure,
            "grpcs:// or https://",
        ),
        (
            "--server-name",
            otlp.server_name.is_some(),
            is_secure,
            "grpcs:// or https://",
        ),
        (
            "--insecure-skip-verify",
            otlp.insecure_skip_verify,
            is_secure,
            "grpcs:// or https://",
        ),
        (
            "--attributes",
            local.attributes,
            is_trees,
            "the trees of stdout:",
        ),
        ("--append", local.append, is_file, "file:"),
        ("--overwrite", local.overwrite, is_file, "file:"),
        (
            "--compression-level",
            send.delivery.compression_level.is_some(),
            compresses,
            "--compression, or a file that ends in .gz or .zst",
        ),
    ];
    match needs
        .iter()
        .find(|(_, is_given, has_meaning, _)| *is_given && !has_meaning)
    {
        Some((option, .., need)) => Err(format!("{option} has no meaning here: it needs {need}")),
        None => Ok(()),
    }
}

/// How many batches are on the way at the same time. Files and standard output keep the order.
pub(crate) fn concurrency(destination: &Destination, send: &SendArguments) -> usize {
    match destination {
        Destination::Otlp(_) => usize::from(send.otlp.concurrency.unwrap_or(CONCURRENCY)),
        _ => 1,
    }
}

/// Builds the exporter.
///
/// # Errors
///
/// Whatever is wrong with the options; nothing was sent.
pub(crate) fn build(
    destination: &Destination,
    send: &SendArguments,
    headers: Vec<Header>,
    notices: Notices,
) -> outspan::Result<Exporter> {
    match destination {
        Destination::Otlp(receiver) => build_otlp(receiver, send, headers, notices),
        Destination::File(target) => build_file(target, send),
        Destination::Stdout(format) => build_stdout(*format, send),
    }
}

fn build_otlp(
    receiver: &Receiver,
    send: &SendArguments,
    headers: Vec<Header>,
    notices: Notices,
) -> outspan::Result<Exporter> {
    let options = &send.otlp;
    let mut builder = match receiver.transport {
        Transport::Grpc => otlp::grpc(&receiver.endpoint),
        Transport::Http => otlp::http(&receiver.endpoint),
    };
    if options.protocol == Some(Protocol::Json) {
        builder = builder.protocol(otlp::Protocol::HttpJson);
    }
    builder = builder
        .headers(
            headers
                .into_iter()
                .map(|header| (header.name, header.value)),
        )
        .compression(options.compression.unwrap_or_default())
        .max_concurrent_exports(usize::from(options.concurrency.unwrap_or(CONCURRENCY)))
        .user_agent(concat!("outspan/", env!("CARGO_PKG_VERSION")));
    if let Some(level) = send.delivery.compression_level {
        builder = builder.compression_level(level);
    }
    if receiver.is_secure {
        builder = builder.tls(tls(send));
    }
    let timeout = options.timeout.unwrap_or(ATTEMPT_TIMEOUT);
    let exporter = builder
        .connect_timeout(timeout.min(ATTEMPT_TIMEOUT))
        .build()?
        .timeout(timeout);
    Ok(notices.around(exporter).retry(retry(send)))
}

fn retry(send: &SendArguments) -> Retry {
    let mut retry = Retry::default()
        .initial_interval(FIRST_WAIT)
        .max_retries(send.otlp.retries);
    if let Some(elapsed) = send.otlp.max_elapsed {
        retry = retry.max_elapsed(elapsed);
    }
    retry
}

fn tls(send: &SendArguments) -> otlp::Tls {
    let options = &send.otlp;
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

fn build_file(target: &TargetFile, send: &SendArguments) -> outspan::Result<Exporter> {
    let path = &target.path;
    let holds_something =
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0);
    let is_decided = send.local.append || send.local.overwrite;
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
    if send.local.overwrite {
        builder = builder.truncate();
    }
    if let Some(level) = send.delivery.compression_level {
        builder = builder.compression_level(level);
    }
    builder.build()
}

fn build_stdout(format: StdoutFormat, send: &SendArguments) -> outspan::Result<Exporter> {
    match format {
        StdoutFormat::Trees => build_trees(send),
        StdoutFormat::Pretty => stdout::pretty().build(),
        StdoutFormat::Compact => stdout::compact().build(),
        StdoutFormat::Json => stdout::json_lines().build(),
        StdoutFormat::Otlp => stdout::otlp_json_lines().build(),
    }
}

fn build_trees(send: &SendArguments) -> outspan::Result<Exporter> {
    let is_terminal = std::io::stdout().is_terminal();
    let mut builder = stdout::trees()
        .attributes(send.local.attributes)
        .colors(wants_colours(send.color, is_terminal));
    if let Some((terminal_size::Width(columns), _)) = terminal_size::terminal_size()
        && is_terminal
    {
        builder = builder.width(usize::from(columns));
    }
    builder.build()
}
