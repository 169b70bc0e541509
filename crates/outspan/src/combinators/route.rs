//! Trying one destination after the other.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::FallOn;
use super::breaker::Breakers;
use super::breaker::Circuit;
use super::breaker::Pass;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::Undelivered;
use crate::engine;
use crate::guard::run_guarded;

/// A destination that is one of several to choose from.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) name: Arc<str>,
    pub(super) exporter: Exporter,
    pub(super) circuit: Circuit,
    in_flight: AtomicUsize,
}

/// A part that no destination has taken yet, and what the last one that was tried says.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) batch: Batch,
    pub(super) error: Option<Error>,
}

/// Counts an export for as long as it is under way.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn begin(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Destination {
    pub(super) fn new(name: &str, exporter: Exporter, breakers: &Breakers) -> Self {
        Self {
            name: name.into(),
            exporter,
            circuit: Circuit::new(name, breakers),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// How many exports are under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Sends one part. Returns what is open of it, with errors that name the destination.
    pub(super) async fn deliver(
        &self,
        part: Batch,
        pass: Pass<'_>,
        until: Deadline,
        total: &mut Delivery,
    ) -> Vec<Undelivered> {
        let under_way = InFlight::begin(&self.in_flight);
        let export = self.exporter.export(part.clone(), until);
        let result = engine::run_until_closed(run_guarded(until, "export", export)).await;
        drop(under_way);
        pass.tell(&result);
        let mut delivery = result.unwrap_or_else(|error| Delivery::failed(part, error));
        let rest = std::mem::take(&mut delivery.rest);
        if delivery.accepted + delivery.refused > 0 {
            delivery.destination = Some(Arc::clone(&self.name));
        }
        total.absorb(delivery);
        let named = rest.into_iter().map(|left| Undelivered {
            batch: left.batch,
            error: left.error.with_context("destination", &*self.name),
        });
        named.collect()
    }
}

/// Offers a batch to one destination after the other, and each time hands on only what was not delivered.
///
/// Those that are to be left alone are passed over; if that is all of them, the one that is due first is tried.
pub(super) async fn deliver_along(
    order: &[&Destination],
    batch: Batch,
    fall_on: FallOn,
    until: Deadline,
) -> Result<Delivery> {
    let mut total = Delivery::default();
    let mut open = vec![Open { batch, error: None }];
    for destination in order {
        let mut still_open = Vec::new();
        for part in open {
            // Nobody is asked, and blamed, when the time is over.
            if part.error.is_some() && engine::is_over(until) {
                still_open.push(part);
                continue;
            }
            let Some(pass) = destination.circuit.ask() else {
                still_open.push(part);
                continue;
            };
            let left = destination.deliver(part.batch, pass, until, &mut total);
            let left = left.await;
            still_open.extend(hand_on(left, fall_on, until, &mut total));
        }
        open = still_open;
    }
    finish(order, open, total, until).await
}

/// Takes what the next destination should get out of what one has left: nothing once the time is up, because an attempt without
/// time would say nothing about the next one and would replace the error that explains the failure.
pub(super) fn hand_on(
    left: Vec<Undelivered>,
    fall_on: FallOn,
    until: Deadline,
    total: &mut Delivery,
) -> Vec<Open> {
    let in_time = !engine::is_over(until);
    let (open, closed): (Vec<_>, Vec<_>) = left.into_iter().partition(|left| match fall_on {
        _ if !in_time => false,
        FallOn::Any => true,
        // One that was shut down in the meantime took nothing, and the next one may.
        FallOn::Temporary => left.error.is_temporary() || left.error.kind() == ErrorKind::ShutDown,
    });
    total.rest.extend(closed);
    let open = open.into_iter().map(|left| Open {
        batch: left.batch,
        error: Some(left.error),
    });
    open.collect()
}

/// Ends an export: what was never tried gets one attempt, the rest keeps its errors.
///
/// While a queue around it is shut down it gets one attempt at each destination, because there is no later one.
pub(super) async fn finish(
    order: &[&Destination],
    open: Vec<Open>,
    mut total: Delivery,
    until: Deadline,
) -> Result<Delivery> {
    for part in open {
        if let Some(error) = part.error {
            total.rest.push(Undelivered {
                batch: part.batch,
                error,
            });
            continue;
        }
        let mut by_due: Vec<_> = order.to_vec();
        // Asked once each: one that is well is due now, and now moves on.
        by_due.sort_by_cached_key(|to| to.circuit.due());
        if !engine::is_closing() {
            by_due.truncate(1);
        }
        let Some((first, others)) = by_due.split_first() else {
            continue;
        };
        let pass = first.circuit.force();
        let mut left = first.deliver(part.batch, pass, until, &mut total).await;
        for other in others {
            if engine::is_over(until) {
                break;
            }
            // What one refuses for good is not offered to the next.
            let is_open = |left: &Undelivered| left.error.is_temporary();
            let (open, closed): (Vec<_>, Vec<_>) = left.into_iter().partition(is_open);
            total.rest.extend(closed);
            left = Vec::new();
            for part in open {
                let pass = other.circuit.force();
                left.extend(other.deliver(part.batch, pass, until, &mut total).await);
            }
        }
        total.rest.extend(left);
    }
    total.into_result()
}
