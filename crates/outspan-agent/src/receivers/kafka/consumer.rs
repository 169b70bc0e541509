//! The thread that consumes: messages in, spans out, offsets back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use outspan::Batch;
use outspan::Deadline;
use outspan::DropReason;
use outspan::engine::Ack;
use outspan::engine::BatchLimits;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::CommitMode;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::ConsumerContext;
use rdkafka::consumer::Rebalance;
use rdkafka::error::KafkaError;
use rdkafka::error::KafkaResult;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::watch;

use super::progress::Partition;
use super::progress::Progress;
use super::subscription::Encoding;
use super::subscription::Subscription;
use crate::pipeline::Pipeline;
use crate::pipeline::Refusal;
use crate::receivers::answer::Form;
use crate::receivers::counters::TransportCounters;
use crate::receivers::remarks::Remark;
use crate::receivers::spans::Spans;
use crate::receivers::tally::Outcome;
use crate::receivers::tally::Tally;

/// How long the thread waits for a message before it looks after everything else.
const POLL: Duration = Duration::from_millis(50);

/// How long the destinations may have enough before consuming is paused. Pausing throws away what was fetched ahead.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before beginning again after an error that ended a consumer.
const PAUSE: Duration = Duration::from_secs(1);

/// Consumes until it is told to stop.
pub(super) struct Worker {
    subscription: Subscription,
    config: ClientConfig,
    /// How many bytes a group may have that has more than one message.
    group_bytes_max: usize,
    limits: BatchLimits,
    pipeline: Arc<Pipeline>,
    counters: Arc<TransportCounters>,
    stop: watch::Receiver<Option<Deadline>>,
    first: Option<BaseConsumer<Context>>,
    shared: Arc<Shared>,
    open: Group,
    /// Messages that there was no room for, in the order of their coming: one, and those that come while consuming is being
    /// paused.
    held: VecDeque<Held>,
    settle: mpsc::Sender<u64>,
    settled: mpsc::Receiver<u64>,
    is_paused: bool,
    /// Since when the destinations have enough.
    crowded_since: Option<Instant>,
    remarks: Remarks,
}

/// What the thread shares with what Kafka's library calls.
#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    /// Partitions came that nobody has paused.
    is_assigned_anew: AtomicBool,
    log: Remark,
}

/// Messages whose offsets are committed together. They share an ack.
#[derive(Debug, Default)]
struct Group {
    number: u64,
    spans: usize,
    memory: usize,
    /// When its first message came, if one did.
    opened: Option<Instant>,
    /// Finishes when nothing of the group is held any more. It is there from the first message on, and clones of it are with
    /// the spans.
    ack: Ack,
}

/// A message that waits for room. It is counted when it is handed over, or comes again.
#[derive(Debug)]
struct Held {
    batch: Batch,
    ack: Ack,
    read: Read,
    /// Where it stands, for those who want to look at it.
    place: String,
}

/// What is counted of a message.
#[derive(Clone, Copy, Debug)]
struct Read {
    bytes: usize,
    spans: usize,
    invalid: usize,
}

#[derive(Default)]
struct Remarks {
    malformed: Remark,
    invalid: Remark,
    failed: Remark,
}

/// Why consuming ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// The consumer is of no use any more.
    Broken,
}

impl Worker {
    /// Makes what a thread needs.
    ///
    /// # Errors
    ///
    /// Words for the user: Kafka's library does not want the configuration.
    pub(super) fn new(
        subscription: Subscription,
        config: ClientConfig,
        group_bytes_max: usize,
        limits: BatchLimits,
        pipeline: Arc<Pipeline>,
        counters: Arc<TransportCounters>,
        stop: watch::Receiver<Option<Deadline>>,
    ) -> Result<Self, String> {
        let (settle, settled) = mpsc::channel();
        let mut worker = Self {
            subscription,
            config,
            group_bytes_max: group_bytes_max.min(limits.bytes),
            limits,
            pipeline,
            counters,
            stop,
            first: None,
            shared: Arc::default(),
            open: Group::default(),
            held: VecDeque::new(),
            settle,
            settled,
            is_paused: false,
            crowded_since: None,
            remarks: Remarks::default(),
        };
        let first = worker.consumer();
        worker.first = Some(first.map_err(|e| format!("{}: {e}", worker.subscription))?);
        Ok(worker)
    }

    /// Consumes until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let consumer = match self.first.take() {
                Some(first) => Ok(first),
                None => self.consumer(),
            };
            let end = match consumer {
                Ok(consumer) => self.consume(&consumer),
                Err(error) => {
                    self.remark_failed(&error);
                    End::Broken
                }
            };
            if end == End::Stopped || self.stopping().is_some() {
                return;
            }
            // What was consumed and not committed comes again.
            self.forget_everything();
            if let Ok(group) = self.settled.recv_timeout(PAUSE) {
                self.shared.progress().settle(group);
            }
        }
    }

    fn consumer(&self) -> KafkaResult<BaseConsumer<Context>> {
        self.config.create_with_context(Context {
            shared: Arc::clone(&self.shared),
        })
    }

    fn stopping(&self) -> Option<Deadline> {
        *self.stop.borrow()
    }

    fn consume(&mut self, consumer: &BaseConsumer<Context>) -> End {
        if let Err(error) = consumer.subscribe(&self.subscription.topics()) {
            self.remark_failed(&error);
            return End::Broken;
        }
        while self.stopping().is_none() {
            self.look_after(consumer);
            if !self.keeps_up(consumer) {
                continue;
            }
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => {
                    self.remark_failed(&error);
                    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                        return End::Broken;
                    }
                }
            }
        }
        self.finish(consumer);
        self.give_up_held();
        End::Stopped
    }

    /// Waits for what was consumed to be settled, while there is time, and commits it.
    fn finish(&mut self, consumer: &BaseConsumer<Context>) {
        self.close();
        let is_over = |stop: Option<Deadline>| stop.is_some_and(|until| until.has_passed());
        while !self.shared.progress().is_settled() && !is_over(self.stopping()) {
            self.look_after(consumer);
            // Nobody comes that spans could wait for.
            self.pipeline.hand_over();
            self.pause(consumer, true);
            // Messages that come all the same are not noted, so that somebody else gets them.
            drop(consumer.poll(POLL));
        }
        self.shared.commit(consumer);
    }

    /// Ends a group that is due, hands over what waits for room, and has Kafka's library commit what is settled.
    fn look_after(&mut self, consumer: &BaseConsumer<Context>) {
        for group in self.settled.try_iter() {
            self.shared.progress().settle(group);
        }
        self.shared.store(consumer);
        let is_due = |opened: Instant| opened.elapsed() >= self.limits.delay;
        if self.open.opened.is_some_and(is_due) {
            self.close();
        }
        self.hand_over();
    }

    /// Whether to ask for a message now. While the destinations have enough, it waits a moment instead; when that lasts, it
    /// pauses what is assigned and asks all the same, because the group wants to hear from its members.
    fn keeps_up(&mut self, consumer: &BaseConsumer<Context>) -> bool {
        if self.held.is_empty() && self.pipeline.wants_more() {
            self.crowded_since = None;
            self.pause(consumer, false);
            return true;
        }
        let since = *self.crowded_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PATIENCE {
            if let Ok(group) = self.settled.recv_timeout(POLL) {
                self.shared.progress().settle(group);
            }
            return false;
        }
        self.pause(consumer, true);
        true
    }

    /// Pauses what is assigned, or resumes it.
    fn pause(&mut self, consumer: &BaseConsumer<Context>, pause: bool) {
        let is_new = self.shared.is_assigned_anew.swap(false, Ordering::AcqRel);
        // What comes back may still be paused from when it was here before.
        if pause == self.is_paused && !is_new {
            return;
        }
        let assignment = consumer.assignment();
        let changed = assignment.and_then(|assignment| match pause {
            true => consumer.pause(&assignment),
            false => consumer.resume(&assignment),
        });
        match changed {
            Ok(()) => self.is_paused = pause,
            Err(error) => {
                self.shared.is_assigned_anew.store(true, Ordering::Release);
                self.remark_failed(&error);
            }
        }
    }

    /// Hands the spans of a message over, or counts and tells why not. Either way the open group answers for its offset.
    fn take(&mut self, message: &impl Message) {
        let content = message.payload().unwrap_or_default();
        let spans = Spans::read(self.form(content), Bytes::copy_from_slice(content));
        let spans = match spans {
            Ok(spans) => spans,
            Err(failure) => {
                let mut tally = Tally::begin(&self.counters);
                tally.bytes = content.len();
                tally.outcome = Outcome::Refused;
                tally.refused_spans = failure.refused_spans;
                drop(tally);
                self.note(message);
                return self.remark_malformed(&place_of(message), &failure.status.message);
            }
        };
        if let Some(partial) = &spans.partial {
            self.remark_invalid(message, &partial.error_message);
        }
        let (count, memory) = (spans.batch.spans(), spans.batch.memory());
        let read = Read {
            bytes: content.len(),
            spans: count,
            invalid: spans.refused,
        };
        if !self
            .open
            .fits(count, memory, self.group_bytes_max, &self.limits)
        {
            self.close();
        }
        self.note(message);
        self.open.spans += count;
        self.open.memory += memory;
        let held = Held {
            batch: spans.batch,
            ack: self.open.ack.clone(),
            read,
            place: place_of(message),
        };
        self.held.push_back(held);
        self.hand_over();
        if self.open.spans >= self.limits.spans || self.open.memory >= self.group_bytes_max {
            self.close();
        }
    }

    /// Hands over what waits, as far as there is room now, and counts it.
    fn hand_over(&mut self) {
        while let Some(first) = self.held.front() {
            let spans = first.batch.clone();
            let outcome = match self.pipeline.accept(spans, first.ack.clone()) {
                Ok(()) => Outcome::Accepted,
                Err(Refusal::Full { .. } | Refusal::Stopping { .. }) => return,
                Err(Refusal::TooLarge { limit }) => {
                    let memory = first.batch.memory();
                    let why = format!(
                        "it takes {memory} bytes, and no destination has room for more than {limit}"
                    );
                    self.remark_malformed(&first.place, &why);
                    Outcome::Refused
                }
            };
            self.count(outcome, first.read);
            self.held.pop_front();
        }
    }

    fn count(&self, outcome: Outcome, read: Read) {
        let mut tally = Tally::begin(&self.counters);
        tally.outcome = outcome;
        tally.bytes = read.bytes;
        match outcome {
            Outcome::Accepted => {
                tally.accepted_spans = read.spans;
                tally.refused_spans = read.invalid;
            }
            Outcome::Deferred => tally.deferred_spans = read.spans + read.invalid,
            _ => tally.refused_spans = read.spans + read.invalid,
        }
    }

    /// Lets go of messages that found no room. They come again, here or elsewhere.
    fn give_up_held(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.count(Outcome::Deferred, held.read);
        }
    }

    fn form(&self, content: &[u8]) -> Form {
        match self.subscription.encoding {
            Encoding::OtlpProto => Form::Protobuf,
            Encoding::OtlpJson => Form::Json,
            // As a tag of protobuf it would begin a group, which OTLP has none of.
            Encoding::Detected if content.first() == Some(&b'{') => Form::Json,
            Encoding::Detected => Form::Protobuf,
        }
    }

    fn note(&mut self, message: &impl Message) {
        let number = self.open.number;
        if self.open.opened.is_none() {
            self.open.opened = Some(Instant::now());
            let settle = self.settle.clone();
            self.open.ack = Ack::new(move |outcome| {
                let dropped = outcome.dropped.map(|dropped| dropped.reason);
                if dropped == Some(DropReason::Shutdown) {
                    // Lost with this agent only: the next consumer of the partition gets them again.
                    return;
                }
                // Delivered, rejected, or dropped and counted: either way they are not to come again. Nobody listens any more
                // when consuming has ended.
                let _heard = settle.send(number);
            });
        }
        let (partition, offset) = (partition_of(message), message.offset());
        let mut progress = self.shared.progress();
        progress.read(partition, offset, number);
    }

    /// Ends the open group. Its ack finishes when its last span has.
    fn close(&mut self) {
        self.open = Group {
            number: self.open.number + 1,
            ..Group::default()
        };
    }

    fn forget_everything(&mut self) {
        self.close();
        self.give_up_held();
        self.is_paused = false;
        self.crowded_since = None;
        *self.shared.progress() = Progress::default();
    }

    fn remark_malformed(&self, place: &str, why: &str) {
        if let Some(left_out) = self.remarks.malformed.due() {
            tracing::warn!(target: "outspan", "skipped {place}: {why}{left_out}");
        }
    }

    fn remark_invalid(&self, message: &impl Message, why: &str) {
        if let Some(left_out) = self.remarks.invalid.due() {
            let place = place_of(message);
            tracing::warn!(target: "outspan", "{place}: {why}{left_out}");
        }
    }

    fn remark_failed(&self, error: &KafkaError) {
        if let Some(left_out) = self.remarks.failed.due() {
            tracing::warn!(target: "outspan", "cannot consume {}: {error}{left_out}", self.subscription);
        }
    }
}

impl Group {
    /// Whether a message of so many spans and bytes may join it.
    fn fits(&self, spans: usize, memory: usize, bytes_max: usize, limits: &BatchLimits) -> bool {
        self.memory == 0
            || (self.memory.saturating_add(memory) <= bytes_max
                && self.spans + spans <= limits.spans)
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells Kafka's library what is settled. It commits that every so often, and again what could not be committed.
    fn store(&self, consumer: &BaseConsumer<Context>) {
        let due = self.progress().take_due();
        if due.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in due {
            let offset = Offset::Offset(next);
            drop(list.add_partition_offset(&partition.topic, partition.number, offset));
        }
        if let Err(error) = consumer.store_offsets(&list) {
            // Of partitions that are somebody else's now: they consume again what is not committed.
            tracing::debug!(target: "outspan", "kafka: cannot commit all of what is settled: {error}");
        }
    }

    /// Commits what is settled, and waits for that.
    fn commit(&self, consumer: &BaseConsumer<Context>) {
        const NOTHING_NEW: KafkaError = KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset);

        self.store(consumer);
        match consumer.commit_consumer_state(CommitMode::Sync) {
            Ok(()) | Err(NOTHING_NEW) => {}
            Err(error) => tracing::debug!(target: "outspan", "kafka: cannot commit: {error}"),
        }
    }
}

/// What Kafka's library calls while the thread polls.
struct Context {
    shared: Arc<Shared>,
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else {
            return;
        };
        // So that the next owner gets again only what is still open.
        if !consumer.assignment_lost() {
            self.shared.commit(consumer);
        }
        let mut progress = self.shared.progress();
        for element in list.elements() {
            progress.forget(&Partition {
                topic: element.topic().to_owned(),
                number: element.partition(),
            });
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.shared.is_assigned_anew.store(true, Ordering::Release);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::debug!(target: "outspan", "kafka: {facility}: {message}");
            }
            _ => {
                if let Some(left_out) = self.shared.log.due() {
                    tracing::warn!(target: "outspan", "kafka: {facility}: {message}{left_out}");
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "outspan", "kafka: {error}: {reason}");
    }
}

fn partition_of(message: &impl Message) -> Partition {
    Partition {
        topic: message.topic().to_owned(),
        number: message.partition(),
    }
}

/// Where a message stands, for those who want to look at it.
fn place_of(message: &impl Message) -> String {
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    format!("the message at offset {offset} of partition {partition} of topic {topic}")
}

#[cfg(test)]
mod tests;
