//! Stacks as data.

use std::time::Duration;

use outspan::Exporter;
use outspan::Retry;
use outspan::combinators::Balance;
use outspan::combinators::BalanceBy;
use outspan::combinators::FallOn;
use outspan::combinators::Fallback;
use outspan::combinators::FanOut;
use outspan::combinators::FullPolicy;
use outspan::combinators::Limited;
use outspan::combinators::MeasuredHandle;
use outspan::combinators::QueueHandle;
use outspan::combinators::Queued;
use outspan::combinators::WaitFor;
use outspan::engine::BatchLimits;

use crate::destination::Destination;
use crate::destination::Script;
use crate::probe::Probe;
use crate::probe::ProbeLog;

const SECOND: Duration = Duration::from_secs(1);

/// The limit of an attempt.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(4);

/// The limit of a whole export.
pub(crate) const EXPORT: Duration = Duration::from_secs(15);

/// How long a queue waits for one answer.
pub(crate) const QUEUE_ATTEMPT: Duration = Duration::from_secs(5);

/// A stack from the outside in.
#[derive(Clone, Debug)]
pub(crate) enum Stack {
    /// A destination.
    To,
    Around(Wrap, Box<Self>),
    Queued(Hold, Box<Self>),
    Several(Spread, Vec<Self>),
}

/// Combinators around one exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrap {
    Timeout,
    ExportDeadline,
    Retry,
    Measured,
    Logged,
    Filtered,
    Mapped,
    Scrubbed,
    Limited,
}

/// Kinds of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Plain,
    Merging,
    /// Room for little, and what this then does.
    Tight(FullPolicy),
    /// Tries each batch for so long, and no longer.
    Hasty,
}

/// Combinators around several exporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    Fallback(FallOn),
    Balance(BalanceBy),
    FanOut(WaitFor),
}

/// A part of a stack that was built, with what it was asked.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) log: ProbeLog,
    pub(crate) inside: Vec<Self>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    To(Destination),
    Around(Wrap, Option<MeasuredHandle>),
    Queued(Hold, QueueHandle),
    Several(Spread),
}

pub(crate) fn to() -> Stack {
    Stack::To
}

pub(crate) fn fallback(stacks: impl Into<Vec<Stack>>) -> Stack {
    Stack::Several(Spread::Fallback(FallOn::Temporary), stacks.into())
}

pub(crate) fn balance(by: BalanceBy, stacks: impl Into<Vec<Stack>>) -> Stack {
    Stack::Several(Spread::Balance(by), stacks.into())
}

pub(crate) fn fan_out(wait_for: WaitFor, stacks: impl Into<Vec<Stack>>) -> Stack {
    Stack::Several(Spread::FanOut(wait_for), stacks.into())
}

impl Stack {
    pub(crate) fn wrapped(self, wrap: Wrap) -> Self {
        Self::Around(wrap, Box::new(self))
    }

    pub(crate) fn timeout(self) -> Self {
        self.wrapped(Wrap::Timeout)
    }

    pub(crate) fn retry(self) -> Self {
        self.wrapped(Wrap::Retry)
    }

    pub(crate) fn measured(self) -> Self {
        self.wrapped(Wrap::Measured)
    }

    pub(crate) fn queued(self, hold: Hold) -> Self {
        Self::Queued(hold, Box::new(self))
    }

    pub(crate) fn destinations(&self) -> usize {
        match self {
            Self::To => 1,
            _ => self.inside().map(Self::destinations).sum(),
        }
    }

    /// The stacks directly inside.
    pub(crate) fn inside(&self) -> impl Iterator<Item = &Self> {
        let (one, several) = match self {
            Self::To => (None, &[][..]),
            Self::Around(_, inside) | Self::Queued(_, inside) => (Some(&**inside), &[][..]),
            Self::Several(_, inside) => (None, &inside[..]),
        };
        one.into_iter().chain(several)
    }

    /// Whether a part of it is such.
    pub(crate) fn has(&self, is_such: &dyn Fn(&Self) -> bool) -> bool {
        is_such(self) || self.inside().any(|part| part.has(is_such))
    }

    /// Builds it with destinations that follow `scripts`, in the order in which they are written.
    pub(crate) fn build(&self, scripts: &mut impl Iterator<Item = Script>) -> (Exporter, Part) {
        let (exporter, kind, inside) = match self {
            Self::To => {
                let script = scripts.next().expect("a script for each destination");
                let destination = Destination::new(script);
                (destination.exporter(), Kind::To(destination), Vec::new())
            }
            Self::Around(wrap, inside) => {
                let (exporter, part) = inside.build(scripts);
                let (exporter, handle) = wrap.around(exporter);
                (exporter, Kind::Around(*wrap, handle), vec![part])
            }
            Self::Queued(hold, inside) => {
                let (exporter, part) = inside.build(scripts);
                let (exporter, handle) = hold.around(exporter).build_with_handle().unwrap();
                (exporter, Kind::Queued(*hold, handle), vec![part])
            }
            Self::Several(spread, inside) => {
                let (exporters, parts) = inside.iter().map(|it| it.build(scripts)).unzip();
                (spread.over(exporters), Kind::Several(*spread), parts)
            }
        };
        let log = ProbeLog::default();
        let exporter = Probe::around(exporter, &log);
        (exporter, Part { kind, log, inside })
    }
}

impl Wrap {
    pub(crate) const ALL: [Self; 9] = [
        Self::Timeout,
        Self::ExportDeadline,
        Self::Retry,
        Self::Measured,
        Self::Logged,
        Self::Filtered,
        Self::Mapped,
        Self::Scrubbed,
        Self::Limited,
    ];

    fn around(self, inner: Exporter) -> (Exporter, Option<MeasuredHandle>) {
        let exporter = match self {
            Self::Timeout => inner.timeout(ATTEMPT),
            Self::ExportDeadline => inner.export_deadline(EXPORT),
            Self::Retry => inner.retry(retry().max_retries(4)),
            Self::Measured => {
                let (exporter, handle) = inner.measured("the stack");
                return (exporter, Some(handle));
            }
            Self::Logged => inner.logged(),
            Self::Filtered => inner.filtered(|span| !is_unwanted(span.span_id())),
            Self::Mapped => inner.mapped(|_, edit| edit.set("mapped", true)),
            Self::Scrubbed => inner.scrubbed(),
            Self::Limited => {
                let limits = Limited::new().spans_per_second(5).concurrency(2);
                inner.limited(limits)
            }
        };
        (exporter, None)
    }
}

/// Whether the filter drops a span: one in four.
pub(crate) fn is_unwanted(span_id: [u8; 8]) -> bool {
    u64::from_be_bytes(span_id).is_multiple_of(4)
}

fn retry() -> Retry {
    Retry::default()
        .initial_interval(SECOND)
        .max_interval(SECOND * 4)
        .max_elapsed(SECOND * 30)
}

impl Hold {
    pub(crate) const ALL: [Self; 6] = [
        Self::Plain,
        Self::Merging,
        Self::Tight(FullPolicy::Wait),
        Self::Tight(FullPolicy::DropNewest),
        Self::Tight(FullPolicy::DropOldest),
        Self::Hasty,
    ];

    fn around(self, inner: Exporter) -> Queued {
        let queue = Queued::new(inner)
            .retry(retry())
            .attempt_timeout(Some(QUEUE_ATTEMPT));
        match self {
            Self::Plain => queue,
            Self::Merging => queue.batches(BatchLimits {
                spans: 6,
                delay: SECOND / 2,
                ..BatchLimits::default()
            }),
            Self::Tight(when_full) => queue.bytes(1500).concurrent_exports(1).when_full(when_full),
            Self::Hasty => queue.export_limit(Some(SECOND * 6)).concurrent_exports(2),
        }
    }
}

impl Spread {
    pub(crate) const ALL: [Self; 8] = [
        Self::Fallback(FallOn::Temporary),
        Self::Fallback(FallOn::Any),
        Self::Balance(BalanceBy::RoundRobin),
        Self::Balance(BalanceBy::LeastInFlight),
        Self::Balance(BalanceBy::TraceId),
        Self::FanOut(WaitFor::All),
        Self::FanOut(WaitFor::Any),
        Self::FanOut(WaitFor::First),
    ];

    fn over(self, exporters: Vec<Exporter>) -> Exporter {
        let named = exporters.into_iter().zip(["a", "b", "c", "d"]);
        match self {
            Self::Fallback(fall_on) => {
                let empty = Fallback::new().fall_on(fall_on);
                named.fold(empty, |all, (exporter, name)| all.to(name, exporter))
            }
            .build(),
            Self::Balance(by) => {
                let empty = Balance::new().by(by);
                named.fold(empty, |all, (exporter, name)| all.to(name, exporter))
            }
            .build(),
            Self::FanOut(wait_for) => {
                let empty = FanOut::new().wait_for(wait_for);
                named.fold(empty, |all, (exporter, name)| all.to(name, exporter))
            }
            .build(),
        }
        .unwrap()
    }
}

impl Kind {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::To(_) => "a destination".to_owned(),
            Self::Around(wrap, _) => format!("{wrap:?}"),
            Self::Queued(hold, _) => format!("{hold:?} queue"),
            Self::Several(spread) => format!("{spread:?}"),
        }
    }
}

impl Part {
    /// Every part, this one first.
    pub(crate) fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        all.extend(self.inside.iter().flat_map(Self::all));
        all
    }

    pub(crate) fn destinations(&self) -> Vec<&Destination> {
        let destinations = self.all().into_iter().filter_map(|part| match &part.kind {
            Kind::To(destination) => Some(destination),
            _ => None,
        });
        destinations.collect()
    }
}
