//! From the pieces that a format's writer makes of a batch to the messages that are sent.

use outspan_wire::Piece;
use outspan_wire::PieceContent;
use outspan_wire::otlp::WireError;

use crate::Batch;
use crate::Error;
use crate::Result;

use super::Compressor;
use super::Message;
use super::too_large;

/// Compresses the pieces of a batch, each of which has room for `limit` bytes, until the messages together have that many,
/// or the pieces a few times as many.
///
/// The pieces begin with a span of the batch, and the caller comes back for those that are left: all messages together may
/// be a thousand times as large as the batch.
pub(crate) fn messages_of(
    part: &Batch,
    pieces: impl Iterator<Item = Result<Piece, WireError>>,
    limit: usize,
    compressor: Compressor,
) -> Result<Vec<Message>> {
    /// The writer holds the pieces before compression, so that many small bodies are no reason to hold many pieces.
    const PIECES_MAX: usize = 1024;

    /// How many times the limit is written for one call, with what is too large and what becomes small when compressed: the
    /// time that a call takes is bounded as well as its memory.
    const LIMITS_MAX: usize = 4;

    let mut messages = Vec::new();
    let mut bytes = 0;
    let mut written: usize = 0;
    for piece in pieces {
        let piece = piece.map_err(|error| {
            Error::internal("a batch cannot be written in this format").with_source(error)
        })?;
        written = written.saturating_add(match &piece.content {
            PieceContent::Bytes(plain) => plain.len(),
            // Its writer stopped at the limit, or saw before that it was no use. Calls must not become so many either: each
            // looks for its first span.
            _ => limit / 16,
        });
        let body = match piece.content {
            PieceContent::Bytes(plain) => compressor.compress_within(&plain, limit),
            PieceContent::TooLarge { bytes } => {
                Err(too_large(part, piece.spans.clone(), bytes, limit))
            }
            other => Err(Error::internal(format!("an unknown piece: {other:?}"))),
        };
        let message = Message {
            spans: piece.spans,
            body,
        };
        bytes += message.len();
        messages.push(message);
        let is_enough = bytes >= limit || written >= limit.saturating_mul(LIMITS_MAX);
        if is_enough || messages.len() >= PIECES_MAX {
            break;
        }
    }
    Ok(messages)
}
