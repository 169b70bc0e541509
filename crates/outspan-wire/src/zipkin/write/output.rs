//! What a form of Zipkin spans must be able to write.

use std::net::IpAddr;

use crate::buffer::Limited;

/// A form of Zipkin spans; all of it is written at the end of a buffer.
pub(super) trait Output {
    /// What stands before the first span of a message.
    const BEFORE: &'static [u8];
    /// Whether it is JSON, for which the Collector has rules of its own.
    const IS_JSON: bool;

    /// What is remembered of a span that began.
    type Open;

    /// Begins a span with what stands in its fields.
    fn begin_span(out: &mut Limited, head: &Head<'_>) -> Self::Open;

    /// Begins the annotations.
    fn begin_annotations(out: &mut Limited);

    /// Writes an annotation; its time is in microseconds.
    fn annotation(out: &mut Limited, timestamp: u64, value: &[u8]);

    /// Ends the annotations, and leaves them out if there are none.
    fn end_annotations(out: &mut Limited);

    /// Begins the tags.
    fn begin_tags(out: &mut Limited);

    /// Writes what [`tag_of_key`](Self::tag_of_key) takes as the key.
    fn prepare_key(out: &mut Limited, key: &[u8]);

    /// Writes a tag whose key was prepared.
    fn tag_of_key(out: &mut Limited, prepared: &[u8], value: &[u8]);

    /// Writes a tag.
    fn tag(out: &mut Limited, key: &[u8], value: &[u8]);

    /// Ends the tags, and leaves them out if there are none.
    fn end_tags(out: &mut Limited);

    /// Ends a span, and returns by how many bytes this moved its tags towards the end.
    fn end_span(out: &mut Limited, open: Self::Open, debug: bool, shared: bool) -> isize;

    /// Makes a message of the spans that were written, at least one.
    fn finish(message: &mut Limited);
}

/// The fields of a span except its lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    /// 16 bytes.
    pub(super) trace_id: &'a [u8],
    /// Whether a trace id of 64 bits is written as such.
    pub(super) short_trace_id: bool,
    pub(super) parent_id: Option<&'a [u8]>,
    pub(super) id: &'a [u8],
    pub(super) kind: Option<Kind>,
    pub(super) name: &'a [u8],
    /// In microseconds since 1970-01-01 UTC; 0 if there is none.
    pub(super) timestamp: u64,
    /// In microseconds; 0 if there is none.
    pub(super) duration: u64,
    pub(super) local: Endpoint<'a>,
    pub(super) remote: Endpoint<'a>,
}

/// What a span did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Client,
    Server,
    Producer,
    Consumer,
}

/// One side of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Endpoint<'a> {
    pub(super) service_name: &'a [u8],
    pub(super) address: Option<IpAddr>,
    /// 0 if there is none.
    pub(super) port: u16,
}

impl Endpoint<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.service_name.is_empty() && self.address.is_none() && self.port == 0
    }
}
