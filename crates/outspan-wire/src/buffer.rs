//! Buffers that writers fill, and the bound of a buffer.
//!
//! A writer of another format cannot know how long its output will be: a control character takes six bytes in JSON, and an
//! attribute of two bytes takes dozens in Thrift. So the bound is checked where bytes are appended. A [`Limited`] buffer
//! never allocates more than its bound; what does not fit is left out, and so is everything after it. Writers look at
//! [`Buffer::is_over`] between the parts of what they write, and stop.

use std::fmt;
use std::ops::Deref;
use std::ops::DerefMut;

/// Takes bytes at its end.
pub(crate) trait Buffer: Deref<Target = [u8]> + DerefMut {
    /// Appends a byte.
    fn push(&mut self, byte: u8);

    /// Appends bytes.
    fn extend_from_slice(&mut self, bytes: &[u8]);

    /// Appends zeros.
    fn push_zeros(&mut self, count: usize);

    /// Cuts the buffer to its first `len` bytes.
    fn truncate(&mut self, len: usize);

    /// Returns whether something did not fit, so that the content is of no use.
    fn is_over(&self) -> bool;
}

impl Buffer for Vec<u8> {
    #[inline(always)]
    fn push(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline(always)]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn push_zeros(&mut self, count: usize) {
        self.resize(self.len() + count, 0);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.truncate(len);
    }

    #[inline(always)]
    fn is_over(&self) -> bool {
        false
    }
}

/// A buffer that holds at most `max_bytes` bytes.
#[derive(Debug)]
pub(crate) struct Limited {
    bytes: Vec<u8>,
    max_bytes: usize,
    /// Up to which length bytes are appended without a look at the bound. Never beyond the capacity or the bound, and
    /// never below the length.
    room_end: usize,
    /// How many bytes the content would have had with the first part that did not fit; 0 while everything fits.
    needed: usize,
}

impl Limited {
    /// Creates an empty buffer of at most `max_bytes` bytes. Nothing is allocated yet.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self::with_capacity(0, max_bytes)
    }

    /// Creates an empty buffer with room for `capacity` bytes, or for `max_bytes` if these are fewer.
    pub(crate) fn with_capacity(capacity: usize, max_bytes: usize) -> Self {
        let bytes = Vec::with_capacity(capacity.min(max_bytes));
        Self {
            room_end: bytes.capacity().min(max_bytes),
            bytes,
            max_bytes,
            needed: 0,
        }
    }

    /// Returns how many bytes the content would have had with the first part that did not fit.
    pub(crate) fn needed(&self) -> usize {
        self.needed
    }

    /// Sets how many bytes it may hold from now on.
    pub(crate) fn set_max(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        if !self.is_over() {
            self.room_end = self.bytes.capacity().min(max_bytes).max(self.bytes.len());
        }
    }

    /// Goes back to the first `len` bytes, as if nothing had been written after them.
    pub(crate) fn rewind(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.needed = 0;
        self.set_max(self.max_bytes);
    }

    /// Empties it, and keeps at most `kept` bytes of its room.
    pub(crate) fn clear_and_keep(&mut self, kept: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(kept);
        self.rewind(0);
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.rewind(0);
    }

    /// Marks the buffer as over if `other`, which was to be appended to it, is.
    #[inline]
    pub(crate) fn fail_with(&mut self, other: &Self) {
        if other.is_over() {
            self.fail(self.bytes.len().saturating_add(other.needed));
        }
    }

    #[cold]
    fn fail(&mut self, needed: usize) {
        if self.needed == 0 {
            self.needed = needed;
        }
        // Even what would fit is left out from here on.
        self.room_end = self.bytes.len();
    }

    /// Appends bytes of its own.
    #[inline]
    pub(crate) fn extend_from_within(&mut self, range: std::ops::Range<usize>) {
        let more = range.len();
        if self.has_room(more) {
            self.bytes.extend_from_within(range);
        }
    }

    /// Appends formatted text.
    pub(crate) fn push_fmt(&mut self, text: fmt::Arguments<'_>) {
        // It fails only over the bound, which the buffer remembers.
        fmt::Write::write_fmt(self, text).unwrap_or_default();
    }

    /// Gives the content away, in an allocation that is not much larger.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        if bytes.capacity() > bytes.len() + bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        bytes
    }

    #[inline(always)]
    fn has_room(&mut self, more: usize) -> bool {
        more <= self.room_end - self.bytes.len() || self.make_room(more)
    }

    /// Grows as a `Vec` does, but never beyond the bound.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, more: usize) -> bool {
        const MIN_BYTES: usize = 64;

        let needed = self.bytes.len().saturating_add(more);
        if self.is_over() || needed > self.max_bytes {
            self.fail(needed);
            return false;
        }
        let doubled = self.bytes.capacity().saturating_mul(2);
        let wanted = needed.max(doubled).max(MIN_BYTES).min(self.max_bytes);
        self.bytes.reserve_exact(wanted - self.bytes.len());
        self.room_end = self.bytes.capacity().min(self.max_bytes);
        true
    }
}

impl Default for Limited {
    /// Creates a buffer without a bound.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Buffer for Limited {
    #[inline(always)]
    fn push(&mut self, byte: u8) {
        if self.has_room(1) {
            self.bytes.push(byte);
        }
    }

    #[inline(always)]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.has_room(bytes.len()) {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn push_zeros(&mut self, count: usize) {
        if self.has_room(count) {
            self.bytes.resize(self.bytes.len() + count, 0);
        }
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        if self.is_over() {
            self.room_end = self.bytes.len();
        }
    }

    #[inline(always)]
    fn is_over(&self) -> bool {
        self.needed != 0
    }
}

impl Deref for Limited {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Limited {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl fmt::Write for Limited {
    /// Fails over the bound, so that formatting ends early.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend_from_slice(text.as_bytes());
        match self.is_over() {
            true => Err(fmt::Error),
            false => Ok(()),
        }
    }
}

/// Formats text into any buffer.
pub(crate) struct Formatted<'a, B>(pub(crate) &'a mut B);

impl<B: Buffer> fmt::Write for Formatted<'_, B> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_its_bound_and_not_a_byte_more() {
        let mut buffer = Limited::new(10);
        buffer.extend_from_slice(b"12345");
        buffer.extend_from_slice(b"67890");
        assert!(!buffer.is_over());
        assert_eq!(&*buffer, b"1234567890");
        buffer.extend_from_slice(b"abc");
        assert!(buffer.is_over());
        assert_eq!(buffer.needed(), 13);
        assert_eq!(buffer.into_vec(), b"1234567890");
    }

    #[test]
    fn nothing_is_appended_after_the_first_part_that_did_not_fit() {
        let mut buffer = Limited::new(10);
        buffer.extend_from_slice(b"12345");
        buffer.extend_from_slice(&[0; 100]);
        buffer.push(b'6');
        buffer.push_zeros(1);
        buffer.extend_from_within(0..1);
        buffer.push_fmt(format_args!("7"));
        assert_eq!(&*buffer, b"12345");
        assert_eq!(buffer.needed(), 105);
        buffer.truncate(2);
        buffer.push(b'6');
        assert_eq!(&*buffer, b"12");
        buffer.rewind(1);
        buffer.push(b'6');
        assert_eq!(&*buffer, b"16");
        assert!(!buffer.is_over());
    }

    #[test]
    fn never_allocates_beyond_its_bound() {
        let mut buffer = Limited::new(1000);
        for _ in 0..2000 {
            buffer.push(1);
            assert!(buffer.bytes.capacity() <= 1000);
        }
        assert_eq!(buffer.len(), 1000);
        buffer.clear();
        buffer.set_max(2000);
        buffer.push_zeros(1500);
        assert_eq!((buffer.len(), buffer.is_over()), (1500, false));
        buffer.set_max(100);
        buffer.push(1);
        assert_eq!((buffer.len(), buffer.is_over()), (1500, true));
    }

    #[test]
    fn formatting_ends_at_the_bound() {
        let mut buffer = Limited::new(4);
        assert!(fmt::Write::write_str(&mut buffer, "1234").is_ok());
        assert!(fmt::Write::write_str(&mut buffer, "5").is_err());
        assert!(fmt::Write::write_str(&mut buffer, "").is_err());
    }

    #[test]
    fn what_was_to_be_appended_passes_its_failure_on() {
        let mut part = Limited::new(3);
        part.push_zeros(5);
        let mut whole = Limited::new(100);
        whole.push_zeros(10);
        whole.fail_with(&part);
        assert!(whole.is_over());
        assert_eq!(whole.needed(), 15);
    }
}
