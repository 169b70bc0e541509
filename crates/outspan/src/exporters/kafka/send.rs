//! Sending, and what Kafka's answers mean.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;
use tokio::sync::RwLock;
use tokio::sync::mpsc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::UnboundedSender;

use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::ErrorKind;
use crate::Result;
use crate::export;
use crate::failures::Failures;

use super::Encoding;
use super::Key;
use super::encode;
use super::encode::Message;
use super::producer::Answer;
use super::producer::NotTaken;
use super::producer::Producer;
use super::producer::Ticket;

/// A producer that broke is replaced, but no more often than so.
const RESTART: Duration = Duration::from_secs(1);

/// How many bytes of messages are made at once, unless the batch itself has more.
const CHUNK_BYTES: usize = 8 << 20;

/// After so many messages others get their turn.
const MESSAGES_AT_ONCE: usize = 256;

/// What a sender needs to know.
pub(super) struct Options {
    pub(super) brokers: Arc<str>,
    pub(super) topic: String,
    pub(super) encoding: Encoding,
    pub(super) key: Key,
    pub(super) headers: Option<OwnedHeaders>,
    /// How many bytes the value of a message may have.
    pub(super) payload_bytes_max: usize,
    pub(super) delivery_timeout: Duration,
}

/// Sends batches to one topic.
pub(super) struct Sender {
    options: Options,
    /// Replaced after an error that Kafka's library calls fatal.
    producer: Mutex<Arc<Producer>>,
    /// Exports share it; whoever looks for the broker's limit has it alone, so that its messages share no set with others.
    turn: RwLock<()>,
    is_closed: AtomicBool,
}

/// A message that was handled, and what became of it.
struct Outcome {
    message: Message,
    /// How many bytes of key and value were handed over.
    bytes: u64,
    result: std::result::Result<(), Cause>,
}

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Kafka or its library said so.
    Kafka(RDKafkaErrorCode),
    /// One span is more than a message may have.
    OneSpan { bytes: usize },
    /// A message of several spans is too large for the broker, though it was alone.
    Alone,
    /// There was no room by the deadline.
    NoRoom,
    /// There was no answer by the deadline.
    NoAnswer,
    /// The producer is closed.
    Closed,
    /// The batch cannot be divided into messages.
    Broken,
}

impl Sender {
    pub(super) fn new(options: Options, producer: Producer) -> Self {
        Self {
            options,
            producer: Mutex::new(Arc::new(producer)),
            turn: RwLock::new(()),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Delivers a batch, in as many messages as it takes.
    ///
    /// Messages that together take much more memory than the batch are made in several chunks, one after the other.
    pub(super) async fn deliver(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        export::note_server(&self.options.brokers);
        let producer = self.producer()?;
        let mut delivery = Delivery {
            attempt: Attempt::default().with_server(Arc::clone(&self.options.brokers)),
            ..Delivery::default()
        };
        let mut failures = Failures::default();
        // What is still to be sent, the first at the end.
        let whole = 0..batch.spans();
        let mut left = vec![whole];
        while let Some(range) = left.pop() {
            let chunk = batch.cut(range.clone());
            let (key, bytes_max) = (self.options.key, self.options.payload_bytes_max);
            let total = encode::total_bytes(&chunk, key, bytes_max);
            if range.len() > 1 && total > CHUNK_BYTES.max(2 * chunk.size()) {
                let middle = range.start + range.len().div_ceil(2);
                left.push(middle..range.end);
                left.push(range.start..middle);
                continue;
            }
            let failed = self
                .deliver_chunk(&chunk, &producer, until, &mut delivery)
                .await;
            let mut stop = None;
            for (rest, cause) in by_cause(failed, &chunk) {
                let error = self.error(cause, &producer, until);
                if error.is_temporary() || matches!(cause, Cause::Closed) {
                    stop = Some(error.clone());
                }
                match rest.spans() == chunk.spans() && !error.is_temporary() {
                    true => failures.add(range.clone(), error),
                    false => delivery.leave(rest, error),
                }
            }
            if let Some(error) = stop {
                // What keeps these back keeps the others back as well.
                let rest: Vec<_> = left.into_iter().rev().collect();
                if !rest.is_empty() {
                    delivery.leave(batch.cut_all(&rest), error);
                }
                break;
            }
        }
        failures.leave(&batch, &mut delivery);
        delivery.into_result()
    }

    /// Sends the messages of a chunk, and returns those that were not delivered.
    async fn deliver_chunk(
        &self,
        chunk: &Batch,
        producer: &Producer,
        until: Deadline,
        delivery: &mut Delivery,
    ) -> Vec<(Message, Cause)> {
        let whole = |cause| {
            let batch = chunk.clone();
            vec![(Message { key: None, batch }, cause)]
        };
        let (key, bytes_max) = (self.options.key, self.options.payload_bytes_max);
        let Ok(messages) = encode::messages(chunk, key, bytes_max) else {
            return whole(Cause::Broken);
        };
        let mut failed = Vec::new();
        let too_large = match chunk.is_part() {
            // The broker has found too large what it is a part of.
            true => messages,
            false => {
                let Some(together) = until.run(self.turn.read()).await else {
                    return whole(Cause::NoRoom);
                };
                let outcomes = self.send_together(messages, producer, until).await;
                drop(together);
                delivery.attempt.attempts += 1;
                settle(delivery, &mut failed, outcomes)
            }
        };
        if !too_large.is_empty() {
            let outcomes = self.send_alone(too_large, producer, until).await;
            delivery.attempt.attempts += 1;
            let left = settle(delivery, &mut failed, outcomes);
            debug_assert!(left.is_empty(), "those alone are settled");
        }
        failed
    }

    /// Waits until nothing is on its way.
    pub(super) async fn flush(&self, until: Deadline) {
        let producer = Arc::clone(&self.current());
        producer.idle(until).await;
    }

    /// Takes no more, waits until nothing is on its way, and closes the connections. A second call waits for the same.
    pub(super) async fn shutdown(&self, until: Deadline) {
        self.is_closed.store(true, Ordering::Release);
        let producer = Arc::clone(&self.current());
        producer.idle(until).await;
        producer.stop();
        producer.stopped(until).await;
    }

    fn current(&self) -> MutexGuard<'_, Arc<Producer>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer; a new one when the old one broke.
    fn producer(&self) -> Result<Arc<Producer>> {
        let mut current = self.current();
        if self.is_closed() {
            return Err(Error::shut_down());
        }
        if current.fatal_error().is_some() && current.age() >= RESTART {
            *current = Arc::new(current.restart()?);
        }
        Ok(Arc::clone(&current))
    }

    /// Hands all messages over, then waits for the answers.
    async fn send_together(
        &self,
        messages: Vec<Message>,
        producer: &Producer,
        until: Deadline,
    ) -> Vec<Outcome> {
        let (answers, answered) = mpsc::unbounded_channel();
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut messages = VecDeque::from(messages);
        let mut stop = None;
        while let Some(message) = messages.pop_front() {
            if let Some(cause) = stop {
                outcomes.push(Outcome::failed(message, cause));
                continue;
            }
            let bytes_max = self.options.payload_bytes_max;
            let payload = message.payload(self.options.encoding, bytes_max);
            // Nobody knows how large a form would have become that was not finished.
            let bytes = payload.as_ref().map_or(bytes_max + 1, Bytes::len);
            let Some(payload) = payload.filter(|payload| payload.len() <= bytes_max) else {
                match self.split(message, bytes) {
                    Ok(parts) => parts
                        .into_iter()
                        .rev()
                        .for_each(|part| messages.push_front(part)),
                    Err(outcome) => outcomes.push(outcome),
                }
                continue;
            };
            let index = outcomes.len();
            let taken = self.hand_over(&message, &payload, index, &answers, producer, until);
            let outcome = match taken.await {
                Ok(()) => Outcome::open(message, payload.len()),
                Err(cause) => {
                    // What keeps this one back keeps the others back as well; what is wrong with this one does not.
                    stop = matches!(cause, Cause::NoRoom | Cause::Closed).then_some(cause);
                    Outcome::failed(message, cause)
                }
            };
            outcomes.push(outcome);
            if index % MESSAGES_AT_ONCE == MESSAGES_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        drop(answers);
        wait(&mut outcomes, answered, producer, until).await;
        outcomes
    }

    /// Sends messages that the broker found too large one at a time.
    ///
    /// The broker's limit is for the set of messages that is written at once. So a message is too large only if it was
    /// when it was alone.
    async fn send_alone(
        &self,
        messages: Vec<Message>,
        producer: &Producer,
        until: Deadline,
    ) -> Vec<Outcome> {
        let mut done = Vec::new();
        let mut messages = VecDeque::from(messages);
        let alone = until.run(self.turn.write()).await;
        // Nobody else sends; what others gave up waiting for may still be there.
        let is_alone = alone.is_some() && producer.idle(until).await;
        while let Some(message) = messages.pop_front() {
            if !is_alone || until.has_passed() {
                done.push(Outcome::failed(message, Cause::NoRoom));
                continue;
            }
            let outcomes = self.send_together(vec![message], producer, until).await;
            done.extend(outcomes.into_iter().map(Outcome::found_alone));
        }
        done
    }

    /// Divides a message whose encoded form is larger than allowed; gives it back if it is one span.
    fn split(&self, message: Message, bytes: usize) -> std::result::Result<Vec<Message>, Outcome> {
        if message.batch.spans() == 1 {
            return Err(Outcome::failed(message, Cause::OneSpan { bytes }));
        }
        let ratio = self.options.payload_bytes_max as f64 / bytes as f64;
        let target = (message.batch.size() as f64 * ratio * 0.9) as usize;
        let total = message.batch.parts_by_bytes(target).total_bytes();
        if total > CHUNK_BYTES.max(2 * message.batch.size()) {
            return Ok(message.halve());
        }
        let parts = message.split_by_bytes(target);
        match <[Message; 1]>::try_from(parts) {
            Ok([whole]) => Ok(whole.halve()),
            Err(parts) => Ok(parts),
        }
    }

    /// Hands a message over, as soon as there is room.
    async fn hand_over(
        &self,
        message: &Message,
        payload: &[u8],
        index: usize,
        answers: &UnboundedSender<(usize, Answer)>,
        producer: &Producer,
        until: Deadline,
    ) -> std::result::Result<(), Cause> {
        if until.has_passed() {
            return Err(Cause::NoRoom);
        }
        let attempt = || {
            let ticket = Ticket {
                index,
                answers: answers.clone(),
            };
            let headers = self.options.headers.as_ref();
            let taken = producer.take(&self.options.topic, message.key, payload, headers, ticket);
            match taken {
                Ok(()) => Some(Ok(())),
                Err(NotTaken::Full) => None,
                Err(NotTaken::Closed) => Some(Err(Cause::Closed)),
                Err(NotTaken::Refused(code)) => Some(Err(Cause::Kafka(code))),
            }
        };
        let taken = until.run(producer.until(attempt)).await;
        taken.unwrap_or(Err(Cause::NoRoom))
    }

    fn error(&self, cause: Cause, producer: &Producer, until: Deadline) -> Error {
        let topic = &self.options.topic;
        let error = match cause {
            Cause::OneSpan { bytes } => Error::too_large(format!(
                "one span has {bytes} bytes in a message of topic {topic}, more than Kafka takes"
            ))
            .with_limit(self.options.payload_bytes_max as u64)
            .for_each_span(),
            Cause::Alone => Error::too_large(format!(
                "a message of topic {topic} is more than Kafka takes"
            )),
            Cause::NoRoom => Error::timeout("no room for messages to Kafka", until),
            Cause::NoAnswer => Error::timeout("no acknowledgement from Kafka", until),
            Cause::Closed => Error::shut_down(),
            Cause::Broken => Error::internal("cannot divide a batch by trace"),
            Cause::Kafka(RDKafkaErrorCode::MessageTimedOut) => Error::new(
                ErrorKind::Timeout,
                format!(
                    "no acknowledgement from Kafka: delivery timeout of {:?} passed",
                    self.options.delivery_timeout
                ),
            ),
            Cause::Kafka(
                code @ (RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::PurgeQueue
                | RDKafkaErrorCode::PurgeInflight),
            ) => given_up(code, producer),
            Cause::Kafka(code) => error_of(code),
        };
        let error = error.with_context("topic", topic.clone());
        let error = match producer.trouble().filter(|_| error.is_temporary()) {
            Some(trouble) => error.with_context("Kafka's library says", trouble),
            None => error,
        };
        error.with_attempt(Attempt::default().with_server(Arc::clone(&self.options.brokers)))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.current().stop();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("brokers", &self.options.brokers)
            .field("topic", &self.options.topic)
            .field("encoding", &self.options.encoding)
            .field("key", &self.options.key)
            .field("producer", &*self.current())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Outcome {
    fn failed(message: Message, cause: Cause) -> Self {
        Self {
            message,
            bytes: 0,
            result: Err(cause),
        }
    }

    /// A message that was handed over and is not answered yet.
    fn open(message: Message, payload_bytes: usize) -> Self {
        let key_bytes = message.key.map_or(0, |key| key.as_bytes().len());
        Self {
            message,
            bytes: (payload_bytes + key_bytes) as u64,
            result: Err(Cause::NoAnswer),
        }
    }

    /// The outcome of a message that was alone: if it was too large even so, that is final for it.
    fn found_alone(self) -> Self {
        if !self.is_too_large() {
            return self;
        }
        let bytes = self.message.batch.size();
        let cause = match self.message.batch.spans() {
            1 => Cause::OneSpan { bytes },
            _ => Cause::Alone,
        };
        Self {
            result: Err(cause),
            ..self
        }
    }

    fn is_too_large(&self) -> bool {
        let too_large = [
            RDKafkaErrorCode::MessageSizeTooLarge,
            RDKafkaErrorCode::MessageBatchTooLarge,
        ];
        matches!(self.result, Err(Cause::Kafka(code)) if too_large.contains(&code))
    }
}

impl Cause {
    /// Whether what failed for one and for the other may be told as one.
    fn joins(self, other: Self) -> bool {
        match (self, other) {
            (Self::OneSpan { .. }, Self::OneSpan { .. }) => true,
            _ => self == other,
        }
    }
}

/// Puts what was not delivered of a chunk together: one batch for each cause, in order.
fn by_cause(failed: Vec<(Message, Cause)>, chunk: &Batch) -> Vec<(Batch, Cause)> {
    let mut groups: Vec<(Cause, Vec<Batch>)> = Vec::new();
    for (message, cause) in failed {
        match groups.iter_mut().find(|(known, _)| known.joins(cause)) {
            Some((_, batches)) => batches.push(message.batch),
            None => groups.push((cause, vec![message.batch])),
        }
    }
    let groups = groups.into_iter().map(|(cause, batches)| {
        let spans: usize = batches.iter().map(Batch::spans).sum();
        let rest = match spans == chunk.spans() {
            true => chunk.clone(),
            false => Batch::concatenate(&batches),
        };
        (rest, cause)
    });
    groups.collect()
}

/// Takes answers until all are there, the producer is gone or time is up; what is then still open says why.
async fn wait(
    outcomes: &mut [Outcome],
    mut answered: UnboundedReceiver<(usize, Answer)>,
    producer: &Producer,
    until: Deadline,
) {
    let all = async {
        // The channel ends when the last ticket is answered.
        while let Some((index, answer)) = answered.recv().await {
            settle_one(outcomes, index, answer);
        }
    };
    let all_or_gone = async {
        tokio::select! {
            biased;
            () = all => false,
            () = producer.stopped(Deadline::never()) => true,
        }
    };
    let is_gone = until.run(all_or_gone).await.unwrap_or(false);
    if !is_gone {
        return;
    }
    while let Ok((index, answer)) = answered.try_recv() {
        settle_one(outcomes, index, answer);
    }
    for outcome in outcomes {
        if outcome.result == Err(Cause::NoAnswer) {
            outcome.result = Err(Cause::Closed);
        }
    }
}

fn settle_one(outcomes: &mut [Outcome], index: usize, answer: Answer) {
    if let Some(outcome) = outcomes.get_mut(index) {
        outcome.result = answer.map_err(Cause::Kafka);
    }
}

/// Counts what was delivered, and gives back what the broker found too large. What failed otherwise goes to `failed`.
fn settle(
    delivery: &mut Delivery,
    failed: &mut Vec<(Message, Cause)>,
    outcomes: Vec<Outcome>,
) -> Vec<Message> {
    let mut too_large = Vec::new();
    for outcome in outcomes {
        delivery.attempt.wire_bytes += outcome.bytes;
        let is_too_large = outcome.is_too_large();
        match outcome.result {
            Ok(()) => delivery.accepted += outcome.message.batch.spans() as u64,
            Err(_) if is_too_large => too_large.push(outcome.message),
            Err(cause) => failed.push((outcome.message, cause)),
        }
    }
    too_large
}

/// Why messages were given up: the producer broke, or we closed it.
fn given_up(code: RDKafkaErrorCode, producer: &Producer) -> Error {
    match producer.fatal_error() {
        Some((code, words)) => error_of(code).with_context("Kafka's library gave up", words),
        None if code == RDKafkaErrorCode::Fatal => error_of(code),
        None => Error::shut_down(),
    }
}

/// Turns Kafka's error into ours (Kafka protocol guide, "Error codes": those that are retriable are temporary).
fn error_of(code: RDKafkaErrorCode) -> Error {
    use RDKafkaErrorCode as Code;

    let (kind, hint) = match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => (ErrorKind::TooLarge, ""),
        Code::ThrottlingQuotaExceeded => (ErrorKind::Throttled, ""),
        Code::MessageTimedOut | Code::RequestTimedOut | Code::OperationTimedOut => {
            (ErrorKind::Timeout, "")
        }
        // It can be created while we wait; dropping spans for it would be worse.
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => (
            ErrorKind::Unavailable,
            " (create the topic, or let the brokers create topics)",
        ),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => (
            ErrorKind::Refused,
            " (the cluster knows us but does not allow it: check the user's rights)",
        ),
        Code::SaslAuthenticationFailed | Code::Authentication => (
            ErrorKind::Refused,
            " (the cluster does not know us: check user and password)",
        ),
        Code::InvalidTopic
        | Code::InvalidMessageSize
        | Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::InvalidRequiredAcks
        | Code::InvalidArgument
        | Code::InvalidConfig
        | Code::PolicyViolation
        | Code::SecurityDisabled
        | Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType => (ErrorKind::Refused, ""),
        _ => (ErrorKind::Unavailable, ""),
    };
    Error::new(kind, format!("Kafka answered {code}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_that_kafka_calls_retriable_is_temporary() {
        use RDKafkaErrorCode as Code;

        // Kafka protocol guide, "Error codes", those of producing that are marked retriable.
        let retriable = [
            Code::UnknownTopicOrPartition,
            Code::LeaderNotAvailable,
            Code::NotLeaderForPartition,
            Code::RequestTimedOut,
            Code::NetworkException,
            Code::CoordinatorLoadInProgress,
            Code::CoordinatorNotAvailable,
            Code::NotEnoughReplicas,
            Code::NotEnoughReplicasAfterAppend,
            Code::NotController,
            Code::KafkaStorageError,
            Code::FencedLeaderEpoch,
            Code::UnknownLeaderEpoch,
            Code::ThrottlingQuotaExceeded,
        ];
        for code in retriable {
            let error = error_of(code);
            assert!(error.is_temporary(), "{error:?}");
        }
        for code in [Code::TopicAuthorizationFailed, Code::InvalidRecord] {
            assert!(!error_of(code).is_temporary(), "{code:?}");
        }
        assert!(error_of(Code::MessageSizeTooLarge).is_too_large());
    }
}
