//! Options, and checking them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Header;
use rdkafka::message::OwnedHeaders;
use rdkafka::types::RDKafkaConfRes;

use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::Secret;

use super::Kafka;
use super::encode::TraceKey;
use super::producer::Producer;
use super::send::Options;
use super::send::Sender;

/// The topic of the Collector's Kafka exporter and receiver.
const TOPIC: &str = "otlp_spans";

/// A little less than the 10 s that an attempt has by default, so that what an attempt gives back is no longer on its way.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(8);

/// The Collector's `max_message_bytes`, a little below a broker's own limit of 1,048,588.
const MESSAGE_BYTES_MAX: usize = 1_000_000;

/// As much as the library's processor holds.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What a message takes on the wire beside its value, its key and its headers, generously.
const FRAME_BYTES: usize = 256;

/// Properties of librdkafka that the options set, or that would break what the exporter promises.
const RESERVED: [(&str, &str); 24] = [
    ("bootstrap.servers", "give the brokers to `brokers`"),
    ("metadata.broker.list", "give the brokers to `brokers`"),
    ("acks", "use `acks`"),
    ("request.required.acks", "use `acks`"),
    ("enable.idempotence", "use `idempotence`"),
    ("compression.codec", "use `codec`"),
    ("compression.type", "use `codec`"),
    ("partitioner", "use `partitioner`"),
    ("message.max.bytes", "use `message_bytes_max`"),
    ("message.timeout.ms", "use `delivery_timeout`"),
    ("delivery.timeout.ms", "use `delivery_timeout`"),
    ("queue.buffering.max.kbytes", "use `queue_bytes_max`"),
    ("delivery.report.only.error", "acknowledgements are needed"),
    ("transactional.id", "transactions are not supported"),
    ("log.queue", "its log lines become tracing events"),
    ("log_level", "filter the tracing events of `outspan`"),
    ("log_cb", "it cannot be set from here"),
    ("error_cb", "it cannot be set from here"),
    ("stats_cb", "it cannot be set from here"),
    ("dr_cb", "it cannot be set from here"),
    ("dr_msg_cb", "it cannot be set from here"),
    ("statistics.interval.ms", "nobody reads its statistics"),
    ("opaque", "it cannot be set from here"),
    ("default_topic_conf", "it cannot be set from here"),
];

/// Configures an exporter that writes to Kafka.
#[derive(Clone)]
pub struct Builder {
    brokers: String,
    topic: String,
    encoding: Encoding,
    key: Key,
    partitioner: Partitioner,
    acks: Acks,
    idempotence: Option<bool>,
    codec: Codec,
    headers: Vec<(String, Secret)>,
    message_bytes_max: usize,
    queue_bytes_max: usize,
    delivery_timeout: Duration,
    properties: Vec<(String, Secret)>,
}

/// Says how spans are written into messages. The names are the Collector's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// OTLP protobuf (`otlp_proto`): the default, as in the Collector.
    #[default]
    OtlpProto,
    /// OTLP JSON (`otlp_json`): three times the size, readable by everything.
    OtlpJson,
}

/// Says which key messages have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Key {
    /// None: the default, as in the Collector. Batches stay whole and spread over the partitions.
    #[default]
    None,
    /// The trace id, as 32 lower-case hexadecimal digits, and one message a trace: the Collector's
    /// `partition_traces_by_id`. All spans of a trace go to one partition.
    TraceId,
}

/// Says which partition a key belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Partitioner {
    /// FNV-1a, as the Collector and other programs in Go choose: the default, so that a trace whose spans come from both
    /// stays together.
    #[default]
    Fnv1a,
    /// Murmur2, as Kafka's own clients in Java choose.
    Murmur2,
}

/// Says who must have a message before it counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Acks {
    /// Every replica that is in sync: the default. The loss of a broker loses nothing.
    #[default]
    All,
    /// The partition's leader, as the Collector has it by default. A leader that fails at the wrong moment takes messages with
    /// it that were acknowledged.
    Leader,
}

/// Says how Kafka's library compresses sets of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Not at all: the default, as in the Collector.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard; brokers since Kafka 2.1 take it.
    Zstd,
}

impl Builder {
    pub(super) fn new(brokers: String) -> Self {
        Self {
            brokers,
            topic: TOPIC.to_owned(),
            encoding: Encoding::default(),
            key: Key::default(),
            partitioner: Partitioner::default(),
            acks: Acks::default(),
            idempotence: None,
            codec: Codec::default(),
            headers: Vec::new(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
            delivery_timeout: DELIVERY_TIMEOUT,
            properties: Vec::new(),
        }
    }

    /// Sets the topic. Default: `otlp_spans`, as in the Collector.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets how spans are written. Default: OTLP protobuf.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets the key of messages. Default: none.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Sets which partition a key belongs to. Default: the Collector's choice. Messages without a key go to any partition.
    #[must_use]
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// Sets who must have a message. Default: every replica that is in sync.
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Sets whether the producer is idempotent. Default: with [`Acks::All`], which it needs, it is. A cluster may have to allow
    /// it (`IdempotentWrite`, before Kafka 2.8).
    #[must_use]
    pub fn idempotence(mut self, idempotence: bool) -> Self {
        self.idempotence = Some(idempotence);
        self
    }

    /// Sets the compression. Default: none. For a level, set the [property](Self::property) `compression.level`.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Adds a header to every message. The value is never shown.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how many bytes a message may have, before compression. A batch that has more is split; one span that has more is left with
    /// [`TooLarge`](crate::ErrorKind::TooLarge).
    ///
    /// Default: 1,000,000, as in the Collector. A broker takes 1,048,588 unless its `message.max.bytes` or the topic's
    /// `max.message.bytes` says otherwise.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Sets how many bytes of messages may wait for their acknowledgement; exports wait for room. Default: 64 MiB.
    ///
    /// Kafka's library counts in KiB, so the bound is rounded up to the next one.
    #[must_use]
    pub fn queue_bytes_max(mut self, bytes: usize) -> Self {
        self.queue_bytes_max = bytes;
        self
    }

    /// Sets how long Kafka's library tries to deliver a message before it is given back with
    /// [`Timeout`](crate::ErrorKind::Timeout).
    ///
    /// It should be less than the time limit of an attempt: a message cannot be called back when an attempt's time is up, and
    /// what is then sent once more may be written twice. Default: 8 s, a little less than the 10 s of an attempt.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Sets a property of librdkafka, such as `linger.ms` or `client.id`. Its value is never shown.
    ///
    /// TLS and SASL are set so (`security.protocol`, `sasl.mechanism`, `sasl.username`, `sasl.password`, `ssl.ca.location`);
    /// TLS and SCRAM need the cargo feature `kafka-tls`. The library's list is its `CONFIGURATION.md`.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Builds the exporter, and starts the threads of Kafka's library. They connect by themselves, now and whenever they have
    /// to; brokers that cannot be reached are no mistake here.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for whatever is wrong: brokers, topic, headers, limits, properties.
    pub fn build(self) -> Result<Exporter> {
        let brokers = check_brokers(&self.brokers)?;
        check_topic(&self.topic)?;
        let headers = self.record_headers()?;
        let payload_bytes_max = self.payload_bytes_max()?;
        self.check_times_and_sizes()?;
        let producer = Producer::start(self.client_config(&brokers)?)?;
        let options = Options {
            brokers: Arc::from(brokers),
            topic: self.topic,
            encoding: self.encoding,
            key: self.key,
            headers,
            payload_bytes_max,
            delivery_timeout: self.delivery_timeout,
        };
        Ok(Exporter::new(Kafka {
            sender: Sender::new(options, producer),
        }))
    }

    fn record_headers(&self) -> Result<Option<OwnedHeaders>> {
        if self.headers.is_empty() {
            return Ok(None);
        }
        let mut headers = OwnedHeaders::new_with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            if name.is_empty() || name.contains('\0') {
                return Err(Error::config(
                    "invalid header: a name is at least one character, none of them NUL",
                ));
            }
            headers = headers.insert(Header {
                key: name,
                value: Some(value.expose()),
            });
        }
        Ok(Some(headers))
    }

    /// How much of a message is left for spans.
    fn payload_bytes_max(&self) -> Result<usize> {
        /// Less than this would leave nothing of a span.
        const PAYLOAD_BYTES_MIN: usize = 1_000;

        let headers = self.headers.iter().map(|(name, value)| {
            // Two lengths of at most five bytes stand beside them.
            name.len() + value.expose().len() + 10
        });
        let frame = FRAME_BYTES + TraceKey::SIZE + headers.sum::<usize>();
        let bytes_max = self.message_bytes_max;
        match bytes_max.checked_sub(frame) {
            Some(left) if left >= PAYLOAD_BYTES_MIN && bytes_max <= 1_000_000_000 => Ok(left),
            _ => Err(Error::config(format!(
                "invalid message_bytes_max {bytes_max}: use {} to 1000000000 bytes with these headers",
                frame + PAYLOAD_BYTES_MIN
            ))),
        }
    }

    fn check_times_and_sizes(&self) -> Result<()> {
        let millis = self.delivery_timeout.as_millis();
        if !(1..=i32::MAX as u128).contains(&millis) {
            return Err(Error::config(format!(
                "invalid delivery_timeout {:?}: use 1 ms to 24 days",
                self.delivery_timeout
            )));
        }
        if self.queue_bytes_max < self.message_bytes_max {
            return Err(Error::config(format!(
                "invalid queue_bytes_max {}: it must hold at least one message of {} bytes",
                self.queue_bytes_max, self.message_bytes_max
            )));
        }
        if self.idempotence == Some(true) && self.acks != Acks::All {
            return Err(Error::config(
                "an idempotent producer needs the acknowledgement of all replicas: use Acks::All",
            ));
        }
        Ok(())
    }

    fn client_config(&self, brokers: &str) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        // Its lines are filtered as tracing events; debug lines come only when the property `debug` asks for them.
        config.set_log_level(RDKafkaLogLevel::Debug);
        config.set("client.id", "outspan");
        // A broker that is back should be noticed well within the time of a delivery (librdkafka's own default is 10 s).
        config.set("reconnect.backoff.max.ms", "1000");
        // A topic that does not exist is told within the time of a delivery, instead of as a timeout.
        config.set("topic.metadata.propagation.max.ms", "4000");
        for (name, value) in &self.properties {
            check_property(name)?;
            config.set(name, value.expose());
        }
        let idempotence = self.idempotence.unwrap_or(self.acks == Acks::All);
        let kilobytes = self.queue_bytes_max.div_ceil(1024).min(i32::MAX as usize);
        let message_bytes_max = self.message_bytes_max.to_string();
        config.set("bootstrap.servers", brokers);
        config.set("acks", self.acks.as_property());
        config.set("enable.idempotence", idempotence.to_string());
        config.set("compression.codec", self.codec.as_str());
        config.set("partitioner", self.partitioner.as_property());
        // The broker's limit is for the set of messages that is written at once.
        config.set("message.max.bytes", &message_bytes_max);
        if !self.properties.iter().any(|(name, _)| name == "batch.size") {
            config.set("batch.size", &message_bytes_max);
        }
        config.set(
            "message.timeout.ms",
            self.delivery_timeout.as_millis().to_string(),
        );
        config.set("queue.buffering.max.kbytes", kilobytes.to_string());
        config.create_native_config().map_err(refused_property)?;
        Ok(config)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, Secret)]| -> Vec<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("Builder")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("encoding", &self.encoding)
            .field("key", &self.key)
            .field("partitioner", &self.partitioner)
            .field("acks", &self.acks)
            .field("idempotence", &self.idempotence)
            .field("codec", &self.codec)
            .field("headers", &names(&self.headers))
            .field("message_bytes_max", &self.message_bytes_max)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("properties", &names(&self.properties))
            .finish()
    }
}

impl Encoding {
    /// The Collector's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtlpProto => "otlp_proto",
            Self::OtlpJson => "otlp_json",
        }
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let one = [Self::OtlpProto, Self::OtlpJson]
            .into_iter()
            .find(|one| one.as_str() == text);
        one.ok_or_else(|| {
            Error::config(format!(
                "unknown encoding \"{text}\": use otlp_proto or otlp_json"
            ))
        })
    }
}

impl Codec {
    /// Kafka's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let one = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|one| one.as_str() == text);
        one.ok_or_else(|| {
            Error::config(format!(
                "unknown codec \"{text}\": use none, gzip, snappy, lz4 or zstd"
            ))
        })
    }
}

impl Acks {
    fn as_property(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Leader => "1",
        }
    }
}

impl Partitioner {
    /// The ones that spread messages without a key.
    fn as_property(self) -> &'static str {
        match self {
            Self::Fnv1a => "fnv1a_random",
            Self::Murmur2 => "murmur2_random",
        }
    }
}

/// Checks a list of brokers, and writes it as Kafka's library takes it.
fn check_brokers(brokers: &str) -> Result<String> {
    let mut list = Vec::new();
    for broker in brokers.split(',').map(str::trim) {
        let is_wrong = |c: char| c.is_whitespace() || c.is_control() || c == '@' || c == '/';
        if broker.is_empty() || broker.starts_with(':') {
            return Err(Error::config(
                "invalid brokers: an address is missing, use host:port, with commas between several",
            ));
        }
        if broker.contains(is_wrong) {
            // It may hold a password, so it is not shown.
            return Err(Error::config(
                "invalid brokers: use host:port, with commas between several, and nothing else",
            ));
        }
        list.push(broker);
    }
    Ok(list.join(","))
}

/// Checks a topic's name (Kafka, "Topic naming": letters, digits, `.`, `_` and `-`, at most 249).
fn check_topic(topic: &str) -> Result<()> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let has_length = (1..=249).contains(&topic.len());
    if has_length && topic.chars().all(is_legal) && !matches!(topic, "." | "..") {
        return Ok(());
    }
    Err(Error::config(format!(
        "invalid topic {topic:?}: use 1 to 249 letters, digits, dots, underscores and hyphens"
    )))
}

fn check_property(name: &str) -> Result<()> {
    match RESERVED.iter().find(|(reserved, _)| *reserved == name) {
        Some((_, instead)) => Err(Error::config(format!(
            "property {name} cannot be set: {instead}"
        ))),
        None => Ok(()),
    }
}

/// Says which property is wrong, without its value and without the library's words, which quote it.
fn refused_property(error: KafkaError) -> Error {
    let KafkaError::ClientConfig(code, words, name, _value) = error else {
        return Error::config("invalid property of Kafka's library: it holds a NUL character");
    };
    if code == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        return Error::config(format!(
            "unknown property {name:?}: librdkafka's CONFIGURATION.md lists them"
        ));
    }
    let needs_tls = words.contains("not available at build time") || words.contains("OpenSSL");
    let hint = match needs_tls {
        true => "it needs the cargo feature kafka-tls",
        false => "librdkafka's CONFIGURATION.md says what it takes",
    };
    Error::config(format!("invalid value of the property {name}: {hint}"))
}
