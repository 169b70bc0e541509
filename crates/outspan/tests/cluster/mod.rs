//! A Kafka cluster in this process, that can misbehave and be asked what it has.
//!
//! The brokers are those of librdkafka's own tests: they speak Kafka's protocol on loopback and keep messages in memory.
//! They have no API for what they were asked, and cannot be moved between threads, so that a thread of their own holds them.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::message::Headers;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use rdkafka::types::RDKafkaRespErr;

/// How long a test waits for what is sure to come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How many partitions topics have.
pub(crate) const PARTITIONS: i32 = 4;

type Mock = MockCluster<'static, DefaultProducerContext>;
type Job = Box<dyn FnOnce(&Mock) + Send>;

/// A cluster of mock brokers.
pub(crate) struct Cluster {
    jobs: mpsc::Sender<Job>,
    brokers: String,
    count: i32,
}

/// A message that a topic holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Cluster {
    /// Starts so many brokers, with these topics.
    pub(crate) fn start(count: i32, topics: &[&str]) -> Self {
        let (jobs, incoming) = mpsc::channel::<Job>();
        let (told, tell) = mpsc::channel();
        thread::spawn(move || {
            let mock = MockCluster::new(count).unwrap();
            told.send(mock.bootstrap_servers()).unwrap();
            for job in incoming {
                job(&mock);
            }
        });
        let brokers = tell.recv_timeout(SOON).unwrap();
        let cluster = Self {
            jobs,
            brokers,
            count,
        };
        for topic in topics {
            cluster.create_topic(topic);
        }
        cluster
    }

    /// The brokers' addresses, for exporters.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Does something with the brokers.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Mock) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = mpsc::channel();
        let job = move |mock: &Mock| answer.send(work(mock)).unwrap();
        self.jobs.send(Box::new(job)).unwrap();
        answered.recv_timeout(SOON).unwrap()
    }

    fn create_topic(&self, topic: &str) {
        let (topic, replicas) = (topic.to_owned(), self.count);
        self.with(move |mock| mock.create_topic(&topic, PARTITIONS, replicas).unwrap());
    }

    /// Answers the next so many requests to produce with an error.
    pub(crate) fn fail_produce(&self, error: RDKafkaRespErr, times: usize) {
        let errors = vec![error; times];
        self.with(move |mock| mock.request_errors(RDKafkaApiKey::Produce, &errors));
    }

    /// Answers requests to produce truly again.
    pub(crate) fn heal_produce(&self) {
        self.with(|mock| mock.clear_request_errors(RDKafkaApiKey::Produce));
    }

    /// Takes every broker down, and its connections with it.
    pub(crate) fn down(&self) {
        let count = self.count;
        self.with(move |mock| (1..=count).for_each(|id| mock.broker_down(id).unwrap()));
    }

    /// Brings every broker back.
    pub(crate) fn up(&self) {
        let count = self.count;
        self.with(move |mock| (1..=count).for_each(|id| mock.broker_up(id).unwrap()));
    }

    /// Makes brokers answer so late.
    pub(crate) fn delay(&self, delay: Duration) {
        self.with(move |mock| mock.broker_round_trip_time(-1, delay).unwrap());
    }

    /// Makes a broker the leader of all partitions of a topic.
    pub(crate) fn lead(&self, topic: &str, broker: i32) {
        let topic = topic.to_owned();
        self.with(move |mock| {
            for partition in 0..PARTITIONS {
                mock.partition_leader(&topic, partition, Some(broker))
                    .unwrap();
            }
        });
    }

    /// Every message that a topic holds, partition by partition, in order.
    pub(crate) fn messages(&self, topic: &str) -> Vec<Kept> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "the test reads")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        let mut missing = 0;
        for partition in 0..PARTITIONS {
            let (low, high) = watermarks(&consumer, topic, partition);
            missing += high - low;
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        let mut messages = Vec::new();
        if missing == 0 {
            return messages;
        }
        consumer.assign(&list).unwrap();
        let end = Instant::now() + SOON;
        while missing > 0 {
            assert!(
                Instant::now() < end,
                "{missing} messages of {topic} cannot be read"
            );
            match consumer.poll(Duration::from_millis(100)) {
                None | Some(Err(_)) => {}
                Some(Ok(message)) => {
                    messages.push(kept(&message));
                    missing -= 1;
                }
            }
        }
        messages.sort_by_key(|message| (message.partition, message.offset));
        messages
    }

    /// The names of all spans that a topic holds, partition by partition, in order.
    pub(crate) fn span_names(&self, topic: &str) -> Vec<String> {
        let messages = self.messages(topic);
        let spans = messages.iter().flat_map(Kept::spans);
        spans.map(|span| span.name).collect()
    }

    /// How often each name stands in a topic.
    pub(crate) fn counts(&self, topic: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for name in self.span_names(topic) {
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}

impl Kept {
    /// Its spans, decoded with others' decoder.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let request = match self.value.first() {
            Some(b'{') => serde_json::from_slice(&self.value).unwrap(),
            _ => ExportTraceServiceRequest::decode(&*self.value).unwrap(),
        };
        let scopes = request
            .resource_spans
            .into_iter()
            .flat_map(|one| one.scope_spans);
        scopes.flat_map(|one| one.spans).collect()
    }
}

fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    let end = Instant::now() + SOON;
    loop {
        match consumer.fetch_watermarks(topic, partition, Duration::from_secs(2)) {
            Ok(watermarks) => return watermarks,
            Err(error) => assert!(Instant::now() < end, "{topic} cannot be read: {error}"),
        }
    }
}

fn kept(message: &impl Message) -> Kept {
    let headers = message.headers().into_iter().flat_map(|headers| {
        let pairs = headers.iter();
        pairs.map(|header| {
            (
                header.key.to_owned(),
                header.value.unwrap_or_default().to_vec(),
            )
        })
    });
    Kept {
        partition: message.partition(),
        offset: message.offset(),
        key: message
            .key()
            .map(|key| String::from_utf8(key.to_vec()).unwrap()),
        value: message.payload().unwrap_or_default().to_vec(),
        headers: headers.collect(),
    }
}
