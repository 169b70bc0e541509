//! The framing of gRPC: of requests, and of the answers to them.

use std::borrow::Cow;
use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use outspan_wire::grpc;
use outspan_wire::grpc::Prefix;

use crate::Batch;
use crate::Compression;
use crate::Error;
use crate::Result;
use crate::batch::Encoding;
use crate::batch::forms::FORM_BYTES_MAX;
use crate::net::Message;
use crate::net::too_large;

/// How much memory [`message`] takes for a batch of so many bytes, in bytes.
pub(super) fn memory(encoding: Encoding, size: usize, limit: usize) -> usize {
    /// What a byte of a request becomes in JSON at most, control characters and empty lists included.
    const JSON_BYTES: usize = 8;
    /// Except for empty references to entities, of which a resource has 32,768 at most.
    const REFERENCES: usize = 2 << 20;

    let plain = match encoding.json {
        true => size.saturating_mul(JSON_BYTES).saturating_add(REFERENCES),
        false => 0,
    };
    let limit = limit.min(FORM_BYTES_MAX);
    let compressed = match encoding.compression {
        Compression::None => 0,
        _ => size.max(plain).min(limit),
    };
    plain.min(limit) + compressed
}

/// Makes the form of a batch for the wire. Its plain form may have `limit` bytes, and 16 MiB where it has to be made.
pub(super) fn message(batch: &Batch, encoding: Encoding, limit: usize) -> Result<Message> {
    let made_limit = limit.min(FORM_BYTES_MAX);
    let plain = match encoding.json {
        true => batch.to_json_within(made_limit).map(Bytes::from),
        false => Some(batch.as_request().clone()),
    };
    let spans = 0..batch.spans();
    let Some(plain) = plain else {
        let error = too_large(batch, spans, made_limit + 1, made_limit);
        return Err(match batch.has_room_in_json(made_limit) {
            true => error,
            false => error.for_each_span(),
        });
    };
    let compression = encoding.compression;
    let body = compression.compress_within(encoding.level, &plain, made_limit)?;
    Ok(Message {
        spans,
        body: Ok(body),
    })
}

/// Makes the five bytes before a gRPC message.
///
/// # Errors
///
/// If the message is longer than the length can say.
pub(super) fn grpc_prefix(compressed: bool, length: usize) -> Result<Bytes> {
    let length = u32::try_from(length)
        .map_err(|_| Error::too_large(format!("a message of {length} bytes cannot be framed")))?;
    let prefix = Prefix { compressed, length };
    Ok(Bytes::copy_from_slice(&prefix.write()))
}

/// Takes the one message out of the body of a unary gRPC answer; `None` when there is none.
///
/// # Errors
///
/// If the body is not one whole message, or is compressed in another way than `encoding` says, or is longer than `limit` once it
/// is unpacked.
///
/// Servers in Go answer in the compression of the request, whatever they are offered.
pub(super) fn grpc_message<'a>(
    body: &'a [u8],
    encoding: &str,
    limit: usize,
) -> Result<Option<Cow<'a, [u8]>>> {
    let frame = grpc::read_frame(body).map_err(|error| {
        Error::internal("the answer is not one whole gRPC message").with_source(error)
    })?;
    let Some((prefix, message)) = frame else {
        return Ok(None);
    };
    if !prefix.compressed {
        return Ok(Some(Cow::Borrowed(message)));
    }
    let compression = match encoding {
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        other => {
            return Err(Error::internal(format!(
                "the answer is compressed in an unknown way: grpc-encoding is {other:?}"
            )));
        }
    };
    let plain = unpack(compression, message, limit)?;
    Ok(Some(Cow::Owned(plain)))
}

fn unpack(compression: Compression, packed: &[u8], limit: usize) -> Result<Vec<u8>> {
    // What a decoder of Zstandard has to support (RFC 8878, section 3.1.1.1.2): 8 MiB.
    const WINDOW_LOG_MAX: u32 = 23;
    let failed = |e: std::io::Error| {
        Error::internal(format!("the answer is not whole {compression}")).with_source(e)
    };
    let unpack = || -> std::io::Result<Vec<u8>> {
        let mut unpacked: Box<dyn Read> = match compression {
            Compression::None => Box::new(packed),
            Compression::Gzip => Box::new(GzDecoder::new(packed)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        let mut plain = Vec::new();
        unpacked
            .by_ref()
            .take(limit as u64 + 1)
            .read_to_end(&mut plain)?;
        Ok(plain)
    };
    let plain = unpack().map_err(failed)?;
    if plain.len() > limit {
        return Err(Error::internal(format!(
            "the answer is longer than the limit of {limit} bytes once it is unpacked"
        )));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_was_framed_or_an_error() {
        let mut frame = grpc_prefix(false, 3).unwrap().to_vec();
        frame.extend(b"abc");
        let read = |frame: &[u8]| grpc_message(frame, "", 100).map(|it| it.map(Cow::into_owned));
        assert_eq!(read(&frame).unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(read(&[]).unwrap(), None);
        for cut in 1..frame.len() {
            assert!(read(&frame[..cut]).is_err(), "{cut}");
        }
        frame[0] = 1;
        assert!(read(&frame).is_err());
        frame[0] = 0;
        frame.push(0);
        assert!(read(&frame).is_err());
    }

    #[test]
    fn compressed_answers_are_unpacked_within_the_limit() {
        let plain = Bytes::from(vec![b'a'; 1000]);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let packed = compression.compress(3, &plain).unwrap();
            let mut frame = grpc_prefix(true, packed.len()).unwrap().to_vec();
            frame.extend(&packed);
            let read = |encoding, limit| grpc_message(&frame, encoding, limit);
            let name = compression.as_str();
            assert_eq!(read(name, 1000).unwrap().as_deref(), Some(&plain[..]));
            let too_long = read(name, 999).unwrap_err().to_string();
            assert!(too_long.contains("limit of 999 bytes"), "{too_long}");
            for other in ["", "identity", "snappy"] {
                let unknown = read(other, 1000).unwrap_err().to_string();
                assert!(unknown.contains("grpc-encoding"), "{unknown}");
            }
            let last = frame.len() - 1;
            frame[last] ^= 0xFF;
            frame.truncate(last);
            frame[4] -= 1;
            assert!(grpc_message(&frame, name, 1000).is_err());
        }
    }
}
