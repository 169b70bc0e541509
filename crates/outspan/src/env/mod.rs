//! The environment variables of the OpenTelemetry specification, as far as they concern traces.
//!
//! [`Settings::from_env`] reads them, [`exporter`] makes the OTLP exporter they describe, and with the feature `sdk`
//! `outspan::init` sets up everything. What code sets beats the environment.
//!
//! | Variable | Default | Meaning |
//! | --- | --- | --- |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf` | `grpc`, `http/protobuf`, `http/json` |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | `http://localhost:4318`, `:4317` for gRPC | HTTP: a base, `v1/traces` is appended |
//! | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | | HTTP: used as it is |
//! | `OTEL_EXPORTER_OTLP_INSECURE` | `false` | plaintext for a gRPC endpoint without a scheme |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | | `key=value,…`, values percent-encoded |
//! | `OTEL_EXPORTER_OTLP_COMPRESSION` | `none` | `none`, `gzip`, `zstd` |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT` | see below | ms for a whole export, retries included; 0: no limit |
//! | `OTEL_EXPORTER_OTLP_CERTIFICATE` | system's roots | whom to trust, a PEM file |
//! | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `…_CLIENT_KEY` | | who we are, PEM files; both or neither |
//! | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | | the way through a proxy: the option `proxy` of each exporter over HTTP |
//! | `OTEL_EXPORTER_ZIPKIN_ENDPOINT` | `http://localhost:9411/api/v2/spans` | the whole URL; without a path it gets Zipkin's |
//! | `OTEL_EXPORTER_JAEGER_PROTOCOL` | HTTP, or UDP where only an agent is named | `http/thrift.binary`, `udp/thrift.compact`, `udp/thrift.binary` |
//! | `OTEL_EXPORTER_JAEGER_ENDPOINT` | `http://localhost:14268/api/traces` | the whole URL; without a path it gets Jaeger's |
//! | `OTEL_EXPORTER_JAEGER_USER`, `OTEL_EXPORTER_JAEGER_PASSWORD` | | for Jaeger's collector; both or neither |
//! | `OTEL_EXPORTER_JAEGER_AGENT_HOST`, `OTEL_EXPORTER_JAEGER_AGENT_PORT` | `localhost`, 6831 (6832 for binary) | over UDP |
//! | `OTEL_EXPORTER_ZIPKIN_TIMEOUT`, `OTEL_EXPORTER_JAEGER_TIMEOUT` | see below | as `OTEL_EXPORTER_OTLP_TIMEOUT` |
//! | `OTEL_TRACES_EXPORTER` | `otlp` | `otlp`, `zipkin`, `jaeger`, `console`, `otlp/stdout`, `none`, or several with commas |
//! | `OTEL_BSP_SCHEDULE_DELAY` | 5000 | ms until a batch leaves that is not full |
//! | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | 512 | spans of a batch; at most the queue's size |
//! | `OTEL_BSP_MAX_QUEUE_SIZE` | 64 MiB and no count | spans that may wait |
//! | `OTEL_BSP_EXPORT_TIMEOUT` | see below | ms for one attempt; 0: no limit |
//! | `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT` | none | characters of a value |
//! | `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`, `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT`, for all three `OTEL_ATTRIBUTE_COUNT_LIMIT` | 128 | attributes |
//! | `OTEL_SPAN_EVENT_COUNT_LIMIT`, `OTEL_SPAN_LINK_COUNT_LIMIT` | 128 | events, links |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `parentbased_always_on` | what is sampled |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | | where the spans come from |
//! | `OTEL_SDK_DISABLED` | `false` | `true`: no spans at all |
//!
//! Zipkin and Jaeger need the features of their names. Each `OTEL_EXPORTER_OTLP_…` also has a form for traces, `OTEL_EXPORTER_OTLP_TRACES_…`, which wins.
//!
//! Not read: `OTEL_CONFIG_FILE` (told if it is set), `OTEL_LOG_LEVEL` (what we log goes through `tracing`, whose subscriber
//! decides), `OTEL_PROPAGATORS`, and the obsolete `OTEL_EXPORTER_OTLP_SPAN_INSECURE`.
//!
//! # Time limits
//!
//! Unless a variable sets a limit, each attempt has 10 s, and a processor keeps what temporarily failed for as long as
//! memory lasts. `OTEL_EXPORTER_OTLP_TIMEOUT` limits the whole export of a batch, from its first attempt on: what was not
//! delivered by then is dropped and counted. A longer time than 10 s is also that of each attempt, and 0 gives attempts an
//! hour. `OTEL_BSP_EXPORT_TIMEOUT` sets when the processor cancels an attempt; the batch is not lost by that.
//!
//! # Mistakes
//!
//! An empty or blank variable counts as unset. A number, truth value or name that makes no sense is told by a
//! [`Warning`] and counts as unset. What decides where spans go or whom to trust is an error instead, because to carry on
//! would send spans to the wrong place: an unknown name in `OTEL_TRACES_EXPORTER`, an endpoint that is no URL, a
//! certificate that cannot be read, a client certificate without its key.

#[cfg(feature = "_otlp")]
mod endpoint;
#[cfg(feature = "jaeger")]
mod jaeger;
#[cfg(feature = "_otlp")]
mod otlp;
mod pairs;
mod reader;
#[cfg(feature = "_network")]
mod time_limits;
mod warning;
#[cfg(feature = "zipkin")]
mod zipkin;

use std::ffi::OsString;
use std::time::Duration;

use outspan_wire::otlp::SpanLimits;

use crate::Error;
use crate::Result;

#[cfg(feature = "jaeger")]
pub use self::jaeger::JaegerProtocol;
#[cfg(feature = "jaeger")]
pub use self::jaeger::JaegerSettings;
#[cfg(feature = "_otlp")]
pub use self::otlp::OtlpSettings;
use self::reader::Reader;
pub use self::warning::Warning;
#[cfg(feature = "zipkin")]
pub use self::zipkin::ZipkinSettings;

/// Builds the OTLP exporter that the environment describes, with retry and time limits.
///
/// It reads `OTEL_EXPORTER_OTLP_*` and nothing else; see [`OtlpSettings::exporter`] for the limits. Mistakes that are no
/// errors go to the log.
///
/// # Errors
///
/// [`Config`](crate::ErrorKind::Config); see [`OtlpSettings::exporter`].
///
/// # Examples
///
#[cfg_attr(feature = "http", doc = "```")]
#[cfg_attr(not(feature = "http"), doc = "```no_run")]
/// # fn build() -> outspan::Result<()> {
/// let exporter = outspan::env::exporter()?;
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build().unwrap();
/// ```
#[cfg(feature = "_otlp")]
pub fn exporter() -> Result<crate::Exporter> {
    let reader = Reader::new(|name: &str| std::env::var_os(name));
    let settings = OtlpSettings::read(&reader);
    for warning in reader.into_warnings() {
        tracing::warn!(target: "outspan", "{warning}");
    }
    settings.exporter()
}

/// The settings that the environment describes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// `OTEL_SDK_DISABLED`: whether to make no spans at all. The other settings are then the defaults.
    pub sdk_disabled: bool,
    /// `OTEL_TRACES_EXPORTER`: where spans go, without repetitions; empty for `none`.
    pub exporters: Vec<ExporterName>,
    /// `OTEL_EXPORTER_OTLP_*`.
    #[cfg(feature = "_otlp")]
    pub otlp: OtlpSettings,
    /// `OTEL_EXPORTER_ZIPKIN_*`.
    #[cfg(feature = "zipkin")]
    pub zipkin: ZipkinSettings,
    /// `OTEL_EXPORTER_JAEGER_*`.
    #[cfg(feature = "jaeger")]
    pub jaeger: JaegerSettings,
    /// `OTEL_BSP_*`.
    pub batch: BatchSettings,
    /// `OTEL_SPAN_*_LIMIT`, `OTEL_EVENT_*_LIMIT`, `OTEL_LINK_*_LIMIT` and `OTEL_ATTRIBUTE_*_LIMIT`.
    pub span_limits: SpanLimits,
    /// `OTEL_TRACES_SAMPLER` with its argument, if set.
    pub sampler: Option<SamplerName>,
    /// `OTEL_SERVICE_NAME`, if set. It beats `service.name` among the resource's attributes.
    pub service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, decoded; the last of equal keys counts.
    pub resource_attributes: Vec<(String, String)>,
    /// What is wrong with variables and is no error.
    pub warnings: Vec<Warning>,
}

/// Names where spans go, in `OTEL_TRACES_EXPORTER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExporterName {
    /// `otlp`: to an OTLP server, over gRPC or HTTP.
    Otlp,
    /// `zipkin`: to a Zipkin server, as JSON over HTTP.
    Zipkin,
    /// `jaeger`: to Jaeger in its own format.
    Jaeger,
    /// `console`: to standard output, for people.
    Console,
    /// `otlp/stdout`: to standard output, as OTLP JSON lines.
    OtlpStdout,
}

impl ExporterName {
    /// The name in `OTEL_TRACES_EXPORTER`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Otlp => "otlp",
            Self::Zipkin => "zipkin",
            Self::Jaeger => "jaeger",
            Self::Console => "console",
            Self::OtlpStdout => "otlp/stdout",
        }
    }
}

/// Names a sampler, in `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SamplerName {
    /// `always_on`.
    AlwaysOn,
    /// `always_off`.
    AlwaysOff,
    /// `traceidratio`: this part of all traces, 0 to 1.
    TraceIdRatio(f64),
    /// `parentbased_always_on`: as the parent, and traces that begin here.
    ParentBasedAlwaysOn,
    /// `parentbased_always_off`: as the parent, and no traces that begin here.
    ParentBasedAlwaysOff,
    /// `parentbased_traceidratio`: as the parent, and this part of the traces that begin here.
    ParentBasedTraceIdRatio(f64),
}

/// The settings of a batch processor, as far as they are set; see the [table](crate::env) for what holds otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchSettings {
    /// `OTEL_BSP_SCHEDULE_DELAY`.
    pub schedule_delay: Option<Duration>,
    /// `OTEL_BSP_EXPORT_TIMEOUT`, for one attempt; zero sets no limit.
    pub export_timeout: Option<Duration>,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`, at least 1.
    pub max_queue_size: Option<usize>,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, at least 1 and at most the queue's size.
    pub max_export_batch_size: Option<usize>,
}

impl Default for Settings {
    /// What holds when no variable is set.
    fn default() -> Self {
        Self {
            sdk_disabled: false,
            exporters: vec![ExporterName::Otlp],
            #[cfg(feature = "_otlp")]
            otlp: OtlpSettings::default(),
            #[cfg(feature = "zipkin")]
            zipkin: ZipkinSettings::default(),
            #[cfg(feature = "jaeger")]
            jaeger: JaegerSettings::default(),
            batch: BatchSettings::default(),
            span_limits: SpanLimits::default(),
            sampler: None,
            service_name: None,
            resource_attributes: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads the process's environment.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for an unknown name in `OTEL_TRACES_EXPORTER`. Other mistakes are
    /// [`warnings`](Self::warnings), or errors where they matter: when the exporter is built.
    pub fn from_env() -> Result<Self> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// Reads variables that `lookup` finds, instead of the process's environment.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    ///
    /// # Examples
    ///
    /// ```
    /// use outspan::env::{ExporterName, Settings};
    ///
    /// let settings = Settings::from_lookup(|name| match name {
    ///     "OTEL_TRACES_EXPORTER" => Some("console".into()),
    ///     "OTEL_BSP_SCHEDULE_DELAY" => Some("soon".into()),
    ///     _ => None,
    /// })?;
    /// assert_eq!(settings.exporters, [ExporterName::Console]);
    /// assert_eq!(
    ///     settings.warnings[0].to_string(),
    ///     "OTEL_BSP_SCHEDULE_DELAY=\"soon\": expected milliseconds, a whole number of at least 0; it is ignored"
    /// );
    /// # Ok::<(), outspan::Error>(())
    /// ```
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let reader = Reader::new(lookup);
        let mut settings = Self {
            sdk_disabled: reader.boolean(&["OTEL_SDK_DISABLED"]).unwrap_or_default(),
            ..Self::default()
        };
        if !settings.sdk_disabled {
            settings.read(&reader)?;
        }
        settings.warnings = reader.into_warnings();
        Ok(settings)
    }

    fn read<L: Fn(&str) -> Option<OsString>>(&mut self, reader: &Reader<L>) -> Result<()> {
        if let Some((name, file)) = reader.text(&["OTEL_CONFIG_FILE"]) {
            let problem = "configuration files are not supported; the other variables hold";
            reader.warn(Warning::new(name, &file, problem));
        }
        if let Some((_, list)) = reader.text(&[EXPORTER]) {
            self.exporters = exporter_names(&list)?;
        }
        #[cfg(feature = "_otlp")]
        if self.exporters.contains(&ExporterName::Otlp) {
            self.otlp = OtlpSettings::read(reader);
        }
        #[cfg(feature = "zipkin")]
        if self.exporters.contains(&ExporterName::Zipkin) {
            self.zipkin = ZipkinSettings::read(reader);
        }
        #[cfg(feature = "jaeger")]
        if self.exporters.contains(&ExporterName::Jaeger) {
            self.jaeger = JaegerSettings::read(reader);
        }
        self.batch = batch_settings(reader);
        self.span_limits = span_limits(reader);
        self.sampler = sampler(reader);
        let service_name = reader.text(&["OTEL_SERVICE_NAME"]);
        self.service_name = service_name.map(|(_, name)| name);
        self.resource_attributes = resource_attributes(reader);
        Ok(())
    }
}

const EXPORTER: &str = "OTEL_TRACES_EXPORTER";

fn exporter_names(list: &str) -> Result<Vec<ExporterName>> {
    let known = [
        ExporterName::Otlp,
        ExporterName::Zipkin,
        ExporterName::Jaeger,
        ExporterName::Console,
        ExporterName::OtlpStdout,
    ];
    let mut names = Vec::new();
    let mut has_none = false;
    for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        if word.eq_ignore_ascii_case("none") {
            has_none = true;
            continue;
        }
        let name = known
            .into_iter()
            .find(|name| word.eq_ignore_ascii_case(name.as_str()))
            .ok_or_else(|| unknown_exporter(word))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if has_none && !names.is_empty() {
        return Err(Error::config(format!(
            "{EXPORTER}={list:?} names \"none\" beside others: leave one or the others out"
        )));
    }
    Ok(names)
}

fn unknown_exporter(word: &str) -> Error {
    Error::config(format!(
        "{EXPORTER} names the unknown exporter {word:?}: use otlp, zipkin, jaeger, console, otlp/stdout or none"
    ))
}

fn batch_settings<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> BatchSettings {
    const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
    const DEFAULT_BATCH: usize = 512;

    let max_queue_size = reader.integer(&["OTEL_BSP_MAX_QUEUE_SIZE"], 1);
    let asked = reader.integer(&[BATCH], 1);
    let max_export_batch_size = match (asked, max_queue_size) {
        (Some(batch), Some(queue)) if batch > queue => {
            let problem = format!("more than OTEL_BSP_MAX_QUEUE_SIZE; {queue} is used");
            reader.warn(Warning::new(BATCH, &batch.to_string(), problem));
            Some(queue)
        }
        (None, Some(queue)) if queue < DEFAULT_BATCH => Some(queue),
        (asked, _) => asked,
    };
    BatchSettings {
        schedule_delay: reader.milliseconds(&["OTEL_BSP_SCHEDULE_DELAY"]),
        export_timeout: reader.milliseconds(&["OTEL_BSP_EXPORT_TIMEOUT"]),
        max_queue_size,
        max_export_batch_size,
    }
}

/// A limit of its own, then the general one, then the default (common/README.md, "Attribute Limits").
fn span_limits<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> SpanLimits {
    const ANY_COUNT: &str = "OTEL_ATTRIBUTE_COUNT_LIMIT";

    let defaults = SpanLimits::default();
    let any_count = reader.integer(&[ANY_COUNT], 0);
    let count = |name, general: Option<usize>, default| {
        let own = reader.integer(&[name], 0);
        own.or(general).unwrap_or(default)
    };
    let mut limits = defaults;
    limits.attribute_value_length = reader.integer(
        &[
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        ],
        0,
    );
    limits.attributes = count(
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        any_count,
        defaults.attributes,
    );
    limits.attributes_per_event = count(
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
        any_count,
        defaults.attributes_per_event,
    );
    limits.attributes_per_link = count(
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
        any_count,
        defaults.attributes_per_link,
    );
    limits.events = count("OTEL_SPAN_EVENT_COUNT_LIMIT", None, defaults.events);
    limits.links = count("OTEL_SPAN_LINK_COUNT_LIMIT", None, defaults.links);
    limits
}

fn sampler<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> Option<SamplerName> {
    const EXPECTED: &str = "always_on, always_off, traceidratio, parentbased_always_on, \
                            parentbased_always_off or parentbased_traceidratio";

    let sampler = reader.parsed(&["OTEL_TRACES_SAMPLER"], EXPECTED, |text| {
        Some(match text.to_ascii_lowercase().as_str() {
            "always_on" => SamplerName::AlwaysOn,
            "always_off" => SamplerName::AlwaysOff,
            "traceidratio" => SamplerName::TraceIdRatio(1.0),
            "parentbased_always_on" => SamplerName::ParentBasedAlwaysOn,
            "parentbased_always_off" => SamplerName::ParentBasedAlwaysOff,
            "parentbased_traceidratio" => SamplerName::ParentBasedTraceIdRatio(1.0),
            _ => return None,
        })
    })?;
    let ratio = || {
        let expected = "a number from 0 to 1, and all are sampled";
        let read = reader.parsed(&["OTEL_TRACES_SAMPLER_ARG"], expected, |text| {
            let ratio: f64 = text.parse().ok()?;
            (0.0..=1.0).contains(&ratio).then_some(ratio)
        });
        read.unwrap_or(1.0)
    };
    Some(match sampler {
        SamplerName::TraceIdRatio(_) => SamplerName::TraceIdRatio(ratio()),
        SamplerName::ParentBasedTraceIdRatio(_) => SamplerName::ParentBasedTraceIdRatio(ratio()),
        other => other,
    })
}

/// One mistake spoils the whole value (resource/sdk.md, "Specifying resource information via an environment variable").
fn resource_attributes<L: Fn(&str) -> Option<OsString>>(
    reader: &Reader<L>,
) -> Vec<(String, String)> {
    let Some((name, list)) = reader.text(&["OTEL_RESOURCE_ATTRIBUTES"]) else {
        return Vec::new();
    };
    let mut attributes = Vec::new();
    for (place, pair) in pairs::entries(&list) {
        let decoded = pair.and_then(|(key, value)| {
            let key = pairs::decode(key).filter(|key| !key.is_empty())?;
            Some((key, pairs::decode(value)?))
        });
        let Some((key, value)) = decoded else {
            let problem = format!(
                "entry {place} is no key=value with percent-encoded \",\", \"=\" and \"%\"; all of it is ignored"
            );
            reader.warn(Warning::new(name, &list, problem));
            return Vec::new();
        };
        pairs::put(&mut attributes, key, value, |a, b| a == b);
    }
    attributes
}
