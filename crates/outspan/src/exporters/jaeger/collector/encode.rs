//! Bodies of requests: Thrift batches, each of one resource and within the limit.

use outspan_wire::jaeger::WriteOptions;
use outspan_wire::jaeger::Writer;

use crate::Batch;
use crate::Result;
use crate::net::Compressor;
use crate::net::Message;
use crate::net::messages_of;

/// Writes a batch as requests of at most `limit` bytes.
pub(super) fn messages(
    part: &Batch,
    options: WriteOptions,
    limit: usize,
    compressor: Compressor,
) -> Result<Vec<Message>> {
    let mut writer = Writer::new(options.bytes_max(limit));
    let pieces = writer.pieces(part.as_request());
    messages_of(part, pieces, limit, compressor)
}
