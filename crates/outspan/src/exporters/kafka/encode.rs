//! From a batch to messages.

use std::fmt;

use bytes::Bytes;
use outspan_wire::otlp::Split;

use crate::Batch;
use crate::Error;
use crate::Result;

use super::Encoding;
use super::Key;

/// What becomes one message, unless its encoded form turns out too large.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) key: Option<TraceKey>,
    pub(super) batch: Batch,
}

/// The key of a trace's messages: its id as 32 lower-case hexadecimal digits, as the Collector writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceKey([u8; 32]);

impl TraceKey {
    /// How many bytes it has.
    pub(super) const SIZE: usize = 32;

    /// Takes a trace id as a number.
    pub(super) fn of(trace_id: u128) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";

        let mut key = [b'0'; Self::SIZE];
        let nibbles = trace_id
            .to_be_bytes()
            .into_iter()
            .flat_map(|byte| [byte >> 4, byte & 15]);
        for (digit, nibble) in key.iter_mut().zip(nibbles) {
            *digit = DIGITS[usize::from(nibble)];
        }
        Self(key)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TraceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Divides a batch into messages: one a trace if they have keys, of at most so many bytes of protobuf.
///
/// They keep the order of the spans, as far as the keys allow it.
pub(super) fn messages(batch: &Batch, key: Key, bytes_max: usize) -> Result<Vec<Message>> {
    let groups = match key {
        Key::None => vec![Message {
            key: None,
            batch: batch.clone(),
        }],
        Key::TraceId => traces(batch)?,
    };
    let mut messages = Vec::with_capacity(groups.len());
    for group in groups {
        messages.extend(group.split_by_bytes(bytes_max));
    }
    Ok(messages)
}

/// How many bytes the messages of a batch take together: each of them repeats the resources of its spans.
pub(super) fn total_bytes(batch: &Batch, key: Key, bytes_max: usize) -> usize {
    let traces = match key {
        Key::None => 0,
        // Messages of one trace may be split further, which the sum of the parts by bytes covers.
        Key::TraceId => {
            Split::by_trace_id(batch.as_request()).map_or(0, |parts| parts.total_bytes())
        }
    };
    traces.max(batch.parts_by_bytes(bytes_max).total_bytes())
}

fn traces(batch: &Batch) -> Result<Vec<Message>> {
    let parts = Split::by_trace_id(batch.as_request())
        .map_err(|e| Error::internal("cannot divide a batch by trace").with_source(e))?;
    let messages = parts.map(|part| Message {
        key: Some(TraceKey::of(part.key)),
        batch: Batch::trusted(part.bytes, part.spans),
    });
    Ok(messages.collect())
}

impl Message {
    /// The value of the message on the wire.
    ///
    /// `None` if it would have more than `max_bytes` bytes, where it has to be made.
    pub(super) fn payload(&self, encoding: Encoding, max_bytes: usize) -> Option<Bytes> {
        match encoding {
            Encoding::OtlpProto => Some(self.batch.as_request().clone()),
            Encoding::OtlpJson => self.batch.to_json_within(max_bytes).map(Bytes::from),
        }
    }

    /// Divides it into messages of at most so many bytes of protobuf. A span that is larger by itself comes out alone.
    pub(super) fn split_by_bytes(self, bytes_max: usize) -> Vec<Self> {
        let key = self.key;
        let parts = self.batch.split_by_bytes(bytes_max);
        parts.map(|batch| Self { key, batch }).collect()
    }

    /// Divides it into two messages of about as many spans.
    pub(super) fn halve(self) -> Vec<Self> {
        let half = self.batch.spans().div_ceil(2);
        let key = self.key;
        let parts = self.batch.split_by_spans(half);
        parts.map(|batch| Self { key, batch }).collect()
    }
}
