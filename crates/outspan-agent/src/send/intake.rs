//! From files to batches: a thread reads, small records are merged, large ones split, and memory stays bounded.
//!
//! ```text
//!  thread: file -> record -> parts of at most a batch  --channel-->  merge until a batch is full -> Work
//!             (waits while more than the bound is anywhere between here and the end of an export)
//! ```

use std::sync::Arc;
use std::time::Duration;

use outspan::Batch;
use outspan::file::Format;
use outspan::file::Record;
use outspan::file::SpanFile;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::input::Input;

/// How large a batch may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Spans at most.
    pub(crate) spans: usize,
    /// Bytes at most; one larger span goes alone.
    pub(crate) bytes: usize,
}

/// How files are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// What they hold; each tells it by itself unless this does.
    pub(crate) format: Option<Format>,
    /// Whether one bad record ends it.
    pub(crate) is_strict: bool,
}

/// What the next step of a run is.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record was read; its valid spans follow.
    Record {
        valid: u64,
        invalid: u64,
        reason: Option<String>,
        place: String,
    },
    /// A record could not be read; `ends_run` if one is enough.
    Bad {
        reason: String,
        bytes: u64,
        ends_run: bool,
    },
    /// A batch is ready.
    Work(Work),
    /// Everything was read and handed out.
    End,
}

/// A batch to send.
#[derive(Debug)]
pub(crate) struct Work {
    /// The spans.
    pub(crate) batch: Batch,
    /// How many bytes of input they took.
    pub(crate) input_bytes: u64,
    /// Its part of the memory bound, until the work is done.
    _held: Vec<OwnedSemaphorePermit>,
}

/// What the thread sends.
enum Event {
    Record {
        valid: u64,
        invalid: u64,
        reason: Option<String>,
        place: String,
    },
    Part(Part),
    Bad {
        reason: String,
        bytes: u64,
    },
    /// Every input was read to its end.
    AllRead,
}

struct Part {
    batch: Batch,
    input_bytes: u64,
    held: OwnedSemaphorePermit,
}

/// Reads inputs on a thread of its own and hands out batches.
pub(crate) struct Intake {
    events: mpsc::Receiver<Event>,
    limits: BatchLimits,
    pending: Vec<Part>,
    pending_spans: usize,
    pending_bytes: usize,
    pending_since: Option<Instant>,
    carried: Option<Part>,
    is_strict: bool,
    is_ended: bool,
    has_read_all: bool,
}

impl Intake {
    /// How long a batch that is not full waits for more while nothing comes in.
    const LINGER: Duration = Duration::from_millis(200);

    /// How many events wait between the thread and us; their bytes are bounded apart.
    const EVENTS_MAX: usize = 64;

    /// Starts the thread. `exports` is how many batches are exported at the same time.
    ///
    /// # Errors
    ///
    /// What the system says when it has no thread for us.
    pub(crate) fn start(
        inputs: Vec<Input>,
        limits: BatchLimits,
        exports: usize,
        reading: Reading,
    ) -> std::io::Result<Self> {
        let (sender, events) = mpsc::channel(Self::EVENTS_MAX);
        let feeder = Feeder {
            sender,
            limits,
            memory: Memory::new(limits, exports),
            runtime: Handle::current(),
            reading,
        };
        std::thread::Builder::new()
            .name("outspan-read".into())
            .spawn(move || feeder.feed(&inputs))?;
        Ok(Self {
            events,
            limits,
            pending: Vec::new(),
            pending_spans: 0,
            pending_bytes: 0,
            pending_since: None,
            carried: None,
            is_strict: reading.is_strict,
            is_ended: false,
            has_read_all: false,
        })
    }

    /// Waits for the next step.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses nothing: what was received waits here.
    pub(crate) async fn next(&mut self) -> Step {
        loop {
            if let Some(part) = self.carried.take()
                && let Some(part) = self.merge(part)
            {
                self.carried = Some(part);
                return Step::Work(self.cut());
            }
            if self.is_full() || (self.is_ended && !self.pending.is_empty()) {
                return Step::Work(self.cut());
            }
            if self.is_ended {
                return Step::End;
            }
            match self.receive().await {
                Received::Quiet => return Step::Work(self.cut()),
                Received::Ended => self.is_ended = true,
                Received::Event(Event::AllRead) => self.has_read_all = true,
                Received::Event(Event::Part(part)) => self.carried = Some(part),
                Received::Event(Event::Bad { reason, bytes }) => {
                    return Step::Bad {
                        reason,
                        bytes,
                        ends_run: self.is_strict,
                    };
                }
                Received::Event(Event::Record {
                    valid,
                    invalid,
                    reason,
                    place,
                }) => {
                    return Step::Record {
                        valid,
                        invalid,
                        reason,
                        place,
                    };
                }
            }
        }
    }

    /// Stops reading. What the thread has handed over is still handed out.
    pub(crate) fn stop(&mut self) {
        self.events.close();
    }

    /// Whether every input was read to its end and handed out.
    pub(crate) fn has_read_all(&self) -> bool {
        self.has_read_all
    }

    /// Waits for an event, no longer than the pending spans may linger.
    async fn receive(&mut self) -> Received {
        let until = self.pending_since.map(|since| since + Self::LINGER);
        let received = match until {
            None => Ok(self.events.recv().await),
            Some(until) => tokio::time::timeout_at(until, self.events.recv()).await,
        };
        match received {
            Ok(Some(event)) => Received::Event(event),
            Ok(None) => Received::Ended,
            Err(_) => Received::Quiet,
        }
    }

    /// Adds a part to the pending ones; gives it back when it does not fit.
    fn merge(&mut self, part: Part) -> Option<Part> {
        let spans = self.pending_spans + part.batch.spans();
        let bytes = self.pending_bytes + part.batch.size();
        let fits = spans <= self.limits.spans && bytes <= self.limits.bytes;
        if !self.pending.is_empty() && !fits {
            return Some(part);
        }
        self.pending_spans = spans;
        self.pending_bytes = bytes;
        self.pending_since.get_or_insert_with(Instant::now);
        self.pending.push(part);
        None
    }

    fn is_full(&self) -> bool {
        self.pending_spans >= self.limits.spans || self.pending_bytes >= self.limits.bytes
    }

    /// Makes a batch of what is pending.
    fn cut(&mut self) -> Work {
        self.pending_spans = 0;
        self.pending_bytes = 0;
        self.pending_since = None;
        let parts = std::mem::take(&mut self.pending);
        let batches: Vec<Batch> = parts.iter().map(|part| part.batch.clone()).collect();
        Work {
            batch: Batch::concatenate(&batches),
            input_bytes: parts.iter().map(|part| part.input_bytes).sum(),
            _held: parts.into_iter().map(|part| part.held).collect(),
        }
    }
}

enum Received {
    Event(Event),
    Quiet,
    Ended,
}

impl Work {
    /// How many spans it holds.
    pub(crate) fn spans(&self) -> u64 {
        self.batch.spans() as u64
    }
}

/// Bounds the bytes of spans between the reader and the end of their export.
struct Memory {
    free: Arc<Semaphore>,
    units: u32,
}

impl Memory {
    /// A semaphore counts in `u32`; units of this many bytes reach far enough.
    const UNIT: usize = 1024;

    /// What may wait besides the batches that are filled and exported.
    const AHEAD: usize = 16 << 20;

    fn new(limits: BatchLimits, exports: usize) -> Self {
        let bytes = limits
            .bytes
            .saturating_mul(exports + 2)
            .saturating_add(Self::AHEAD);
        let units = u32::try_from(bytes / Self::UNIT).unwrap_or(u32::MAX);
        let units = units.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }

    /// Waits until there is room. What is larger than the bound waits until it is alone.
    async fn hold(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(Self::UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, self.units);
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }
}

/// The thread's side.
struct Feeder {
    sender: mpsc::Sender<Event>,
    limits: BatchLimits,
    memory: Memory,
    runtime: Handle,
    reading: Reading,
}

/// Says that nobody wants more.
struct Stopped;

impl Feeder {
    fn feed(self, inputs: &[Input]) {
        for input in inputs {
            if self.feed_input(input).is_err() {
                return;
            }
        }
        // Whoever stopped listening does not want to know.
        drop(self.send(Event::AllRead));
    }

    fn feed_input(&self, input: &Input) -> Result<(), Stopped> {
        let mut file = match input.open(self.reading.format) {
            Ok(file) => file,
            Err(error) => return self.bad(&error, 0),
        };
        let mut counted = 0;
        while let Some(found) = file.next() {
            let bytes = file.bytes_read() - counted;
            counted += bytes;
            match found {
                Ok(record) => self.record(record, &file, bytes)?,
                Err(error) => self.bad(&error, bytes)?,
            }
        }
        Ok(())
    }

    fn record(&self, record: Record, file: &SpanFile, bytes: u64) -> Result<(), Stopped> {
        let checked = record.checked;
        self.send(Event::Record {
            valid: checked.batch.spans() as u64,
            invalid: checked.refused as u64,
            reason: checked.reason,
            place: format!("{}, {}", file.name(), record.position),
        })?;
        let mut input_bytes = bytes;
        // One part at a time: each repeats its resource, and waits for memory before the next one is made.
        for part in checked.batch.split_by_spans(self.limits.spans) {
            let pieces = part.split_by_bytes(self.limits.bytes);
            for piece in pieces.filter(|piece| !piece.is_empty()) {
                self.part(piece, std::mem::take(&mut input_bytes))?;
            }
        }
        Ok(())
    }

    fn part(&self, batch: Batch, input_bytes: u64) -> Result<(), Stopped> {
        // Whoever stops us closes the channel; waiting for memory then would be for ever.
        let memory = async {
            tokio::select! {
                held = self.memory.hold(batch.size()) => held,
                () = self.sender.closed() => None,
            }
        };
        let held = self.runtime.block_on(memory).ok_or(Stopped)?;
        self.send(Event::Part(Part {
            batch,
            input_bytes,
            held,
        }))
    }

    fn bad(&self, error: &outspan::Error, bytes: u64) -> Result<(), Stopped> {
        let reason = error.chain().to_string();
        self.send(Event::Bad { reason, bytes })?;
        match self.reading.is_strict {
            true => Err(Stopped),
            false => Ok(()),
        }
    }

    fn send(&self, event: Event) -> Result<(), Stopped> {
        self.sender.blocking_send(event).map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMITS: BatchLimits = BatchLimits {
        spans: 3,
        bytes: 1 << 20,
    };

    fn line(span: u32) -> String {
        format!(
            "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"{:032x}\",\"spanId\":\"{span:016x}\"}}]}}]}}]}}\n",
            1
        )
    }

    fn file(lines: &[String]) -> (tempfile::NamedTempFile, Input) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for line in lines {
            file.write_all(line.as_bytes()).unwrap();
        }
        let input = Input::File(file.path().to_owned());
        (file, input)
    }

    /// Takes every step; returns the sizes of batches, the records and the bad ones, and the input bytes accounted for.
    async fn drain(intake: &mut Intake) -> (Vec<u64>, u64, u64, u64) {
        let (mut batches, mut records, mut bad, mut input) = (Vec::new(), 0, 0, 0);
        loop {
            match intake.next().await {
                Step::Record { .. } => records += 1,
                Step::Bad { bytes, .. } => {
                    bad += 1;
                    input += bytes;
                }
                Step::Work(work) => {
                    batches.push(work.spans());
                    input += work.input_bytes;
                }
                Step::End => return (batches, records, bad, input),
            }
        }
    }

    #[tokio::test]
    async fn small_records_become_full_batches_and_all_bytes_are_accounted_for() {
        let mut lines: Vec<String> = (1..=7).map(line).collect();
        lines.insert(4, "nonsense\n".into());
        let (file, input) = file(&lines);
        let mut intake = Intake::start(vec![input], LIMITS, 1, Reading::default()).unwrap();
        let (batches, records, bad, bytes) = drain(&mut intake).await;
        assert_eq!((batches, records, bad), (vec![3, 3, 1], 7, 1));
        assert_eq!(bytes, file.as_file().metadata().unwrap().len());
        assert!(intake.has_read_all());
    }

    #[tokio::test]
    async fn a_reader_that_is_stopped_has_not_read_all() {
        let lines: Vec<String> = (1..=1000).map(line).collect();
        let (_file, input) = file(&lines);
        let mut intake = Intake::start(vec![input], LIMITS, 1, Reading::default()).unwrap();
        let first = intake.next().await;
        assert!(matches!(first, Step::Record { .. }), "{first:?}");
        intake.stop();
        let (batches, records, ..) = drain(&mut intake).await;
        assert!(records < 1000, "{records}");
        assert!(batches.iter().sum::<u64>() <= records + 1);
        assert!(!intake.has_read_all());
    }

    #[tokio::test]
    async fn strict_ends_at_the_first_bad_record() {
        let lines = [line(1), "nonsense\n".into(), line(2)];
        let (_file, input) = file(&lines);
        let strict = Reading {
            is_strict: true,
            ..Reading::default()
        };
        let mut intake = Intake::start(vec![input], LIMITS, 1, strict).unwrap();
        let (batches, records, bad, _) = drain(&mut intake).await;
        assert_eq!((batches, records, bad), (vec![1], 1, 1));
        assert!(!intake.has_read_all());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_held_until_the_work_is_done() {
        let limits = BatchLimits {
            spans: 10,
            bytes: 1024,
        };
        let memory = Memory::new(limits, 2);
        let bound = memory.units as usize * Memory::UNIT;
        assert_eq!(bound, Memory::AHEAD + 4 * 1024);
        let all_but_one = memory.hold(bound - Memory::UNIT).await.unwrap();
        let last = memory.hold(1).await.unwrap();
        let full = tokio::time::timeout(Duration::from_secs(1), memory.hold(1)).await;
        assert!(full.is_err());
        drop(last);
        drop(memory.hold(1).await.unwrap());
        let huge = tokio::time::timeout(Duration::from_secs(1), memory.hold(bound * 9)).await;
        assert!(
            huge.is_err(),
            "what is larger than the bound waits until it is alone"
        );
        drop(all_but_one);
        drop(memory.hold(bound * 9).await.unwrap());
    }
}
