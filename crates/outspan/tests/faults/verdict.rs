//! What must be true of every course.

use std::collections::BTreeSet;

use outspan::Drained;
use outspan::DropReason;
use outspan::combinators::BalanceBy;
use outspan::combinators::MeasuredHandle;
use outspan::combinators::QueueHandle;
use outspan::combinators::WaitFor;

use crate::course::Course;
use crate::course::End;
use crate::course::GRACE;
use crate::course::Outcome;
use crate::destination::Destination;
use crate::probe::Asked;
use crate::probe::Fate;
use crate::probe::Seen;
use crate::probe::When;
use crate::stack::ATTEMPT;
use crate::stack::EXPORT;
use crate::stack::Hold;
use crate::stack::Kind;
use crate::stack::Part;
use crate::stack::QUEUE_ATTEMPT;
use crate::stack::Spread;
use crate::stack::Stack;
use crate::stack::Wrap;
use crate::stack::is_unwanted;

/// What a stack promises about how often a destination gets a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Once, and once more for each answer that was lost.
    Once,
    /// As often as the stack tries again: it forgets who has what.
    Repeats,
}

impl Course {
    /// Takes the course, and panics where a promise is broken.
    pub(crate) fn check(&self) -> Outcome {
        let outcome = self.run();
        let broken = Judge::new(self, &outcome).judge();
        assert!(broken.is_empty(), "{broken:#?}\n{self:#?}");
        outcome
    }
}

impl Stack {
    /// A fan-out that takes any answer does not keep note of who has what, so whoever tries again, or in parts, sends to all.
    /// Others do, until the batch is split: among the members that are left when one of several fails, or because another
    /// destination that it was offered to finds it too large.
    pub(crate) fn promise(&self) -> Promise {
        let waits_for_all =
            |part: &Self| matches!(part, Self::Several(Spread::FanOut(WaitFor::All), _));
        let forgets = |part: &Self| match part {
            Self::Several(Spread::FanOut(WaitFor::Any), _) => true,
            Self::Several(Spread::Balance(BalanceBy::TraceId), inside) => {
                inside.len() > 2 && part.has(&waits_for_all)
            }
            _ => false,
        };
        let tries_again = |part: &Self| match part {
            Self::Around(wrap, _) => *wrap == Wrap::Retry,
            Self::Several(spread, _) => matches!(spread, Spread::FanOut(_)),
            Self::Queued(..) => true,
            Self::To => false,
        };
        let splits =
            |part: &Self| matches!(part, Self::Queued(..) | Self::Several(Spread::FanOut(_), _));
        let is_fan_out = |part: &Self| matches!(part, Self::Several(Spread::FanOut(_), _));
        let forgets_if_split = |part: &Self| match part {
            Self::Several(Spread::Fallback(_) | Spread::Balance(_), inside) => {
                inside.len() > 1 && part.has(&is_fan_out)
            }
            _ => false,
        };
        let repeats = |part: &Self| {
            (tries_again(part) && part.inside().any(|it| it.has(&forgets)))
                || (splits(part) && part.inside().any(|it| it.has(&forgets_if_split)))
        };
        match self.has(&repeats) {
            true => Promise::Repeats,
            false => Promise::Once,
        }
    }

    /// Whether an export ends in time though a destination never answers.
    fn ends_exports(&self) -> bool {
        match self {
            Self::To => false,
            Self::Around(Wrap::Timeout | Wrap::ExportDeadline, _) => true,
            Self::Around(_, inside) => inside.ends_exports(),
            Self::Queued(..) | Self::Several(..) => true,
        }
    }

    /// Whether a shutdown ends in time though a destination never does.
    fn ends_shutdowns(&self) -> bool {
        match self {
            Self::To => false,
            Self::Around(_, inside) => inside.ends_shutdowns(),
            Self::Queued(..) | Self::Several(..) => true,
        }
    }
}

struct Judge<'a> {
    course: &'a Course,
    outcome: &'a Outcome,
    destinations: Vec<&'a Destination>,
    broken: Vec<String>,
}

impl<'a> Judge<'a> {
    fn new(course: &'a Course, outcome: &'a Outcome) -> Self {
        Self {
            course,
            outcome,
            destinations: outcome.part.destinations(),
            broken: Vec::new(),
        }
    }

    fn judge(mut self) -> Vec<String> {
        self.calls_end_in_time();
        for part in self.outcome.part.all() {
            let seen = part.log.seen();
            self.broken.extend(seen.broken.clone());
            self.claims_are_true(part, &seen);
            self.sums_add_up(part, &seen);
            self.deadlines_are_carried(part, &seen);
            self.drains_are_carried(part, &seen);
            match &part.kind {
                Kind::Queued(_, queue) => self.queue_accounts(part, &seen, queue),
                Kind::Around(_, Some(handle)) => self.measures(&seen, handle),
                _ => {}
            }
        }
        self.nothing_arrives_too_often();
        self.broken
    }

    fn expect(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right {
            self.broken.push(what());
        }
    }

    fn calls_end_in_time(&mut self) {
        let outcome = self.outcome;
        if self.course.stack.ends_exports() {
            for sent in &outcome.sent {
                let is_right = sent.end != End::Overdue && sent.late <= GRACE;
                self.expect(is_right, || format!("an export ended late: {sent:?}"));
            }
        }
        let late = outcome.shutdown_late;
        let is_right = late <= GRACE || !self.course.stack.ends_shutdowns();
        self.expect(is_right, || format!("the shutdown was {late:?} late"));
    }

    /// How many calls there were of which nobody can know what the destination has, about the batches of these spans.
    fn lost_answers(&self, span: u64) -> u64 {
        let merges = |part: &Stack| matches!(part, Stack::Queued(Hold::Merging, _));
        let is_alone = !self.course.stack.has(&merges);
        let mut sent = self.outcome.sent.iter();
        let with_it = sent.find(|sent| sent.ids.contains(&span));
        let others = with_it.map(|sent| sent.ids.clone()).unwrap_or_default();
        let is_near = |id: &u64| !is_alone || others.contains(id);
        let calls = self.destinations.iter().flat_map(|it| it.calls());
        let lost = calls.filter(|call| call.is_lost() && call.asked.iter().any(is_near));
        lost.count() as u64
    }

    /// What a part says that it delivered, the parts inside it said as well; and what they said it does not deny.
    fn claims_are_true(&mut self, part: &Part, seen: &Seen) {
        let settled = seen.settled();
        let inside: Vec<_> = part.inside.iter().map(|it| it.log.seen()).collect();
        let mut inside_settled = inside.iter().map(Seen::settled);
        let (known, is_exact) = match &part.kind {
            Kind::To(destination) => {
                let calls = destination.calls();
                let answered = calls
                    .iter()
                    .filter(|call| call.answered && call.accepted + call.refused > 0);
                let known = answered.flat_map(|call| match call.refused {
                    0 => call.arrived.clone(),
                    _ => call.asked.clone(),
                });
                (known.collect(), true)
            }
            Kind::Queued(..) => return,
            Kind::Around(wrap, _) => {
                let mut known = inside_settled.next().unwrap_or_default();
                if *wrap == Wrap::Filtered {
                    let asked = seen.calls.iter().flat_map(|call| &call.asked);
                    known.extend(asked.filter(|id| is_unwanted(id.to_be_bytes())));
                }
                (known, true)
            }
            Kind::Several(Spread::FanOut(WaitFor::All)) => {
                let both = |all: BTreeSet<u64>, one: BTreeSet<u64>| &all & &one;
                (inside_settled.reduce(both).unwrap_or_default(), false)
            }
            Kind::Several(Spread::FanOut(WaitFor::First)) => {
                (inside_settled.next().unwrap_or_default(), true)
            }
            Kind::Several(spread) => {
                let is_exact = !matches!(spread, Spread::FanOut(_));
                let either = |all: BTreeSet<u64>, one: BTreeSet<u64>| &all | &one;
                (inside_settled.reduce(either).unwrap_or_default(), is_exact)
            }
        };
        let kind = part.kind.name();
        let made_up = &settled - &known;
        self.expect(made_up.is_empty(), || {
            format!("{kind} says that it settled {made_up:?}, and nobody did")
        });
        if is_exact && !seen.has_open_calls() {
            let asked: BTreeSet<u64> = seen.calls.iter().flat_map(|it| it.asked.clone()).collect();
            let denied = &(&known & &asked) - &settled;
            for span in denied {
                let is_right = self.lost_answers(span) > 0;
                self.expect(is_right, || {
                    format!("{kind} denies {span}, which is settled inside")
                });
            }
        }
        let is_choice = matches!(
            part.kind,
            Kind::Several(Spread::Fallback(_) | Spread::Balance(_))
        );
        if is_choice && self.course.stack.promise() == Promise::Once {
            self.one_of_several_has_each_span(&inside);
        }
    }

    fn one_of_several_has_each_span(&mut self, inside: &[Seen]) {
        let mut known = BTreeSet::new();
        for settled in inside.iter().map(Seen::settled) {
            for span in &known & &settled {
                let is_right = self.lost_answers(span) > 0;
                self.expect(is_right, || format!("two of several have {span}"));
            }
            known.extend(settled);
        }
    }

    /// What a part counts is what the parts inside it count.
    fn sums_add_up(&mut self, part: &Part, seen: &Seen) {
        let inside: Vec<_> = part.inside.iter().map(|it| it.log.seen()).collect();
        let sums: Vec<_> = inside.iter().map(Seen::sums).collect();
        let is_sure = !seen.has_open_calls() && !inside.iter().any(Seen::has_open_calls);
        let [accepted, refused, filtered] = seen.sums();
        let total = |place: usize| sums.iter().map(|sums| sums[place]).sum::<u64>();
        let kind = part.kind.name();
        let (most, is_exact) = match &part.kind {
            Kind::To(destination) => {
                let calls = destination.calls();
                let accepted = calls.iter().map(|call| call.accepted).sum();
                let refused = calls.iter().map(|call| call.refused).sum();
                ([accepted, refused, 0], true)
            }
            Kind::Around(Wrap::Filtered, _) => {
                let asked = seen.calls.iter().flat_map(|call| &call.asked);
                let dropped = asked.filter(|id| is_unwanted(id.to_be_bytes())).count() as u64;
                ([total(0), total(1), total(2) + dropped], true)
            }
            Kind::Around(..) => ([total(0), total(1), total(2)], true),
            Kind::Several(Spread::FanOut(WaitFor::First)) => (sums[0], true),
            Kind::Several(Spread::FanOut(WaitFor::All)) => {
                let least = sums.iter().map(|sums| sums[0] + sums[2]).min().unwrap_or(0);
                ([least, total(1), total(2)], false)
            }
            Kind::Several(Spread::FanOut(_)) => ([total(0), total(1), total(2)], false),
            Kind::Several(_) => ([total(0), total(1), total(2)], true),
            Kind::Queued(..) => ([u64::MAX, 0, 0], false),
        };
        let is_right = match is_exact && is_sure {
            true => most == [accepted, refused, filtered],
            false => accepted <= most[0] && refused <= most[1] && filtered <= most[2],
        };
        self.expect(is_right, || {
            let claimed = [accepted, refused, filtered];
            format!("{kind} accepted, refused, filtered {claimed:?}; inside {most:?}")
        });
    }

    /// No part gives the parts inside it more time than it has.
    fn deadlines_are_carried(&mut self, part: &Part, seen: &Seen) {
        let limit = match &part.kind {
            Kind::Around(Wrap::Timeout, _) => Some(ATTEMPT),
            Kind::Around(Wrap::ExportDeadline, _) => Some(EXPORT),
            Kind::Queued(..) => Some(QUEUE_ATTEMPT),
            _ => None,
        };
        let is_queue = matches!(part.kind, Kind::Queued(..));
        for inner in &part.inside {
            for call in inner.log.seen().calls {
                let within = limit.is_none_or(|limit| call.end.is_by(When::At(call.began + limit)));
                let mut outer = seen.calls.iter();
                let known = outer.any(|outer| {
                    outer.asked.is_superset(&call.asked)
                        && outer.began <= call.began
                        && call.end.is_by(outer.end)
                });
                let kind = part.kind.name();
                self.expect(within && (known || is_queue), || {
                    format!("{kind} gives too much time: {call:?}")
                });
            }
        }
    }

    /// Each flush and shutdown reaches each part inside, with a deadline that is no later.
    fn drains_are_carried(&mut self, part: &Part, seen: &Seen) {
        let kind = part.kind.name();
        for inner in &part.inside {
            let inside = inner.log.seen();
            let flushes = is_carried(&seen.flushes, &inside.flushes);
            self.expect(flushes, || format!("{kind} does not carry the flush"));
            let shutdowns = is_carried(&seen.shutdowns, &inside.shutdowns);
            self.expect(shutdowns, || format!("{kind} does not carry the shutdown"));
        }
        if let Kind::To(destination) = &part.kind {
            let counts = (destination.flushes(), destination.shutdowns());
            let wanted = (u32::from(self.course.flush.is_some()), 1);
            self.expect(counts == wanted, || {
                format!("flushes and shutdowns are {counts:?}, not {wanted:?}")
            });
        }
    }

    fn queue_accounts(&mut self, part: &Part, seen: &Seen, queue: &QueueHandle) {
        let account = queue.account();
        let inside = part.inside[0].log.seen();
        let [accepted, refused, filtered] = seen.sums();
        self.expect(account.closes() && account.open() == 0, || {
            format!("the account is open: {account}")
        });
        self.expect(queue.bytes() == 0, || {
            format!("{} bytes are held at the end", queue.bytes())
        });
        let is_received = match seen.has_open_calls() {
            true => account.received >= accepted,
            false => account.received == accepted,
        };
        self.expect(is_received && refused + filtered == 0, || {
            format!("accepted {accepted}: {account}")
        });
        let [accepted, refused, filtered] = inside.sums();
        let is_sure = !inside.has_open_calls() && !has_queue(&part.inside[0]);
        let is_right = match is_sure {
            true => {
                account.delivered == accepted
                    && account.refused >= refused
                    && account.dropped.of(DropReason::Filtered) == filtered
            }
            false => account.delivered <= accepted,
        };
        self.expect(is_right, || {
            format!("inside {accepted}, {refused} and {filtered}: {account}")
        });
        let drains = seen.flushes.iter().chain(&seen.shutdowns);
        let told: Option<Vec<Drained>> = drains.map(|drain| drain.drained.clone()).collect();
        // What comes while an outer queue flushes may be acknowledged by an inner one that does not wait for it.
        let is_exact = self.course.flush.is_none() || !has_queue(&part.inside[0]);
        if let Some(told) = told.filter(|_| is_exact) {
            let mut total = Drained::default();
            told.iter().for_each(|drained| total.merge(drained));
            let ended = total.delivered + total.refused + total.lost.total();
            self.expect(ended == account.received, || {
                format!("drains tell of {total}: {account}")
            });
        }
    }

    fn measures(&mut self, seen: &Seen, handle: &MeasuredHandle) {
        let stats = handle.stats();
        let spans = &stats.spans;
        let sums = [spans.delivered, spans.refused, spans.filtered];
        let open = seen
            .calls
            .iter()
            .filter(|call| matches!(call.fate, Fate::Open));
        let open: usize = open.map(|call| call.asked.len()).sum();
        let is_right = stats.closes()
            && spans.in_flight == 0
            && sums == seen.sums()
            && spans.cancelled == open as u64;
        self.expect(is_right, || format!("{open} were cancelled: {stats:?}"));
    }

    fn nothing_arrives_too_often(&mut self) {
        if self.course.stack.promise() == Promise::Repeats {
            return;
        }
        for destination in self.destinations.clone() {
            let calls = destination.calls();
            let mut arrived: Vec<u64> = calls.iter().flat_map(|it| it.arrived.clone()).collect();
            arrived.sort_unstable();
            for same in arrived.chunk_by(|a, b| a == b) {
                let most = 1 + self.lost_answers(same[0]);
                self.expect(same.len() as u64 <= most, || {
                    format!("{} arrived {} times", same[0], same.len())
                });
            }
        }
    }
}

fn has_queue(part: &Part) -> bool {
    let mut parts = part.all().into_iter();
    parts.any(|part| matches!(part.kind, Kind::Queued(..)))
}

fn is_carried(outer: &[Asked], inner: &[Asked]) -> bool {
    let is_no_later = |(outer, inner): (&Asked, &Asked)| inner.end.is_by(outer.end);
    outer.len() == inner.len() && outer.iter().zip(inner).all(is_no_later)
}
