//! Jaeger's own format, Thrift: for Jaeger installations and for backends that take nothing newer.
//!
//! ```
//! use std::time::Duration;
//!
//! use outspan::{Retry, jaeger};
//!
//! # fn build() -> outspan::Result<()> {
//! let exporter = jaeger::collector("http://localhost:14268")
//!     .build()?
//!     .timeout(Duration::from_secs(10)) // each attempt
//!     .retry(Retry::default());
//! # drop(exporter);
//! # Ok(())
//! # }
//! # build().unwrap();
//! ```
//!
//! Jaeger takes OTLP as well, since its version 1.35; `outspan::otlp` loses nothing on the way, and so is the
//! better choice where it is possible. What of a span becomes what in Thrift, and what is lost, is in the documentation of
//! [`wire::jaeger`](crate::wire::jaeger).

mod agent;
mod collector;

pub use self::agent::AgentBuilder;
pub use self::agent::agent;
pub use self::collector::CollectorBuilder;
pub use self::collector::collector;
pub use crate::net::HeaderProvider;
pub use crate::net::Intercept;
pub use crate::net::OutgoingRequest;
pub use crate::net::Tls;
pub use outspan_wire::jaeger::Dialect;
pub use outspan_wire::jaeger::Protocol;
