//! What every exporter that talks HTTP shares: endpoints, TLS, connections, headers and bodies.

mod body;
mod connections;
mod connector;
mod endpoint;
mod headers;
mod resolver;
mod tls;

pub(crate) use body::Body;
pub(crate) use body::Sent;
pub(crate) use body::read_limited;
pub(crate) use connections::Connections;
pub(crate) use connections::Options;
pub(crate) use connections::Versions;
pub(crate) use endpoint::Endpoint;
pub(crate) use endpoint::without_credentials;
pub use headers::HeaderProvider;
pub(crate) use headers::Headers;
pub use headers::Intercept;
pub use headers::OutgoingRequest;
pub(crate) use headers::scrub;
pub use tls::Tls;
