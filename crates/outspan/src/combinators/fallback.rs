//! Destinations in the order in which they are preferred.

use std::fmt;

use super::breaker::Breaker;
use super::breaker::BreakerEvent;
use super::breaker::Breakers;
use super::children::check_names;
use super::children::drain_all;
use super::route::Destination;
use super::route::FallOn;
use super::route::deliver_along;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Exporter;
use crate::Result;

/// Makes an exporter that goes to the next destination when one fails.
///
/// Each export begins with the first destination that is not left alone by its [`Breaker`], so it returns to the primary
/// when that is well again. Only what was not delivered is handed on.
///
/// Each destination but the last has half of the time that is left until the deadline, or 10 s if there is no deadline; the last
/// one has the rest. So a destination that never answers leaves time for the next, also without a limit of its own. When a queue
/// around it is shut down, the destinations share the time of the shutdown in the same way. Those that are left alone get no
/// share.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use std::time::Duration;
///
/// use outspan::combinators::Fallback;
/// use outspan::file;
/// use outspan::otlp;
///
/// # fn build(directory: &std::path::Path) -> outspan::Result<()> {
/// let primary = otlp::grpc("http://localhost:4317").build()?;
/// let exporter = Fallback::new()
///     .to("backend", primary.timeout(Duration::from_secs(5)))
///     .to("file", file::json_lines(directory.join("missed.jsonl")).build()?)
///     .build()?;
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build(&std::env::temp_dir()).unwrap();
/// # }
/// ```
///
/// # What success means
///
/// That one of the destinations, or several together, took everything. [`Delivery::destination`] names the last one.
///
/// # Errors
///
/// When every destination failed the error is the last one's, with its name. While all are left alone the one that is due first
/// is tried all the same: as long as there is time, an export never fails without an attempt. It creates one error of its own,
/// [`Timeout`](crate::ErrorKind::Timeout) without an attempt, when the deadline has passed at the beginning.
///
/// # Cancellation
///
/// Dropping the future drops the attempt. A breaker that was finding out whether its destination is back leaves that to the
/// next export.
///
/// # What it holds
///
/// The batch of each export that is under way. Flush and shutdown reach every destination, at the same time.
///
/// # Where it belongs
///
/// Outside the timeouts and retries of its destinations; a timeout around the primary makes it fall back sooner. Inside the queue,
/// because a queue acknowledges before anything can fail.
#[derive(Default)]
pub struct Fallback {
    destinations: Vec<(String, Exporter)>,
    fall_on: FallOn,
    breakers: Breakers,
}

impl Fallback {
    /// Begins without a destination.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a destination, after those that are there. Errors and log lines call it by `name`.
    #[must_use]
    pub fn to(mut self, name: impl Into<String>, exporter: Exporter) -> Self {
        self.destinations.push((name.into(), exporter));
        self
    }

    /// Sets after which errors to go on: after temporary ones unless told.
    #[must_use]
    pub fn fall_on(mut self, fall_on: FallOn) -> Self {
        self.fall_on = fall_on;
        self
    }

    /// Sets when a destination is left alone: see [`Breaker`] for the defaults.
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breakers.settings = breaker;
        self
    }

    /// Calls `hook` when the breaker of a destination opens or closes, besides the log. It must not block.
    #[must_use]
    pub fn on_change(mut self, hook: impl Fn(&BreakerEvent) + Send + Sync + 'static) -> Self {
        self.breakers.tell(hook);
        self
    }

    /// Makes the exporter.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) without a destination, with more than 64, or if two have the same name.
    pub fn build(self) -> Result<Exporter> {
        check_names(
            "fallback",
            self.destinations.iter().map(|(name, _)| name.as_str()),
        )?;
        let destinations = self
            .destinations
            .into_iter()
            .map(|(name, exporter)| Destination::new(&name, exporter, &self.breakers));
        Ok(Exporter::new(Falling {
            destinations: destinations.collect(),
            fall_on: self.fall_on,
        }))
    }
}

impl Exporter {
    /// Goes to `other` while this one fails; see [`Fallback`], which takes more than two and has settings. The two are called
    /// `primary` and `fallback`.
    ///
    /// If this one does not answer, `other` has the batch after half of the time until the deadline of the export, or after 10 s if
    /// it has no deadline. A [`timeout`](Self::timeout) around this one makes that sooner. After five failures in a row this one is
    /// left alone for a while, and `other` has the batches at once.
    #[must_use]
    pub fn fallback(self, other: Self) -> Self {
        let destinations = [("primary", self), ("fallback", other)];
        let destinations = destinations
            .map(|(name, exporter)| Destination::new(name, exporter, &Breakers::default()));
        Self::new(Falling {
            destinations: destinations.into(),
            fall_on: FallOn::default(),
        })
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Fallback");
        shown
            .field("destinations", &self.destinations)
            .field("fall_on", &self.fall_on);
        self.breakers.show(&mut shown);
        shown.finish()
    }
}

/// The exporter that a [`Fallback`] makes.
#[derive(Debug)]
struct Falling {
    destinations: Vec<Destination>,
    fall_on: FallOn,
}

impl Export for Falling {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let order: Vec<_> = self.destinations.iter().collect();
        deliver_along(&order, batch, self.fall_on, until).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        let all = self.destinations.iter();
        let flushes = all.map(|to| (&*to.name, to.exporter.flush(until)));
        drain_all(flushes, "flush", until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        let all = self.destinations.iter();
        let shutdowns = all.map(|to| (&*to.name, to.exporter.shutdown(until)));
        drain_all(shutdowns, "shutdown", until).await
    }
}
