//! gRPC's unary calls on HTTP/2: the one message that a request has.
//!
//! ```text
//! body = prefix message     prefix = flag(0: plain, 1: compressed) length(4 bytes, big-endian)
//! ```
//!
//! Frames of HTTP/2 may cut it anywhere, also inside the prefix. Source: "gRPC over HTTP2", in the documentation of gRPC.

use bytes::Buf;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use outspan::wire::grpc;
use outspan::wire::grpc::FrameError;
use outspan::wire::grpc::Prefix;

use super::failure::Failure;
use super::inflate::Encoding;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Reads the prefix and watches the message's length.
#[derive(Debug, Default)]
pub(super) struct Message {
    prefix: [u8; Prefix::BYTES],
    prefix_read: usize,
    length: u32,
    received: usize,
}

impl Message {
    /// Takes of a piece what belongs to the prefix; gives it once, when it is complete.
    ///
    /// # Errors
    ///
    /// If its first byte is no flag.
    pub(super) fn read_prefix(
        &mut self,
        piece: &mut Bytes,
    ) -> Result<Option<Prefix>, Box<Failure>> {
        if self.has_prefix() {
            return Ok(None);
        }
        let missing = self.prefix.get_mut(self.prefix_read..).unwrap_or_default();
        let read = missing.len().min(piece.len());
        if let Some(place) = missing.get_mut(..read) {
            piece.copy_to_slice(place);
        }
        self.prefix_read += read;
        let so_far = self.prefix.get(..self.prefix_read).unwrap_or_default();
        let prefix = Prefix::read(so_far).map_err(Failure::frame)?;
        self.length = prefix.map_or(0, |prefix| prefix.length);
        Ok(prefix)
    }

    /// Whether the prefix is complete.
    pub(super) fn has_prefix(&self) -> bool {
        self.prefix_read == Prefix::BYTES
    }

    /// Counts bytes of the message.
    ///
    /// # Errors
    ///
    /// If there are more than the prefix said.
    pub(super) fn receive(&mut self, bytes: usize) -> Result<(), Box<Failure>> {
        self.received += bytes;
        match self.received.checked_sub(length(self.length)) {
            None | Some(0) => Ok(()),
            Some(surplus) => Err(Failure::frame(FrameError::Surplus(surplus))),
        }
    }

    /// Whether the body may end here.
    pub(super) fn finish(&self) -> Result<(), Box<Failure>> {
        if self.prefix_read == 0 {
            return Err(Failure::no_message());
        }
        if !self.has_prefix() {
            return Err(Failure::frame(FrameError::Prefix(self.prefix_read)));
        }
        match self.received < length(self.length) {
            false => Ok(()),
            true => Err(Failure::frame(FrameError::Message {
                length: self.length,
                received: self.received,
            })),
        }
    }
}

/// The message's length; one beyond the address space is longer than any body.
pub(super) fn length(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// How the message of a call is compressed. The header alone says nothing: a message may be plain nevertheless.
pub(super) fn encoding(headers: &HeaderMap, prefix: Prefix) -> Result<Encoding, Box<Failure>> {
    if !prefix.compressed {
        return Ok(Encoding::Identity);
    }
    let name = headers.get(GRPC_ENCODING).map(|name| name.as_bytes());
    match Encoding::named(name.unwrap_or_default()) {
        Some(Encoding::Identity) => Err(Failure::unnamed_encoding()),
        Some(encoding) => Ok(encoding),
        None => Err(Failure::encoding(name.unwrap_or_default())),
    }
}

/// How long the caller waits. A value that makes no sense is no reason to lose spans.
pub(super) fn timeout(headers: &HeaderMap) -> Option<std::time::Duration> {
    let value = headers.get(GRPC_TIMEOUT)?;
    grpc::read_timeout(value.as_bytes()).ok()
}
