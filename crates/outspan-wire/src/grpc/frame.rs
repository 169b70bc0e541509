//! Message frames: five bytes, then the message.

use std::error::Error;
use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;

/// Says what the five bytes before a message say: whether it is compressed, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Whether the message is compressed, in the way that `grpc-encoding` names.
    pub compressed: bool,
    /// How many bytes the message has, as it is sent.
    pub length: u32,
}

impl Prefix {
    /// How many bytes a prefix has.
    pub const BYTES: usize = 5;

    /// Reads the prefix at the start of `body`; `None` while not all of it is there.
    ///
    /// # Errors
    ///
    /// [`FrameError::Flag`], as soon as the first byte is there.
    pub fn read(body: &[u8]) -> Result<Option<Self>, FrameError> {
        let compressed = match body.first() {
            None => return Ok(None),
            Some(0) => false,
            Some(1) => true,
            Some(&flag) => return Err(FrameError::Flag(flag)),
        };
        let Some(&[_, length @ ..]) = body.first_chunk::<{ Self::BYTES }>() else {
            return Ok(None);
        };
        Ok(Some(Self {
            compressed,
            length: u32::from_be_bytes(length),
        }))
    }

    /// Returns the five bytes.
    pub fn write(self) -> [u8; Self::BYTES] {
        let [first, second, third, fourth] = self.length.to_be_bytes();
        [u8::from(self.compressed), first, second, third, fourth]
    }
}

/// Takes the one message out of the whole body of a unary call; `None` when the body is empty.
///
/// # Errors
///
/// If the body is not exactly one frame.
///
/// # Examples
///
/// ```
/// use outspan_wire::grpc::Prefix;
/// use outspan_wire::grpc::read_frame;
///
/// let prefix = Prefix { compressed: false, length: 2 };
/// let body = [&prefix.write()[..], b"ok"].concat();
/// assert_eq!(read_frame(&body), Ok(Some((prefix, &b"ok"[..]))));
/// ```
pub fn read_frame(body: &[u8]) -> Result<Option<(Prefix, &[u8])>, FrameError> {
    if body.is_empty() {
        return Ok(None);
    }
    let prefix = Prefix::read(body)?;
    let message = body.get(Prefix::BYTES..);
    let (Some(prefix), Some(message)) = (prefix, message) else {
        return Err(FrameError::Prefix(body.len()));
    };
    // A length beyond the address space is longer than any body.
    let length = usize::try_from(prefix.length).unwrap_or(usize::MAX);
    if message.len() < length {
        return Err(FrameError::Message {
            length: prefix.length,
            received: message.len(),
        });
    }
    if message.len() > length {
        return Err(FrameError::Surplus(message.len() - length));
    }
    Ok(Some((prefix, message)))
}

/// Says why a body is not one gRPC message. Servers answer [`Code::Internal`](super::Code::Internal) to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The first byte is neither 0 (plain) nor 1 (compressed).
    Flag(u8),
    /// The body ends inside the prefix, after so many bytes.
    Prefix(usize),
    /// The body ends inside the message.
    Message {
        /// How long the message should be.
        length: u32,
        /// How many bytes of it there are.
        received: usize,
    },
    /// The message is over and so many bytes follow: another message, which a unary call does not have.
    Surplus(usize),
}

impl Display for FrameError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(
                formatter,
                "invalid gRPC frame: its first byte is {flag}, expected 0 (plain) or 1 (compressed)"
            ),
            Self::Prefix(received) => write!(
                formatter,
                "cut off gRPC frame: the body ends after {received} of the 5 bytes before a message"
            ),
            Self::Message { length, received } => write!(
                formatter,
                "cut off gRPC message: the body ends after {received} of its {length} bytes"
            ),
            Self::Surplus(bytes) => write!(
                formatter,
                "more than one gRPC message: {bytes} bytes follow the first, send one message a call"
            ),
        }
    }
}

impl Error for FrameError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_prefix_reads_as_it_was_written(compressed: bool, length: u32, after in any::<[u8; 3]>()) {
            let prefix = Prefix { compressed, length };
            let mut bytes = prefix.write().to_vec();
            prop_assert_eq!(Prefix::read(&bytes), Ok(Some(prefix)));
            bytes.extend(after);
            prop_assert_eq!(Prefix::read(&bytes), Ok(Some(prefix)));
            for cut in 0..Prefix::BYTES {
                prop_assert_eq!(Prefix::read(&bytes[..cut]), Ok(None));
            }
        }

        #[test]
        fn one_whole_frame_is_its_message(compressed: bool, message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let prefix = Prefix { compressed, length: message.len() as u32 };
            let mut body = prefix.write().to_vec();
            for (received, byte) in message.iter().enumerate() {
                let cut_off = FrameError::Message { length: prefix.length, received };
                prop_assert_eq!(read_frame(&body), Err(cut_off));
                body.push(*byte);
            }
            prop_assert_eq!(read_frame(&body), Ok(Some((prefix, &message[..]))));
            for surplus in 1..3 {
                body.push(0);
                prop_assert_eq!(read_frame(&body), Err(FrameError::Surplus(surplus)));
            }
        }

        #[test]
        fn a_body_is_one_frame_or_an_error(body in proptest::collection::vec(0..4_u8, 0..12)) {
            match read_frame(&body) {
                Ok(None) => prop_assert!(body.is_empty()),
                Ok(Some((prefix, message))) => {
                    prop_assert_eq!(message.len(), prefix.length as usize);
                    prop_assert_eq!([&prefix.write()[..], message].concat(), body);
                }
                Err(FrameError::Flag(flag)) => prop_assert_eq!((flag, flag > 1), (body[0], true)),
                Err(FrameError::Prefix(received)) => prop_assert_eq!((received, received < 5), (body.len(), true)),
                Err(FrameError::Message { length, received }) => {
                    prop_assert_eq!(received + 5, body.len());
                    prop_assert!(length as usize > received);
                }
                Err(FrameError::Surplus(bytes)) => prop_assert!(bytes > 0 && bytes <= body.len() - 5),
            }
        }
    }

    #[test]
    fn lengths_are_big_endian() {
        let prefix = Prefix {
            compressed: true,
            length: 0x0102_0304,
        };
        assert_eq!(prefix.write(), [1, 1, 2, 3, 4]);
    }

    #[test]
    fn a_flag_is_refused_before_the_length_is_there() {
        assert_eq!(Prefix::read(&[2]), Err(FrameError::Flag(2)));
        assert_eq!(Prefix::read(&[0x80, 0, 0]), Err(FrameError::Flag(0x80)));
    }

    #[test]
    fn a_length_of_four_gigabytes_is_a_cut_off_message() {
        let error = read_frame(&[0, 0xFF, 0xFF, 0xFF, 0xFF, 1]).expect_err("one byte is there");
        assert_eq!(
            error.to_string(),
            "cut off gRPC message: the body ends after 1 of its 4294967295 bytes"
        );
    }
}
