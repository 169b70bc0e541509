//! Makes the bytes of a record.
//!
//! ```text
//! JSON lines:  OTLP JSON of the batch, line feed
//! protobuf:    length (4 bytes, big-endian), ExportTraceServiceRequest
//! ```
//!
//! With compression, these bytes are one gzip member (RFC 1952) or one Zstandard frame (RFC 8878).

use bytes::Bytes;

use super::Format;
use crate::Batch;
use crate::Compression;
use crate::Error;
use crate::Result;

/// The largest batch that becomes one record. Its JSON form stays well below the 64 MiB that readers take by default.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Encodes batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoder {
    pub(super) format: Format,
    pub(super) compression: Compression,
    pub(super) level: u32,
}

impl Encoder {
    /// Splits what would be too large a record.
    pub(super) fn split(&self, batch: &Batch) -> Vec<Batch> {
        batch.split_by_bytes(BATCH_BYTES_MAX)
    }

    pub(super) fn encode(&self, batch: &Batch) -> Result<Bytes> {
        let plain = match self.format {
            Format::Json => {
                let mut line = batch.to_json();
                line.push(b'\n');
                line
            }
            _ => with_length(batch.as_request())?,
        };
        self.compression.compress(self.level, &plain.into())
    }
}

fn with_length(request: &[u8]) -> Result<Vec<u8>> {
    let length =
        u32::try_from(request.len()).map_err(|_| Error::too_large("a record has at most 4 GiB"))?;
    let mut record = Vec::with_capacity(request.len() + 4);
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(request);
    Ok(record)
}
