//! Which versions of HTTP there are to speak.

/// Which versions of HTTP an exporter speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// HTTP/2 only, without negotiation: gRPC.
    Two,
    /// HTTP/1.1, and HTTP/2 where TLS negotiates it.
    OneOrTwo,
}
