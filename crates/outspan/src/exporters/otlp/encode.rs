//! Bodies of requests: a batch in the form that the wire wants.

use bytes::Bytes;
use outspan_wire::grpc;
use outspan_wire::grpc::Prefix;

use crate::Error;
use crate::Result;

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
/// If the body is not one whole, uncompressed message: we never offer to take compressed ones.
pub(super) fn grpc_message(body: &[u8]) -> Result<Option<&[u8]>> {
    let frame = grpc::read_frame(body).map_err(|error| {
        Error::internal("the answer is not one whole gRPC message").with_source(error)
    })?;
    match frame {
        Some((prefix, _)) if prefix.compressed => Err(Error::internal(
            "the answer is compressed, which was not offered",
        )),
        Some((_, message)) => Ok(Some(message)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_was_framed_or_an_error() {
        let mut frame = grpc_prefix(false, 3).unwrap().to_vec();
        frame.extend(b"abc");
        assert_eq!(grpc_message(&frame).unwrap(), Some(&b"abc"[..]));
        assert_eq!(grpc_message(&[]).unwrap(), None);
        for cut in 1..frame.len() {
            assert!(grpc_message(&frame[..cut]).is_err(), "{cut}");
        }
        frame[0] = 1;
        assert!(grpc_message(&frame).is_err());
        frame[0] = 0;
        frame.push(0);
        assert!(grpc_message(&frame).is_err());
    }
}
