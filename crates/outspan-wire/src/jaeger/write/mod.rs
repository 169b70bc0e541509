//! OTLP to Jaeger, straight from the views.

mod output;
mod span;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use self::output::Binary;
use self::output::Compact;
use self::output::Kind;
use self::output::Output;
use self::output::STOP;
use self::span::Mapper;
use super::Envelope;
use super::Protocol;
use super::WriteOptions;
use crate::Piece;
use crate::PieceContent;
use crate::otlp::RequestView;
use crate::otlp::ResourceSpansIter;
use crate::otlp::ScopeSpansIter;
use crate::otlp::SpanView;
use crate::otlp::SpansInScope;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;
use crate::otlp::reader::offset_of;

/// Bytes that the buffer of spans may keep between requests: the usual message has less than one megabyte.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Writes OTLP requests as messages for Jaeger.
///
/// Made to be used for ever: its buffers stay (up to 8 MiB), so that a span costs no allocation once they have grown.
///
/// # Examples
///
/// ```
/// use outspan_wire::PieceContent;
/// use outspan_wire::jaeger::WriteOptions;
/// use outspan_wire::jaeger::Writer;
/// # use outspan_wire::otlp::EncodeSpan;
/// # use outspan_wire::otlp::EncodedResource;
/// # use outspan_wire::otlp::Encoder;
/// # use outspan_wire::otlp::ScopeWriter;
/// # use outspan_wire::otlp::SpanWriter;
/// #
/// # struct Visit;
/// #
/// # impl EncodeSpan for Visit {
/// #     fn encode_scope(&self, _scope: &mut ScopeWriter<'_>) {}
/// #
/// #     fn encode(&self, span: &mut SpanWriter<'_>) {
/// #         span.trace_id([1; 16]);
/// #         span.span_id([2; 8]);
/// #     }
/// # }
/// #
/// # let resource = EncodedResource::new(|resource| resource.attribute("service.name", "shop"));
/// # let mut encoder = Encoder::default();
/// # encoder.push(&resource, &Visit);
/// # let request = encoder.finish().expect("one span was pushed");
///
/// let mut writer = Writer::new(WriteOptions::datagram());
/// for piece in writer.pieces(&request.bytes) {
///     let piece = piece?;
///     assert_eq!(piece.spans, 0..1);
///     assert!(matches!(piece.content, PieceContent::Bytes(datagram) if datagram.len() <= 65_000));
/// }
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub struct Writer {
    options: WriteOptions,
    mapper: Mapper,
    /// What stands before the list of spans, which is the same for all messages with one resource.
    head: Vec<u8>,
    /// The spans of the message at hand, and the one that did not fit into the message before.
    spans: Vec<u8>,
}

impl Writer {
    /// Creates a writer.
    pub fn new(options: WriteOptions) -> Self {
        Self {
            mapper: Mapper::new(&options),
            head: Vec::new(),
            spans: Vec::new(),
            options,
        }
    }

    /// Returns what it writes and how.
    pub fn options(&self) -> &WriteOptions {
        &self.options
    }

    /// Turns a validated request into messages, one at a time.
    ///
    /// Each message holds as many spans of one resource as fit, in the order of the request. A span that is too large even
    /// alone comes as [`PieceContent::TooLarge`], and the spans around it come as if it were not there. The pieces together
    /// cover every span once.
    ///
    /// # Errors
    ///
    /// A span whose trace id or span id is zero, absent or of a wrong length ends the iteration with an error of the kind
    /// [`WireErrorKind::Id`], because Jaeger loses such a span without a word. Requests that passed `admit` or
    /// `remove_invalid_spans` have none.
    pub fn pieces<'a>(&'a mut self, request: &'a [u8]) -> Pieces<'a> {
        self.spans.clear();
        self.spans.shrink_to(KEPT_BYTES_MAX);
        self.head.clear();
        self.head.shrink_to(KEPT_BYTES_MAX);
        Pieces {
            resources: RequestView::new(request).resource_spans(),
            scopes: ScopeSpansIter::default(),
            spans: SpansInScope::default(),
            request,
            piece: 0..0,
            waiting: None,
            has_ended: false,
            writer: self,
        }
    }

    fn begin_resource<O: Output>(&mut self, envelope: crate::otlp::ResourceSpansView<'_>) {
        self.head.clear();
        if self.options.envelope == Envelope::EmitBatch {
            O::begin_message(&mut self.head);
        }
        O::field(&mut self.head, Kind::Struct, 1, 0);
        self.mapper.process::<O>(&mut self.head, envelope);
        O::field(&mut self.head, Kind::List, 2, 1);
    }

    /// Returns how many bytes the message of `count` spans, which take `spans_len`, has.
    fn message_len<O: Output>(&self, count: usize, spans_len: usize) -> usize {
        self.head.len() + O::list_len(count) + spans_len + self.tail().len()
    }

    /// Returns what stands behind the spans: the ends of the batch and of the arguments.
    fn tail(&self) -> &'static [u8] {
        match self.options.envelope {
            Envelope::Batch => &[STOP],
            Envelope::EmitBatch => &[STOP, STOP],
        }
    }

    fn message<O: Output>(&self, count: usize, spans_len: usize) -> Bytes {
        let mut message = Vec::with_capacity(self.message_len::<O>(count, spans_len));
        message.extend_from_slice(&self.head);
        O::list(&mut message, count);
        message.extend_from_slice(self.spans.get(..spans_len).unwrap_or_default());
        message.extend_from_slice(self.tail());
        message.into()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Writer")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Iterates over the messages that hold a request's spans.
pub struct Pieces<'a> {
    writer: &'a mut Writer,
    request: &'a [u8],
    resources: ResourceSpansIter<'a>,
    scopes: ScopeSpansIter<'a>,
    spans: SpansInScope<'a>,
    /// Which spans the message at hand holds.
    piece: Range<usize>,
    /// Where the span begins that stands behind the message at hand, because it did not fit.
    waiting: Option<usize>,
    has_ended: bool,
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let next = match self.writer.options.protocol {
            Protocol::Binary => self.next_piece::<Binary>(),
            Protocol::Compact => self.next_piece::<Compact>(),
        };
        self.has_ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<'a> Pieces<'a> {
    fn next_piece<O: Output>(&mut self) -> Option<Result<Piece, WireError>> {
        self.move_waiting_to_front();
        loop {
            if let Some(too_large) = self.take_too_large::<O>() {
                return Some(Ok(too_large));
            }
            let Some(span) = self.next_span_of_resource::<O>() else {
                if !self.piece.is_empty() {
                    return Some(Ok(self.take_message::<O>()));
                }
                let envelope = self.resources.next()?;
                self.writer.begin_resource::<O>(envelope);
                self.scopes = envelope.scope_spans();
                continue;
            };
            if span.trace_id() == [0; 16] || span.span_id() == [0; 8] {
                return Some(Err(self.invalid_span(span.bytes())));
            }
            let start = self.writer.spans.len();
            self.writer.mapper.span::<O>(&mut self.writer.spans, &span);
            let count = self.piece.len() + 1;
            let len = self.writer.message_len::<O>(count, self.writer.spans.len());
            if len > self.writer.options.bytes_max && start > 0 {
                self.waiting = Some(start);
                return Some(Ok(self.take_message::<O>()));
            }
            self.piece.end += 1;
        }
    }

    fn next_span_of_resource<O: Output>(&mut self) -> Option<SpanView<'a>> {
        loop {
            if let Some(span) = self.spans.next() {
                return Some(span);
            }
            let scope = self.scopes.next()?;
            self.writer.mapper.begin_scope::<O>(scope);
            self.spans = scope.spans();
        }
    }

    /// Begins a message with the span that did not fit into the one before.
    fn move_waiting_to_front(&mut self) {
        let Some(start) = self.waiting.take() else {
            return;
        };
        self.writer.spans.drain(..start);
        self.piece.end += 1;
    }

    /// Takes the message at hand if it is too large, which it is with one span only.
    fn take_too_large<O: Output>(&mut self) -> Option<Piece> {
        let count = self.piece.len();
        let bytes = self.writer.message_len::<O>(count, self.writer.spans.len());
        if count != 1 || bytes <= self.writer.options.bytes_max {
            return None;
        }
        self.writer.spans.clear();
        Some(Piece {
            spans: self.take_range(),
            content: PieceContent::TooLarge { bytes },
        })
    }

    fn take_message<O: Output>(&mut self) -> Piece {
        let spans_len = self.waiting.unwrap_or(self.writer.spans.len());
        let bytes = self.writer.message::<O>(self.piece.len(), spans_len);
        if self.waiting.is_none() {
            self.writer.spans.clear();
        }
        Piece {
            spans: self.take_range(),
            content: PieceContent::Bytes(bytes),
        }
    }

    fn take_range(&mut self) -> Range<usize> {
        let spans = self.piece.clone();
        self.piece = spans.end..spans.end;
        spans
    }

    #[cold]
    fn invalid_span(&self, span: &[u8]) -> WireError {
        let offset = offset_of(span, self.request);
        let path = format!("span {}", self.piece.end);
        WireError::new(WireErrorKind::Id, offset, "Span".to_owned(), path).saying(
            "trace id or span id is zero, absent or of a wrong length, which Jaeger has no place for"
                .to_owned(),
        )
    }
}

impl fmt::Debug for Pieces<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pieces")
            .field("options", &self.writer.options)
            .field("piece", &self.piece)
            .finish_non_exhaustive()
    }
}
