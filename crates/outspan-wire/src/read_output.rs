//! What readers of other formats write, within a bound of memory.
//!
//! The encoder keeps a buffer for each resource and scope, and tables to find them; many small ones take many times what their
//! spans take. So it is emptied again and again, into chunks that are complete requests. Requests one after the other are a
//! request (protobuf merges repeated fields).

use bytes::Bytes;

use crate::otlp::EncodeSpan;
use crate::otlp::EncodedResource;
use crate::otlp::Encoder;
use crate::otlp::SpanLimits;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;

/// From which size on the encoder is emptied.
const CHUNK_BYTES: usize = 64 << 10;

/// And with how many resources.
const RESOURCES_MAX: usize = 128;

/// How much of a chunk may be the resources that it repeats: a fifth.
const RESOURCE_SHARE: usize = 4;

/// What the encoder takes at most for each byte of a chunk: buffers that grow by doubling, and tables.
const ENCODER_SHARE: usize = 3;

/// Collects spans.
pub(crate) struct Output {
    encoder: Encoder,
    /// The resources of this chunk; that of the span before is the last one.
    resources: Vec<EncodedResource>,
    /// How many bytes they take.
    resources_len: usize,
    chunks: Vec<Bytes>,
    chunks_len: usize,
    memory_max: usize,
    is_over: bool,
}

impl Output {
    pub(crate) fn new(memory_max: usize) -> Self {
        Self {
            encoder: Encoder::new(SpanLimits::unlimited()),
            resources: Vec::new(),
            resources_len: 0,
            chunks: Vec::new(),
            chunks_len: 0,
            memory_max,
            is_over: false,
        }
    }

    /// Adds a span, unless there is too much already. Returns whether the spans so far were written.
    pub(crate) fn push(
        &mut self,
        resource: &EncodedResource,
        span: &(impl EncodeSpan + ?Sized),
    ) -> bool {
        if self.is_over {
            return false;
        }
        self.note_resource(resource);
        self.encoder.push(resource, span);
        let len = self.encoder.encoded_len_max();
        let is_large = len >= CHUNK_BYTES.max(self.resources_len.saturating_mul(RESOURCE_SHARE));
        if !is_large && self.resources.len() < RESOURCES_MAX {
            // Spans of a chunk that takes this much alone are too much as well.
            self.is_over = self.memory(len) > self.memory_max;
            return false;
        }
        self.end_chunk();
        self.is_over = self.memory(0) > self.memory_max;
        true
    }

    fn note_resource(&mut self, resource: &EncodedResource) {
        let mut known = self.resources.iter().rev();
        match known.position(|known| known.is_same_allocation(resource)) {
            Some(0) => {}
            Some(from_last) => {
                let last = self.resources.len() - 1;
                self.resources.swap(last - from_last, last);
            }
            None => {
                self.resources_len += resource.len();
                self.resources.push(resource.clone());
            }
        }
    }

    /// What is taken with so many bytes in the encoder: they and the chunks, and as much again for putting the chunks
    /// together.
    fn memory(&self, encoder_len: usize) -> usize {
        let encoder = encoder_len.saturating_sub(CHUNK_BYTES);
        (2 * self.chunks_len).saturating_add(encoder.saturating_mul(ENCODER_SHARE))
    }

    fn end_chunk(&mut self) {
        if let Some(request) = self.encoder.finish() {
            self.chunks_len += request.bytes.len();
            self.chunks.push(request.bytes);
        }
        self.resources.clear();
        self.resources_len = 0;
    }

    /// Puts everything together, in an allocation of the exact size.
    ///
    /// # Errors
    ///
    /// If that takes more than allowed.
    pub(crate) fn finish(mut self) -> Result<Bytes, WireError> {
        self.end_chunk();
        if self.is_over || self.memory(0) > self.memory_max {
            let detail = format!(
                "as OTLP its spans take more memory than the {} bytes allowed for a request of this size",
                self.memory_max
            );
            let error = WireError::new(WireErrorKind::Limit, 0, String::new(), String::new());
            return Err(error.saying(detail));
        }
        if self.chunks.len() <= 1 {
            return Ok(self.chunks.pop().unwrap_or_default());
        }
        let mut all = Vec::with_capacity(self.chunks_len);
        // Each goes when it is copied.
        for chunk in self.chunks {
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }
}
