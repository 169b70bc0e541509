//! The batch that requests are merged into, and the room that was taken for it.

use outspan::Batch;
use outspan::engine::BatchLimits;
use outspan::engine::Merger;
use outspan::engine::Room;
use tokio::time::Instant;

/// Collects requests that go to the same destinations, until there are enough or their time is up.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    merger: Merger,
    /// Room in each destination's queue; none in those that do not get this batch.
    rooms: Vec<Option<Room>>,
}

impl OpenBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.merger.is_empty()
    }

    /// When the first request came, if one did.
    pub(super) fn opened_at(&self) -> Option<Instant> {
        self.merger.opened_at()
    }

    /// How many pieces it holds.
    #[cfg(test)]
    pub(super) fn pieces(&self) -> usize {
        self.merger.pieces()
    }

    /// Adds a request, and gives back what is complete by that.
    pub(super) fn add(
        &mut self,
        piece: Batch,
        rooms: Vec<Option<Room>>,
        limits: &BatchLimits,
    ) -> Vec<Self> {
        let mut done = Vec::new();
        if !self.goes_along(&rooms) || !self.merger.fits(&piece, limits) {
            done.push(std::mem::take(self));
        }
        self.merger.put(piece);
        self.take(rooms);
        if self.merger.is_full(limits) {
            done.push(std::mem::take(self));
        }
        done
    }

    /// Whether a request goes to the same destinations.
    fn goes_along(&self, rooms: &[Option<Room>]) -> bool {
        let mut both = self.rooms.iter().zip(rooms);
        both.all(|(ours, theirs)| ours.is_some() == theirs.is_some())
    }

    fn take(&mut self, rooms: Vec<Option<Room>>) {
        if self.rooms.is_empty() {
            self.rooms = rooms;
            return;
        }
        for (ours, theirs) in self.rooms.iter_mut().zip(rooms) {
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                // Both are of the same destination's queue: the lists are in the order of the destinations.
                let merged = ours.merge(theirs);
                debug_assert!(merged.is_ok(), "room of another queue");
            }
        }
    }

    /// Puts everything together: one batch, or several if one request alone is too large.
    pub(super) fn finish(self, limits: &BatchLimits) -> (Vec<Batch>, Vec<Option<Room>>) {
        (self.merger.finish(limits), self.rooms)
    }
}
