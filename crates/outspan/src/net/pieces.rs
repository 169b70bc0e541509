//! From the pieces that a format's writer makes of a batch to the messages that are sent.

use outspan_wire::Piece;
use outspan_wire::PieceContent;
use outspan_wire::otlp::WireError;

use crate::Batch;
use crate::Error;
use crate::Result;

use super::Compressor;
use super::Message;
use super::cut;
use super::too_large;

/// Compresses the pieces of a batch, each of which has room for `limit` bytes.
pub(crate) fn messages_of(
    part: &Batch,
    pieces: impl Iterator<Item = Result<Piece, WireError>>,
    limit: usize,
    compressor: Compressor,
) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for piece in pieces {
        let piece = piece.map_err(|error| {
            Error::internal("a batch cannot be written in this format").with_source(error)
        })?;
        let body = match piece.content {
            PieceContent::Bytes(plain) => compressor.compress(&plain),
            PieceContent::TooLarge { bytes } => {
                Err(too_large(&cut(part, piece.spans.clone()), bytes, limit))
            }
            other => Err(Error::internal(format!("an unknown piece: {other:?}"))),
        };
        messages.push(Message {
            spans: piece.spans,
            body,
        });
    }
    Ok(messages)
}
