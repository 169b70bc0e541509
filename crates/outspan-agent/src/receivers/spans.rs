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
use super::body::no_room;
use super::failure::Failure;
use crate::agent::Intake;
use crate::agent::Taken;

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
    /// Reads the content of a request, within the room of requests on their way in.
    ///
    /// `taken` has room for the content and what [`Form::conversion`] says. A copy that the form does not need, but this
    /// content does, is taken here.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), or that there is no room.
    pub(super) fn read_within(
        form: Form,
        content: Bytes,
        taken: &mut Taken,
        intake: &Intake,
    ) -> Result<Self, Box<Failure>> {
        if form.conversion(content.len()) == 0 {
            take_for_copy(&content, taken, intake)?;
        }
        Self::read(form, content)
    }

    /// Reads the content of a request.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, and where.
    pub(super) fn read(form: Form, content: Bytes) -> Result<Self, Box<Failure>> {
        match form {
            Form::Json => Self::read_json(content),
            Form::Grpc | Form::Protobuf | Form::Text => Self::read_protobuf(content),
            Form::ZipkinJson | Form::ZipkinProtobuf => Self::read_zipkin(form, content),
            Form::ThriftBinary | Form::ThriftCompact => Self::read_jaeger(form, content),
        }
    }

    fn read_zipkin(form: Form, content: Bytes) -> Result<Self, Box<Failure>> {
        let limits = zipkin::ReadLimits::default().memory_max(form.conversion(content.len()));
        let (what, read) = match form {
            // Some that have nothing to send send nothing.
            _ if content.is_empty() => return Self::read_protobuf(Bytes::new()),
            Form::ZipkinJson => ("Zipkin JSON", zipkin::read_json(&content, &limits)),
            _ => ("Zipkin protobuf", zipkin::read_protobuf(&content, &limits)),
        };
        let read = read.map_err(|error| Failure::malformed(what, &error))?;
        drop(content);
        Self::of(what, read)
    }

    fn read_jaeger(form: Form, content: Bytes) -> Result<Self, Box<Failure>> {
        let mut limits = jaeger::ReadLimits::default();
        limits.memory_max = form.conversion(content.len());
        let (what, protocol) = match form {
            Form::ThriftCompact => ("Jaeger batch in compact Thrift", jaeger::Protocol::Compact),
            _ => ("Jaeger batch in binary Thrift", jaeger::Protocol::Binary),
        };
        let read = jaeger::read_batch(&content, protocol, &limits);
        let read = read.map_err(|error| Failure::malformed(what, &error))?;
        drop(content);
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

    fn read_json(text: Bytes) -> Result<Self, Box<Failure>> {
        // As long as it can become: what is written in JSON is never shorter.
        let mut request = Vec::with_capacity(text.len());
        let summary = otlp::read_json(&text, &mut request)
            .map_err(|error| Failure::malformed("OTLP JSON", &error))?;
        drop(text);
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
        let batch = match checked.refused {
            0 => checked.batch,
            _ => exact(checked.batch),
        };
        let partial = (checked.refused > 0).then(|| PartialSuccess {
            rejected_spans: checked.refused as u64,
            error_message: format!(
                "{} of {total} spans are invalid, the first is {}: {GUIDANCE}",
                checked.refused,
                checked.reason.unwrap_or_default(),
            ),
        });
        Ok(Self {
            batch,
            refused: checked.refused,
            partial,
        })
    }
}

/// From which size on the content is looked through before room for its copy is taken. Below, taking room that is rarely
/// needed disturbs nobody.
const LARGE: usize = 256 << 10;

/// Takes room for the copy that is made where spans are to be left out.
fn take_for_copy(content: &Bytes, taken: &mut Taken, intake: &Intake) -> Result<(), Box<Failure>> {
    let bytes = content.len();
    if bytes < LARGE && taken.grow(bytes) {
        return Ok(());
    }
    // What is malformed is refused without a copy.
    let needs_copy = otlp::validate(content).is_ok_and(|summary| !summary.is_clean());
    match !needs_copy || taken.grow(bytes) {
        true => Ok(()),
        false => Err(no_room(taken.bytes() + bytes, intake)),
    }
}

/// The same spans in an allocation of their size. Where spans were left out, it is as large as the request was.
fn exact(batch: Batch) -> Batch {
    let request = Bytes::copy_from_slice(batch.as_request());
    match Batch::from_request(request) {
        Ok(checked) => checked.batch,
        Err(_) => batch,
    }
}
