//! The settings of a queue in memory, and how it starts.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::Core;
use super::MemoryQueue;
use super::MemorySpace;
use super::collect::Collected;
use super::reader::MemoryReader;
use crate::DropEvent;
use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::Retry;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::Hook;
use crate::ending::Ending;
use crate::engine::BatchLimits;
use crate::engine::Books;
use crate::engine::Budget;
use crate::engine::Queue;
use crate::engine::Reader;
use crate::engine::Settings;
use crate::engine::batcher::Batcher;
use crate::engine::settings::check_times;
use crate::runtime::Runtime;
use crate::work::Task;

/// How many bytes a queue may hold by default, the same as the batch processor.
const BYTES: usize = 64 << 20;

/// How many exports may be in flight by default: enough to hide a round trip, few enough for any backend.
const CONCURRENT_EXPORTS: usize = 4;

/// How long one call of the exporter may take by default, which is OTLP's default.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of a reader that was given none.
const DEFAULT_NAME: &str = "default";

/// Collects the settings of a [`MemoryQueue`].
pub struct MemoryQueueBuilder {
    exporter: Exporter,
    name: Option<String>,
    bytes: usize,
    spans: Option<NonZeroUsize>,
    concurrent_exports: usize,
    attempt_timeout: Option<Duration>,
    export_limit: Option<Duration>,
    retry: Retry,
    on_drop: Option<Hook>,
    gives_up_early: bool,
    takes_turns: bool,
    batches: Option<BatchLimits>,
    others: Vec<Self>,
    runtime: Runtime,
}

impl MemoryQueueBuilder {
    pub(super) fn new(exporter: Exporter) -> Self {
        Self {
            exporter,
            name: None,
            bytes: BYTES,
            spans: None,
            concurrent_exports: CONCURRENT_EXPORTS,
            attempt_timeout: Some(ATTEMPT_TIMEOUT),
            export_limit: None,
            retry: Retry::default(),
            on_drop: None,
            gives_up_early: false,
            takes_turns: false,
            batches: None,
            others: Vec::new(),
            runtime: Runtime::shared(),
        }
    }

    /// Begins each log line with `name`; by default lines name no destination.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many bytes of batches may be held: 64 MiB by default. Nothing is allocated ahead.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// How many spans may be held: as many as fit into the bytes by default.
    pub fn spans(mut self, spans: Option<NonZeroUsize>) -> Self {
        self.spans = spans;
        self
    }

    /// How many exports may be in flight: 4 by default.
    pub fn concurrent_exports(mut self, exports: usize) -> Self {
        self.concurrent_exports = exports;
        self
    }

    /// How long each call of the exporter may take: 10 s by default, no limit with `None`.
    pub fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long a batch is tried after its first attempt: as long as there is room for it by default.
    pub fn export_limit(mut self, limit: Option<Duration>) -> Self {
        self.export_limit = limit;
        self
    }

    /// The waits between attempts, and how many there may be: those of [`Retry::default`] by default. Its limit of all
    /// attempts together does not count here, [`export_limit`](Self::export_limit) does.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Calls `hook` whenever spans are dropped, besides the log. It must not block.
    pub fn on_drop(mut self, hook: impl Fn(&DropEvent) + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Arc::new(hook));
        self
    }

    /// Has a batch that takes many requests give way to others: when some wait, it stops between two requests after half a
    /// second, and what is left of it goes behind them. Then no batch that becomes very large in the format of the destination
    /// holds up the others. Default: off, because a combinator between the queue and the exporter would see a failure in what
    /// is left.
    pub fn take_turns(mut self) -> Self {
        self.takes_turns = true;
        self
    }

    /// Has a shutdown give up after 0.6 s when connections are refused and the destination has never answered.
    pub(crate) fn gives_up_early(mut self) -> Self {
        self.gives_up_early = true;
        self
    }

    /// Merges batches before they are sent. Default: not. Holds for all readers.
    pub fn batches(mut self, limits: BatchLimits) -> Self {
        self.batches = Some(limits);
        self
    }

    /// Adds a reader: the exporter of another builder, with its name, its bounds and everything else that was set there, except
    /// for [`batches`](Self::batches). Readers need different names. Readers that were added to `reader` are added, too.
    pub fn with_reader(mut self, reader: Self) -> Self {
        self.others.push(reader);
        self
    }

    /// Sets where the reader runs, and with it its exports; see [`Runtime`]. Default: the library's own thread.
    pub fn runtime(mut self, runtime: impl Into<Runtime>) -> Self {
        self.runtime = runtime.into();
        self
    }

    /// Starts the queue.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for a bound or time limit of 0, a runtime without timers and two readers of one
    /// name, and an error if the library's thread cannot be started.
    pub fn start(self) -> Result<MemoryQueue> {
        let limits = self.batches;
        if limits.is_some_and(|limits| limits.bytes == 0 || limits.spans == 0) {
            return Err(Error::config(
                "a limit of the queue's batches is 0: no span could ever be exported",
            ));
        }
        let builders = self.into_readers();
        for (place, builder) in builders.iter().enumerate() {
            let name = builder.reader_name();
            let mut others = builders.iter().skip(place + 1);
            if others.any(|other| other.reader_name() == name) {
                return Err(Error::config(format!(
                    "two readers of the queue have the name {name}"
                )));
            }
        }
        let mut tasks = Vec::new();
        let mut readers = Vec::new();
        for builder in builders {
            let (reader, summaries) = builder.start_reader()?;
            readers.push(Arc::new(reader));
            tasks.push(summaries);
        }
        let behind = readers.clone();
        let batcher = Arc::new(Batcher::new(
            limits.map(|limits| limits.delay).unwrap_or_default(),
            move || Collected::new(limits),
            move |collected: Collected| collected.deliver(&behind),
        ));
        // A timer on each runtime: one that ends or is not driven must not delay the readers on the others.
        let mut timed: Vec<&Runtime> = Vec::new();
        for runtime in readers.iter().map(|reader| &reader.runtime) {
            if limits.is_none() || timed.iter().any(|other| other.is_same(runtime)) {
                continue;
            }
            timed.push(runtime);
            let timer = Arc::clone(&batcher);
            tasks.push(runtime.spawn(async move { timer.run().await })?);
        }
        let shown = readers.iter().cloned();
        let shared = readers.iter().map(|reader| Arc::clone(&reader.shared));
        Ok(MemoryQueue {
            core: Arc::new(Core {
                batcher,
                shown: shown.map(|reader| reader as Arc<dyn Reader>).collect(),
                space: Arc::new(MemorySpace {
                    readers: shared.collect(),
                }),
                readers,
                turn: tokio::sync::Mutex::new(()),
                waiting: AtomicUsize::new(0),
            }),
            _tasks: tasks,
        })
    }

    /// The builder of each reader: this one, and those that were added to it, with those that were added to them.
    fn into_readers(mut self) -> Vec<Self> {
        let others = std::mem::take(&mut self.others);
        let mut readers = vec![self];
        readers.extend(others.into_iter().flat_map(Self::into_readers));
        readers
    }

    fn reader_name(&self) -> &str {
        self.name.as_deref().unwrap_or(DEFAULT_NAME)
    }

    fn start_reader(self) -> Result<(MemoryReader, Task<()>)> {
        for (name, number) in [
            ("bytes", self.bytes),
            ("concurrent_exports", self.concurrent_exports),
        ] {
            if number == 0 {
                return Err(Error::config(format!(
                    "{name} of the queue is 0: no span could ever be exported"
                )));
            }
        }
        check_times(
            "the queue",
            [
                ("attempt_timeout", self.attempt_timeout),
                ("export_limit", self.export_limit),
            ],
        )?;
        self.runtime.check()?;
        let handle = self.runtime.handle()?;
        let name = self.reader_name().to_owned();
        let budget = Arc::new(Budget::new(self.bytes, self.spans.map(NonZeroUsize::get)));
        let diagnostics = Arc::new(Diagnostics::new(self.on_drop).named(self.name));
        let settings = Settings {
            concurrent_exports: self.concurrent_exports,
            attempt_timeout: self.attempt_timeout,
            export_limit: self.export_limit,
            retry: self.retry,
            gives_up_early: self.gives_up_early,
            takes_turns: self.takes_turns,
        };
        let lines = Arc::clone(&diagnostics);
        let summaries = self.runtime.spawn(async move { lines.run().await })?;
        let queue = Queue::start(
            self.exporter,
            settings,
            Books::new(budget, Arc::clone(&diagnostics), None),
            diagnostics,
            &handle,
        );
        let reader = MemoryReader {
            name,
            shared: Arc::clone(&queue.shared),
            queue,
            runtime: self.runtime,
            told: Mutex::default(),
            ending: Ending::default(),
            late: Mutex::default(),
        };
        Ok((reader, summaries))
    }
}

impl fmt::Debug for MemoryQueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueueBuilder")
            .field("exporter", &self.exporter)
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .field("spans", &self.spans)
            .field("concurrent_exports", &self.concurrent_exports)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("export_limit", &self.export_limit)
            .field("retry", &self.retry)
            .field("on_drop", &self.on_drop.is_some())
            .field("batches", &self.batches)
            .field("others", &self.others)
            .field("runtime", &self.runtime)
            .finish()
    }
}
