//! A body that is written up to its limit.

use std::fmt;
use std::io;

/// Takes the body of a request, up to as many bytes as a request may have.
///
/// Text is written with [`fmt::Write`], bytes with [`io::Write`]. Both fail over the limit, and every write after that one
/// fails as well. It never allocates more than the limit.
#[derive(Debug)]
pub struct BodyWriter {
    bytes: Vec<u8>,
    max_bytes: usize,
    is_full: bool,
}

impl BodyWriter {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            bytes: Vec::new(),
            max_bytes,
            is_full: false,
        }
    }

    /// Returns whether something did not fit.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn append(&mut self, bytes: &[u8]) -> bool {
        let needed = self.bytes.len().saturating_add(bytes.len());
        self.is_full |= needed > self.max_bytes;
        if self.is_full {
            return false;
        }
        if needed > self.bytes.capacity() {
            let doubled = self.bytes.capacity().saturating_mul(2);
            let wanted = doubled.max(needed).min(self.max_bytes);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        true
    }
}

impl fmt::Write for BodyWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.append(text.as_bytes()) {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

impl io::Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.append(bytes) {
            true => Ok(bytes.len()),
            false => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_as_many_bytes_as_a_request_may_have() {
        let mut body = BodyWriter::new(5);
        assert!(fmt::Write::write_str(&mut body, "12").is_ok());
        assert_eq!(io::Write::write(&mut body, b"345").unwrap(), 3);
        assert!(!body.is_full());
        assert!(io::Write::write(&mut body, b"6").is_err());
        assert!(fmt::Write::write_str(&mut body, "").is_err());
        assert!(body.is_full());
        assert_eq!(body.into_bytes(), b"12345");
    }
}
