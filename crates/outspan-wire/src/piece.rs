//! What writing and reading the formats beside OTLP result in.

use std::ops::Range;

use bytes::Bytes;

/// A part of a request in another format, within that format's limit of bytes.
///
/// The spans of a request are counted from 0 in the order in which they stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece {
    /// Which spans of the request this is about: a contiguous range, never empty.
    pub spans: Range<usize>,
    /// Their bytes, or why there are none.
    pub content: PieceContent,
}

/// What a [`Piece`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PieceContent {
    /// A whole message, ready to be sent.
    Bytes(Bytes),
    /// Nothing: one span alone is larger than a message may be.
    TooLarge {
        /// How many bytes a message with the span would have had at least: writing stops where it becomes too large.
        bytes: usize,
    },
}

/// A request that was read from another format.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadRequest {
    /// A valid `ExportTraceServiceRequest` in protobuf, empty where there is no span.
    pub bytes: Bytes,
    /// How many spans it holds.
    pub spans: usize,
    /// How many spans were left out, because they are what OTLP forbids: without ids, for instance.
    pub invalid: usize,
    /// What was wrong with the first of those.
    pub first_invalid: Option<String>,
}
