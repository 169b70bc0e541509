//! Field numbers of `zipkin.proto`, one module per message.

/// `ListOfSpans`.
pub(super) mod list {
    pub(in crate::zipkin) const SPANS: u32 = 1;
}

/// `Span`.
pub(super) mod span {
    pub(in crate::zipkin) const TRACE_ID: u32 = 1;
    pub(in crate::zipkin) const PARENT_ID: u32 = 2;
    pub(in crate::zipkin) const ID: u32 = 3;
    pub(in crate::zipkin) const KIND: u32 = 4;
    pub(in crate::zipkin) const NAME: u32 = 5;
    pub(in crate::zipkin) const TIMESTAMP: u32 = 6;
    pub(in crate::zipkin) const DURATION: u32 = 7;
    pub(in crate::zipkin) const LOCAL_ENDPOINT: u32 = 8;
    pub(in crate::zipkin) const REMOTE_ENDPOINT: u32 = 9;
    pub(in crate::zipkin) const ANNOTATIONS: u32 = 10;
    pub(in crate::zipkin) const TAGS: u32 = 11;
    pub(in crate::zipkin) const DEBUG: u32 = 12;
    pub(in crate::zipkin) const SHARED: u32 = 13;
}

/// `Endpoint`.
pub(super) mod endpoint {
    pub(in crate::zipkin) const SERVICE_NAME: u32 = 1;
    pub(in crate::zipkin) const IPV4: u32 = 2;
    pub(in crate::zipkin) const IPV6: u32 = 3;
    pub(in crate::zipkin) const PORT: u32 = 4;
}

/// `Annotation`.
pub(super) mod annotation {
    pub(in crate::zipkin) const TIMESTAMP: u32 = 1;
    pub(in crate::zipkin) const VALUE: u32 = 2;
}

/// An entry of the map of tags.
pub(super) mod tag {
    pub(in crate::zipkin) const KEY: u32 = 1;
    pub(in crate::zipkin) const VALUE: u32 = 2;
}
