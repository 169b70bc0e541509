//! OTLP to Jaeger, each span in one pass.

mod output;
mod span;

use std::fmt;
use std::ops::Range;

use self::output::Binary;
use self::output::Compact;
use self::output::Kind;
use self::output::OpenList;
use self::output::Output;
use self::output::STOP;
use self::span::Mapper;
use self::span::Source;
use super::Envelope;
use super::Protocol;
use super::WriteOptions;
use crate::Piece;
use crate::PieceContent;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::otlp::RequestView;
use crate::otlp::ResourceSpansIter;
use crate::otlp::ResourceSpansView;
use crate::otlp::ScopeSpansIter;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;
use crate::otlp::fields::scope_spans;
use crate::otlp::reader::Fields;
use crate::otlp::reader::offset_of;

/// Bytes that the buffer of a message may keep between requests: the usual message has less than one megabyte.
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
    /// The message at hand, and behind it the span that did not fit any more.
    message: Limited,
}

impl Writer {
    /// Creates a writer.
    pub fn new(options: WriteOptions) -> Self {
        Self {
            mapper: Mapper::new(&options),
            message: Limited::new(options.bytes_max),
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
    /// Writing a span stops where it becomes too large. So an iteration holds at most about three messages, whatever the
    /// spans are like.
    ///
    /// # Errors
    ///
    /// A span whose trace id or span id is zero, absent or of a wrong length ends the iteration with an error of the kind
    /// [`WireErrorKind::Id`], because Jaeger loses such a span without a word. Requests that passed `admit` or
    /// `remove_invalid_spans` have none.
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
        Pieces {
            to_skip: first,
            too_large: None,
            resources: RequestView::new(request).resource_spans(),
            scopes: ScopeSpansIter::default(),
            spans: Fields::default(),
            source: Source::default(),
            list: OpenList::default(),
            request,
            piece: first..first,
            waiting: None,
            has_ended: false,
            writer: self,
        }
    }

    /// Writes what stands before the spans, which is the same for all messages with one resource.
    fn begin_resource<O: Output>(&mut self, envelope: ResourceSpansView<'_>) -> OpenList {
        let message = &mut self.message;
        message.clear();
        message.set_max(self.options.bytes_max);
        if self.options.envelope == Envelope::EmitBatch {
            O::begin_message(message);
        }
        O::field(message, Kind::Struct, 1, 0);
        self.mapper.process::<O>(message, envelope);
        O::field(message, Kind::List, 2, 1);
        O::open_list(message)
    }

    /// Returns how many bytes the message at hand has when it is finished with `count` spans.
    fn message_len<O: Output>(&self, count: usize) -> usize {
        self.message.len() + O::closing_len(count) + self.tail().len()
    }

    /// Returns what stands behind the spans: the ends of the batch and of the arguments.
    fn tail(&self) -> &'static [u8] {
        match self.options.envelope {
            Envelope::Batch => &[STOP],
            Envelope::EmitBatch => &[STOP, STOP],
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
    resources: ResourceSpansIter<'a>,
    scopes: ScopeSpansIter<'a>,
    /// The envelope of a scope, from the next span on.
    spans: Fields<'a>,
    source: Source<'a>,
    /// The spans in the message at hand.
    list: OpenList,
    /// Which spans the message at hand holds.
    piece: Range<usize>,
    /// Where the span begins that stands behind the message at hand, because it did not fit.
    waiting: Option<usize>,
    /// How many spans are still to be passed over.
    to_skip: usize,
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
        let next = match self.writer.options.protocol {
            Protocol::Binary => self.next_piece::<Binary>(),
            Protocol::Compact => self.next_piece::<Compact>(),
        };
        self.has_ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Pieces<'_> {
    fn next_piece<O: Output>(&mut self) -> Option<Result<Piece, WireError>> {
        loop {
            if let Some(bytes) = self.too_large.take() {
                return Some(Ok(self.leave_out(bytes)));
            }
            if let Some(too_large) = self.take_too_large::<O>() {
                return Some(Ok(too_large));
            }
            if !self.read_span_of_resource::<O>() {
                if !self.piece.is_empty() {
                    return Some(Ok(self.take_message::<O>()));
                }
                let envelope = self.resources.next()?;
                self.list = self.writer.begin_resource::<O>(envelope);
                self.scopes = envelope.scope_spans();
                continue;
            }
            if !self.source.has_ids() {
                return Some(Err(self.invalid_span(self.source.bytes)));
            }
            if self.writer.message.is_over() {
                // What stands before the spans is too large already.
                let bytes = self.writer.message.needed();
                return Some(Ok(self.leave_out(bytes)));
            }
            let start = self.writer.message.len();
            let writer = &mut *self.writer;
            // The span has as much room as it would have alone.
            let bytes_max = writer.options.bytes_max;
            writer.message.set_max(start.saturating_add(bytes_max));
            writer
                .mapper
                .span::<O>(&mut writer.message, &mut self.source);
            if self.writer.message.is_over() {
                return Some(Ok(self.take_before_too_large::<O>(start)));
            }
            let len = self.writer.message_len::<O>(self.piece.len() + 1);
            if len > self.writer.options.bytes_max && !self.piece.is_empty() {
                self.waiting = Some(start);
                return Some(Ok(self.take_message::<O>()));
            }
            self.piece.end += 1;
        }
    }

    /// Reads the next span, and tells whether the resource has one more.
    fn read_span_of_resource<O: Output>(&mut self) -> bool {
        loop {
            let span = self
                .spans
                .find_map(|field| field.bytes_of(scope_spans::SPANS));
            if let Some(bytes) = span {
                if self.to_skip > 0 {
                    self.to_skip -= 1;
                    continue;
                }
                self.source.read(bytes);
                return true;
            }
            let Some(scope) = self.scopes.next() else {
                return false;
            };
            self.writer.mapper.begin_scope::<O>(scope);
            self.spans = Fields::new(scope.bytes());
        }
    }

    /// Takes the message at hand without the span that begins at `start` and is too large even alone, or that span if there
    /// is none before it.
    #[cold]
    fn take_before_too_large<O: Output>(&mut self, start: usize) -> Piece {
        let bytes = self.list.start + self.writer.message.needed() - start;
        self.writer.message.rewind(start);
        if self.piece.is_empty() {
            return self.leave_out(bytes);
        }
        self.too_large = Some(bytes);
        self.take_message::<O>()
    }

    /// Leaves out a span that is too large even alone.
    fn leave_out(&mut self, bytes: usize) -> Piece {
        self.piece.end += 1;
        Piece {
            spans: self.take_range(),
            content: PieceContent::TooLarge { bytes },
        }
    }

    /// Takes the message at hand if it is too large, which it is with one span only.
    fn take_too_large<O: Output>(&mut self) -> Option<Piece> {
        if self.piece.len() != 1 {
            return None;
        }
        let bytes = self.writer.message_len::<O>(1);
        if bytes <= self.writer.options.bytes_max {
            return None;
        }
        self.writer.message.truncate(self.list.start);
        Some(Piece {
            spans: self.take_range(),
            content: PieceContent::TooLarge { bytes },
        })
    }

    /// Takes the message at hand. The next one begins like it, with the span that did not fit.
    fn take_message<O: Output>(&mut self) -> Piece {
        let tail = self.writer.tail();
        let spans = self.take_range();
        let message = &mut self.writer.message;
        let end = self.waiting.unwrap_or(message.len());
        // Messages of one request are of about the same length.
        let mut next = Limited::with_capacity((end + end / 8).min(KEPT_BYTES_MAX), usize::MAX);
        let has_waiting = self.waiting.take().is_some();
        if has_waiting || self.too_large.is_some() {
            next.extend_from_slice(message.get(..self.list.start).unwrap_or_default());
            next.extend_from_slice(message.get(end..).unwrap_or_default());
            self.piece.end += usize::from(has_waiting);
        }
        message.truncate(end);
        message.set_max(usize::MAX);
        O::close_list(message, self.list, spans.len());
        message.extend_from_slice(tail);
        let message = std::mem::replace(message, next);
        Piece {
            spans,
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
