//! The batch that requests are merged into.

use outspan::Batch;
use outspan::queue::Room;
use tokio::time::Instant;

use super::BatchLimits;

/// Requests smaller than this are put together early, so that thousands of them do not cost an allocation each.
const SMALL: usize = 4096;

/// How many small requests are put together at a time.
const SMALL_PIECES: usize = 64;

/// Collects requests that go to the same destinations, until there are enough or their time is up.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    pieces: Vec<Batch>,
    /// How many pieces at the end are small.
    small: usize,
    bytes: usize,
    spans: usize,
    /// Room in each destination's queue; none in those that do not get this batch.
    rooms: Vec<Option<Room>>,
    opened_at: Option<Instant>,
}

impl OpenBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many pieces it holds.
    #[cfg(test)]
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// When the first request came, if one did.
    pub(super) fn opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    /// Adds a request, and gives back what is complete by that.
    pub(super) fn add(
        &mut self,
        piece: Batch,
        rooms: Vec<Option<Room>>,
        limits: &BatchLimits,
    ) -> Vec<Self> {
        let mut done = Vec::new();
        if !self.is_empty() && !self.takes(&piece, &rooms, limits) {
            done.push(std::mem::take(self));
        }
        self.put(piece, rooms);
        if self.bytes >= limits.bytes || self.spans >= limits.spans {
            done.push(std::mem::take(self));
        }
        done
    }

    /// Whether a request fits in here, and goes to the same destinations.
    fn takes(&self, piece: &Batch, rooms: &[Option<Room>], limits: &BatchLimits) -> bool {
        let goes_along = self
            .rooms
            .iter()
            .zip(rooms)
            .all(|(ours, theirs)| ours.is_some() == theirs.is_some());
        goes_along
            && self.bytes + piece.size() <= limits.bytes
            && self.spans + piece.spans() <= limits.spans
    }

    fn put(&mut self, piece: Batch, rooms: Vec<Option<Room>>) {
        self.opened_at.get_or_insert_with(Instant::now);
        self.bytes += piece.size();
        self.spans += piece.spans();
        let is_small = piece.size() < SMALL;
        self.pieces.push(piece);
        self.small = match is_small {
            true => self.small + 1,
            false => 0,
        };
        if self.small == SMALL_PIECES {
            let first = self.pieces.len() - SMALL_PIECES;
            let small = self.pieces.split_off(first);
            self.pieces.push(Batch::concatenate(&small));
            self.small = 0;
        }
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
        if self.is_empty() {
            return (Vec::new(), self.rooms);
        }
        let whole = Batch::concatenate(&self.pieces);
        let batches = whole
            .split_by_bytes(limits.bytes)
            .into_iter()
            .flat_map(|part| part.split_by_spans(limits.spans))
            .collect();
        (batches, self.rooms)
    }
}
