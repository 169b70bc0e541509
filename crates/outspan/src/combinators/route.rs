//! Trying one destination after the other.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::breaker::Breakers;
use super::breaker::Circuit;
use super::breaker::Pass;
use super::breaker::trouble;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::Undelivered;
use crate::export;
use crate::guard::run_guarded;

/// Says after which errors a [`Fallback`](crate::combinators::Fallback) goes on to the next destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FallOn {
    /// After trouble that may pass: data that one destination refuses for good is not offered to the next.
    #[default]
    Temporary,
    /// After every error.
    Any,
}

/// How much time a destination has that is not the last one, when the export has no deadline.
const SHARE_WITHOUT_DEADLINE: Duration = Duration::from_secs(10);

/// After this time without an answer a destination has failed, however long the export may take.
const ENOUGH_TIME: Duration = Duration::from_secs(5);

/// The time of one export, which several destinations share.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedTime {
    until: Deadline,
    /// How much there was at the beginning; `None` without a deadline.
    whole: Option<Duration>,
}

impl SharedTime {
    pub(super) fn new(until: Deadline) -> Self {
        Self {
            until,
            whole: until.remaining(),
        }
    }

    /// Whether there is no time left to ask anybody.
    pub(super) fn is_over(&self) -> bool {
        export::is_over(self.until)
    }

    /// By when the next destination has to answer: half of what is left, so that another one can be asked, unless it is the last.
    fn next(&self, is_last: bool) -> Deadline {
        share(self.until, is_last)
    }

    /// Whether a destination that had this much time should have answered.
    fn is_enough(&self, given: Option<Duration>) -> bool {
        match (given, self.whole) {
            (Some(given), Some(whole)) => given >= ENOUGH_TIME || given >= whole / 3,
            (Some(given), None) => given >= ENOUGH_TIME,
            (None, _) => true,
        }
    }
}

/// The part of the time until then that one destination may use.
fn share(until: Deadline, is_last: bool) -> Deadline {
    if is_last {
        return until;
    }
    until.first_half("share of the deadline", SHARE_WITHOUT_DEADLINE)
}

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
    ///
    /// Unless it is the last one that can be asked, the destination has half of the time that is left.
    pub(super) async fn deliver(
        &self,
        part: Batch,
        pass: Pass<'_>,
        time: SharedTime,
        is_last: bool,
        total: &mut Delivery,
    ) -> Vec<Undelivered> {
        let under_way = InFlight::begin(&self.in_flight);
        let until = time.next(is_last);
        let given = match is_last {
            true => until.remaining(),
            false => until.limit().length(),
        };
        let export = self.exporter.export(part.clone(), until);
        let export = run_guarded(until, "export", export);
        let result = export::run_until_closed(export, |end| share(end, is_last)).await;
        drop(under_way);
        let is_late = trouble(&result).is_some_and(|error| error.kind() == ErrorKind::Timeout);
        match is_late && !time.is_enough(given) {
            // Nobody could have answered in that time, so it says nothing.
            true => drop(pass),
            false => pass.tell(&result),
        }
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
/// Those that are to be left alone are passed over; if that is all of them, the one that is due first is tried. Each but the last
/// one has half of the time that is left.
pub(super) async fn deliver_along(
    order: &[&Destination],
    batch: Batch,
    fall_on: FallOn,
    until: Deadline,
) -> Result<Delivery> {
    let time = SharedTime::new(until);
    let mut total = Delivery::default();
    let mut open = vec![Open { batch, error: None }];
    for (place, destination) in order.iter().enumerate() {
        let mut still_open = Vec::new();
        for part in open {
            // Nobody is asked, and blamed, when the time is over.
            if time.is_over() {
                still_open.push(part);
                continue;
            }
            let Some(pass) = destination.circuit.ask() else {
                still_open.push(part);
                continue;
            };
            let mut later = order.iter().skip(place + 1);
            let is_last = !later.any(|later| later.circuit.is_available());
            let left = destination.deliver(part.batch, pass, time, is_last, &mut total);
            let left = left.await;
            still_open.extend(hand_on(left, fall_on, time, &mut total));
        }
        open = still_open;
    }
    finish(order, open, total, time).await
}

/// Takes what the next destination should get out of what one has left: nothing once the time is up, because an attempt without
/// time would say nothing about the next one and would replace the error that explains the failure.
pub(super) fn hand_on(
    left: Vec<Undelivered>,
    fall_on: FallOn,
    time: SharedTime,
    total: &mut Delivery,
) -> Vec<Open> {
    if left.is_empty() {
        return Vec::new();
    }
    let in_time = !time.is_over();
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

/// Ends an export: what was never tried gets one attempt if there is time for it, the rest keeps its errors.
///
/// While a queue around it is shut down it gets one attempt at each destination, because there is no later one.
pub(super) async fn finish(
    order: &[&Destination],
    open: Vec<Open>,
    mut total: Delivery,
    time: SharedTime,
) -> Result<Delivery> {
    for part in open {
        let error = part.error.or_else(|| {
            let is_over = time.is_over();
            is_over.then(|| Error::timeout("no time to ask a destination", time.until))
        });
        if let Some(error) = error {
            total.rest.push(Undelivered {
                batch: part.batch,
                error,
            });
            continue;
        }
        let mut by_due: Vec<_> = order.to_vec();
        // Asked once each: one that is well is due now, and now moves on.
        by_due.sort_by_cached_key(|to| to.circuit.due());
        if !export::is_closing() {
            by_due.truncate(1);
        }
        let Some((first, others)) = by_due.split_first() else {
            continue;
        };
        let pass = first.circuit.force();
        let is_last = others.is_empty();
        let mut left = first
            .deliver(part.batch, pass, time, is_last, &mut total)
            .await;
        for (place, other) in others.iter().enumerate() {
            if time.is_over() {
                break;
            }
            // What one refuses for good is not offered to the next.
            let is_open = |left: &Undelivered| left.error.is_temporary();
            let (open, closed): (Vec<_>, Vec<_>) = left.into_iter().partition(is_open);
            total.rest.extend(closed);
            left = Vec::new();
            let is_last = place + 1 == others.len();
            for part in open {
                let pass = other.circuit.force();
                let rest = other.deliver(part.batch, pass, time, is_last, &mut total);
                left.extend(rest.await);
            }
        }
        total.rest.extend(left);
    }
    total.into_result()
}
