//! Keys of tags that mean something, and the numbers of `jaeger.thrift`.

pub(super) const SERVICE_NAME: &str = "service.name";
/// The default of OpenTelemetry's SDKs (`resource/sdk.md`).
pub(super) const UNKNOWN_SERVICE: &str = "unknown_service";
/// What the Collector writes for an empty resource.
pub(super) const COLLECTOR_NO_SERVICE: &str = "OTLPResourceNoServiceName";

pub(super) const SPAN_KIND: &str = "span.kind";
pub(super) const ERROR: &str = "error";
pub(super) const STATUS_CODE: &str = "otel.status_code";
pub(super) const STATUS_DESCRIPTION: &str = "otel.status_description";
pub(super) const TRACE_STATE: &str = "w3c.tracestate";
pub(super) const SCOPE_NAME: &str = "otel.scope.name";
pub(super) const SCOPE_VERSION: &str = "otel.scope.version";
pub(super) const LIBRARY_NAME: &str = "otel.library.name";
pub(super) const LIBRARY_VERSION: &str = "otel.library.version";
pub(super) const DROPPED_ATTRIBUTES: &str = "otel.dropped_attributes_count";
pub(super) const DROPPED_EVENTS: &str = "otel.dropped_events_count";
pub(super) const DROPPED_LINKS: &str = "otel.dropped_links_count";

/// The name of an event, as a field of a log.
pub(super) const EVENT: &str = "event";
pub(super) const EVENT_DROPPED_ATTRIBUTES: &str = "otel.event.dropped_attributes_count";
/// The name of an event in Python, where there is no `event`.
pub(super) const MESSAGE: &str = "message";
/// The name of a log that tells what a reference cannot.
pub(super) const LINK: &str = "link";
pub(super) const LINK_TRACE_ID: &str = "trace_id";
pub(super) const LINK_SPAN_ID: &str = "span_id";
/// The attribute of a link that says which type its reference has.
pub(super) const REF_TYPE: &str = "opentracing.ref_type";
pub(super) const CHILD_OF: &str = "child_of";
/// The attribute that keeps flags of Jaeger which OTLP does not know.
pub(super) const JAEGER_FLAGS: &str = "jaeger.flags";

/// What the other tags do not say; see `marks`.
pub(super) const MARKS: &str = "outspan.otlp";

/// A key whose tag in a span means something else than an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    Error,
    SpanKind,
    Marks,
    TraceState,
    ScopeName,
    StatusCode,
    LibraryName,
    ScopeVersion,
    LibraryVersion,
    StatusDescription,
    DroppedLinks,
    DroppedEvents,
    DroppedAttributes,
}

impl Reserved {
    /// Returns what a tag of a span with this key means, if it is no attribute.
    #[inline]
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        // No two of them have the same length.
        let (reserved, name) = match key.len() {
            5 => (Self::Error, ERROR),
            9 => (Self::SpanKind, SPAN_KIND),
            12 => (Self::Marks, MARKS),
            14 => (Self::TraceState, TRACE_STATE),
            15 => (Self::ScopeName, SCOPE_NAME),
            16 => (Self::StatusCode, STATUS_CODE),
            17 => (Self::LibraryName, LIBRARY_NAME),
            18 => (Self::ScopeVersion, SCOPE_VERSION),
            20 => (Self::LibraryVersion, LIBRARY_VERSION),
            23 => (Self::StatusDescription, STATUS_DESCRIPTION),
            24 => (Self::DroppedLinks, DROPPED_LINKS),
            25 => (Self::DroppedEvents, DROPPED_EVENTS),
            29 => (Self::DroppedAttributes, DROPPED_ATTRIBUTES),
            _ => return None,
        };
        (key == name.as_bytes()).then_some(reserved)
    }
}

/// Tells whether a field of a log with this key means something else than an attribute, apart from `event` and `message`.
pub(super) fn is_reserved_in_log(key: &[u8]) -> bool {
    key == MARKS.as_bytes() || key == EVENT_DROPPED_ATTRIBUTES.as_bytes()
}

/// The numbers of `TagType`.
pub(super) mod tag_type {
    pub(in crate::jaeger) const STRING: i32 = 0;
    pub(in crate::jaeger) const DOUBLE: i32 = 1;
    pub(in crate::jaeger) const BOOL: i32 = 2;
    pub(in crate::jaeger) const LONG: i32 = 3;
    pub(in crate::jaeger) const BINARY: i32 = 4;
}

/// The numbers of `SpanRefType`.
pub(super) mod ref_type {
    pub(in crate::jaeger) const CHILD_OF: i32 = 0;
    pub(in crate::jaeger) const FOLLOWS_FROM: i32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_read_specially_is_reserved() {
        let keys = [
            SPAN_KIND,
            ERROR,
            STATUS_CODE,
            STATUS_DESCRIPTION,
            TRACE_STATE,
            SCOPE_NAME,
            SCOPE_VERSION,
            LIBRARY_NAME,
            LIBRARY_VERSION,
            DROPPED_ATTRIBUTES,
            DROPPED_EVENTS,
            DROPPED_LINKS,
            MARKS,
        ];
        for key in keys {
            assert!(Reserved::of(key.as_bytes()).is_some(), "{key}");
        }
        assert_eq!(Reserved::of(b"http.method"), None);
    }
}
