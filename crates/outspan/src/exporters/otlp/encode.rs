//! Bodies of requests: a batch in the form that the wire wants.

use bytes::Bytes;
use bytes::BytesMut;

use crate::Error;
use crate::Result;

/// Makes the five bytes before a gRPC message: whether it is compressed, and its length
/// (gRPC over HTTP/2, "Length-Prefixed-Message").
///
/// # Errors
///
/// If the message is longer than the length can say.
pub(super) fn grpc_prefix(is_compressed: bool, length: usize) -> Result<Bytes> {
    let length = u32::try_from(length)
        .map_err(|_| Error::too_large(format!("a message of {length} bytes cannot be framed")))?;
    let mut prefix = BytesMut::with_capacity(5);
    prefix.extend_from_slice(&[u8::from(is_compressed)]);
    prefix.extend_from_slice(&length.to_be_bytes());
    Ok(prefix.freeze())
}

/// Takes the one message out of the body of a unary gRPC answer; `None` when there is none.
///
/// # Errors
///
/// If the body is not one whole, uncompressed message: we never offer to take compressed ones.
pub(super) fn grpc_message(body: &[u8]) -> Result<Option<&[u8]>> {
    let Some((prefix, message)) = body.split_first_chunk::<5>() else {
        return match body.is_empty() {
            true => Ok(None),
            false => Err(Error::internal("the answer's gRPC frame is cut off")),
        };
    };
    let [is_compressed, length @ ..] = *prefix;
    if is_compressed != 0 {
        return Err(Error::internal(
            "the answer is compressed, which was not offered",
        ));
    }
    if usize::try_from(u32::from_be_bytes(length)).ok() != Some(message.len()) {
        return Err(Error::internal("the answer is not one whole gRPC message"));
    }
    Ok(Some(message))
}

/// Writes how long the server may take, as `grpc-timeout` wants it: at most eight digits and a unit.
pub(super) fn grpc_timeout(left: std::time::Duration) -> String {
    const DIGITS_8: u128 = 99_999_999;

    let millis = left.as_millis().max(1);
    if millis <= DIGITS_8 {
        return format!("{millis}m");
    }
    format!("{}S", u128::from(left.as_secs()).min(DIGITS_8))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn timeouts_fit_into_eight_digits() {
        assert_eq!(grpc_timeout(Duration::from_millis(1500)), "1500m");
        assert_eq!(grpc_timeout(Duration::from_nanos(1)), "1m");
        assert_eq!(grpc_timeout(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(grpc_timeout(Duration::MAX), "99999999S");
    }
}
