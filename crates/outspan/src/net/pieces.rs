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

/// Compresses the pieces of a batch, each of which has room for `limit` bytes, until the messages together have that many.
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

    let mut messages = Vec::new();
    let mut bytes = 0;
    for piece in pieces {
        let piece = piece.map_err(|error| {
            Error::internal("a batch cannot be written in this format").with_source(error)
        })?;
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
        if bytes >= limit || messages.len() >= PIECES_MAX {
            break;
        }
    }
    Ok(messages)
}
