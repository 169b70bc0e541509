//! Gets finished spans out of a process and into the backends that keep them: cheaply, completely, whatever the
//! network does.

mod account;
mod batch;
pub mod combinators;
mod compression;
mod deadline;
mod delivery;
#[cfg(feature = "sdk")]
mod diagnostics;
mod drained;
pub mod env;
mod error;
mod export;
mod exporters;
#[cfg(feature = "sdk")]
mod init;
#[cfg(feature = "_network")]
mod net;
#[cfg(feature = "sdk")]
mod queue;
mod runtime;
#[cfg(feature = "sdk")]
pub mod sdk;
mod secret;
mod span_file;
mod time;

pub use account::Account;
pub use batch::Batch;
pub use batch::Checked;
pub use combinators::Retry;
pub use compression::Compression;
pub use deadline::Deadline;
pub use deadline::Limit;
pub use delivery::Delivery;
pub use delivery::Undelivered;
#[cfg(feature = "sdk")]
pub use diagnostics::DropEvent;
pub use drained::Drained;
pub use drained::DropReason;
pub use drained::Losses;
pub use error::Error;
pub use error::ErrorKind;
pub use error::Result;
pub use export::Export;
pub use export::Exporter;
pub use exporters::file;
#[cfg(feature = "_network")]
pub use exporters::otlp;
pub use exporters::stdout;
#[cfg(feature = "sdk")]
pub use init::Guard;
#[cfg(feature = "sdk")]
pub use init::InitBuilder;
#[cfg(feature = "sdk")]
pub use init::builder;
#[cfg(feature = "sdk")]
pub use init::init;
/// The OTLP wire format: views of spans, encoder, validator.
pub use outspan_wire as wire;
pub use secret::Secret;
