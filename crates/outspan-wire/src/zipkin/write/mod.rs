//! OTLP to Zipkin, straight from the views.

mod json;
mod output;
mod plan;
mod protobuf;
mod shared;
mod source;
mod span;
mod text;

use std::fmt;
use std::ops::Range;

use self::json::Json;
use self::output::Output;
use self::protobuf::Protobuf;
use self::source::Source;
use self::span::SpanMapper;
use super::options::Format;
use super::options::WriteOptions;
use crate::Piece;
use crate::PieceContent;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;

/// How large a buffer a writer keeps from request to request.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Turns OTLP requests into Zipkin messages.
///
/// Made to be used for ever: its buffers grow to what a message needs, so that a span costs no allocation. What it keeps
/// between requests is bounded by 8 MiB.
///
/// # Examples
///
/// ```
/// use outspan_wire::PieceContent;
/// use outspan_wire::otlp::EncodeSpan;
/// use outspan_wire::otlp::EncodedResource;
/// use outspan_wire::otlp::Encoder;
/// use outspan_wire::otlp::ScopeWriter;
/// use outspan_wire::otlp::SpanWriter;
/// use outspan_wire::zipkin::WriteOptions;
/// use outspan_wire::zipkin::Writer;
///
/// struct Visit;
///
/// impl EncodeSpan for Visit {
///     fn encode_scope(&self, _: &mut ScopeWriter<'_>) {}
///
///     fn encode(&self, span: &mut SpanWriter<'_>) {
///         span.trace_id([1; 16]);
///         span.span_id([2; 8]);
///         span.name("visit");
///     }
/// }
///
/// let resource = EncodedResource::new(|resource| resource.attribute("service.name", "shop"));
/// let mut encoder = Encoder::default();
/// encoder.push(&resource, &Visit);
/// let request = encoder.finish().expect("one span was pushed");
///
/// let mut writer = Writer::new(WriteOptions::default());
/// for piece in writer.pieces(&request.bytes) {
///     let piece = piece?;
///     assert_eq!(piece.spans, 0..1);
///     assert!(matches!(piece.content, PieceContent::Bytes(body) if body.starts_with(b"[{\"traceId\":")));
/// }
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub struct Writer {
    options: WriteOptions,
    /// The message at hand, and the span that did not fit into the one before.
    message: Limited,
    mapper: SpanMapper,
}

impl Writer {
    /// Creates a writer.
    pub fn new(options: WriteOptions) -> Self {
        Self {
            message: Limited::new(options.bytes_max),
            mapper: SpanMapper::new(&options),
            options,
        }
    }

    /// Returns what it writes and how.
    pub fn options(&self) -> &WriteOptions {
        &self.options
    }

    /// Turns a validated request into messages, one at a time.
    ///
    /// Each message holds as many spans as fit, in the order of the request, whatever their resources. A span that is too
    /// large even alone comes as [`PieceContent::TooLarge`], and the spans around it come as if it were not there. The pieces
    /// together cover every span once.
    ///
    /// Writing a span stops where it becomes too large. So an iteration holds at most about three messages, whatever the
    /// spans are like.
    ///
    /// # Errors
    ///
    /// A span whose trace id or span id is zero, absent or of a wrong length ends the iteration with an error: Zipkin refuses
    /// a whole message for it. Requests that passed `admit` or `remove_invalid_spans` have no such spans.
    pub fn pieces<'a>(&'a mut self, request: &'a [u8]) -> Pieces<'a> {
        self.pieces_from(request, 0)
    }

    /// Turns the spans of a request into messages as [`pieces`](Self::pieces) does, from the span with the number `first` on.
    ///
    /// Spans are counted from 0, in the pieces too. A caller that cannot hold all messages goes on where it stopped.
    ///
    /// # Errors
    ///
    /// Those of [`pieces`](Self::pieces).
    pub fn pieces_from<'a>(&'a mut self, request: &'a [u8], first: usize) -> Pieces<'a> {
        self.message.clear_and_keep(KEPT_BYTES_MAX);
        self.mapper.begin_request();
        Pieces {
            source: Source::new(request, first),
            request,
            piece: first..first,
            waiting: None,
            has_waiting: false,
            too_large: None,
            has_ended: false,
            writer: self,
        }
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
    source: Source<'a>,
    /// Which spans the message at hand holds.
    piece: Range<usize>,
    /// Where the span begins that stands behind the message at hand, because it did not fit. Only between the two.
    waiting: Option<usize>,
    /// Whether the message at hand begins with such a span.
    has_waiting: bool,
    /// How many bytes were needed for the span behind the message at hand, which is too large alone.
    too_large: Option<usize>,
    has_ended: bool,
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let next = match self.writer.options.format {
            Format::Json => self.next_piece::<Json>(),
            Format::Protobuf => self.next_piece::<Protobuf>(),
        };
        self.has_ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Pieces<'_> {
    fn next_piece<O: Output>(&mut self) -> Option<Result<Piece, WireError>> {
        let bytes_max = self.writer.options.bytes_max;
        if let Some(bytes) = self.too_large.take() {
            return Some(Ok(self.leave_out(bytes)));
        }
        self.piece.end += usize::from(std::mem::take(&mut self.has_waiting));
        if let Some(too_large) = self.take_too_large::<O>(bytes_max) {
            return Some(Ok(too_large));
        }
        loop {
            if !self.source.advance::<O>(&mut self.writer.mapper) {
                return self.take_message::<O>().map(Ok);
            }
            let start = self.writer.message.len();
            // The span has as much room as it would have alone.
            self.writer.message.set_max(start.saturating_add(bytes_max));
            if start == 0 {
                self.writer.message.extend_from_slice(O::BEFORE);
            }
            let writer = &mut *self.writer;
            let is_written = writer
                .mapper
                .write::<O>(&mut writer.message, &mut self.source);
            if !is_written {
                return Some(Err(self.invalid_span(self.source.bytes)));
            }
            if self.writer.message.is_over() {
                return Some(Ok(self.take_before_too_large::<O>(start)));
            }
            if self.writer.message.len() <= bytes_max {
                self.piece.end += 1;
                continue;
            }
            if start != 0 {
                self.waiting = Some(start);
                return self.take_message::<O>().map(Ok);
            }
            self.piece.end += 1;
            return self.take_too_large::<O>(bytes_max).map(Ok);
        }
    }

    /// Takes the message at hand without the span that begins at `start` and is too large even alone, or that span if there
    /// is nothing before it.
    #[cold]
    fn take_before_too_large<O: Output>(&mut self, start: usize) -> Piece {
        let bytes = self.writer.message.needed() - start;
        self.writer.message.rewind(start);
        self.source.plans.forget_written();
        if self.piece.is_empty() {
            return self.leave_out(bytes);
        }
        self.too_large = Some(bytes);
        self.take_at_hand::<O>()
    }

    /// Leaves out a span that is too large even alone.
    fn leave_out(&mut self, bytes: usize) -> Piece {
        self.writer.message.clear();
        self.piece.end += 1;
        Piece {
            spans: self.take_range(),
            content: PieceContent::TooLarge { bytes },
        }
    }

    /// Takes the message at hand if it is too large, which it is with one span only.
    fn take_too_large<O: Output>(&mut self, bytes_max: usize) -> Option<Piece> {
        let bytes = self.writer.message.len();
        if bytes <= bytes_max || self.piece.is_empty() {
            return None;
        }
        self.writer.message.clear();
        self.source.plans.forget_written();
        Some(Piece {
            spans: self.take_range(),
            content: PieceContent::TooLarge { bytes },
        })
    }

    /// Takes the message at hand. What is behind it begins the next one.
    fn take_message<O: Output>(&mut self) -> Option<Piece> {
        if self.piece.is_empty() {
            return None;
        }
        Some(self.take_at_hand::<O>())
    }

    fn take_at_hand<O: Output>(&mut self) -> Piece {
        let bytes_max = self.writer.options.bytes_max;
        let message = &mut self.writer.message;
        let end = self.waiting.take().unwrap_or(message.len());
        // Messages of one request are of about the same length.
        let mut next =
            Limited::with_capacity(end + end / 8, bytes_max.saturating_add(O::BEFORE.len()));
        let waiting = message.get(end..).unwrap_or_default();
        if !waiting.is_empty() {
            next.extend_from_slice(O::BEFORE);
            next.extend_from_slice(waiting);
            self.has_waiting = true;
        }
        message.truncate(end);
        O::finish(message);
        let message = std::mem::replace(message, next);
        self.source.plans.forget_written();
        Piece {
            spans: self.take_range(),
            content: PieceContent::Bytes(message.into_vec().into()),
        }
    }

    fn take_range(&mut self) -> Range<usize> {
        let spans = self.piece.clone();
        self.piece = spans.end..spans.end;
        spans
    }

    #[cold]
    fn invalid_span(&self, span: &[u8]) -> WireError {
        let offset = crate::otlp::reader::offset_of(span, self.request);
        let path = format!("span {}", self.piece.end);
        WireError::new(WireErrorKind::Id, offset, "Span".to_owned(), path).saying(
            "trace id or span id is zero, absent or of a wrong length, which Zipkin refuses"
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
