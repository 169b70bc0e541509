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
use crate::batch::Parts;

/// The largest record, in bytes before compression: what a reader may have to hold. Readers take 64 MiB by default.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// Encodes batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoder {
    pub(super) format: Format,
    pub(super) compression: Compression,
    pub(super) level: u32,
}

impl Encoder {
    /// Splits what would be too large a record, one part at a time.
    pub(super) fn split<'a>(&self, batch: &'a Batch) -> Parts<'a> {
        batch.parts_by_bytes(RECORD_BYTES_MAX)
    }

    /// Makes a record.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if the record would have more than 16 MiB; writing it stops there.
    pub(super) fn encode(&self, batch: &Batch) -> Result<Bytes> {
        let plain = match self.format {
            _ if batch.size() > RECORD_BYTES_MAX => return Err(too_large(batch, batch.size())),
            Format::Json => {
                let json = batch.to_json_within(RECORD_BYTES_MAX);
                let Some(mut line) = json else {
                    let error = too_large(batch, RECORD_BYTES_MAX + 1);
                    return Err(match batch.has_room_in_json(RECORD_BYTES_MAX) {
                        true => error,
                        false => error.for_each_span(),
                    });
                };
                line.push(b'\n');
                line
            }
            _ => with_length(batch.as_request())?,
        };
        self.compression
            .compress_within(self.level, &plain.into(), RECORD_BYTES_MAX)
    }
}

/// Says that spans are too large for a record, and which where it is one. `bytes` is how many they have at least.
fn too_large(batch: &Batch, bytes: usize) -> Error {
    let spans = match (batch.spans(), batch.iter().next()) {
        (1, Some(span)) => {
            let name: String = span.name().chars().take(NAME_CHARACTERS).collect();
            format!("span {name:?} has")
        }
        (spans, _) => format!("{spans} spans have"),
    };
    Error::too_large(format!(
        "{spans} {bytes} bytes in this format, more than the {RECORD_BYTES_MAX} of a record"
    ))
    .with_limit(RECORD_BYTES_MAX as u64)
}

/// How much of a span's name an error shows.
const NAME_CHARACTERS: usize = 100;

fn with_length(request: &[u8]) -> Result<Vec<u8>> {
    let length =
        u32::try_from(request.len()).map_err(|_| Error::too_large("a record has at most 4 GiB"))?;
    let mut record = Vec::with_capacity(request.len() + 4);
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(request);
    Ok(record)
}
