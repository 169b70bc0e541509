//! Bodies of requests: Thrift batches, each of one resource and within the limit.

use outspan_wire::jaeger::WriteOptions;
use outspan_wire::jaeger::Writer;

use crate::Batch;
use crate::Result;
use crate::net::Compressor;
use crate::net::Message;
use crate::net::messages_of;

/// How much memory [`messages`] takes: the messages, and the two that the writer works on.
pub(super) fn memory(part: &Batch, limit: usize) -> usize {
    /// What a byte of a request becomes at most, control characters included.
    const TIMES: usize = 8;

    let spread = part.spread_size().saturating_mul(TIMES);
    limit.saturating_mul(4).min(spread)
}

/// Writes spans of a batch, from the number `first` on, as requests of at most `limit` bytes: so many requests that they
/// have about that many bytes together.
pub(super) fn messages(
    part: &Batch,
    first: usize,
    options: WriteOptions,
    limit: usize,
    compressor: Compressor,
) -> Result<Vec<Message>> {
    let mut writer = Writer::new(options.bytes_max(limit));
    let pieces = writer.pieces_from(part.as_request(), first);
    messages_of(part, pieces, limit, compressor)
}
