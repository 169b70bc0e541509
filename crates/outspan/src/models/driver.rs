//! The protocol by which a queue's driver learns of pushes, and a flush learns that batches have ended.
//!
//! ```text
//!   push:   lock, add, unlock ──▶ wake one
//!   driver: lock, take ──▶ none: wait to be woken; a wake that comes earlier is kept as one permit
//!   end:    lock, count, unlock ──▶ send progress
//!   flush:  subscribe ──▶ mark as seen ──▶ lock, look ──▶ not done: wait for progress since the mark
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::AtomicUsize;
use shuttle::thread;
use tokio::sync::Notify;
use tokio::sync::watch;

const PUSHES: u32 = 4;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Only a driver that waits already is woken.
    WakeWithoutPermit,
    /// The driver is woken before there is something to take.
    WakeBeforePush,
    /// A flush subscribes after it has looked.
    LateSubscription,
}

#[derive(Default)]
struct Schedule {
    waiting: u32,
    held: u32,
}

struct Queue {
    schedule: Mutex<Schedule>,
    wake: Notify,
    progress: watch::Sender<()>,
    fault: Option<Fault>,
    steps: AtomicUsize,
}

impl Queue {
    /// Lets another thread run. Shuttle does not know that the next step is one, because it is a step of tokio's types.
    fn step(&self) {
        self.steps.load(Ordering::Relaxed);
    }

    fn push(&self) {
        if self.fault == Some(Fault::WakeBeforePush) {
            self.wake.notify_one();
            self.step();
        }
        {
            let mut schedule = self.schedule.lock().unwrap();
            schedule.waiting += 1;
            schedule.held += 1;
        }
        self.step();
        match self.fault {
            Some(Fault::WakeBeforePush) => {}
            Some(Fault::WakeWithoutPermit) => self.wake.notify_waiters(),
            _ => self.wake.notify_one(),
        }
    }

    fn take(&self) -> bool {
        let mut schedule = self.schedule.lock().unwrap();
        let is_some = schedule.waiting > 0;
        schedule.waiting -= u32::from(is_some);
        is_some
    }

    async fn drive(&self) {
        let mut ended = 0;
        while ended < PUSHES {
            while self.take() {
                self.schedule.lock().unwrap().held -= 1;
                self.step();
                self.progress.send_replace(());
                ended += 1;
            }
            if ended < PUSHES {
                self.step();
                self.wake.notified().await;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.schedule.lock().unwrap().held == 0
    }

    async fn flush(&self) {
        if self.fault == Some(Fault::LateSubscription) && self.is_empty() {
            return;
        }
        self.step();
        let mut progress = self.progress.subscribe();
        let mut has_looked = self.fault == Some(Fault::LateSubscription);
        loop {
            self.step();
            progress.mark_unchanged();
            if !std::mem::take(&mut has_looked) && self.is_empty() {
                return;
            }
            self.step();
            if progress.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Two threads push, one drives, and two flush. A wake-up that is missed is a deadlock.
pub(super) fn pushes_and_flush(fault: Option<Fault>) {
    let queue = Arc::new(Queue {
        schedule: Mutex::default(),
        wake: Notify::new(),
        progress: watch::Sender::new(()),
        fault,
        steps: AtomicUsize::new(0),
    });
    let run = |work: fn(&Queue)| {
        let queue = Arc::clone(&queue);
        thread::spawn(move || work(&queue))
    };
    let threads = [
        run(|queue| block_on(queue.drive())),
        run(|queue| {
            queue.push();
            queue.push();
        }),
        run(|queue| {
            queue.push();
            block_on(queue.flush());
            queue.push();
            block_on(queue.flush());
        }),
        run(|queue| block_on(queue.flush())),
    ];
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(queue.is_empty());
}
