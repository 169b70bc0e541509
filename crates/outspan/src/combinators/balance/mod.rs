//! Spreading batches over several destinations that are alike.

mod look_ups;
mod members;
mod rendezvous;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use outspan_wire::otlp;
use outspan_wire::otlp::Split;

use self::look_ups::LookUp;
use self::look_ups::LookUps;
use self::members::Members;
use super::breaker::Breaker;
use super::breaker::BreakerEvent;
use super::breaker::Breakers;
use super::children::check_names;
use super::children::drain_all;
use super::route::Destination;
use super::route::FallOn;
use super::route::Open;
use super::route::SharedTime;
use super::route::deliver_along;
use super::route::finish;
use super::route::hand_on;
use crate::Batch;
use crate::Cause;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::guard::GRACE;

/// How long a flush without a deadline waits for members that a name no longer has.
const FLUSH_RETIRED: Duration = Duration::from_secs(5);

/// How often names are looked up again unless told: what the Collector's resolver does by default is 5 s; most
/// records live longer than that.
const EVERY: Duration = Duration::from_secs(30);

/// How long a look-up may take unless told: as long as the system's resolver takes to try a name server twice.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// How many bytes of pieces are under way at once, unless the batch itself has more than half of that.
const HELD_BYTES: usize = 8 << 20;

/// Says which member gets a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalanceBy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest exports under way; among equals one after the other.
    LeastInFlight,
    /// The trace id: all spans of a trace go to the same member, so that it sees whole traces. A batch is split for that.
    /// When a member comes or goes only the traces of that member move (rendezvous hashing: Thaler and Ravishankar,
    /// "A Name-Based Mapping Scheme for Rendezvous", 1996).
    TraceId,
}

/// Makes an exporter that spreads batches over members.
///
/// A member that fails is left alone by its [`Breaker`] and found again; meanwhile the others take its share. What one member
/// could not deliver is offered to the next, so trouble of one member is no trouble of the export.
///
/// As long as there is another member to ask, a member has half of the time that is left until the deadline, or 10 s if there is no
/// deadline. So a member that never answers leaves time for the next.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use std::time::Duration;
///
/// use outspan::combinators::Balance;
/// use outspan::combinators::BalanceBy;
/// use outspan::otlp;
///
/// # fn build() -> outspan::Result<()> {
/// let listed = Balance::new()
///     .to("a", otlp::grpc("http://10.0.0.1:4317").build()?)
///     .to("b", otlp::grpc("http://10.0.0.2:4317").build()?)
///     .by(BalanceBy::TraceId)
///     .build()?;
///
/// // Every address that a name has, looked up again and again.
/// let resolved = Balance::resolved("collectors.internal:4317", |address| {
///     otlp::grpc(format!("http://{address}"))
///         .build()
///         .map(|exporter| exporter.timeout(Duration::from_secs(5)))
/// })
/// .build()?;
/// # drop((listed, resolved));
/// # Ok(())
/// # }
/// # build().unwrap();
/// # }
/// ```
///
/// # What success means
///
/// That every span was taken by one member. [`Delivery::destination`] names the last one.
///
/// # Errors
///
/// The last member's, with its name, when every member failed. It creates two of its own: no member is known, because the
/// name has no address yet or `make` fails for all, which is temporary; and [`Timeout`](crate::ErrorKind::Timeout) without an attempt, when
/// the deadline has passed at the beginning.
///
/// # Cancellation
///
/// Dropping the future drops the exports. A breaker that was finding out whether its member is back leaves that to the next
/// export.
///
/// # What it holds
///
/// The batches of exports that are under way; for [`BalanceBy::TraceId`] their parts as well, which are made one after the
/// other where they take more than 8 MiB and more than twice the batch, because each repeats its resources. Members that a name no longer
/// has are shut down in the background, with 30 s to deliver what they hold. Flush and shutdown reach every member, at the
/// same time. A flush waits for members that are gone for half of its time at most, or 5 s without a deadline; a shutdown ends
/// theirs with its own.
///
/// # Where it belongs
///
/// Outside the timeouts of its members, inside a retry or a queue.
pub struct Balance {
    members: Vec<(String, Exporter)>,
    resolve: Option<Resolve>,
    every: Duration,
    look_up_timeout: Duration,
    by: BalanceBy,
    breakers: Breakers,
}

/// Where members come from whose addresses change.
struct Resolve {
    look_up: LookUp,
    make: Box<dyn Fn(SocketAddr) -> Result<Exporter> + Send + Sync>,
}

impl Default for Balance {
    fn default() -> Self {
        Self::new()
    }
}

impl Balance {
    /// Begins without a member; [`to`](Self::to) adds them.
    pub fn new() -> Self {
        Self {
            members: Vec::new(),
            resolve: None,
            every: EVERY,
            look_up_timeout: LOOK_UP_TIMEOUT,
            by: BalanceBy::default(),
            breakers: Breakers::default(),
        }
    }

    /// Takes a member for each address that `host` (`NAME:PORT`) has, made by `make`.
    ///
    /// The name is looked up on a thread of its own, when this is built, then every 30 s (see [`every`](Self::every)), and, at
    /// most once a second, when a member fails. If that does not work, or takes longer than 10 s (see
    /// [`look_up_timeout`](Self::look_up_timeout)), the known members stay. An address for which `make` fails or
    /// panics has no member until the next look-up.
    pub fn resolved(
        host: impl Into<String>,
        make: impl Fn(SocketAddr) -> Result<Exporter> + Send + Sync + 'static,
    ) -> Self {
        let host = host.into();
        let look_up = move || host.to_socket_addrs().map(Iterator::collect);
        Self::looked_up(look_up, make)
    }

    /// Takes a member for each address that `look_up` finds, made by `make`; as [`resolved`](Self::resolved), for other ways to
    /// find addresses. `look_up` may block.
    pub fn looked_up(
        look_up: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        make: impl Fn(SocketAddr) -> Result<Exporter> + Send + Sync + 'static,
    ) -> Self {
        Self {
            resolve: Some(Resolve {
                look_up: Box::new(look_up),
                make: Box::new(make),
            }),
            ..Self::new()
        }
    }

    /// Adds a member. Errors and log lines call it by `name`, and so does the choice by trace id.
    #[must_use]
    pub fn to(mut self, name: impl Into<String>, exporter: Exporter) -> Self {
        self.members.push((name.into(), exporter));
        self
    }

    /// Sets which member gets a batch: one after the other unless told.
    #[must_use]
    pub fn by(mut self, by: BalanceBy) -> Self {
        self.by = by;
        self
    }

    /// Sets how often addresses are looked up: every 30 s unless told, at most once a second.
    #[must_use]
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every.max(members::PAUSE);
        self
    }

    /// Sets how long a look-up may take: 10 s unless told.
    ///
    /// Until a look-up that takes longer is answered, the known members stay, and addresses are looked up again as usual. Its
    /// answer counts when it comes, unless a later look-up was answered before. At most three are under way at a time, each on a
    /// thread of its own.
    #[must_use]
    pub fn look_up_timeout(mut self, timeout: Duration) -> Self {
        self.look_up_timeout = timeout;
        self
    }

    /// Sets when a member is left alone: see [`Breaker`] for the defaults.
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breakers.settings = breaker;
        self
    }

    /// Calls `hook` when the breaker of a member opens or closes, besides the log. It must not block.
    #[must_use]
    pub fn on_change(mut self, hook: impl Fn(&BreakerEvent) + Send + Sync + 'static) -> Self {
        self.breakers.tell(hook);
        self
    }

    /// Makes the exporter, and begins to look addresses up.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) without a member (unless addresses are looked up), with more than 64, if two have
    /// the same name, or if the library's thread cannot be started.
    pub fn build(self) -> Result<Exporter> {
        let names = self.members.iter().map(|(name, _)| name.as_str());
        let is_resolved = self.resolve.is_some();
        if !is_resolved || !self.members.is_empty() {
            check_names("balance", names)?;
        }
        let listed = self.members.into_iter();
        let listed = listed
            .map(|(name, exporter)| Arc::new(Destination::new(&name, exporter, &self.breakers)));
        let members = Members::new(listed.collect(), self.breakers.clone(), is_resolved);
        let members = Arc::new(members);
        if let Some(resolve) = self.resolve {
            let look_ups = LookUps::new(resolve.look_up, self.look_up_timeout);
            members.look_up_again_and_again(look_ups, resolve.make, self.every)?;
        }
        Ok(Exporter::new(Balanced {
            members,
            by: self.by,
            turn: AtomicUsize::new(0),
        }))
    }
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Balance");
        shown
            .field("members", &self.members)
            .field("is_resolved", &self.resolve.is_some())
            .field("every", &self.every)
            .field("look_up_timeout", &self.look_up_timeout)
            .field("by", &self.by);
        self.breakers.show(&mut shown);
        shown.finish()
    }
}

/// The exporter that a [`Balance`] makes.
#[derive(Debug)]
struct Balanced {
    members: Arc<Members>,
    by: BalanceBy,
    turn: AtomicUsize,
}

impl Balanced {
    /// The members in the order in which they are tried.
    fn order<'a>(&self, members: &'a [Arc<Destination>]) -> Vec<&'a Destination> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len().max(1);
        let (before, from) = members.split_at(turn);
        let mut order: Vec<&Destination> = from.iter().chain(before).map(Arc::as_ref).collect();
        if self.by == BalanceBy::LeastInFlight {
            order.sort_by_key(|member| member.in_flight());
        }
        order
    }

    /// Sends each trace to its member, and what a member does not take to the next one of each trace.
    async fn export_by_trace(
        &self,
        members: &[Arc<Destination>],
        batch: Batch,
        until: Deadline,
    ) -> Result<Delivery> {
        let all: Vec<&Destination> = members.iter().map(Arc::as_ref).collect();
        let time = SharedTime::new(until);
        let max_held = HELD_BYTES.max(2 * batch.size());
        let mut total = Delivery::default();
        let mut candidates: Vec<bool> = vec![true; all.len()];
        let mut waiting = vec![Open { batch, error: None }];
        let mut under_way = FuturesUnordered::new();
        let mut open = Vec::new();
        // Bytes of the pieces under way: each repeats its resources, and members may be many.
        let mut held = 0;
        loop {
            while let Some(part) = waiting.pop() {
                // Nobody is asked, and blamed, when the time is over.
                if time.is_over() || !candidates.contains(&true) {
                    open.push(part);
                    join_if_large(&mut open, max_held);
                    continue;
                }
                for (place, piece) in by_member(&part.batch, &all, &candidates)? {
                    while held > 0
                        && held + piece.size() > max_held
                        && let Some((place, size, achieved, left)) = under_way.next().await
                    {
                        held -= size;
                        total.absorb(achieved);
                        let left = hand_on(left, FallOn::Temporary, time, &mut total);
                        candidates[place] &= left.is_empty();
                        waiting.extend(left);
                    }
                    let Some(pass) = all[place].circuit.ask() else {
                        candidates[place] = false;
                        waiting.push(Open {
                            batch: piece,
                            error: part.error.clone(),
                        });
                        continue;
                    };
                    let member = all[place];
                    let mut others = all.iter().zip(&candidates).enumerate();
                    let is_last = !others.any(|(other, (member, is_candidate))| {
                        other != place && *is_candidate && member.circuit.is_available()
                    });
                    let size = piece.size();
                    held += size;
                    under_way.push(async move {
                        let mut achieved = Delivery::default();
                        let left = member
                            .deliver(piece, pass, time, is_last, &mut achieved)
                            .await;
                        (place, size, achieved, left)
                    });
                }
            }
            let Some((place, size, achieved, left)) = under_way.next().await else {
                break;
            };
            held -= size;
            total.absorb(achieved);
            let left = hand_on(left, FallOn::Temporary, time, &mut total);
            candidates[place] &= left.is_empty();
            waiting.extend(left);
        }
        finish(&all, open, total, time).await
    }
}

/// Puts what is left over together, with each resource once, if it takes more than so many bytes.
fn join_if_large(open: &mut Vec<Open>, max_bytes: usize) {
    let bytes: usize = open.iter().map(|part| part.batch.size()).sum();
    let is_noted = open.iter().any(|part| part.batch.has_fates());
    if open.len() < 2 || bytes <= max_bytes || is_noted {
        return;
    }
    let requests: Vec<_> = open
        .iter()
        .map(|part| part.batch.as_request().clone())
        .collect();
    // It fails on bytes that are no request alone, which a batch never holds.
    let Ok(joined) = otlp::join(&requests) else {
        return;
    };
    let Some(last) = open.pop() else {
        return;
    };
    open.clear();
    open.push(Open {
        batch: last.batch.derived(joined.bytes, joined.spans),
        error: last.error,
    });
}

/// Splits a batch by the member that each trace prefers among the candidates.
fn by_member<'b>(
    batch: &'b Batch,
    members: &[&Destination],
    candidates: &[bool],
) -> Result<impl Iterator<Item = (usize, Batch)> + Send + use<'b>> {
    let names = || {
        let candidates = members.iter().zip(candidates).enumerate();
        candidates
            .filter(|(_, (_, is_candidate))| **is_candidate)
            .map(|(place, (member, _))| (place, &*member.name))
    };
    let mut few = names();
    let only = match (few.next(), few.next()) {
        (Some((place, _)), None) => Some((place, batch.clone())),
        _ => None,
    };
    let parts = match only {
        Some(_) => None,
        None => {
            let key = |trace_id| rendezvous::choose(names(), trace_id) as u128;
            let parts = Split::by_key(batch.as_request(), key);
            Some(parts.map_err(|e| Error::internal("a batch cannot be split").with_source(e))?)
        }
    };
    let parts = parts.into_iter().flatten().map(|part| {
        let piece = match part.spans == batch.spans() {
            // The batch itself remembers what fan-outs inside have of it.
            true => batch.clone(),
            false => batch.derived(part.bytes, part.spans),
        };
        (part.key as usize, piece)
    });
    Ok(only.into_iter().chain(parts))
}

impl Export for Balanced {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let members = self.members.known(until).await?;
        let result = match self.by {
            BalanceBy::TraceId => self.export_by_trace(&members, batch, until).await,
            BalanceBy::RoundRobin | BalanceBy::LeastInFlight => {
                let order = self.order(&members);
                deliver_along(&order, batch, FallOn::Temporary, until).await
            }
        };
        if super::breaker::trouble(&result).is_some() {
            self.members.look_up_soon();
        }
        match self.members.may_change() {
            true => temporary_if_shut_down(result),
            false => result,
        }
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        let members = self.members.current();
        let flushes = members
            .iter()
            .map(|to| (&*to.name, to.exporter.flush(until)));
        // One that is gone and does not end must not hold up the flush of those that are there.
        let half = until.min(match until.remaining() {
            Some(left) => Deadline::after(left / 2),
            None => Deadline::after(FLUSH_RETIRED),
        });
        let flushes = drain_all(flushes, "flush", until);
        let (drained, retired) = join(flushes, self.members.retired(half)).await;
        with_retired(drained, &retired)
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        let members = self.members.close(until);
        let shutdowns = members
            .iter()
            .map(|to| (&*to.name, to.exporter.shutdown(until)));
        let shutdowns = drain_all(shutdowns, "shutdown", until);
        // A member that is gone has the grace to count what it drops.
        let retired = self.members.retired(until.at_least_later(2 * GRACE));
        let (drained, retired) = join(shutdowns, retired).await;
        with_retired(drained, &retired)
    }
}

/// An export may meet a member just when its address is gone. Another attempt goes to the other members.
fn temporary_if_shut_down(result: Result<Delivery>) -> Result<Delivery> {
    let mark = |error: Error| match error.kind() {
        ErrorKind::ShutDown => error.with_temporary(true),
        _ => error,
    };
    let mut delivery = result.map_err(mark)?;
    for left in &mut delivery.rest {
        left.error = mark(left.error.clone());
    }
    Ok(delivery)
}

/// Adds what members that have left achieved. Their losses are reported even if the others failed.
fn with_retired(drained: Result<Drained>, retired: &Drained) -> Result<Drained> {
    let mut total = match drained {
        Ok(drained) => drained,
        Err(error) if retired.is_complete() => return Err(error),
        Err(error) => {
            let mut total = Drained::default();
            total.add_cause(Cause::new(error));
            total
        }
    };
    total.merge(retired);
    Ok(total)
}
