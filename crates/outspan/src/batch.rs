//! Finished spans as bytes.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
#[cfg(feature = "_otlp")]
use std::sync::Mutex;
#[cfg(feature = "_otlp")]
use std::sync::OnceLock;
#[cfg(feature = "_otlp")]
use std::sync::PoisonError;

use bytes::Bytes;
use outspan_wire::otlp;
use outspan_wire::otlp::Split;
use outspan_wire::otlp::WireError;

#[cfg(feature = "_otlp")]
use crate::Compression;
use crate::Error;
use crate::Result;
use crate::combinators::Pending;

/// What a batch takes besides its bytes, in bytes: its own fields, those of its allocations, and its place in a queue.
const OVERHEAD: usize = 256;

/// Holds finished spans: a valid `ExportTraceServiceRequest` in protobuf form, never changed.
///
/// Cloning costs a reference count, so retries, fan-outs and queues share one allocation. What a destination needs on
/// top (a compressed form, a JSON form) is made once and shared by the clones as well.
#[derive(Clone)]
pub struct Batch {
    shared: Arc<Shared>,
    /// The notes of fan-outs: who still misses what.
    pending: Option<Arc<Pending>>,
}

struct Shared {
    request: Bytes,
    spans: usize,
    #[cfg(feature = "_otlp")]
    encodings: Mutex<Vec<Encoded>>,
}

#[cfg(feature = "_otlp")]
struct Encoded {
    encoding: Encoding,
    body: Arc<OnceLock<Result<Bytes>>>,
}

/// A form of a batch on the wire.
#[cfg(feature = "_otlp")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) json: bool,
    pub(crate) compression: Compression,
    pub(crate) level: u32,
}

/// What [`Batch::from_request`] made of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checked {
    /// The valid spans.
    pub batch: Batch,
    /// How many spans were left out, because their ids are missing, zero or of the wrong length.
    pub refused: usize,
    /// Why the first of them was left out.
    pub reason: Option<String>,
}

impl Batch {
    /// Makes the empty batch. Exporters deliver it by doing nothing.
    pub fn empty() -> Self {
        Self::trusted(Bytes::new(), 0)
    }

    /// Takes an `ExportTraceServiceRequest` (or `TracesData`, which is the same on the wire) in protobuf form.
    ///
    /// The bytes are validated in one pass and kept as they are; unknown fields survive. Spans without valid ids are
    /// left out and counted, so that the good ones go on.
    ///
    /// # Errors
    ///
    /// [`Refused`](crate::ErrorKind::Refused) if the bytes are no such message; it says what is wrong and at which byte.
    pub fn from_request(request: impl Into<Bytes>) -> Result<Checked> {
        let admitted = otlp::admit(request.into())
            .map_err(|e| Error::refused("not a valid OTLP trace request").with_source(e))?;
        Ok(Checked {
            batch: Self::trusted(admitted.bytes, admitted.spans),
            refused: admitted.refused_spans,
            reason: admitted.first_refused.map(|first| first.to_string()),
        })
    }

    /// Takes one OTLP JSON value: an `ExportTraceServiceRequest` or `TracesData`.
    ///
    /// # Errors
    ///
    /// [`Refused`](crate::ErrorKind::Refused) if it is not that; it says what is wrong, at which line and column.
    pub fn from_json(text: &[u8]) -> Result<Checked> {
        let mut request = Vec::new();
        otlp::read_json(text, &mut request)
            .map_err(|e| Error::refused("not valid OTLP JSON").with_source(e))?;
        Self::from_request(request)
    }

    /// Takes bytes that our own encoder, splitter or merger made.
    pub(crate) fn trusted(request: Bytes, spans: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                request,
                spans,
                #[cfg(feature = "_otlp")]
                encodings: Mutex::new(Vec::new()),
            }),
            pending: None,
        }
    }

    /// Whether a fan-out noted who still misses what of it.
    pub(crate) fn is_noted(&self) -> bool {
        self.pending.is_some()
    }

    /// The note of one fan-out.
    pub(crate) fn pending_of(&self, fan_out: u64) -> Option<&Pending> {
        self.pending.as_ref()?.find(fan_out)
    }

    /// The same spans with a fan-out's note, in place of the one that it had. Notes of others stay.
    pub(crate) fn with_pending(self, pending: Pending) -> Self {
        let pending = pending.before(self.pending.as_ref());
        Self {
            pending: Some(Arc::new(pending)),
            ..self
        }
    }

    /// The same spans without the note of one fan-out.
    pub(crate) fn without_pending_of(self, fan_out: u64) -> Self {
        let pending = self.pending.as_ref();
        Self {
            pending: pending.and_then(|notes| Pending::without(notes, fan_out)),
            ..self
        }
    }

    /// The same spans without any note.
    pub(crate) fn without_pending(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            pending: None,
        }
    }

    /// The `ExportTraceServiceRequest` in protobuf form.
    pub fn as_request(&self) -> &Bytes {
        &self.shared.request
    }

    /// How many spans it holds.
    pub fn spans(&self) -> usize {
        self.shared.spans
    }

    /// Whether it holds no span.
    pub fn is_empty(&self) -> bool {
        self.shared.spans == 0
    }

    /// How many bytes the protobuf form has.
    pub fn size(&self) -> usize {
        self.shared.request.len()
    }

    /// How many bytes of memory it holds: the protobuf form, the forms made from it so far, and what holds them together.
    pub fn memory(&self) -> usize {
        OVERHEAD + self.size() + self.derived()
    }

    /// Reads the spans, each with its resource and scope at hand, without allocating.
    pub fn iter(&self) -> impl Iterator<Item = otlp::SpanView<'_>> {
        self.view().spans()
    }

    /// Reads the batch as a whole.
    pub fn view(&self) -> otlp::RequestView<'_> {
        otlp::RequestView::new(&self.shared.request)
    }

    /// The OTLP JSON form, on one line, made at each call.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.size() * 3);
        otlp::write_json(&self.shared.request, &mut text);
        text
    }

    /// Splits into batches of at most `spans` spans (at least one).
    pub fn split_by_spans(&self, spans: usize) -> Vec<Self> {
        if self.spans() <= spans {
            return vec![self.clone()];
        }
        let spans = NonZeroUsize::new(spans).unwrap_or(NonZeroUsize::MIN);
        self.parts(Split::by_spans(self.as_request(), spans))
    }

    /// Splits into batches of at most `bytes` bytes. A span that is larger by itself comes out alone.
    pub fn split_by_bytes(&self, bytes: usize) -> Vec<Self> {
        if self.size() <= bytes {
            return vec![self.clone()];
        }
        self.parts(Split::by_bytes(self.as_request(), bytes))
    }

    /// Puts batches together into one, resources and scopes as they are.
    pub fn concatenate(batches: &[Self]) -> Self {
        if let [only] = batches {
            return only.clone();
        }
        let spans = batches.iter().map(Self::spans).sum();
        let size = batches.iter().map(Self::size).sum();
        let mut request = Vec::with_capacity(size);
        for batch in batches {
            request.extend_from_slice(batch.as_request());
        }
        Self::trusted(request.into(), spans)
    }

    /// The parts of a split. It fails on bytes that are no request alone, which a batch never holds.
    fn parts(&self, split: Result<Split<'_>, WireError>) -> Vec<Self> {
        match split {
            Ok(parts) => parts
                .map(|part| Self::trusted(part.bytes, part.spans))
                .collect(),
            Err(_) => vec![self.clone()],
        }
    }

    /// The form for the wire, made at most once for all clones; its plain form may have `limit` bytes.
    ///
    /// Large ones are made beside the runtime's thread, so that nobody else waits for the compressor.
    #[cfg(feature = "_otlp")]
    pub(crate) async fn encoded(&self, encoding: Encoding, limit: usize) -> Result<Bytes> {
        const SMALL: usize = 16 * 1024;

        if !encoding.json && encoding.compression == Compression::None {
            return Ok(self.as_request().clone());
        }
        let slot = self.slot(encoding);
        if let Some(done) = slot.get() {
            return done.clone();
        }
        if self.size() <= SMALL {
            return self.make(encoding, limit, &slot);
        }
        let batch = self.clone();
        crate::runtime::blocking(move || batch.make(encoding, limit, &slot)).await?
    }

    #[cfg(feature = "_otlp")]
    fn make(
        &self,
        encoding: Encoding,
        limit: usize,
        slot: &OnceLock<Result<Bytes>>,
    ) -> Result<Bytes> {
        let make = || {
            let plain = match encoding.json {
                true => Bytes::from(self.to_json()),
                false => self.as_request().clone(),
            };
            if plain.len() > limit {
                let (spans, bytes) = (self.spans(), plain.len());
                return Err(Error::too_large(format!(
                    "{spans} spans have {bytes} bytes, more than the request limit of {limit}"
                )));
            }
            encoding.compression.compress(encoding.level, &plain)
        };
        slot.get_or_init(make).clone()
    }

    #[cfg(feature = "_otlp")]
    fn slot(&self, encoding: Encoding) -> Arc<OnceLock<Result<Bytes>>> {
        let mut encodings = self.encodings();
        if let Some(known) = encodings.iter().find(|known| known.encoding == encoding) {
            return known.body.clone();
        }
        let body = Arc::default();
        encodings.push(Encoded {
            encoding,
            body: Arc::clone(&body),
        });
        body
    }

    #[cfg(feature = "_otlp")]
    fn derived(&self) -> usize {
        let encodings = self.encodings();
        encodings
            .iter()
            .filter_map(|encoded| encoded.body.get())
            .filter_map(|body| body.as_ref().ok())
            .map(Bytes::len)
            .sum()
    }

    #[cfg(not(feature = "_otlp"))]
    fn derived(&self) -> usize {
        0
    }

    #[cfg(feature = "_otlp")]
    fn encodings(&self) -> std::sync::MutexGuard<'_, Vec<Encoded>> {
        self.shared
            .encodings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("spans", &self.spans())
            .field("bytes", &self.size())
            .finish()
    }
}
