//! What the library's thread does for a processor: encode, hand to the queue, flush and shut down.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::Encoder;
use outspan_wire::otlp::SpanLimits;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::buffer::Buffer;
use super::buffer::Chunk;
use super::buffer::Help;
use crate::Account;
use crate::Batch;
use crate::Deadline;
use crate::Drained;
use crate::Error;
use crate::diagnostics::Diagnostics;
use crate::ending::Ending;
use crate::engine::Books;
use crate::engine::Entry;
use crate::engine::Flushed;
use crate::engine::Queue;
use crate::sdk::loss_report::LossReport;
use crate::sdk::span_data::SdkSpan;

/// Encoders for threads that help; more threads than that at once make one of their own.
const ENCODERS_MAX: usize = 16;

/// What a processor, its worker and its handles share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) buffer: Buffer,
    pub(super) queue: Queue,
    pub(super) books: Arc<Books>,
    pub(super) diagnostics: Arc<Diagnostics>,
    pub(super) runtime: Handle,
    pub(super) resource: Mutex<EncodedResource>,
    pub(super) settings: Settings,
    pub(super) encoders: Mutex<Vec<Encoder>>,
    pub(super) commands: Mutex<Vec<Command>>,
    pub(super) wake: Arc<Notify>,
    pub(super) is_shut_down: AtomicBool,
    pub(super) ending: Ending<Outcome>,
    pub(super) report: LossReport,
    pub(super) is_released: AtomicBool,
}

/// How a processor makes batches.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) batch_spans: usize,
    pub(super) batch_bytes: usize,
    pub(super) delay: Duration,
    pub(super) limits: SpanLimits,
    pub(super) flush_timeout: Duration,
}

/// What others ask of the worker.
pub(super) struct Command {
    pub(super) kind: Kind,
    pub(super) until: Deadline,
    /// How things stood when it was asked.
    pub(super) account: Account,
    pub(super) reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flush,
    Shutdown,
}

pub(super) type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// What a flush or a shutdown achieved.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) drained: Drained,
    pub(super) error: Option<Error>,
    pub(super) out_of_time: bool,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("kind", &self.kind)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Asks the worker for something.
    pub(super) fn ask(&self, kind: Kind, until: Deadline, reply: Reply) {
        let command = Command {
            kind,
            until,
            account: self.buffer.account(),
            reply,
        };
        lock(&self.commands).push(command);
        self.wake.notify_one();
    }

    /// Encodes a chunk on the thread that completed it.
    #[cold]
    pub(super) fn help(&self, help: Help) {
        let number = help.number();
        let encoder = lock(&self.encoders).pop();
        let mut packer = Packer {
            encoder: encoder.unwrap_or_else(|| Encoder::new(self.settings.limits)),
            entry: self.books.enter(0, 0),
        };
        let emptied = packer.pack(help.chunk, self);
        packer.ship(self);
        let mut encoders = lock(&self.encoders);
        if encoders.len() < ENCODERS_MAX {
            encoders.push(packer.encoder);
        }
        drop(encoders);
        self.buffer.end_help(number, emptied);
    }

    /// Reports spans that were dropped before they were in the books.
    fn report_dropped(&self) {
        for dropped in self.buffer.take_losses() {
            dropped.report();
        }
    }

    async fn finish_flush(&self, helps: u64, command: Command) {
        let until = command.until;
        let helped = until.run(self.buffer.helped(helps)).await;
        let mut flushed = self.queue.flush(until).await;
        flushed.out_of_time |= helped.is_none();
        (command.reply)(self.outcome(&command.account, flushed));
    }

    async fn finish_shutdown(&self, helps: u64, command: Command) {
        let until = command.until;
        let helped = until.run(self.buffer.helped(helps)).await;
        let mut flushed = self.queue.shutdown(until).await;
        flushed.out_of_time |= helped.is_none();
        self.report_dropped();
        self.diagnostics.finish();
        let mut outcome = self.outcome(&command.account, flushed);
        outcome.drained.unended = self.buffer.unended();
        (command.reply)(outcome);
    }

    fn outcome(&self, before: &Account, flushed: Flushed) -> Outcome {
        let mut drained = self.buffer.account().since(before);
        drained.delivered = drained.delivered.saturating_sub(flushed.left_inside);
        drained.left = flushed.left;
        for cause in self.queue.causes(&drained, &flushed) {
            drained.add_cause(cause);
        }
        Outcome {
            drained,
            error: flushed.error,
            out_of_time: flushed.out_of_time,
        }
    }
}

/// Runs until the processor is gone.
pub(super) async fn work(core: Arc<Core>) {
    let mut packer = Packer {
        encoder: Encoder::new(core.settings.limits),
        entry: core.books.enter(0, 0),
    };
    let diagnostics = Arc::clone(&core.diagnostics);
    let mut summaries = std::pin::pin!(diagnostics.run());
    let mut progress = core.queue.progress();
    let mut is_full = false;
    let mut tick = core.next_tick();
    loop {
        let is_tick = tokio::select! {
            () = core.wake.notified() => false,
            () = sleep_until(tick) => true,
            () = &mut summaries => false,
            // It fails only when the queue is gone, and the core holds that.
            _ = progress.changed(), if is_full => false,
        };
        core.report_dropped();
        is_full |= core.buffer.take_is_full();
        // While batches are in the queue, their end makes space, and what is collected may become a large batch. Otherwise
        // everything that is held is being collected, and nothing would make space before the next tick.
        let is_stuck = is_full && core.queue.is_empty();
        if core.buffer.take_gathering_wanted() || is_tick || is_stuck {
            core.buffer.gather();
        }
        if is_tick {
            tick = core.next_tick();
        }
        pack_waiting(&core, &mut packer).await;
        if is_tick || is_stuck {
            packer.ship(&core);
            is_full = false;
        }
        // Read before the commands are taken: the processor's last command comes before its release.
        let is_released = core.is_released.load(Ordering::Acquire);
        let commands = std::mem::take(&mut *lock(&core.commands));
        for command in commands {
            obey(&core, &mut packer, command).await;
        }
        if is_released {
            core.report_dropped();
            core.diagnostics.finish();
            return;
        }
    }
}

async fn obey(core: &Arc<Core>, packer: &mut Packer, command: Command) {
    match command.kind {
        Kind::Flush => core.buffer.gather(),
        Kind::Shutdown => core.buffer.close(),
    }
    let helps = core.buffer.helps_begun();
    pack_waiting(core, packer).await;
    packer.ship(core);
    match command.kind {
        Kind::Flush => {
            // The worker goes on meanwhile.
            let core = Arc::clone(core);
            let runtime = core.runtime.clone();
            drop(runtime.spawn(async move { core.finish_flush(helps, command).await }));
        }
        Kind::Shutdown => core.finish_shutdown(helps, command).await,
    }
}

/// Encodes the chunks that wait now. What comes meanwhile has woken the worker again.
async fn pack_waiting(core: &Core, packer: &mut Packer) {
    for _ in 0..core.buffer.chunks() {
        let Some(chunk) = core.buffer.pop() else {
            return;
        };
        let emptied = packer.pack(chunk, core);
        core.buffer.keep_spare(emptied);
        // Connections live on this thread as well.
        tokio::task::yield_now().await;
    }
}

impl Core {
    fn next_tick(&self) -> Option<Instant> {
        Instant::now().checked_add(self.settings.delay)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Makes batches of spans.
#[derive(Debug)]
struct Packer {
    encoder: Encoder,
    /// What the books hold for the spans in the encoder.
    entry: Entry,
}

impl Packer {
    /// Encodes and frees the spans of a chunk, ships each batch that is complete, and returns the emptied list.
    fn pack(&mut self, chunk: Chunk, core: &Core) -> Vec<SpanData> {
        let Chunk { mut spans, entry } = chunk;
        let resource = lock(&core.resource).clone();
        let merged = self.entry.merge(entry);
        debug_assert!(merged.is_ok(), "the processor has one set of books");
        for span in spans.drain(..) {
            self.encoder.push(&resource, &SdkSpan(&span));
            if self.is_complete(&core.settings) {
                self.finish_batch(core);
            }
        }
        self.settle_charge();
        spans
    }

    /// Ships what there is, complete batch or not.
    fn ship(&mut self, core: &Core) {
        self.finish_batch(core);
        self.settle_charge();
    }

    fn is_complete(&self, settings: &Settings) -> bool {
        self.encoder.spans() >= settings.batch_spans
            || self.encoder.encoded_len_max() >= settings.batch_bytes
    }

    fn finish_batch(&mut self, core: &Core) {
        let Some(request) = self.encoder.finish() else {
            return;
        };
        let batch = Batch::trusted(request.bytes, request.spans);
        // The room for the batch is that of its spans, which are gone.
        let from_spans = batch.own_memory().min(self.entry.bytes());
        let entry = self.entry.split(from_spans, batch.spans());
        for tracked in entry.into_tracked(vec![batch]) {
            core.queue.push(tracked);
        }
    }

    /// Gives back the room of spans that are encoded.
    fn settle_charge(&mut self) {
        self.entry.shrink_to(self.encoder.encoded_len_max());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
