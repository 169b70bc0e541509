//! Consumes spans from Kafka, and commits what was consumed when it is settled.
//!
//! ```text
//!   poll ──▶ message ──spans and an ack──▶ queue of all destinations
//!     ▲                                        │ no destination holds a span of the group any more
//!     └── paused while the queue has enough    ▼ and of none before it: commit
//! ```
//!
//! The messages of a short time are a group: they share an ack, and their offsets are committed together. An offset is
//! committed when every span before it was delivered, rejected or dropped and counted, by every destination that took it.
//! Whatever ends the agent before that, the group's next consumer of the partition gets the messages again: spans may come
//! twice, none is lost.
//!
//! A message counts as accepted when the queue has its spans. One that is no request, or that no destination will ever have
//! room for, is counted, told with its offset and passed over. What is held here: one message that waits for room, and what
//! Kafka's library has fetched ahead, 1 to 8 MiB for each address; the rest is in the queue and bounded there.

mod consumer;
mod progress;
mod subscription;

use std::fmt;
use std::sync::Arc;
use std::thread;

use futures_util::future::join_all;
use outspan::Deadline;
use outspan::engine::BatchLimits;
use tokio::sync::watch;

use self::consumer::Worker;
use super::counters::ReceiverStatus;
use super::counters::Transport;
use super::counters::TransportCounters;
use crate::pipeline::Pipeline;

pub(crate) use self::subscription::Subscription;

/// Consumes from every Kafka that was asked for, each on a thread of its own.
pub(crate) struct Consumers {
    consumers: Vec<Consumer>,
    counters: Arc<TransportCounters>,
}

/// One thread, and what to tell it.
struct Consumer {
    shown: String,
    /// By when to stop, once that is known.
    stopping: watch::Sender<Option<Deadline>>,
    ended: watch::Receiver<bool>,
}

impl Consumers {
    /// Starts consuming. Brokers that cannot be reached are tried for as long as it takes.
    ///
    /// # Errors
    ///
    /// Words for the user: what of the configuration is wrong. Nothing is left running then.
    pub(crate) fn start(
        subscriptions: &[Subscription],
        queue_bytes_max: usize,
        limits: BatchLimits,
        pipeline: &Arc<Pipeline>,
    ) -> Result<Self, String> {
        let counters = Arc::<TransportCounters>::default();
        let mut workers = Vec::new();
        for subscription in subscriptions {
            let config = subscription.client_config(queue_bytes_max)?;
            let (stopping, stop) = watch::channel(None);
            let worker = Worker::new(
                subscription.clone(),
                config,
                queue_bytes_max,
                limits,
                Arc::clone(pipeline),
                Arc::clone(&counters),
                stop,
            )?;
            workers.push((worker, subscription.to_string(), stopping));
        }
        let mut consumers = Vec::new();
        for (worker, shown, stopping) in workers {
            let (end, ended) = watch::channel(false);
            thread::Builder::new()
                .name("outspan-kafka".into())
                .spawn(move || {
                    worker.run();
                    end.send_replace(true);
                })
                .map_err(|e| format!("cannot start a thread for Kafka: {e}"))?;
            consumers.push(Consumer {
                shown,
                stopping,
                ended,
            });
        }
        Ok(Self {
            consumers,
            counters,
        })
    }

    /// What is consumed, such as `kafka://localhost:9092/otlp_spans as group outspan`.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.consumers
            .iter()
            .map(|consumer| consumer.shown.as_str())
    }

    /// Says how consuming is doing; nothing if nothing is consumed.
    pub(crate) fn status(&self) -> Option<ReceiverStatus> {
        let status = || self.counters.status(Transport::Kafka);
        (!self.consumers.is_empty()).then(status)
    }

    /// Consumes no more, waits by `until` for what was consumed to be settled, commits that and leaves the groups.
    ///
    /// # Cancellation
    ///
    /// The stop goes on. Called again with an earlier deadline it goes faster.
    pub(crate) async fn stop(&self, until: Deadline) {
        let ends = self.consumers.iter().map(|consumer| async move {
            consumer.stopping.send_modify(|by| {
                *by = Some(by.map_or(until, |by| by.min(until)));
            });
            let mut ended = consumer.ended.clone();
            // An error says that the thread is gone, which is as good.
            drop(until.run(ended.wait_for(|has_ended| *has_ended)).await);
        });
        join_all(ends).await;
    }
}

impl fmt::Debug for Consumers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

#[cfg(test)]
mod tests {
    use outspan::engine::MemoryQueue;
    use outspan_testkit::ScriptedExporter;

    use super::*;

    #[tokio::test]
    async fn there_is_something_to_tell_of_where_something_is_consumed() {
        let queue = MemoryQueue::builder(ScriptedExporter::new().exporter()).name("child");
        let limits = BatchLimits {
            spans: 1,
            bytes: 1,
            delay: std::time::Duration::ZERO,
        };
        let pipeline = Arc::new(Pipeline::new(queue.batches(limits).start().unwrap()));
        let start = |of: &[Subscription]| Consumers::start(of, 1 << 20, limits, &pipeline).unwrap();
        assert!(start(&[]).status().is_none());
        let subscription = Subscription::parse("//127.0.0.1:1").unwrap();
        let one = start(std::slice::from_ref(&subscription));
        assert_eq!(one.status().map(|of| of.accepted_requests), Some(0));
        let addresses: Vec<_> = one.addresses().collect();
        assert_eq!(addresses, [subscription.to_string()]);
        one.stop(outspan_testkit::soon()).await;
    }
}
