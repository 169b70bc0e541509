//! Threads that end spans, while the worker takes them and shuts down.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use opentelemetry::InstrumentationScope;
use opentelemetry::SpanId;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanEvents;
use opentelemetry_sdk::trace::SpanLinks;
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread;

use super::buffer::Buffer;
use super::buffer::Chunk;
use super::buffer::Next;
use crate::DropReason;
use crate::diagnostics::Diagnostics;
use crate::engine::Books;
use crate::engine::Budget;
use crate::sdk::span_data;

const THREADS: u32 = 3;
const SPANS_OF_EACH: u32 = 3;

/// When the worker asks which chunks are being encoded by other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Mark {
    AfterClose,
    /// The planted bug: a chunk that a thread begins to encode between the two is not waited for.
    BeforeClose,
}

fn span(number: u32) -> SpanData {
    SpanData {
        span_context: SpanContext::empty_context(),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: Cow::Borrowed("span"),
        start_time: UNIX_EPOCH,
        end_time: UNIX_EPOCH,
        attributes: Vec::new(),
        // Tells one span from another.
        dropped_attributes_count: number,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

struct Scene {
    buffer: Buffer,
    books: Arc<Books>,
    packed: Mutex<Vec<u32>>,
}

impl Scene {
    /// Stands for encoding: the spans leave the buffer, counted under a reason that nothing else has here.
    fn pack(&self, chunk: Chunk) -> Vec<SpanData> {
        let Chunk { mut spans, entry } = chunk;
        let numbers = spans.drain(..).map(|span| span.dropped_attributes_count);
        self.packed.lock().unwrap().extend(numbers);
        entry.drop_spans(DropReason::Encode, None);
        spans
    }

    fn pack_waiting(&self) {
        while let Some(chunk) = self.buffer.pop() {
            let emptied = self.pack(chunk);
            self.buffer.keep_spare(emptied);
        }
    }

    fn end_spans(&self, first: u32) {
        for number in first..first + SPANS_OF_EACH {
            if let Next::Help(help) = self.buffer.add(span(number)) {
                let number = help.number();
                let emptied = self.pack(help.chunk);
                self.buffer.end_help(number, emptied);
            }
        }
    }

    fn shut_down(&self, mark: Mark) {
        let early = self.buffer.helps_begun();
        self.buffer.close();
        let helps = match mark {
            Mark::AfterClose => self.buffer.helps_begun(),
            Mark::BeforeClose => early,
        };
        self.pack_waiting();
        block_on(self.buffer.helped(helps));
        let account = self.buffer.account();
        assert_eq!(account.open(), 0, "held after the end: {account}");
    }
}

/// The buffer has room for `room` spans; for few, threads encode chunks themselves and some spans are dropped.
pub(in super::super) fn buffer_is_closed(room: usize, mark: Mark) {
    let bytes = span_data::memory(&span(0)) * room;
    let budget = Arc::new(Budget::new(bytes, None));
    let books = Books::new(budget, Arc::new(Diagnostics::default()), None);
    let scene = Arc::new(Scene {
        // Two spans are a chunk.
        buffer: Buffer::new(Arc::clone(&books), 2, 1 << 20, None),
        books,
        packed: Mutex::default(),
    });
    let threads = (0..THREADS).map(|thread| {
        let scene = Arc::clone(&scene);
        thread::spawn(move || scene.end_spans(thread * 10))
    });
    let threads: Vec<_> = threads.collect();
    let account = scene.buffer.account();
    assert!(account.closes(), "{account}");
    scene.buffer.gather();
    scene.pack_waiting();
    scene.shut_down(mark);
    for thread in threads {
        thread.join().unwrap();
    }

    let account = scene.buffer.account();
    assert_eq!(account.received, u64::from(THREADS * SPANS_OF_EACH));
    assert_eq!(account.open(), 0);
    let mut packed = scene.packed.lock().unwrap().clone();
    assert_eq!(account.dropped.of(DropReason::Encode), packed.len() as u64);
    packed.sort_unstable();
    packed.dedup();
    assert_eq!(account.dropped.of(DropReason::Encode), packed.len() as u64);
    for dropped in scene.buffer.take_losses() {
        dropped.report();
    }
    assert_eq!(scene.books.account(), account);
    assert_eq!(scene.books.budget().bytes(), 0, "all bytes are given back");
}
