//! Jaeger to OTLP.

pub(super) mod assemble;
mod input;
mod json_value;
mod limits;
mod meaning;
pub(super) mod parts;
mod thrift;
mod usual;

pub use limits::ReadLimits;

use self::assemble::Assembler;
use self::input::Binary;
use self::input::Compact;
use self::input::Input;
use self::input::Kind;
use self::parts::Take;
use self::thrift::Structs;
use super::Protocol;
use crate::ReadRequest;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;

/// The message of a datagram.
const EMIT_BATCH: &[u8] = b"emitBatch";

/// The message of a datagram with spans of Zipkin's first version.
const EMIT_ZIPKIN_BATCH: &[u8] = b"emitZipkinBatch";

const CALL: u8 = 1;
const ONEWAY: u8 = 4;

/// Reads the Thrift struct `Batch`: the body of a request to a Jaeger collector.
///
/// Spans with a trace id or span id of zero are left out and counted, because OTLP forbids them. Everything else becomes OTLP
/// as the project's `docs/jaeger.md` says; fields that `jaeger.thrift` does not have are skipped.
///
/// # Errors
///
/// Fails if the bytes are not such a struct, if a required field is absent, if anything follows the struct, or if there is
/// more than `limits` allow.
///
/// # Examples
///
/// ```
/// use outspan_wire::jaeger::Protocol;
/// use outspan_wire::jaeger::ReadLimits;
/// use outspan_wire::jaeger::read_batch;
///
/// // A process named "shop" without spans.
/// let body = b"\x0c\0\x01\x0b\0\x01\0\0\0\x04shop\0\x0f\0\x02\x0c\0\0\0\0\0";
/// let read = read_batch(body, Protocol::Binary, &ReadLimits::default())?;
/// assert_eq!(read.spans, 0);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn read_batch(
    bytes: &[u8],
    protocol: Protocol,
    limits: &ReadLimits,
) -> Result<ReadRequest, WireError> {
    check_len(bytes, limits)?;
    match protocol {
        Protocol::Binary => batch::<Binary<'_>>(bytes, limits),
        Protocol::Compact => batch::<Compact<'_>>(bytes, limits),
    }
}

/// Reads the message `emitBatch`: a datagram to a Jaeger agent, in either protocol.
///
/// The first byte tells the protocol. The message may be oneway or a call, as Go's client has it; either way there is no answer.
///
/// # Errors
///
/// As [`read_batch`], and if the message is another one, such as `emitZipkinBatch`.
pub fn read_datagram(bytes: &[u8], limits: &ReadLimits) -> Result<ReadRequest, WireError> {
    check_len(bytes, limits)?;
    match bytes.first() {
        Some(0x82) => datagram::<Compact<'_>>(bytes, limits),
        _ => datagram::<Binary<'_>>(bytes, limits),
    }
}

/// Reads a binary batch that was written here, as structs.
pub(super) fn take_batch(bytes: &[u8], taker: &mut impl Take) -> Result<(), WireError> {
    let limits = ReadLimits {
        bytes_max: usize::MAX,
        spans_max: usize::MAX,
        items_max: usize::MAX,
        ..ReadLimits::default()
    };
    Structs::new(Binary::new(bytes), &limits).batch(taker)
}

fn batch<'a, I: Input<'a>>(bytes: &'a [u8], limits: &ReadLimits) -> Result<ReadRequest, WireError> {
    let limits = limits.within_memory();
    let mut structs = Structs::new(I::new(bytes), &limits);
    let mut assembler = Assembler::new(limits.memory_max);
    structs.batch(&mut assembler)?;
    check_end(structs.input())?;
    assembler.finish()
}

fn datagram<'a, I: Input<'a>>(
    bytes: &'a [u8],
    limits: &ReadLimits,
) -> Result<ReadRequest, WireError> {
    let limits = limits.within_memory();
    let mut structs = Structs::new(I::new(bytes), &limits);
    let (name, message_type) = structs.input().message()?;
    check_message(structs.input(), name, message_type)?;
    let mut assembler = Assembler::new(limits.memory_max);
    let mut has_batch = false;
    let mut before = 0;
    while let Some(field) = structs.input().field(&mut before)? {
        match (field.id, field.kind) {
            (1, Kind::Struct) => {
                structs
                    .batch(&mut assembler)
                    .map_err(|error| error.below("batch"))?;
                has_batch = true;
            }
            _ => structs.skip(field)?,
        }
    }
    if !has_batch {
        let error = structs.input().cursor().fault(WireErrorKind::Missing);
        return Err(error.in_field("emitBatch.batch"));
    }
    check_end(structs.input())?;
    assembler.finish()
}

fn check_message<'a>(
    input: &impl Input<'a>,
    name: &[u8],
    message_type: u8,
) -> Result<(), WireError> {
    let words = match name {
        EMIT_BATCH if message_type == CALL || message_type == ONEWAY => return Ok(()),
        EMIT_BATCH => format!("message emitBatch of the unexpected type {message_type}"),
        EMIT_ZIPKIN_BATCH => "spans of Zipkin's first version (emitZipkinBatch)".to_owned(),
        _ => {
            let shown = name.get(..32).unwrap_or(name).escape_ascii();
            format!("expected the message emitBatch but found \"{shown}\"")
        }
    };
    Err(input.cursor().fault(WireErrorKind::Version).saying(words))
}

fn check_end<'a>(input: &impl Input<'a>) -> Result<(), WireError> {
    if input.cursor().is_at_end() {
        return Ok(());
    }
    Err(input.cursor().fault(WireErrorKind::Trailing))
}

pub(super) fn check_len(bytes: &[u8], limits: &ReadLimits) -> Result<(), WireError> {
    let max = limits.bytes_max;
    if bytes.len() <= max {
        return Ok(());
    }
    let error = WireError::new(WireErrorKind::Limit, max, String::new(), String::new());
    Err(error.saying(format!("more than {max} bytes")))
}
