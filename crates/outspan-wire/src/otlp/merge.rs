//! Makes one request out of several.

use std::collections::HashMap;

use bytes::Bytes;

use super::envelope::Outline;
use super::envelope::Walk;
use super::fields;
use super::reader::Fault;
use super::reader::WireType;
use super::validate::locate::explain;
use super::writer::delimited_len;
use super::writer::push_bytes;
use super::writer::push_tag;
use super::writer::push_varint;
use crate::error::WireError;

/// Puts requests one after the other, which is a request again.
///
/// A request is a list of envelopes and nothing else, and protobuf merges messages by reading their bytes in a row, so
/// the result holds all spans of all requests in order. A single request comes back without a copy.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use outspan_wire::otlp::concatenate;
/// use outspan_wire::otlp::validate;
///
/// let one = Bytes::from_static(&[0x0a, 0x04, 0x12, 0x02, 0x12, 0x00]);
/// let both = concatenate(&[one.clone(), one]);
/// assert_eq!(validate(&both)?.spans, 2);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn concatenate(requests: &[Bytes]) -> Bytes {
    if let [only] = requests {
        return only.clone();
    }
    Bytes::from(requests.concat())
}

/// A request made of others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// The request.
    pub bytes: Bytes,
    /// How many spans it holds.
    pub spans: usize,
}

/// Merges requests so that each resource and each of its scopes stands there once.
///
/// Costs more than [`concatenate`] and saves bytes when many small requests come from few sources. Resources are the same if
/// their messages, schema URLs and unknown fields are the same bytes, scopes likewise within one resource; attributes in
/// another order make another resource. Everything stays in first-seen order, envelopes without spans are left out, and
/// unknown fields at the top of the requests come last. Takes about 24 bytes a span and a copy of each different resource and
/// scope beside the result.
///
/// # Errors
///
/// Fails if the bytes of one of them are no request, as far as the envelopes show it; offset and path are those in that request.
pub fn join(requests: &[Bytes]) -> Result<Joined, WireError> {
    let mut resources = Distinct::default();
    let mut unknown = Vec::new();
    for request in requests {
        let outline = Outline::read(request).map_err(|fault| explain(fault, request))?;
        unknown.extend_from_slice(&outline.unknown);
        resources
            .add(request)
            .map_err(|fault| explain(fault, request))?;
    }
    Ok(resources.write(&unknown))
}

/// Resources in first-seen order, each once.
#[derive(Debug, Default)]
struct Distinct<'a> {
    numbers: HashMap<Vec<u8>, usize>,
    resources: Vec<Resource<'a>>,
}

#[derive(Debug, Default)]
struct Resource<'a> {
    head: Vec<u8>,
    numbers: HashMap<Vec<u8>, usize>,
    scopes: Vec<Scope<'a>>,
}

#[derive(Debug, Default)]
struct Scope<'a> {
    head: Vec<u8>,
    spans: Vec<&'a [u8]>,
    /// Bytes of head and spans together.
    length: usize,
}

impl<'a> Distinct<'a> {
    fn add(&mut self, request: &'a [u8]) -> Result<(), Fault> {
        let mut walk = Walk::new(request);
        let mut resource_number = 0;
        let mut scope_number = 0;
        // Which envelopes of this request the two numbers stand for.
        let mut envelopes = (0, 0);
        while let Some(span) = walk.read()? {
            if envelopes != (span.resource, span.scope) {
                envelopes = (span.resource, span.scope);
                resource_number = self.resource(walk.resource_head());
                scope_number = self.resources[resource_number].scope(walk.scope_head());
            }
            self.resources[resource_number].scopes[scope_number].push(span.bytes);
        }
        Ok(())
    }

    /// Returns the number of the resource with this head.
    fn resource(&mut self, head: &[u8]) -> usize {
        if let Some(number) = self.numbers.get(head) {
            return *number;
        }
        self.numbers.insert(head.to_vec(), self.resources.len());
        self.resources.push(Resource {
            head: head.to_vec(),
            ..Resource::default()
        });
        self.resources.len() - 1
    }

    fn write(&self, unknown: &[u8]) -> Joined {
        let lengths: Vec<usize> = self.resources.iter().map(Resource::length).collect();
        let length: usize = lengths
            .iter()
            .map(|length| 1 + delimited_len(*length))
            .sum();
        let mut out = Vec::with_capacity(length + unknown.len());
        let mut spans = 0;
        for (resource, length) in self.resources.iter().zip(lengths) {
            push_tag(&mut out, fields::request::RESOURCE_SPANS, WireType::Bytes);
            push_varint(&mut out, length as u64);
            out.extend_from_slice(&resource.head);
            for scope in &resource.scopes {
                scope.write(&mut out);
                spans += scope.spans.len();
            }
        }
        out.extend_from_slice(unknown);
        Joined {
            bytes: Bytes::from(out),
            spans,
        }
    }
}

impl Resource<'_> {
    /// Returns the number of the scope with this head.
    fn scope(&mut self, head: &[u8]) -> usize {
        if let Some(number) = self.numbers.get(head) {
            return *number;
        }
        self.numbers.insert(head.to_vec(), self.scopes.len());
        self.scopes.push(Scope {
            head: head.to_vec(),
            spans: Vec::new(),
            length: head.len(),
        });
        self.scopes.len() - 1
    }

    fn length(&self) -> usize {
        let scopes = self.scopes.iter();
        let scopes: usize = scopes.map(|scope| 1 + delimited_len(scope.length)).sum();
        self.head.len() + scopes
    }
}

impl<'a> Scope<'a> {
    fn push(&mut self, span: &'a [u8]) {
        self.spans.push(span);
        self.length += 1 + delimited_len(span.len());
    }

    fn write(&self, out: &mut Vec<u8>) {
        push_tag(out, fields::resource_spans::SCOPE_SPANS, WireType::Bytes);
        push_varint(out, self.length as u64);
        out.extend_from_slice(&self.head);
        for span in &self.spans {
            push_bytes(out, fields::scope_spans::SPANS, span);
        }
    }
}
