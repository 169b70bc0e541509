//! Status codes.

use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;

/// The most digits that a status code is read with.
const CODE_DIGITS_MAX: usize = 9;

/// Says how a call ended.
///
/// The comments say what OTLP makes of a code ("OTLP/gRPC Failures"): whether a sender tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// It succeeded.
    Ok = 0,
    /// The caller gave up. Tried again.
    Cancelled = 1,
    /// Nobody knows what happened. Not tried again.
    Unknown = 2,
    /// The request can never succeed, whoever receives it. Not tried again.
    InvalidArgument = 3,
    /// Time was up. Tried again.
    DeadlineExceeded = 4,
    /// Something that the request names is not there. Not tried again.
    NotFound = 5,
    /// Something that the request would make is there already. Not tried again.
    AlreadyExists = 6,
    /// The caller is known, but may not do this. Not tried again.
    PermissionDenied = 7,
    /// A quota is used up, or a message is too large. Tried again only when the answer has a delay (`RetryInfo`).
    ResourceExhausted = 8,
    /// The server is in a state that does not allow it. Not tried again.
    FailedPrecondition = 9,
    /// Somebody else was in the way. Tried again.
    Aborted = 10,
    /// The request goes beyond the end of something. Tried again.
    OutOfRange = 11,
    /// There is no such method. Not tried again.
    Unimplemented = 12,
    /// One of the two sides broke the protocol. Not tried again.
    Internal = 13,
    /// The server cannot do it now. Tried again.
    Unavailable = 14,
    /// Data are lost or damaged. Tried again.
    DataLoss = 15,
    /// The caller is not known. Not tried again.
    Unauthenticated = 16,
}

impl Code {
    /// All codes, each at the index of its number.
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// Returns the code with this number; `None` for the numbers that mean nothing yet.
    pub fn from_number(number: i32) -> Option<Self> {
        let index = usize::try_from(number).ok()?;
        Self::ALL.get(index).copied()
    }

    /// Returns the number.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Returns the name as specifications write it, such as `INVALID_ARGUMENT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// Returns the number as `grpc-status` has it, such as `3`.
    pub fn digits(self) -> &'static str {
        match self {
            Self::Ok => "0",
            Self::Cancelled => "1",
            Self::Unknown => "2",
            Self::InvalidArgument => "3",
            Self::DeadlineExceeded => "4",
            Self::NotFound => "5",
            Self::AlreadyExists => "6",
            Self::PermissionDenied => "7",
            Self::ResourceExhausted => "8",
            Self::FailedPrecondition => "9",
            Self::Aborted => "10",
            Self::OutOfRange => "11",
            Self::Unimplemented => "12",
            Self::Internal => "13",
            Self::Unavailable => "14",
            Self::DataLoss => "15",
            Self::Unauthenticated => "16",
        }
    }
}

impl Display for Code {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Reads the number in `grpc-status`, also one that means nothing yet; `None` if it is no number of one to nine digits.
///
/// Whoever acts on it takes what is no [`Code`] for [`Code::Unknown`].
pub fn read_code(text: &[u8]) -> Option<i32> {
    let digits = text.trim_ascii();
    let is_number = (1..=CODE_DIGITS_MAX).contains(&digits.len());
    if !is_number || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_by_the_number_that_they_say() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.number(), index as i32);
            assert_eq!(Code::from_number(code.number()), Some(code));
            assert_eq!(code.digits(), index.to_string());
            assert_eq!(read_code(code.digits().as_bytes()), Some(code.number()));
        }
        assert_eq!(Code::from_number(17), None);
        assert_eq!(Code::from_number(-1), None);
    }

    #[test]
    fn names_and_numbers_are_those_of_tonic() {
        for code in Code::ALL {
            let theirs = tonic::Code::from_i32(code.number());
            let camel: String = code.as_str().split('_').map(capitalized).collect();
            assert_eq!(format!("{theirs:?}"), camel);
            assert_eq!(code.to_string(), code.as_str());
        }
    }

    fn capitalized(word: &str) -> String {
        let (first, rest) = word.split_at(1);
        format!("{first}{}", rest.to_ascii_lowercase())
    }

    #[test]
    fn numbers_are_read_however_large_and_nothing_else_is() {
        assert_eq!(read_code(b" 14 "), Some(14));
        assert_eq!(read_code(b"99"), Some(99));
        assert_eq!(read_code(b"999999999"), Some(999_999_999));
        for text in [
            &b""[..],
            b"-1",
            b"+1",
            b"1.0",
            b"OK",
            b"0000000001",
            b"\xFF",
        ] {
            assert_eq!(read_code(text), None, "{text:?}");
        }
    }
}
