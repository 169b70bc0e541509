//! Promises every Outspan exporter keeps, scripted exporters, and fake OTLP collectors for tests.
//!
//! - [`Collector`] receives OTLP over gRPC or HTTP and keeps what it decoded. Its framing and its
//!   decoder are other people's (`tonic`, `prost`, `serde`), so it agrees with Outspan only when
//!   Outspan is right. [`Answer`] scripts how it misbehaves.
//! - [`Relay`] stands between a client and a server as a proxy does, and falls silent on request.
//! - [`Certificates`] makes what TLS tests need.
//! - [`ScriptedExporter`] is a child for combinators: answers in, calls out, no I/O.
//! - [`alone!`] runs a test in a process of its own.
//! - [`mod@promises`] are what every exporter and combinator keeps, as one test each.
//!
//! Nothing here is for production: helpers panic where a test should fail.

mod alone;
mod batches;
mod certificates;
mod collector;
pub mod promises;
mod relay;
mod run;
mod scripted;
mod written;

pub use alone::is_alone;
pub use batches::Released;
pub use batches::batch_from;
pub use batches::batch_of;
pub use batches::batch_with;
pub use batches::decode;
pub use batches::request_with;
pub use batches::soon;
pub use batches::span_ids;
pub use batches::watched_batch;
pub use certificates::Certificates;
pub use certificates::Identity;
pub use certificates::IdentityFiles;
pub use collector::Answer;
pub use collector::AnswerCode;
pub use collector::CollectedRequest;
pub use collector::CollectedSpan;
pub use collector::Collector;
pub use collector::CollectorBuilder;
pub use collector::Compression;
pub use collector::Decision;
pub use collector::Disconnect;
pub use collector::Flood;
pub use collector::Garbage;
pub use collector::Gate;
pub use collector::OnConnect;
pub use collector::Outcome;
pub use collector::RetryDelay;
pub use collector::ServerTls;
pub use collector::SpanId;
pub use collector::Transport;
pub use relay::Relay;
pub use run::run_test;
pub use scripted::Act;
pub use scripted::Asked;
pub use scripted::Call;
pub use scripted::DrainAct;
pub use scripted::Ended;
pub use scripted::ScriptedExporter;
pub use written::Written;

/// The examples of the crate's own page.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod package_page {}
