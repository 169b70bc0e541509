//! The producer of Kafka's library, on a thread that takes its acknowledgements and its log lines.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseProducer;
use rdkafka::producer::BaseRecord;
use rdkafka::producer::DeliveryResult;
use rdkafka::producer::Producer as _;
use rdkafka::producer::ProducerContext;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::Deadline;
use crate::Error;
use crate::Result;

use super::encode::TraceKey;

/// How long the thread waits for something to do; so long stopping may take.
const POLL: Duration = Duration::from_millis(100);

/// Hands messages to Kafka's library, and their acknowledgements to whoever waits for them.
///
/// Dropping it stops the thread, which gives up what is still on its way and closes the connections.
pub(super) struct Producer {
    config: ClientConfig,
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
    started: Instant,
}

/// What the thread and the exports share.
struct Shared {
    /// Taken by the thread alone, when it ends: closing blocks.
    producer: RwLock<Option<BaseProducer<Context>>>,
    state: Arc<State>,
    should_stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Messages that were taken and not answered.
    on_their_way: AtomicUsize,
    /// Said when a message was answered, which makes room, and when the last one was.
    answered: Notify,
    /// What the library said last about its brokers.
    trouble: Mutex<Option<String>>,
    log: Mutex<Quota>,
}

/// Where the answer to a message goes: which one of the export's it was, and what became of it.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) index: usize,
    pub(super) answers: UnboundedSender<(usize, Answer)>,
}

/// What became of a message; Kafka's error if it was not acknowledged.
pub(super) type Answer = std::result::Result<(), RDKafkaErrorCode>;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// There is no room for it now.
    Full,
    /// The producer is closed.
    Closed,
    /// Kafka's library does not want it.
    Refused(RDKafkaErrorCode),
}

impl Producer {
    /// Starts the library and the thread.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if the library does not want the configuration, [`Internal`](crate::ErrorKind::Internal)
    /// if there is no thread.
    pub(super) fn start(config: ClientConfig) -> Result<Self> {
        let state = Arc::<State>::default();
        let context = Context {
            state: Arc::clone(&state),
        };
        let producer: BaseProducer<Context> = config
            .create_with_context(context)
            .map_err(|e| Error::config("Kafka's library cannot start").with_source(e))?;
        let shared = Arc::new(Shared {
            producer: RwLock::new(Some(producer)),
            state,
            should_stop: AtomicBool::new(false),
        });
        let (end, ended) = watch::channel(false);
        let worker = Arc::clone(&shared);
        thread::Builder::new()
            .name("outspan-kafka".into())
            .spawn(move || {
                worker.work();
                end.send_replace(true);
            })
            .map_err(|e| Error::internal("cannot start the thread for Kafka").with_source(e))?;
        Ok(Self {
            config,
            shared,
            ended,
            started: Instant::now(),
        })
    }

    /// Starts another one like it.
    pub(super) fn restart(&self) -> Result<Self> {
        Self::start(self.config.clone())
    }

    /// How long ago it was started.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Hands over a message, without waiting. The ticket is answered for what was taken, and only for that.
    pub(super) fn take(
        &self,
        topic: &str,
        key: Option<TraceKey>,
        payload: &[u8],
        headers: Option<&OwnedHeaders>,
        ticket: Ticket,
    ) -> std::result::Result<(), NotTaken> {
        let producer = self.shared.open();
        let Some(producer) = producer.as_ref() else {
            return Err(NotTaken::Closed);
        };
        let mut record: BaseRecord<'_, [u8], [u8], Box<Ticket>> =
            BaseRecord::with_opaque_to(topic, Box::new(ticket)).payload(payload);
        if let Some(key) = &key {
            record = record.key(key.as_bytes());
        }
        if let Some(headers) = headers {
            record = record.headers(headers.clone());
        }
        let state = &self.shared.state;
        state.on_their_way.fetch_add(1, Ordering::AcqRel);
        let Err((error, _record)) = producer.send(record) else {
            return Ok(());
        };
        state.on_their_way.fetch_sub(1, Ordering::AcqRel);
        Err(match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => NotTaken::Full,
            Some(code) => NotTaken::Refused(code),
            None => NotTaken::Refused(RDKafkaErrorCode::InvalidArgument),
        })
    }

    /// Waits until `attempt` says that it need not wait any more; it is asked again with each answered message.
    pub(super) async fn until<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        if let Some(done) = attempt() {
            return done;
        }
        loop {
            // Registered before the attempt, so that what happens in between is not missed.
            let answered = self.shared.state.answered.notified();
            let mut answered = std::pin::pin!(answered);
            answered.as_mut().enable();
            if let Some(done) = attempt() {
                return done;
            }
            answered.await;
        }
    }

    /// Waits until nothing is on its way; false if time ran out first.
    pub(super) async fn idle(&self, until: Deadline) -> bool {
        let state = &self.shared.state;
        let is_idle = || (state.on_their_way.load(Ordering::Acquire) == 0).then_some(());
        until.run(self.until(is_idle)).await.is_some()
    }

    /// What the library said last about its brokers, if nothing went well since.
    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.state.trouble().clone()
    }

    /// The error after which it takes nothing any more, with the library's words.
    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        let producer = self.shared.open();
        producer.as_ref()?.client().fatal_error()
    }

    /// Gives up what is on its way, and closes the connections.
    pub(super) fn stop(&self) {
        self.shared.should_stop.store(true, Ordering::Release);
    }

    /// Waits until it has stopped, no longer than until then.
    pub(super) async fn stopped(&self, until: Deadline) {
        let mut ended = self.ended.clone();
        // An error says that the thread is gone, which is as good.
        drop(until.run(ended.wait_for(|has_ended| *has_ended)).await);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_their_way = self.shared.state.on_their_way.load(Ordering::Relaxed);
        f.debug_struct("Producer")
            .field("on_their_way", &on_their_way)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn open(&self) -> RwLockReadGuard<'_, Option<BaseProducer<Context>>> {
        self.producer.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does.
    fn work(&self) {
        #[cfg(feature = "sdk")]
        let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
        while !self.should_stop.load(Ordering::Acquire) {
            if let Some(producer) = self.open().as_ref() {
                producer.poll(POLL);
            }
        }
        let producer = self
            .producer
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Answers every message that is left, with the error that it was given up.
        drop(producer);
        self.state.answered.notify_waiters();
    }
}

impl State {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Kafka's library calls, on our thread.
struct Context {
    state: Arc<State>,
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let answer = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        if answer.is_ok() {
            *self.state.trouble() = None;
        }
        // Nobody hears it if the export was dropped.
        let _heard = ticket.answers.send((ticket.index, answer));
        self.state.on_their_way.fetch_sub(1, Ordering::AcqRel);
        self.state.answered.notify_waiters();
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        write_log(&self.state.log, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let is_summary = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        let mut trouble = self.state.trouble();
        // That all brokers are down says less than why the last one is.
        if !is_summary || trouble.is_none() {
            *trouble = Some(reason.to_owned());
        }
    }
}

/// How many lines the library may still write.
struct Quota {
    since: Instant,
    lines: u32,
}

impl Quota {
    const INTERVAL: Duration = Duration::from_secs(30);
    const LINES: u32 = 10;

    /// Whether a line may be written now; with the number of those that were left out before it.
    fn take(&mut self, now: Instant) -> Option<u32> {
        let mut left_out = 0;
        if now.saturating_duration_since(self.since) >= Self::INTERVAL {
            left_out = self.lines.saturating_sub(Self::LINES);
            self.since = now;
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        (self.lines <= Self::LINES).then_some(left_out)
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            lines: 0,
        }
    }
}

/// Writes what the library says as an event: warnings within the quota, the rest for those who debug.
fn write_log(quota: &Mutex<Quota>, level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Debug => {
            tracing::trace!(target: "outspan", "kafka: {facility}: {message}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
            tracing::debug!(target: "outspan", "kafka: {facility}: {message}");
        }
        _ => {
            let quota = quota
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(Instant::now());
            match quota {
                None => tracing::debug!(target: "outspan", "kafka: {facility}: {message}"),
                Some(0) => tracing::warn!(target: "outspan", "kafka: {facility}: {message}"),
                Some(left_out) => tracing::warn!(
                    target: "outspan",
                    "kafka: {facility}: {message} ({left_out} more lines before it)"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_talks_much_is_cut_short_and_what_it_said_is_counted() {
        let start = Instant::now();
        let mut quota = Quota {
            since: start,
            lines: 0,
        };
        let written = (0..25).filter(|_| quota.take(start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(quota.take(start + Duration::from_secs(30)), Some(15));
        assert_eq!(quota.take(start + Duration::from_secs(31)), Some(0));
    }
}
