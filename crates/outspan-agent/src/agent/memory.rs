//! How the bound of memory is divided.
//!
//! ```text
//!   3/8  queues: what was accepted and is not delivered yet, in equal shares for the destinations
//!   3/8  requests on their way in: bodies, what decompression makes of them, what JSON becomes
//!   1/4  everything else: connections, compressed forms, trees that wait for their last span, the program itself, what
//!        the allocator wastes
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// The least bound that leaves room for work.
pub(crate) const MEMORY_MIN: usize = 16 << 20;

/// What a connection is counted with, in bytes: idle ones were measured at 4 to 27 KiB, busy ones of HTTP/2 at about 40.
const CONNECTION_BYTES: usize = 40 << 10;

/// There is one waiting answer for so many bytes of the bound.
const WAITING_ANSWER_SHARE: usize = 256 << 10;

/// Says how much of the bound each part gets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Division {
    /// For each destination's queue.
    pub(crate) queue: usize,
    /// For requests on their way in, all together.
    pub(crate) receiving: usize,
    /// How many connections may be open.
    pub(crate) connections: usize,
    /// How many answers may wait: fewer than connections, so that over HTTP/1, too, one more sender gets an answer.
    pub(crate) waiting_answers: usize,
}

impl Division {
    /// Divides `memory` bytes.
    pub(crate) fn of(memory: usize, destinations: usize) -> Self {
        let share = memory / 8 * 3;
        Self {
            queue: share / destinations.max(1),
            receiving: share,
            connections: memory / 4 / CONNECTION_BYTES,
            waiting_answers: memory / WAITING_ANSWER_SHARE,
        }
    }
}

/// Counts the bytes of requests on their way in against their bound.
#[derive(Debug)]
pub(crate) struct Intake {
    max: usize,
    used: AtomicUsize,
}

/// Bytes that are taken from an [`Intake`], until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    intake: Arc<Intake>,
    bytes: usize,
}

impl Intake {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            used: AtomicUsize::new(0),
        }
    }

    /// How many bytes there are in all.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// How many bytes are taken.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes are free at this moment.
    pub(crate) fn free(&self) -> usize {
        self.max.saturating_sub(self.used())
    }

    /// Takes nothing yet; [`Taken::grow`] does.
    pub(crate) fn begin(self: &Arc<Self>) -> Taken {
        Taken {
            intake: Arc::clone(self),
            bytes: 0,
        }
    }

    fn try_take(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.max)
            })
            .is_ok()
    }
}

impl Taken {
    /// How many bytes are taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many bytes more; false, and nothing changes, if they are not there.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let is_taken = self.intake.try_take(more);
        if is_taken {
            self.bytes += more;
        }
        is_taken
    }

    /// Gives bytes back that are not needed any more.
    pub(crate) fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.intake.used.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_never_passes_the_bound() {
        let intake = Arc::new(Intake::new(100));
        let mut one = intake.begin();
        let mut other = intake.begin();
        assert!(one.grow(60));
        assert!(!other.grow(41));
        assert!(other.grow(40));
        assert!(!one.grow(usize::MAX), "no overflow");
        one.shrink(10);
        assert_eq!((one.bytes(), intake.free()), (50, 10));
        drop(one);
        drop(other);
        assert_eq!(intake.used(), 0);
    }

    #[test]
    fn the_division_stays_within_the_bound() {
        for destinations in 1..=64 {
            let memory = 256 << 20;
            let division = Division::of(memory, destinations);
            assert!(division.queue * destinations + division.receiving <= memory / 4 * 3);
            assert!(division.waiting_answers < division.connections);
        }
        let division = Division::of(256 << 20, 1);
        assert_eq!(
            (division.connections, division.waiting_answers),
            (1638, 1024)
        );
    }
}
