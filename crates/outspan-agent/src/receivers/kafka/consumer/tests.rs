use std::thread;

use outspan::engine::MemoryQueue;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use rdkafka::Timestamp;
use rdkafka::message::OwnedMessage;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::BaseProducer;
use rdkafka::producer::BaseRecord;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::Producer;
use tokio::time::timeout;

use super::*;
use crate::log::Log;
use crate::receivers::ReceiverStatus;
use crate::receivers::counters::Transport;

const SOON: Duration = Duration::from_secs(20);

const LIMITS: BatchLimits = BatchLimits {
    spans: 10,
    bytes: 1 << 20,
    delay: Duration::from_secs(3600),
};

struct Rig {
    worker: Worker,
    consumer: BaseConsumer<Context>,
    child: ScriptedExporter,
    stop: watch::Sender<Option<Deadline>>,
}

impl Rig {
    /// A worker in front of a queue of so many bytes. Nobody listens where its brokers should be.
    fn new(queue: usize, group_bytes_max: usize) -> Self {
        Self::of("//127.0.0.1:1", queue, group_bytes_max)
    }

    fn of(url: &str, queue: usize, group_bytes_max: usize) -> Self {
        let subscription = Subscription::parse(url).unwrap();
        Self::consuming(subscription, queue, group_bytes_max)
    }

    /// A worker that cannot consume, because Kafka's library takes no topic twice.
    fn broken() -> Self {
        let subscription = Subscription::parse("//127.0.0.1:1").unwrap();
        Self::consuming(subscription.instead(&["a", "a"]), 1 << 20, 1 << 20)
    }

    fn consuming(subscription: Subscription, queue: usize, group_bytes_max: usize) -> Self {
        let child = ScriptedExporter::new();
        let queue = MemoryQueue::builder(child.exporter())
            .name("child")
            .bytes(queue);
        let pipeline = Arc::new(Pipeline::new(queue.batches(LIMITS).start().unwrap()));
        let config = subscription.client_config(0).unwrap();
        let (stop, stopped) = watch::channel(None);
        let counters = Arc::default();
        let mut worker = Worker::new(
            subscription,
            config,
            group_bytes_max,
            LIMITS,
            pipeline,
            counters,
            stopped,
        )
        .unwrap();
        Self {
            consumer: worker.first.take().unwrap(),
            worker,
            child,
            stop,
        }
    }

    fn take(&mut self, offset: i64, batch: &Batch) {
        self.worker.take(&message(offset, batch.as_request()));
    }

    /// Ends the open group, and has its spans go.
    fn close(&mut self) {
        self.worker.close();
        self.worker.pipeline.hand_over();
    }

    /// Waits until nothing is held of so many groups.
    fn settle(&mut self, groups: usize) {
        for _ in 0..groups {
            let group = self.worker.settled.recv_timeout(SOON).unwrap();
            self.worker.shared.progress().settle(group);
        }
    }

    /// The offset that may be committed since the last time.
    fn due(&self) -> Option<i64> {
        let due = self.worker.shared.progress().take_due();
        due.first().map(|(_, next)| *next)
    }

    fn counted(&self) -> ReceiverStatus {
        self.worker.counters.status(Transport::Kafka)
    }

    /// Fills the queue, whose destination hangs, until it wants no more.
    fn crowd(&mut self) {
        self.child.always(Act::Hang);
        while self.worker.pipeline.wants_more() {
            let spans = batch_of(10);
            self.worker.pipeline.accept(spans, Ack::none()).unwrap();
        }
    }
}

fn message(offset: i64, content: &[u8]) -> OwnedMessage {
    let content = Some(content.to_vec());
    let time = Timestamp::NotAvailable;
    OwnedMessage::new(content, None, "otlp_spans".into(), time, 0, offset, None)
}

fn ago(time: Duration) -> Instant {
    Instant::now().checked_sub(time).unwrap()
}

#[tokio::test]
async fn small_messages_go_together_and_are_settled_together() {
    let mut rig = Rig::new(1 << 20, 1 << 20);
    for offset in 0..3 {
        rig.take(offset, &batch_of(2));
    }
    assert!(
        rig.child.exports().is_empty(),
        "the group has room for more"
    );
    rig.close();
    assert_eq!(rig.due(), None);
    rig.settle(1);
    assert_eq!(rig.due(), Some(3));
    assert_eq!(rig.child.exports().len(), 1);
    assert_eq!(rig.child.received().len(), 6);
}

#[tokio::test]
async fn a_group_is_handed_over_when_it_has_as_many_spans_as_a_batch() {
    let mut rig = Rig::new(1 << 20, 1 << 20);
    rig.take(0, &batch_of(4));
    rig.take(1, &batch_of(6));
    rig.settle(1);
    assert_eq!(rig.due(), Some(2));
    assert_eq!(rig.child.received().len(), 10);
}

#[tokio::test]
async fn a_group_ends_when_it_has_its_bytes_and_a_message_that_does_not_fit_begins_another() {
    let batch = batch_of(2);
    let mut rig = Rig::new(1 << 20, batch.memory() * 2);
    rig.take(0, &batch);
    rig.take(1, &batch);
    assert_eq!(rig.worker.open.number, 1, "two fill it");
    rig.worker.pipeline.hand_over();
    rig.settle(1);
    assert_eq!(rig.due(), Some(2));

    rig.take(2, &batch_of(1));
    rig.take(3, &batch_of(4));
    rig.close();
    rig.settle(2);
    assert_eq!(rig.due(), Some(4));
    let sizes: Vec<_> = rig
        .child
        .exports()
        .iter()
        .map(|one| one.span_ids().len())
        .collect();
    assert_eq!(
        sizes,
        [4, 5],
        "groups say what is committed, not what goes together"
    );
}

#[tokio::test]
async fn a_message_is_refused_when_no_destination_can_ever_hold_it_and_not_a_byte_before() {
    let batch = batch_of(5);
    for (queue, accepted, refused) in [(batch.memory(), 5, 0), (batch.memory() - 1, 0, 5)] {
        let mut rig = Rig::new(queue, 1 << 20);
        rig.take(0, &batch);
        let counted = rig.counted();
        assert_eq!(
            (counted.accepted_spans, counted.refused_spans),
            (accepted, refused)
        );
        rig.close();
        rig.settle(1);
        assert_eq!(rig.due(), Some(1), "either way it does not come again");
    }
}

#[tokio::test]
async fn of_a_message_that_is_too_large_every_span_is_counted_as_refused() {
    let mut rig = Rig::new(batch_of(1).memory(), 1 << 20);
    rig.worker.take(&message(0, &with_an_invalid_span()));
    let counted = rig.counted();
    assert_eq!((counted.accepted_spans, counted.refused_spans), (0, 3));
}

#[tokio::test]
async fn while_destinations_have_enough_nothing_is_asked_for_and_then_all_is_paused() {
    let mut rig = Rig::new(64 << 10, 1 << 20);
    assert!(rig.worker.keeps_up(&rig.consumer));
    rig.crowd();
    assert!(!rig.worker.keeps_up(&rig.consumer));
    assert!(!rig.worker.is_paused, "that takes patience");
    rig.worker.crowded_since = Some(ago(PATIENCE));
    assert!(rig.worker.keeps_up(&rig.consumer), "the group hears of us");
    assert!(rig.worker.is_paused);

    rig.worker.pipeline.abort().await;
    assert!(rig.worker.keeps_up(&rig.consumer));
    assert!(!rig.worker.is_paused);
    assert_eq!(rig.worker.crowded_since, None);
}

#[tokio::test]
async fn what_waits_for_room_goes_before_the_next_message() {
    let mut rig = Rig::new(1 << 20, 1 << 20);
    let all = rig.worker.pipeline.reserve_all();
    rig.take(0, &batch_of(1));
    assert_eq!(rig.counted().accepted_spans, 0, "it is not handed over");
    assert!(!rig.worker.keeps_up(&rig.consumer));
    all.release();
    rig.worker.look_after(&rig.consumer);
    assert!(rig.worker.held.is_empty());
    assert_eq!(rig.counted().accepted_spans, 1);
    assert!(rig.worker.keeps_up(&rig.consumer));
}

#[tokio::test]
async fn a_group_waits_for_its_time_and_no_longer() {
    let mut rig = Rig::new(1 << 20, 1 << 20);
    rig.take(0, &batch_of(1));
    rig.worker.look_after(&rig.consumer);
    assert_eq!(rig.worker.open.number, 0, "the group is still open");
    rig.worker.open.opened = Some(ago(LIMITS.delay));
    rig.worker.look_after(&rig.consumer);
    assert_eq!(rig.worker.open.number, 1);
    rig.worker.pipeline.hand_over();
    rig.settle(1);
    assert_eq!(rig.due(), Some(1));
}

#[tokio::test]
async fn what_is_given_up_while_it_waits_for_room_is_not_counted_as_accepted() {
    let mut rig = Rig::new(1 << 20, 1 << 20);
    let all = rig.worker.pipeline.reserve_all();
    rig.take(0, &batch_of(3));
    rig.worker.forget_everything();
    let counted = rig.counted();
    assert_eq!(
        (counted.accepted_requests, counted.deferred_requests),
        (0, 1)
    );
    assert_eq!((counted.accepted_spans, counted.deferred_spans), (0, 3));
    all.release();
    rig.worker.look_after(&rig.consumer);
    rig.worker.pipeline.shutdown(outspan_testkit::soon()).await;
    assert!(rig.child.received().is_empty(), "it comes again");
    assert_eq!(rig.due(), None);
}

#[tokio::test]
async fn spans_that_the_end_of_the_agent_drops_are_not_committed() {
    let mut rig = Rig::new(1 << 20, 1 << 20);
    rig.child.always(Act::Hang);
    rig.take(0, &batch_of(10));
    rig.take(1, &batch_of(3));
    rig.worker.close();
    rig.child.wait_for_exports(1).await;
    rig.worker.pipeline.abort().await;
    rig.worker.look_after(&rig.consumer);
    assert!(!rig.worker.shared.progress().is_settled());
    assert_eq!(rig.due(), None);
}

/// What is counted as accepted is what destinations received, whatever becomes of it there.
#[tokio::test]
async fn every_accepted_span_is_in_the_account_of_the_destination() {
    let mut rig = Rig::new(batch_of(10).memory() * 3 / 2, 1 << 20);
    for offset in 0..4 {
        // The second one waits until the first was delivered, and so on.
        while !rig.worker.held.is_empty() {
            rig.worker.pipeline.hand_over();
            rig.worker.look_after(&rig.consumer);
            tokio::task::yield_now().await;
        }
        rig.take(offset, &batch_of(10));
        let received = rig.worker.pipeline.status()[0].account.received;
        assert_eq!(rig.counted().accepted_spans, received);
    }
    let large = outspan_testkit::batch_with(1, |_, span| span.name = "x".repeat(1 << 20));
    rig.take(4, &large);
    assert_eq!(rig.counted().refused_spans, 1);
}

#[tokio::test]
async fn a_worker_that_begins_again_knows_nothing_of_before() {
    let mut rig = Rig::new(64 << 10, 1 << 20);
    rig.crowd();
    rig.worker.crowded_since = Some(ago(PATIENCE));
    assert!(rig.worker.keeps_up(&rig.consumer));
    for offset in 0..5 {
        rig.take(offset, &batch_of(10));
    }
    rig.take(5, &batch_of(1));
    assert_eq!(rig.worker.open.number, 5);
    assert!(rig.worker.is_paused);
    rig.worker.forget_everything();
    assert_eq!(rig.worker.open.number, 6, "groups of before are others");
    assert_eq!(rig.worker.open.memory, 0);
    assert!(rig.worker.held.is_empty());
    assert!(!rig.worker.is_paused && rig.worker.crowded_since.is_none());
    assert!(rig.worker.shared.progress().is_settled());
}

/// Three spans, the first of them without a trace id.
fn with_an_invalid_span() -> Vec<u8> {
    let mut content = batch_of(3).as_request().to_vec();
    let place = content.windows(2).position(|two| two == [0x0a, 16]);
    let id = place.unwrap() + 2;
    content[id..id + 16].fill(0);
    content
}

#[tokio::test]
async fn spans_that_are_invalid_are_told_with_their_place() {
    let log = Log::begin();
    let mut rig = Rig::new(1 << 20, 1 << 20);
    rig.worker.take(&message(9, &with_an_invalid_span()));
    let words = "the message at offset 9 of partition 0 of topic otlp_spans: ";
    assert_eq!(log.warnings(words), 1, "{}", log.text());
    assert!(!log.text().contains("skipped"));
}

/// A cluster with one message, and a worker whose consumer is to read it.
fn with_a_message() -> (MockCluster<'static, DefaultProducerContext>, Rig, Batch) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("otlp_spans", 1, 1).unwrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .create()
        .unwrap();
    let batch = batch_of(1);
    let record = BaseRecord::<(), [u8]>::to("otlp_spans").payload(batch.as_request());
    producer.send(record).unwrap();
    producer.flush(SOON).unwrap();
    let url = format!("//{}", cluster.bootstrap_servers());
    let rig = Rig::of(&url, 1 << 20, 1 << 20);
    rig.consumer.assign(&from(Offset::Beginning)).unwrap();
    (cluster, rig, batch)
}

fn from(offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("otlp_spans", 0, offset).unwrap();
    list
}

/// Reads the one message, and has it delivered.
fn deliver(rig: &mut Rig) {
    take_one(rig);
    rig.close();
    rig.settle(1);
}

fn take_one(rig: &mut Rig) {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < SOON, "no message comes");
        if let Some(Ok(message)) = rig.consumer.poll(POLL) {
            return rig.worker.take(&message);
        }
    }
}

fn committed(rig: &Rig) -> Offset {
    let list = from(Offset::Invalid);
    let committed = rig.consumer.committed_offsets(list, SOON).unwrap();
    committed.elements()[0].offset()
}

#[tokio::test]
async fn what_comes_back_paused_is_resumed() {
    let (_cluster, mut rig, batch) = with_a_message();
    rig.consumer.pause(&from(Offset::Beginning)).unwrap();
    let context = rig.consumer.context();
    context.post_rebalance(&rig.consumer, &Rebalance::Assign(&from(Offset::Beginning)));
    rig.worker.pause(&rig.consumer, false);
    take_one(&mut rig);
    assert_eq!(rig.worker.open.memory, batch.memory());
}

#[tokio::test]
async fn what_is_settled_is_committed_while_consuming_goes_on_and_nothing_else() {
    let (_cluster, mut rig, _) = with_a_message();
    take_one(&mut rig);
    rig.worker.look_after(&rig.consumer);
    rig.worker.shared.commit(&rig.consumer);
    assert_eq!(committed(&rig), Offset::Invalid, "it is not delivered");

    rig.close();
    rig.settle(1);
    rig.worker.look_after(&rig.consumer);
    assert_eq!(rig.due(), None, "the library knows of it");
    let began = Instant::now();
    while committed(&rig) != Offset::Offset(1) {
        assert!(began.elapsed() < SOON, "nobody commits it");
        drop(rig.consumer.poll(POLL));
    }
}

#[tokio::test]
async fn what_is_settled_is_committed_before_somebody_else_goes_on() {
    let (_cluster, mut rig, _) = with_a_message();
    deliver(&mut rig);
    let context = rig.consumer.context();
    context.pre_rebalance(&rig.consumer, &Rebalance::Revoke(&from(Offset::Offset(0))));
    assert_eq!(committed(&rig), Offset::Offset(1));
    assert_eq!(rig.due(), None);
}

#[tokio::test]
async fn of_the_lines_of_kafka_s_library_those_are_warnings_that_are_trouble() {
    let log = Log::begin();
    let rig = Rig::new(1 << 20, 1 << 20);
    let context = rig.consumer.context();
    context.log(RDKafkaLogLevel::Notice, "FACILITY", "a notice");
    context.log(RDKafkaLogLevel::Error, "FACILITY", "an error");
    assert_eq!(log.warnings("kafka: FACILITY: an error"), 1);
    assert!(!log.text().contains("a notice"));
}

#[tokio::test]
async fn a_worker_ends_when_it_is_told_also_where_it_cannot_consume() {
    for rig in [Rig::new(1 << 20, 1 << 20), Rig::broken()] {
        let Rig {
            mut worker,
            consumer,
            stop,
            ..
        } = rig;
        worker.first = Some(consumer);
        let running = thread::spawn(move || worker.run());
        timeout(PAUSE * 3 / 2, stop.closed())
            .await
            .expect_err("it goes on while nobody tells it");
        // Nothing is open, so there is nothing to wait for.
        stop.send_replace(Some(Deadline::after(SOON * 100)));
        timeout(SOON, stop.closed()).await.unwrap();
        running.join().unwrap();
    }
}

#[tokio::test]
async fn a_worker_waits_for_what_is_open_until_its_time_is_over() {
    let mut rig = Rig::new(1 << 20, 1 << 20);
    rig.child.always(Act::Hang);
    rig.take(0, &batch_of(1));
    let until = Deadline::after(PATIENCE);
    rig.stop.send_replace(Some(until));
    rig.worker.finish(&rig.consumer);
    assert!(until.has_passed(), "there was time left");
    assert!(!rig.worker.shared.progress().is_settled());
}

#[tokio::test]
async fn a_topic_that_cannot_be_consumed_is_told() {
    let log = Log::begin();
    let mut rig = Rig::broken();
    assert_eq!(rig.worker.consume(&rig.consumer), End::Broken);
    assert_eq!(log.warnings("cannot consume kafka://"), 1, "{}", log.text());
}
