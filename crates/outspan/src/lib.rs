//! Gets finished spans out of a process and into the backends that keep them: cheaply, completely, whatever the
//! network does.
//!
//! # In a program with the OpenTelemetry SDK
//!
//! [`init`] sets everything up as the environment says, and returns a [`Guard`] that delivers what is left when it is dropped.
//! [`builder`] does the same with settings in code. For more control, put a
//! [`BatchProcessor`](sdk::BatchProcessor) around an exporter into a tracer provider of your own:
//!
//! ```
//! # #[cfg(all(feature = "grpc", feature = "sdk"))] {
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//! use outspan::otlp;
//! use outspan::sdk::BatchProcessor;
//!
//! # fn build() -> outspan::Result<()> {
//! let exporter = otlp::grpc("http://localhost:4317").build()?;
//! let provider = SdkTracerProvider::builder()
//!     .with_span_processor(BatchProcessor::new(exporter))
//!     .build();
//! # drop(provider);
//! # Ok(())
//! # }
//! # build().unwrap();
//! # }
//! ```
//!
//! The processor keeps what could not be sent and tries again by itself, within 64 MiB; it needs no combinator for that.
//!
//! # Exporters and combinators
//!
//! An [`Exporter`] delivers a [`Batch`] by a [`Deadline`], and says with a [`Delivery`] or an [`Error`] what became of each
//! span. Exporters are made by [`otlp`], `zipkin`, `jaeger`, `kafka`, [`stdout`] and [`file`](mod@file), by [`sdk::from_sdk`]
//! from any exporter of the SDK's, or by implementing [`Export`]: [`http_json`] is such a one to copy, over [`http_post`]. Combinators are exporters around exporters. Each call wraps what stands before it; the last one
//! written is the outermost:
//!
//! ```
//! # #[cfg(feature = "http")] {
//! # use std::time::Duration;
//! # use outspan::{Retry, otlp};
//! # fn build() -> outspan::Result<()> {
//! // Right: each attempt has 10 s, and the retry sees every attempt.
//! let exporter = otlp::http("http://localhost:4318").build()?
//!     .timeout(Duration::from_secs(10))
//!     .retry(Retry::default());
//!
//! // Wrong: the retry gets 10 s for everything, so that it hardly ever comes to a second attempt.
//! let exporter = otlp::http("http://localhost:4318").build()?
//!     .retry(Retry::default())
//!     .timeout(Duration::from_secs(10));
//! # drop(exporter);
//! # Ok(())
//! # }
//! # build().unwrap();
//! # }
//! ```
//!
//! `docs/stacks.md` in the repository has more pairs of right and wrong; [`combinators`] has the list.
//!
//! # Where it runs
//!
//! By default connections, timers, queues and processors run on one thread of the library's own, which starts when it is first
//! needed. So the library works with tokio of any flavour, with another executor, and with none, and never waits for the
//! caller's runtime. An exporter or a queue can run on a tokio runtime of the program instead, for example to use all cores for
//! many destinations: see [`Runtime`]. Processors stay on the library's thread.
//!
//! The library makes no spans of its own, on whichever runtime it works. A panic in an exporter is caught and counted, except
//! under `panic = "abort"`. After a `fork` the thread is not there: set up tracing in the child.
//!
//! # Features
//!
//! `grpc` and `http` bring the OTLP exporters (`http` also [`http_post`]), `sdk` brings [`sdk`], [`init`] and [`builder`]; all
//! three are on by default. `zipkin` and `jaeger` bring the exporters of these names.
//! `metrics` lets a [measured](combinators::Measured) exporter and the processors record OpenTelemetry metrics, `prometheus` lets
//! such an exporter write its numbers in Prometheus's format. `kafka` brings the exporter to Apache Kafka and builds a C library for it; `kafka-tls` adds
//! TLS and SASL, and needs OpenSSL.
//! Features add, they never change what is there.

mod account;
mod attempt;
mod batch;
mod budget;
pub mod combinators;
mod component;
mod compression;
mod deadline;
mod diagnostics;
mod drained;
mod ending;
pub mod engine;
pub mod env;
mod error;
mod export;
mod exporters;
mod failures;
mod guard;
#[cfg(feature = "sdk")]
mod init;
mod losses;
#[cfg(test)]
mod models;
#[cfg(feature = "_network")]
mod net;
mod owner;
mod pending;
mod race;
mod runtime;
#[cfg(feature = "sdk")]
pub mod sdk;
mod secret;
mod span_file;
mod sync;
mod time;
mod work;

pub use account::Account;
pub use attempt::Attempt;
pub use batch::Batch;
pub use batch::Checked;
pub use batch::Delivery;
pub use batch::Undelivered;
pub use compression::Compression;
pub use deadline::Deadline;
pub use deadline::Limit;
pub use diagnostics::DropEvent;
pub use drained::Cause;
pub use drained::Drained;
pub use engine::Retry;
pub use error::Error;
pub use error::ErrorKind;
pub use error::Result;
pub use export::Export;
pub use export::Exporter;
pub use exporters::file;
#[cfg(feature = "http")]
pub use exporters::http_json;
#[cfg(feature = "http")]
pub use exporters::http_post;
#[cfg(feature = "jaeger")]
pub use exporters::jaeger;
#[cfg(feature = "kafka")]
pub use exporters::kafka;
#[cfg(feature = "_otlp")]
pub use exporters::otlp;
pub use exporters::stdout;
#[cfg(feature = "zipkin")]
pub use exporters::zipkin;
#[cfg(feature = "sdk")]
pub use init::Guard;
#[cfg(feature = "sdk")]
pub use init::InitBuilder;
#[cfg(feature = "sdk")]
pub use init::builder;
#[cfg(feature = "sdk")]
pub use init::init;
pub use losses::DropReason;
pub use losses::Losses;
/// The OTLP wire format: views of spans, encoder, validator.
pub use outspan_wire as wire;
pub use runtime::Runtime;
pub use secret::Secret;

/// The examples of the repository's front page.
#[cfg(all(doctest, feature = "grpc", feature = "sdk"))]
#[doc = include_str!("../../../README.md")]
mod readme {}

/// The examples of the crate's own page.
#[cfg(all(doctest, feature = "grpc", feature = "sdk"))]
#[doc = include_str!("../README.md")]
mod package_page {}

/// What belongs where in a stack.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/stacks.md")]
mod stacks {}

/// Go's calls and ours.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/from-go.md")]
mod from_go {}
