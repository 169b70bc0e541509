//! What fits into no datagram: spans that are larger than one may be.

use outspan_wire::otlp;

use crate::Batch;
use crate::Delivery;
use crate::Error;
use crate::net::fit_to_show;

/// Collects the spans of a batch that fit into no datagram.
#[derive(Debug, Default)]
pub(super) struct Oversized {
    /// Their ordinals, ascending, with the bytes that each would need.
    spans: Vec<(usize, usize)>,
}

impl Oversized {
    /// Adds a span that comes behind those that are already here.
    pub(super) fn add(&mut self, ordinal: usize, bytes: usize) {
        self.spans.push((ordinal, bytes));
    }

    /// Leaves each span in `total`, with its error: they are taken out of the batch in one pass, however many they are.
    pub(super) fn leave(self, batch: &Batch, limit: usize, total: &mut Delivery) {
        if self.spans.is_empty() {
            return;
        }
        for (span, (_, bytes)) in self.taken_from(batch).into_iter().zip(&self.spans) {
            let error = too_large(&span, *bytes, limit);
            total.leave(span, error);
        }
    }

    fn taken_from(&self, batch: &Batch) -> Vec<Batch> {
        let mut ordinal = 0;
        let mut wanted = self.spans.iter().map(|(wanted, _)| *wanted).peekable();
        let taken = otlp::retain_spans(batch.as_request(), |_span| {
            let is_wanted = wanted.next_if_eq(&ordinal).is_some();
            ordinal += 1;
            is_wanted
        });
        match taken {
            Ok(taken) => Batch::trusted(taken.bytes, self.spans.len()).split_by_spans(1),
            // It fails on bytes that are no request alone, which a batch never holds.
            Err(_) => Vec::new(),
        }
    }
}

fn too_large(span: &Batch, bytes: usize, limit: usize) -> Error {
    let name = span.iter().next().map(|span| fit_to_show(span.name(), &[]));
    Error::too_large(format!(
        "span \"{}\" needs a packet of {bytes} bytes, more than the limit of {limit}",
        name.unwrap_or_default()
    ))
}
