//! What a collector received, kept for comparison.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::Version;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

/// Holds one request as a collector received and decoded it.
#[derive(Clone, Debug)]
pub struct CollectedRequest {
    /// The connection it came over, counted from 0 in the order they were accepted.
    pub connection: u64,
    /// The common name of the client's certificate, where it showed one.
    pub peer: Option<String>,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The path, with the query where there is one.
    pub path: String,
    /// The headers; over gRPC they are the metadata.
    pub headers: HeaderMap,
    /// How long the message was on the wire, in bytes: compressed, without gRPC's five-byte prefix.
    pub wire_bytes: usize,
    /// The message after decompression, byte for byte: protobuf or JSON text.
    pub message: Bytes,
    /// What others' decoder made of it.
    pub body: ExportTraceServiceRequest,
    /// When it had been read whole.
    pub at: Instant,
    /// What became of it.
    pub outcome: Outcome,
}

/// Says what became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has no answer yet.
    Pending,
    /// Its spans are kept, but for this many at its end, which a partial success refused.
    Kept {
        /// How many were refused.
        rejected: usize,
    },
    /// It was refused, cut off or answered with garbage; nothing is kept.
    NotKept,
}

impl CollectedRequest {
    /// The value of a header as text; `None` when it is missing or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The content type.
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// How the message was compressed: `grpc-encoding` or `content-encoding`.
    pub fn compression(&self) -> Option<&str> {
        self.header("grpc-encoding")
            .or_else(|| self.header("content-encoding"))
    }

    /// How many spans it held, kept or not.
    pub fn span_count(&self) -> usize {
        let resources = self.body.resource_spans.iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans.iter());
        scopes.map(|scope| scope.spans.len()).sum()
    }

    /// The ids of all its spans in order, kept or not.
    pub fn span_ids(&self) -> Vec<SpanId> {
        span_ids_of(&self.body)
    }

    /// All its spans in order, each with its resource and scope, kept or not.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        let mut spans = Vec::with_capacity(self.span_count());
        for resource in &self.body.resource_spans {
            for scope in &resource.scope_spans {
                spans.extend(scope.spans.iter().map(|span| CollectedSpan {
                    resource: resource.resource.clone(),
                    resource_schema_url: resource.schema_url.clone(),
                    scope: scope.scope.clone(),
                    scope_schema_url: scope.schema_url.clone(),
                    span: span.clone(),
                }));
            }
        }
        spans
    }

    /// How many of its spans are kept.
    pub(super) fn kept(&self) -> usize {
        match self.outcome {
            Outcome::Kept { rejected } => self.span_count().saturating_sub(rejected),
            Outcome::Pending | Outcome::NotKept => 0,
        }
    }
}

/// Holds one span with its resource and scope.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectedSpan {
    /// The resource it belongs to, where there was one.
    pub resource: Option<Resource>,
    /// The schema of the resource.
    pub resource_schema_url: String,
    /// The scope it was made in, where there was one.
    pub scope: Option<InstrumentationScope>,
    /// The schema of the scope.
    pub scope_schema_url: String,
    /// The span.
    pub span: Span,
}

impl CollectedSpan {
    /// The span's id.
    pub fn id(&self) -> SpanId {
        SpanId::new(&self.span.span_id)
    }
}

/// Identifies a span by the bytes of its id, of whatever length they came in. Shown in hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(Vec<u8>);

impl SpanId {
    /// Takes the bytes of an id.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads the ids of a request's spans in order.
fn span_ids_of(request: &ExportTraceServiceRequest) -> Vec<SpanId> {
    let resources = request.resource_spans.iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans.iter());
    let spans = scopes.flat_map(|scope| scope.spans.iter());
    spans.map(|span| SpanId::new(&span.span_id)).collect()
}

/// Finds the common name of a certificate's subject.
///
/// X.509 (RFC 5280 §4.1): `Certificate` holds `tbsCertificate`, which holds, in this order, version
/// `[0]` (may be missing), serial number, signature algorithm, issuer, validity, subject. A name is
/// a sequence of sets of (type, value) pairs; common name is type 2.5.4.3.
pub(super) fn subject_common_name(certificate: &[u8]) -> Option<String> {
    const CONTEXT_0: u8 = 0xa0;
    const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

    let (_, certificate, _) = der_value(certificate)?;
    let (_, mut fields, _) = der_value(certificate)?;
    if fields.first() == Some(&CONTEXT_0) {
        fields = der_value(fields)?.2;
    }
    for _serial_algorithm_issuer_validity in 0..4 {
        fields = der_value(fields)?.2;
    }
    let (_, mut subject, _) = der_value(fields)?;
    while let Some((_, set, others)) = der_value(subject) {
        let (_, pair, _) = der_value(set)?;
        let (_, kind, value) = der_value(pair)?;
        if kind == COMMON_NAME {
            let (_, text, _) = der_value(value)?;
            return String::from_utf8(text.to_vec()).ok();
        }
        subject = others;
    }
    None
}

/// Takes one DER value off the front: its tag, its content, and what follows it.
fn der_value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&short, mut bytes) = bytes.split_first()?;
    let mut length = usize::from(short);
    if short & 0x80 != 0 {
        let count = usize::from(short & 0x7f);
        if count > 4 {
            return None;
        }
        let (long, after) = bytes.split_at_checked(count)?;
        length = long
            .iter()
            .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        bytes = after;
    }
    let (content, after) = bytes.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::Certificates;

    #[test]
    fn the_common_name_of_a_certificate_is_the_subjects() {
        let identity = Certificates::new().client("shop-17");
        let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        assert_eq!(subject_common_name(&der).as_deref(), Some("shop-17"));
    }

    #[test]
    fn a_cut_certificate_has_no_name_and_panics_nowhere() {
        let identity = Certificates::new().client("shop-17");
        let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        for length in 0..der.len() {
            assert_eq!(subject_common_name(&der[..length]), None);
        }
    }
}
