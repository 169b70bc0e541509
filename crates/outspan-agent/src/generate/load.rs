//! Workers: they make batches until there were enough, or nobody takes them any more.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use outspan::Batch;
use outspan::wire::otlp::Encoder;
use outspan::wire::otlp::SpanLimits;
use tokio::sync::mpsc;

use super::stream::Patterns;
use super::stream::Stream;
use crate::send::Pace;

/// How many batches a worker makes a second at least, where there is a rate: so many pieces is a second cut into.
const BATCHES_PER_SECOND: f64 = 10.0;

/// Says how much the workers make, all together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) workers: u16,
    /// Spans in all; `None` sets no end.
    pub(super) spans: Option<u64>,
    /// Spans a second; `None` sets no limit.
    pub(super) rate: Option<f64>,
    pub(super) batch_spans: u32,
}

impl Load {
    /// Starts the workers. They end when enough is made, or when the receiver is gone.
    pub(super) fn start(self, patterns: &Arc<Patterns>, random: &mut Rng) -> mpsc::Receiver<Batch> {
        let left = Arc::new(AtomicU64::new(self.spans.unwrap_or(u64::MAX)));
        // One each, ready when there is room for another export.
        let (batches, receiver) = mpsc::channel(usize::from(self.workers));
        for _ in 0..self.workers {
            let worker = Worker {
                stream: Stream::new(Arc::clone(patterns), random.fork()),
                encoder: Encoder::new(SpanLimits::unlimited()),
                pace: Pace::new(self.worker_rate()),
                batch_spans: self.worker_batch_spans(),
                left: Arc::clone(&left),
                batches: batches.clone(),
            };
            // It ends by itself.
            drop(tokio::spawn(worker.work()));
        }
        receiver
    }

    fn worker_rate(&self) -> Option<f64> {
        self.rate.map(|rate| rate / f64::from(self.workers))
    }

    fn worker_batch_spans(&self) -> u64 {
        let wanted = u64::from(self.batch_spans);
        match self.worker_rate() {
            Some(rate) => wanted.min((rate / BATCHES_PER_SECOND) as u64).max(1),
            None => wanted,
        }
    }
}

/// Makes batches.
#[derive(Debug)]
struct Worker {
    stream: Stream,
    encoder: Encoder,
    pace: Pace,
    batch_spans: u64,
    /// Spans that nobody makes yet.
    left: Arc<AtomicU64>,
    batches: mpsc::Sender<Batch>,
}

impl Worker {
    async fn work(mut self) {
        loop {
            tokio::select! {
                () = self.batches.closed() => return,
                () = self.pace.ready() => {}
            }
            let Some(batch) = self.batch() else { return };
            self.pace.sent(batch.spans() as u64);
            if self.batches.send(batch).await.is_err() {
                return;
            }
        }
    }

    /// Makes a batch, unless there were enough.
    fn batch(&mut self) -> Option<Batch> {
        let taken = self.take();
        self.stream.fill(&mut self.encoder, taken);
        let request = self.encoder.finish()?;
        let made = request.spans as u64;
        // Large spans make smaller batches.
        self.left.fetch_add(taken - made, Ordering::Relaxed);
        let checked = Batch::from_request(request.bytes);
        Some(checked.expect("our encoder writes valid requests").batch)
    }

    /// Takes the spans of a batch from what is left to make.
    fn take(&self) -> u64 {
        let take = |left: u64| Some(left.saturating_sub(self.batch_spans));
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.unwrap_or_default().min(self.batch_spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::TraceArguments;

    fn load(workers: u16, spans: Option<u64>, rate: Option<f64>) -> Load {
        Load {
            workers,
            spans,
            rate,
            batch_spans: 100,
        }
    }

    fn patterns() -> Arc<Patterns> {
        let arguments = TraceArguments {
            spans_per_trace: Some(5),
            attributes: 0,
            attribute_size: 1,
            errors: 0.0,
            seed: None,
        };
        Arc::new(Patterns::new(&arguments, &mut Rng::with_seed(1)).unwrap())
    }

    #[tokio::test]
    async fn several_workers_make_exactly_what_was_asked_for() {
        let load = load(3, Some(1234), None);
        let mut batches = load.start(&patterns(), &mut Rng::with_seed(1));
        let mut spans = 0;
        while let Some(batch) = batches.recv().await {
            assert!(batch.spans() <= 100);
            spans += batch.spans();
        }
        assert_eq!(spans, 1234);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_all_workers_together() {
        let load = load(2, Some(1000), Some(200.0));
        let began = tokio::time::Instant::now();
        let mut batches = load.start(&patterns(), &mut Rng::with_seed(1));
        let mut spans = 0;
        while let Some(batch) = batches.recv().await {
            assert!(batch.spans() <= 10);
            spans += batch.spans();
        }
        assert_eq!(spans, 1000);
        let seconds = began.elapsed().as_secs_f64();
        assert!((4.8..=5.2).contains(&seconds), "{seconds}");
    }

    #[tokio::test]
    async fn workers_end_when_nobody_takes_their_batches() {
        let mut batches = load(2, None, None).start(&patterns(), &mut Rng::with_seed(1));
        assert!(batches.recv().await.is_some());
        batches.close();
        while batches.recv().await.is_some() {}
        // Every sender is gone, so every worker has ended.
        assert!(batches.is_closed());
    }
}
