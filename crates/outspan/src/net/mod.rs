//! What every exporter that talks HTTP shares: endpoints, TLS, connections, headers and bodies.

// No exporter needs all of it.
#![cfg_attr(
    not(all(
        feature = "grpc",
        feature = "http",
        feature = "jaeger",
        feature = "zipkin"
    )),
    allow(dead_code, unused_imports)
)]

mod answer;
mod body;
mod cause;
mod connections;
mod connector;
mod endpoint;
mod headers;
mod hedge;
mod link;
mod named_limit;
mod options;
mod pieces;
mod proxy;
mod resolver;
mod sender;
mod tls;
mod transport;
mod unix;
mod versions;

pub(crate) use answer::Accepted;
pub(crate) use answer::Answer;
pub(crate) use answer::Statuses;
pub(crate) use answer::check_success;
pub(crate) use answer::fit_to_show;
pub(crate) use answer::media_type;
pub(crate) use answer::read_failure;
pub(crate) use answer::read_status;
pub(crate) use body::Body;
pub(crate) use body::Sent;
pub(crate) use body::read_limited;
pub(crate) use connections::ConnectionOptions;
pub(crate) use connections::Connections;
pub(crate) use endpoint::Endpoint;
pub(crate) use endpoint::without_credentials;
pub use headers::HeaderProvider;
pub(crate) use headers::Headers;
pub use headers::Intercept;
pub use headers::OutgoingRequest;
pub(crate) use headers::scrub;
pub(crate) use named_limit::named_limit;
pub(crate) use options::Compressor;
pub(crate) use options::HttpOptions;
pub(crate) use options::Manner;
pub(crate) use options::OUR_USER_AGENT;
pub(crate) use options::http_options;
pub(crate) use pieces::messages_of;
pub(crate) use proxy::ProxyChoice;
pub(crate) use proxy::ProxyOptions;
pub(crate) use resolver::Resolver;
pub(crate) use sender::Protocol;
pub(crate) use sender::Sender;
pub(crate) use sender::exporter_id;
pub(crate) use sender::too_large;
pub use tls::Tls;
pub(crate) use unix::is_bare_socket;
pub(crate) use unix::is_unix;
pub(crate) use versions::Versions;

pub(crate) use crate::batch::forms::Message;
