//! Kafka as a destination: `kafka://BROKER,BROKER/TOPIC?option=value`.

use std::fmt;
use std::time::Duration;

use outspan::Exporter;
use outspan::kafka;
use outspan::kafka::Acks;
use outspan::kafka::Codec;
use outspan::kafka::Encoding;
use outspan::kafka::Key;
use outspan::kafka::Partitioner;

use crate::kafka_url::KafkaUrl;
use crate::kafka_url::Property;

/// What may stand behind the question mark.
const OPTIONS: [&str; 6] = ["encoding", "key", "partitioner", "codec", "acks", "config"];

/// Holds a topic to write to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KafkaTarget {
    url: KafkaUrl,
    encoding: Encoding,
    key: Key,
    partitioner: Partitioner,
    codec: Codec,
    acks: Acks,
}

impl KafkaTarget {
    /// Reads what follows `kafka:`.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn parse(rest: &str) -> Result<Self, String> {
        let url = KafkaUrl::parse(rest, &OPTIONS)?;
        if url.topics.len() > 1 {
            return Err("spans go to one topic: leave the others out".into());
        }
        let encodings = [Encoding::OtlpProto, Encoding::OtlpJson].map(|one| (one.as_str(), one));
        let codecs = [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ];
        let codecs = codecs.map(|one| (one.as_str(), one));
        let keys = [("none", Key::None), ("trace_id", Key::TraceId)];
        let partitioners = [
            ("fnv1a", Partitioner::Fnv1a),
            ("murmur2", Partitioner::Murmur2),
        ];
        let acks = [("all", Acks::All), ("leader", Acks::Leader)];
        Ok(Self {
            encoding: url.choice("encoding", &encodings)?,
            key: url.choice("key", &keys)?,
            partitioner: url.choice("partitioner", &partitioners)?,
            codec: url.choice("codec", &codecs)?,
            acks: url.choice("acks", &acks)?,
            url,
        })
    }

    /// Builds the exporter. A delivery may take a little less than an attempt, so that what an attempt gives back is not on
    /// its way any more.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn build(&self, attempt_timeout: Duration) -> Result<Exporter, String> {
        let topic = self.url.topics.first().map_or("", String::as_str);
        let mut builder = kafka::brokers(&self.url.brokers)
            .topic(topic)
            .encoding(self.encoding)
            .key(self.key)
            .partitioner(self.partitioner)
            .codec(self.codec)
            .acks(self.acks)
            .delivery_timeout(attempt_timeout / 5 * 4);
        for Property { name, value } in self.url.properties()? {
            builder = builder.property(name, value);
        }
        builder.build().map_err(|error| error.chain().to_string())
    }
}

impl fmt::Display for KafkaTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_exporter() {
        let plain = KafkaTarget::parse("//a:9092").unwrap();
        assert_eq!(plain.to_string(), "kafka://a:9092/otlp_spans");
        assert_eq!(
            (plain.encoding, plain.key),
            (Encoding::OtlpProto, Key::None)
        );
        assert_eq!((plain.codec, plain.acks), (Codec::None, Acks::All));

        let told =
            "//a:9092/x?encoding=otlp_json&key=trace_id&codec=zstd&acks=leader&partitioner=murmur2";
        let told = KafkaTarget::parse(told).unwrap();
        assert_eq!(
            (told.encoding, told.key),
            (Encoding::OtlpJson, Key::TraceId)
        );
        assert_eq!((told.codec, told.acks), (Codec::Zstd, Acks::Leader));
        assert_eq!(told.partitioner, Partitioner::Murmur2);
        assert!(told.build(Duration::from_secs(10)).is_ok());

        for (text, expected) in [
            ("//a/x,y", "one topic"),
            ("//a/x?key=span_id", "use none, trace_id"),
            ("//a/x?group=g", "unknown option \"group\""),
        ] {
            let error = KafkaTarget::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
