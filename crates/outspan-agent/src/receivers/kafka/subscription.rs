//! What to consume, and how.

use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::kafka_url::KafkaUrl;
use crate::kafka_url::Property;

/// The group unless told. Not that of the Collector, whose share of the messages this one would silently take.
const GROUP: &str = "outspan";

/// Which part of a queue may be fetched ahead.
const AHEAD_PART: usize = 8;

/// How many bytes are fetched ahead at most, however much memory there is: enough for every network.
const AHEAD_MAX: usize = 8 << 20;

/// How often offsets are committed, if there are new ones. What is committed later is consumed twice after a crash.
const COMMIT_MILLIS: &str = "500";

/// What may stand behind the question mark.
const OPTIONS: [&str; 4] = ["group", "offset", "encoding", "config"];

/// Properties that the options set, or that would break what is promised.
const RESERVED: [&str; 11] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "auto.offset.reset",
    "enable.auto.commit",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "log.queue",
    "statistics.interval.ms",
];

/// Holds a value of `--listen` that is of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    url: KafkaUrl,
    group: String,
    /// Where a group begins that has committed nothing: `earliest` or `latest`.
    offset: &'static str,
    pub(super) encoding: Encoding,
}

/// Says what messages hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// JSON if they begin with a brace, which protobuf never does, else protobuf.
    Detected,
    OtlpProto,
    OtlpJson,
}

impl Subscription {
    /// Reads what follows `kafka:` in a value of `--listen`.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn parse(rest: &str) -> Result<Self, String> {
        let url = KafkaUrl::parse(rest, &OPTIONS)?;
        for (place, topic) in url.topics.iter().enumerate() {
            if topic.is_empty() {
                return Err("a topic has no name: leave the comma beside it out".into());
            }
            if url.topics.iter().take(place).any(|other| other == topic) {
                return Err(format!(
                    "topic {topic} is given twice: leave one of them out"
                ));
            }
        }
        let group = url.option("group").unwrap_or(GROUP).to_owned();
        if group.is_empty() {
            return Err("the group has no name: give it one, or leave group= out".into());
        }
        let offsets = [("earliest", "earliest"), ("latest", "latest")];
        let encodings = [
            ("auto", Encoding::Detected),
            ("otlp_proto", Encoding::OtlpProto),
            ("otlp_json", Encoding::OtlpJson),
        ];
        Ok(Self {
            offset: url.choice("offset", &offsets)?,
            encoding: url.choice("encoding", &encodings)?,
            group,
            url,
        })
    }

    /// Consumes what nobody could have asked for.
    #[cfg(test)]
    pub(super) fn instead(mut self, topics: &[&str]) -> Self {
        self.url.topics = topics.iter().map(ToString::to_string).collect();
        self
    }

    /// The topics to consume.
    pub(super) fn topics(&self) -> Vec<&str> {
        self.url.topics.iter().map(String::as_str).collect()
    }

    /// The configuration of Kafka's library, which may fetch ahead a part of what a queue holds.
    ///
    /// # Errors
    ///
    /// Words for the user: which file or property is wrong.
    pub(super) fn client_config(&self, queue_bytes_max: usize) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Debug);
        config.set("client.id", "outspan");
        // Moves only those partitions at a rebalance that change their owner.
        config.set("partition.assignment.strategy", "cooperative-sticky");
        // What is fetched ahead lies in memory. A fetch has room for one message at least.
        let ahead = (queue_bytes_max / AHEAD_PART).clamp(1 << 20, AHEAD_MAX);
        config.set("queued.max.messages.kbytes", (ahead >> 10).to_string());
        config.set("fetch.max.bytes", ahead.to_string());
        config.set("fetch.queue.backoff.ms", "100");
        config.set("reconnect.backoff.max.ms", "1000");
        for Property { name, value } in self.url.properties()? {
            if RESERVED.contains(&name.as_str()) {
                return Err(format!("{self}: the property {name} cannot be set"));
            }
            config.set(name, value.expose());
        }
        config.set("bootstrap.servers", &self.url.brokers);
        config.set("group.id", &self.group);
        config.set("auto.offset.reset", self.offset);
        // It commits what it is told is settled, and nothing by itself.
        config.set("enable.auto.commit", "true");
        config.set("auto.commit.interval.ms", COMMIT_MILLIS);
        config.set("enable.auto.offset.store", "false");
        match config.create_native_config() {
            Ok(_) => Ok(config),
            Err(KafkaError::ClientConfig(_, _, name, _)) => Err(format!(
                "{self}: the property {name} is unknown, has a wrong value, or needs the feature kafka-tls"
            )),
            Err(_) => Err(format!("{self}: a property holds a NUL character")),
        }
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as group {}", self.url, self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_begins_with_what_the_topic_holds_unless_told() {
        let plain = Subscription::parse("//a:9092").unwrap();
        assert_eq!(
            plain.to_string(),
            "kafka://a:9092/otlp_spans as group outspan"
        );
        let config = plain.client_config(0).unwrap();
        assert_eq!(config.get("auto.offset.reset"), Some("earliest"));
        assert_eq!(config.get("enable.auto.offset.store"), Some("false"));
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("1024"));
        assert_eq!(plain.encoding, Encoding::Detected);

        let told = "//a:9092/x?group=g&offset=latest&encoding=otlp_json";
        let told = Subscription::parse(told).unwrap();
        let config = told.client_config(24 << 20).unwrap();
        assert_eq!(config.get("fetch.max.bytes"), Some("3145728"));
        let config = told.client_config(1 << 30).unwrap();
        assert_eq!(config.get("auto.offset.reset"), Some("latest"));
        assert_eq!(config.get("group.id"), Some("g"));
        assert_eq!(config.get("fetch.max.bytes"), Some("8388608"));
        assert_eq!(told.encoding, Encoding::OtlpJson);
    }

    #[test]
    fn what_would_break_the_promise_cannot_be_set() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kafka.properties");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let url = format!("//a:9092?config={}", file.display());
            Subscription::parse(&url).unwrap().client_config(0)
        };
        assert!(read("session.timeout.ms=10000").is_ok());
        for text in [
            "enable.auto.commit=false",
            "enable.auto.offset.store=true",
            "no.such=1",
            "fetch.max.bytes=hunter2",
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(Subscription::parse("//a?offset=middle").is_err());
        assert!(Subscription::parse("//a?group=").is_err());
        for (topics, words) in [
            ("x,y,x", "topic x is given twice"),
            ("x,,y", "a topic has no name"),
            (",x", "a topic has no name"),
        ] {
            let error = Subscription::parse(&format!("//a/{topics}")).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
