//! Queues at the edges: largest and smallest settings, nested readers, several runtimes, and exporters that count wrongly.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use futures_executor::block_on;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::DropReason;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::engine::Ack;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
use outspan::engine::ReserveError;
use outspan::engine::SpanQueue;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::runtime::Builder;

const SOON: Duration = Duration::from_secs(10);

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        thread::yield_now();
    }
}

fn push(queue: &MemoryQueue, batch: Batch) {
    let permit = queue.try_reserve(batch.memory(), batch.spans()).unwrap();
    queue.push(batch, permit, Ack::none()).unwrap();
}

fn given() -> tokio::runtime::Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// Gives the same answer to every batch.
#[derive(Debug)]
struct Answers(fn(&Batch) -> Delivery);

impl Export for Answers {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        Ok(self.0(&batch))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[test]
fn largest_bounds_of_two_readers_have_a_sum() {
    let child = ScriptedExporter::new();
    let reader = || {
        MemoryQueue::builder(child.exporter())
            .bytes(usize::MAX)
            .concurrent_exports(usize::MAX)
            .attempt_timeout(Some(Duration::MAX))
            .export_limit(Some(Duration::MAX))
    };
    let queue = reader().name("a").with_reader(reader().name("b"));
    let queue = queue.start().unwrap();
    assert_eq!(queue.bytes_max(), usize::MAX);
    push(&queue, batch_of(3));
    let drained = block_on(queue.shutdown(Deadline::after(Duration::MAX))).unwrap();
    assert!(drained.is_complete(), "{drained}");
    assert_eq!(drained.delivered, 6);
}

#[test]
fn reservations_of_the_largest_size_keep_the_books_balanced() {
    let child = ScriptedExporter::new();
    let queue = MemoryQueue::builder(child.exporter()).bytes(usize::MAX);
    let queue = queue.start().unwrap();
    let permits: Vec<_> = (0..3)
        .filter_map(|_| queue.try_reserve(usize::MAX, usize::MAX).ok())
        .collect();
    assert!(queue.account().closes());
    drop(permits);
    let account = queue.account();
    assert!(account.closes(), "{account}");
    assert_eq!(queue.bytes(), 0);
    push(&queue, batch_of(2));
    let drained = block_on(queue.shutdown(soon())).unwrap();
    assert_eq!(drained.delivered, 2);
}

#[test]
fn readers_of_an_added_reader_are_readers() {
    let [a, b, c] = [(); 3].map(|()| ScriptedExporter::new());
    let reader = |child: &ScriptedExporter, name| MemoryQueue::builder(child.exporter()).name(name);
    let nested = reader(&b, "b").with_reader(reader(&c, "c"));
    let queue = reader(&a, "a").with_reader(nested).start().unwrap();
    let names: Vec<_> = queue.status().into_iter().map(|of| of.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    push(&queue, batch_of(4));
    assert!(block_on(queue.flush(soon())).unwrap().is_complete());
    for child in [&a, &b, &c] {
        assert_eq!(child.received().len(), 4);
    }
    let nested = reader(&b, "b").with_reader(reader(&c, "a"));
    let error = reader(&a, "a").with_reader(nested).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn batches_of_a_reader_are_due_when_another_runtime_has_ended() {
    let [ended, healthy] = [(); 2].map(|()| ScriptedExporter::new());
    let runtime = given();
    let first = MemoryQueue::builder(ended.exporter())
        .name("ended")
        .runtime(runtime.handle().clone())
        .batches(BatchLimits {
            delay: Duration::from_millis(20),
            ..BatchLimits::default()
        });
    let second = MemoryQueue::builder(healthy.exporter()).name("healthy");
    let queue = first.with_reader(second).start().unwrap();
    drop(runtime);
    for round in 1..=3 {
        push(&queue, batch_of(2));
        wait_until("the batch is due", || healthy.received().len() == 2 * round);
    }
}

#[test]
fn batches_of_a_reader_are_due_when_another_runtime_is_not_driven() {
    let [stuck, healthy] = [(); 2].map(|()| ScriptedExporter::new());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let first = MemoryQueue::builder(stuck.exporter())
        .name("stuck")
        .runtime(runtime.handle().clone())
        .batches(BatchLimits {
            delay: Duration::from_millis(20),
            ..BatchLimits::default()
        });
    let second = MemoryQueue::builder(healthy.exporter()).name("healthy");
    let queue = first.with_reader(second).start().unwrap();
    for round in 1..=3 {
        push(&queue, batch_of(2));
        wait_until("the batch is due", || healthy.received().len() == 2 * round);
    }
}

#[test]
fn ended_reader_makes_no_space_for_full_ones() {
    let [ended, slow] = [(); 2].map(|()| ScriptedExporter::new());
    slow.always(Act::Hang);
    let runtime = given();
    let batch = batch_of(10);
    let first = MemoryQueue::builder(ended.exporter())
        .name("ended")
        .runtime(runtime.handle().clone());
    let second = MemoryQueue::builder(slow.exporter())
        .name("slow")
        .bytes(batch.memory() * 3 / 2);
    let queue = first.with_reader(second).start().unwrap();
    drop(runtime);
    push(&queue, batch.clone());
    let reserved = queue.try_reserve(batch.memory(), 10);
    assert_eq!(reserved.err(), Some(ReserveError::Full));
    assert!(!queue.has_room(batch.memory()));
    let checked = SpanQueue::check(&queue, batch.memory());
    assert_eq!(checked.err(), Some(ReserveError::Full));
    let slow = queue.reader("slow").unwrap().status().account;
    assert_eq!(slow.dropped.of(DropReason::QueueFull), 0, "{slow}");
    let ended = queue.reader("ended").unwrap().status().account;
    assert_eq!(ended.dropped.of(DropReason::Shutdown), 10, "{ended}");
}

#[test]
fn empty_parts_of_an_answer_are_not_exported_again() {
    let empty_rest = |batch: &Batch| {
        let mut delivery = Delivery::of(batch);
        delivery.leave(Batch::empty(), Error::unavailable("nothing is left"));
        delivery
    };
    let exporter = Exporter::new(Answers(empty_rest));
    let queue = MemoryQueue::builder(exporter).start().unwrap();
    push(&queue, batch_of(5));
    assert!(block_on(queue.flush(soon())).unwrap().is_complete());
    wait_until("the queue is empty", || queue.exports() == 0);
    assert_eq!(queue.batches(), 0);
    assert_eq!(queue.trouble(), None);
}

#[test]
fn empty_batches_are_never_exported() {
    let child = ScriptedExporter::new();
    let queue = MemoryQueue::builder(child.exporter()).start().unwrap();
    push(&queue, Batch::empty());
    assert!(block_on(queue.shutdown(soon())).unwrap().is_complete());
    assert!(child.exports().is_empty());
}

#[test]
fn spans_are_accounted_for_when_an_exporter_counts_wrongly() {
    let answers: [fn(&Batch) -> Delivery; 6] = [
        |_| Delivery::default(),
        |batch| {
            let mut delivery = Delivery::of(batch);
            delivery.accepted = u64::MAX;
            delivery.refused = u64::MAX;
            delivery.filtered = u64::MAX;
            delivery
        },
        |batch| {
            let mut delivery = Delivery::of(batch);
            delivery.leave(batch.clone(), Error::refused("and yet"));
            delivery
        },
        |batch| {
            let mut delivery = Delivery::of(batch);
            delivery.accepted = u64::MAX;
            delivery.leave(batch_of(100), Error::too_large("of another batch"));
            delivery
        },
        |batch| {
            let mut delivery = Delivery::default();
            delivery.accepted = u64::MAX / 2 + 1;
            match batch.spans() {
                1 => {}
                _ => delivery.leave(batch.clone(), Error::too_large("all of it")),
            }
            delivery
        },
        |batch| {
            let mut delivery = Delivery::default();
            delivery.refused = 1;
            delivery.leave(batch.clone(), Error::refused("twice"));
            delivery.leave(batch.clone(), Error::refused("thrice"));
            delivery
        },
    ];
    for (place, answer) in answers.into_iter().enumerate() {
        let queue = MemoryQueue::builder(Exporter::new(Answers(answer)));
        let queue = queue.start().unwrap();
        for spans in [1, 2, 7] {
            push(&queue, batch_of(spans));
        }
        let drained = block_on(queue.shutdown(soon())).unwrap();
        let account = queue.account();
        assert!(account.closes(), "{place}: {account}");
        assert_eq!((account.received, account.open()), (10, 0), "{place}");
        assert_eq!(
            drained.delivered + drained.refused + drained.lost.total(),
            10,
            "{place}: {drained}"
        );
        assert_eq!(queue.bytes(), 0, "{place}");
    }
}

#[test]
fn futures_of_a_queue_can_be_dropped_at_each_await() {
    let child = ScriptedExporter::new();
    let batch = batch_of(10);
    for polls in 0..6 {
        child.always(Act::Hang);
        let queue = MemoryQueue::builder(child.exporter())
            .bytes(batch.memory() * 3 / 2)
            .start()
            .unwrap();
        push(&queue, batch.clone());
        let poll = |future: &mut (dyn Future<Output = ()> + Unpin)| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..polls {
                if std::pin::Pin::new(&mut *future)
                    .poll(&mut context)
                    .is_ready()
                {
                    return;
                }
            }
        };
        poll(&mut Box::pin(async {
            drop(queue.reserve(batch.memory(), 10, soon()).await);
        }));
        poll(&mut Box::pin(async { drop(queue.flush(soon()).await) }));
        let reserved = queue.try_reserve(batch.memory(), 10);
        assert_eq!(reserved.err(), Some(ReserveError::Full));
        let small = queue.try_reserve(1, 1).expect("nobody waits any more");
        small.release();
        poll(&mut Box::pin(async { drop(queue.shutdown(soon()).await) }));
        let end = Deadline::after(Duration::from_millis(20));
        let drained = block_on(queue.shutdown(end)).unwrap();
        assert_eq!(drained.lost.of(DropReason::Shutdown), 10, "{polls} polls");
        let account = queue.account();
        assert!(account.closes() && account.open() == 0, "{account}");
        assert_eq!(queue.bytes(), 0);
    }
}

#[test]
fn time_limits_of_nothing_are_found_when_the_queue_starts() {
    let child = ScriptedExporter::new();
    let builder = || MemoryQueue::builder(child.exporter());
    for wrong in [
        builder().attempt_timeout(Some(Duration::ZERO)),
        builder().export_limit(Some(Duration::ZERO)),
        builder().with_reader(builder().name("b").attempt_timeout(Some(Duration::ZERO))),
    ] {
        let error = wrong.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
