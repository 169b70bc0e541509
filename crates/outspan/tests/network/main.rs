//! Ways over the network that several exporters share: proxies, unix sockets, datagrams of Jaeger's agent; and peers that do
//! not answer over any of them.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "jaeger")]
#[path = "../jaeger_agent_fake/mod.rs"]
mod jaeger_agent_fake;

mod jaeger_agent;
mod proxies;
mod queues;
mod unanswered;
mod unix_socket;
