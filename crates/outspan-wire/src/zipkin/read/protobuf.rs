//! Zipkin v2 protobuf.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use super::ReadLimits;
use super::assemble::Assembler;
use super::limit_error;
use super::parts::Annotation;
use super::parts::Endpoint;
use super::parts::Parts;
use super::parts::ValueType;
use crate::otlp::SpanKind;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;
use crate::otlp::reader::Fault;
use crate::otlp::reader::Field;
use crate::otlp::reader::FieldValue;
use crate::otlp::reader::Fields;
use crate::otlp::reader::offset_of;
use crate::zipkin::fields::annotation;
use crate::zipkin::fields::endpoint;
use crate::zipkin::fields::list;
use crate::zipkin::fields::span;
use crate::zipkin::fields::tag;

/// Reads all spans.
pub(super) fn read(
    bytes: &[u8],
    limits: &ReadLimits,
    assembler: &mut Assembler,
) -> Result<(), WireError> {
    let mut parts = Parts::new();
    let mut spans = 0;
    let mut fields = Fields::new(bytes);
    loop {
        let field = fields
            .read()
            .map_err(|fault| explain(fault, "ListOfSpans", bytes))?;
        let Some(field) = field else {
            return Ok(());
        };
        if field.number != list::SPANS {
            continue;
        }
        if spans == limits.spans_max {
            let detail = format!("more than the {} spans allowed", limits.spans_max);
            return Err(limit_error(offset_of(field.raw, bytes), detail));
        }
        spans += 1;
        let message = message(&field).map_err(|fault| explain(fault, "ListOfSpans", bytes))?;
        parts.clear();
        let mut reader = Reader {
            parts: &mut parts,
            limits,
        };
        reader
            .span(message)
            .map_err(|fault| explain(fault, "Span", bytes))?;
        assembler.push(&mut parts);
    }
}

#[cold]
fn explain(fault: Fault, place: &str, bytes: &[u8]) -> WireError {
    let offset = fault.offset_in(bytes);
    WireError::new(fault.kind, offset, place.to_owned(), String::new())
}

struct Reader<'a, 'r> {
    parts: &'r mut Parts<'a>,
    limits: &'r ReadLimits,
}

impl<'a> Reader<'a, '_> {
    fn span(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.read()? {
            self.field(&field)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field<'a>) -> Result<(), Fault> {
        let parts = &mut *self.parts;
        match field.number {
            span::TRACE_ID => match *message(field)? {
                [] => parts.trace_id = [0; 16],
                ref bytes => match trace_id(bytes) {
                    Some(id) => parts.trace_id = id,
                    None => parts.fault = Some("its trace id has neither 8 nor 16 bytes"),
                },
            },
            span::ID => match span_id(message(field)?) {
                Some(id) => parts.id = id,
                None => parts.fault = Some("its id has not 8 bytes"),
            },
            span::PARENT_ID => match span_id(message(field)?) {
                Some(id) => parts.parent_id = id,
                None => parts.fault = Some("its parent's id has not 8 bytes"),
            },
            span::KIND => parts.kind = kind(varint(field)?),
            span::NAME => parts.name = text(field)?,
            span::TIMESTAMP => parts.timestamp = fixed64(field)?,
            span::DURATION => parts.duration = varint(field)?,
            span::LOCAL_ENDPOINT => read_endpoint(message(field)?, &mut parts.local)?,
            span::REMOTE_ENDPOINT => read_endpoint(message(field)?, &mut parts.remote)?,
            span::ANNOTATIONS => {
                self.check_entries(field)?;
                let annotation = read_annotation(message(field)?)?;
                self.parts.annotations.push(annotation);
            }
            span::TAGS => {
                self.check_entries(field)?;
                let (key, value) = read_tag(message(field)?)?;
                self.parts.tag(key, value, ValueType::Text);
            }
            span::DEBUG => parts.debug = varint(field)? != 0,
            span::SHARED => parts.shared = varint(field)? != 0,
            _ => {}
        }
        Ok(())
    }

    fn check_entries(&self, field: &Field<'_>) -> Result<(), Fault> {
        let entries = self.parts.annotations.len() + self.parts.tags_len();
        if entries < self.limits.entries_per_span_max {
            return Ok(());
        }
        Err(Fault::at(WireErrorKind::Limit, field.raw))
    }
}

fn read_endpoint<'a>(bytes: &'a [u8], into: &mut Endpoint<'a>) -> Result<(), Fault> {
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.read()? {
        match field.number {
            endpoint::SERVICE_NAME => into.service_name = text(&field)?,
            endpoint::IPV4 => {
                let address = <[u8; 4]>::try_from(message(&field)?).ok();
                into.ipv4 = address
                    .map(|address| Cow::Owned(Ipv4Addr::from(address).to_string()))
                    .unwrap_or_default();
            }
            endpoint::IPV6 => {
                let address = <[u8; 16]>::try_from(message(&field)?).ok();
                into.ipv6 = address
                    .map(|address| Cow::Owned(Ipv6Addr::from(address).to_string()))
                    .unwrap_or_default();
            }
            endpoint::PORT => into.port = u16::try_from(varint(&field)?).unwrap_or_default(),
            _ => {}
        }
    }
    Ok(())
}

fn read_annotation(bytes: &[u8]) -> Result<Annotation<'_>, Fault> {
    let mut read = Annotation::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.read()? {
        match field.number {
            annotation::TIMESTAMP => read.timestamp = fixed64(&field)?,
            annotation::VALUE => read.value = text(&field)?,
            _ => {}
        }
    }
    Ok(read)
}

fn read_tag(bytes: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), Fault> {
    let mut key = Cow::default();
    let mut value = Cow::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.read()? {
        match field.number {
            tag::KEY => key = text(&field)?,
            tag::VALUE => value = text(&field)?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Reads 8 or 16 bytes; what is missing are zeros before them.
fn trace_id(bytes: &[u8]) -> Option<[u8; 16]> {
    if let Ok(id) = bytes.try_into() {
        return Some(id);
    }
    let low: [u8; 8] = bytes.try_into().ok()?;
    Some(u128::from(u64::from_be_bytes(low)).to_be_bytes())
}

/// Reads 8 bytes, or none, which are zeros.
fn span_id(bytes: &[u8]) -> Option<[u8; 8]> {
    if bytes.is_empty() {
        return Some([0; 8]);
    }
    bytes.try_into().ok()
}

fn kind(number: u64) -> SpanKind {
    match number {
        1 => SpanKind::Client,
        2 => SpanKind::Server,
        3 => SpanKind::Producer,
        4 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

fn message<'a>(field: &Field<'a>) -> Result<&'a [u8], Fault> {
    match field.value {
        FieldValue::Bytes(bytes) => Ok(bytes),
        _ => Err(Fault::at(WireErrorKind::WireType, field.raw)),
    }
}

fn text<'a>(field: &Field<'a>) -> Result<Cow<'a, str>, Fault> {
    let bytes = message(field)?;
    match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) => Err(Fault::at(WireErrorKind::Utf8, bytes)),
    }
}

fn varint(field: &Field<'_>) -> Result<u64, Fault> {
    match field.value {
        FieldValue::Varint(value) => Ok(value),
        _ => Err(Fault::at(WireErrorKind::WireType, field.raw)),
    }
}

fn fixed64(field: &Field<'_>) -> Result<u64, Fault> {
    match field.value {
        FieldValue::Fixed64(value) => Ok(value),
        _ => Err(Fault::at(WireErrorKind::WireType, field.raw)),
    }
}
