//! From the content of a request to a batch.

use bytes::Bytes;
use outspan::Batch;
use outspan::wire::ReadRequest;
use outspan::wire::jaeger;
use outspan::wire::otlp;
use outspan::wire::otlp::PartialSuccess;
use outspan::wire::otlp::WireError;
use outspan::wire::zipkin;

use super::answer::Form;
use super::failure::Failure;

/// What would be right.
const GUIDANCE: &str =
    "a trace id has 16 bytes and a span id 8, not all zero; a parent's and a link's have as many";

/// What is in a request.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) batch: Batch,
    /// How many spans were left out, because they are invalid.
    pub(super) refused: usize,
    /// What the sender is to hear, if everything that is good is accepted.
    pub(super) partial: Option<PartialSuccess>,
}

impl Spans {
    /// Reads the content of a request.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, and where.
    pub(super) fn read(form: Form, content: Bytes) -> Result<Self, Box<Failure>> {
        match form {
            Form::Json => Self::read_json(&content),
            Form::Grpc | Form::Protobuf | Form::Text => Self::read_protobuf(content),
            Form::ZipkinJson | Form::ZipkinProtobuf => Self::read_zipkin(form, &content),
            Form::ThriftBinary | Form::ThriftCompact => Self::read_jaeger(form, &content),
        }
    }

    fn read_zipkin(form: Form, content: &[u8]) -> Result<Self, Box<Failure>> {
        let limits = zipkin::ReadLimits::default();
        let (what, read) = match form {
            // Some that have nothing to send send nothing.
            _ if content.is_empty() => return Self::read_protobuf(Bytes::new()),
            Form::ZipkinJson => ("Zipkin JSON", zipkin::read_json(content, &limits)),
            _ => ("Zipkin protobuf", zipkin::read_protobuf(content, &limits)),
        };
        let read = read.map_err(|error| Failure::malformed(what, &error))?;
        Self::of(what, read)
    }

    fn read_jaeger(form: Form, content: &[u8]) -> Result<Self, Box<Failure>> {
        let (what, protocol) = match form {
            Form::ThriftCompact => ("Jaeger batch in compact Thrift", jaeger::Protocol::Compact),
            _ => ("Jaeger batch in binary Thrift", jaeger::Protocol::Binary),
        };
        let read = jaeger::read_batch(content, protocol, &jaeger::ReadLimits::default());
        let read = read.map_err(|error| Failure::malformed(what, &error))?;
        Self::of(what, read)
    }

    /// Takes what was read from another format.
    ///
    /// # Errors
    ///
    /// If there are spans and none is valid.
    pub(super) fn of(what: &str, read: ReadRequest) -> Result<Self, Box<Failure>> {
        let mut spans = Self::read_protobuf(read.bytes)?;
        spans.refused += read.invalid;
        if read.invalid == 0 {
            return Ok(spans);
        }
        let first = read.first_invalid.unwrap_or_default();
        if spans.batch.is_empty() {
            return Err(Failure::no_valid_span(what, spans.refused, &first));
        }
        spans.partial = Some(PartialSuccess {
            rejected_spans: spans.refused as u64,
            error_message: format!(
                "{} of {} spans are invalid, of the first: {first}",
                spans.refused,
                spans.batch.spans() + spans.refused
            ),
        });
        Ok(spans)
    }

    fn read_json(text: &[u8]) -> Result<Self, Box<Failure>> {
        let mut request = Vec::with_capacity(text.len());
        let summary = otlp::read_json(text, &mut request)
            .map_err(|error| Failure::malformed("OTLP JSON", &error))?;
        request.shrink_to_fit();
        let mut spans = Self::read_protobuf(request.into())?;
        if summary.spans == 0 && summary.ignored_keys > 0 {
            spans.partial = Some(PartialSuccess {
                rejected_spans: 0,
                error_message: format!(
                    "no span was found, and {} keys are not those of OTLP: they are written resourceSpans, \
                     scopeSpans, spans",
                    summary.ignored_keys
                ),
            });
        }
        Ok(spans)
    }

    fn read_protobuf(content: Bytes) -> Result<Self, Box<Failure>> {
        let checked = Batch::from_request(content).map_err(|error| {
            let source = std::error::Error::source(&error);
            match source.and_then(|source| source.downcast_ref::<WireError>()) {
                Some(error) => Failure::malformed("OTLP trace request in protobuf", error),
                None => Failure::internal(),
            }
        })?;
        let total = checked.batch.spans() + checked.refused;
        let partial = (checked.refused > 0).then(|| PartialSuccess {
            rejected_spans: checked.refused as u64,
            error_message: format!(
                "{} of {total} spans are invalid, the first is {}: {GUIDANCE}",
                checked.refused,
                checked.reason.unwrap_or_default(),
            ),
        });
        Ok(Self {
            batch: checked.batch,
            refused: checked.refused,
            partial,
        })
    }
}
