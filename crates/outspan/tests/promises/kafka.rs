//! The promises that every exporter keeps, for Kafka.

#![cfg(feature = "kafka")]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use outspan::Exporter;
use outspan::kafka;
use outspan::kafka::Encoding;
use outspan::kafka::Key;
use outspan_testkit::SpanId;
use outspan_testkit::batch_from;
use outspan_testkit::promises::Behaviour;
use outspan_testkit::promises::Rig;
use outspan_testkit::span_ids;
use prost::Message;
use rdkafka::types::RDKafkaRespErr;

use crate::cluster::Cluster;

const TOPIC: &str = "otlp_spans";
const PASSWORD: &str = "hunter2-of-the-cluster";
const HEADER: &str = "hunter2-of-the-header";

macro_rules! promises_of_kafka {
    ($change:expr) => {
        outspan_testkit::promises!(
            KafkaRig::new($change),
            exempt: {
                a_dropped_future_leaks_nothing: "these brokers cannot say what they were asked; tests/kafka/bounds.rs drops exports",
            }
        );
    };
}

mod protobuf {
    use super::*;

    promises_of_kafka!(|builder| builder);
}

mod json {
    use super::*;

    promises_of_kafka!(|builder| builder.encoding(Encoding::OtlpJson));
}

mod by_trace {
    use super::*;

    promises_of_kafka!(|builder| builder.key(Key::TraceId));
}

/// A cluster of one broker. What it takes stands for calls: it cannot say what it was asked and refused.
struct KafkaRig {
    cluster: Cluster,
    change: fn(kafka::Builder) -> kafka::Builder,
}

impl KafkaRig {
    fn new(change: fn(kafka::Builder) -> kafka::Builder) -> Self {
        Self {
            cluster: Cluster::start(1, &[TOPIC]),
            change,
        }
    }
}

impl Rig for KafkaRig {
    async fn exporter(&self) -> Exporter {
        let builder = kafka::brokers(self.cluster.brokers())
            .property("sasl.password", PASSWORD)
            .header("token", HEADER);
        (self.change)(builder).build().unwrap()
    }

    async fn behave(&self, behaviour: Behaviour) {
        const OFTEN: usize = 1_000;

        self.cluster.heal_produce();
        self.cluster.delay(Duration::ZERO);
        match behaviour {
            Behaviour::Accept => self.cluster.up(),
            Behaviour::Refuse => {
                let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
                self.cluster.fail_produce(refused, OFTEN);
            }
            Behaviour::Overload => {
                let busy = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
                self.cluster.fail_produce(busy, OFTEN);
            }
            Behaviour::Outage => self.cluster.down(),
            Behaviour::NeverAnswer => self.cluster.delay(Duration::from_secs(600)),
        }
    }

    async fn received(&self) -> Vec<SpanId> {
        let messages = self.cluster.messages(TOPIC);
        let batches = messages.iter().map(|message| {
            let value = match message.value.first() {
                Some(b'{') => serde_json::from_slice(&message.value).unwrap(),
                _ => Message::decode(&*message.value).unwrap(),
            };
            batch_from(&value)
        });
        batches.flat_map(|batch| span_ids(&batch)).collect()
    }

    async fn calls(&self) -> usize {
        self.cluster.messages(TOPIC).len()
    }

    async fn wait_for_calls(&self, _calls: usize) {
        unreachable!("the promise that waits is exempt");
    }

    async fn wait_until_idle(&self) {
        unreachable!("the promise that waits is exempt");
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned(), HEADER.to_owned()]
    }
}
