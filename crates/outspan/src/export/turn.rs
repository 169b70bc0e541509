//! When an export that takes long gives way to others.

use std::ops::Range;
#[cfg(feature = "_network")]
use std::time::Duration;

#[cfg(feature = "_network")]
use tokio::time::Instant;

#[cfg(feature = "_network")]
use super::Turns;
#[cfg(feature = "_network")]
use super::turns;
use crate::Batch;

/// How long the requests of a batch go on while others wait.
#[cfg(feature = "_network")]
const TURN: Duration = Duration::from_millis(500);

/// The turn of an export that makes many requests.
#[derive(Debug)]
pub(crate) struct Turn {
    #[cfg(feature = "_network")]
    began: Instant,
}

impl Turn {
    pub(crate) fn begin() -> Self {
        Self {
            #[cfg(feature = "_network")]
            began: Instant::now(),
        }
    }

    /// Whether others get their turn now, before the span with the number `next`: other batches, or the spans of other
    /// resources in this one.
    #[cfg(feature = "_network")]
    pub(crate) fn is_over(&self, batch: &Batch, next: usize) -> bool {
        self.began.elapsed() >= TURN
            && match turns() {
                Turns::No => false,
                Turns::OthersWait => true,
                Turns::NobodyWaits => end_of_resource(batch, next) < batch.spans(),
            }
    }

    /// Queues in front of exporters that make one request of a batch take no turns.
    #[cfg(not(feature = "_network"))]
    pub(crate) fn is_over(&self, _batch: &Batch, _next: usize) -> bool {
        false
    }
}

/// The number of the span behind those of the resource to which the span with the number `place` belongs.
fn end_of_resource(batch: &Batch, place: usize) -> usize {
    let mut end = 0;
    for resource_spans in batch.view().resource_spans() {
        let scopes = resource_spans.scope_spans();
        end += scopes.map(|scope| scope.spans().count()).sum::<usize>();
        if end > place {
            break;
        }
    }
    end
}

/// Divides what is left of a batch: the spans of the resource that was being sent, and then those of the others, which need
/// not take as long.
pub(crate) fn apart(batch: &Batch, ranges: &[Range<usize>]) -> Vec<Vec<Range<usize>>> {
    let first = ranges.iter().map(|range| range.start).min();
    let end = end_of_resource(batch, first.unwrap_or(0));
    let same = ranges.iter().map(|range| range.start..range.end.min(end));
    let others = ranges.iter().map(|range| range.start.max(end)..range.end);
    let parts = [same.collect::<Vec<_>>(), others.collect()];
    let parts = parts.into_iter().map(|mut ranges| {
        ranges.retain(|range| !range.is_empty());
        ranges
    });
    parts.filter(|ranges| !ranges.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_divided_behind_the_resource_that_was_being_sent() {
        // Two resources of three spans each, ids 1 to 6.
        let field =
            |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
        let span = |id: u8| field(2, &[field(1, &[id; 16]), field(2, &[id; 8])].concat());
        let resource = |ids: [u8; 3]| field(1, &field(2, &ids.map(span).concat()));
        let request = [resource([1, 2, 3]), resource([4, 5, 6])].concat();
        let batch = Batch::from_request(request).unwrap().batch;
        let ends: Vec<_> = (0..6).map(|place| end_of_resource(&batch, place)).collect();
        assert_eq!(ends, [3, 3, 3, 6, 6, 6]);
        let parts = |ranges: &[Range<usize>]| -> Vec<Vec<_>> {
            let parts = apart(&batch, ranges).into_iter();
            parts
                .map(|part| part.iter().map(|range| (range.start, range.end)).collect())
                .collect()
        };
        let both: [&[_]; 2] = [&[(1, 2), (2, 3)], &[(3, 6)]];
        assert_eq!(parts(&[1..2, 2..6]), both);
        assert_eq!(parts(&[4..5, 5..6]), [[(4, 5), (5, 6)]]);
        assert_eq!(parts(&[0..2, 6..6]), [[(0, 2)]]);
    }
}
