//! Traces that wait for the rest of their spans.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use super::node::Node;
use super::node::SpanId;
use crate::DropReason;
use crate::Error;
use crate::pending::Ack;

pub(super) type TraceId = [u8; 16];

/// How many traces are remembered as shown, for late spans to be called a continuation.
const SHOWN_MAX: usize = 10_000;

/// How long and how much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) quiet: Duration,
    pub(super) patience: Duration,
    pub(super) max_wait: Option<Duration>,
    pub(super) traces_max: usize,
    pub(super) spans_max: usize,
    pub(super) bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(1),
            patience: Duration::from_secs(10),
            max_wait: None,
            traces_max: 10_000,
            spans_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// The traces that wait.
#[derive(Debug)]
pub(super) struct Forest {
    limits: Limits,
    traces: HashMap<TraceId, Trace>,
    /// The traces in the order in which they began to arrive.
    by_age: BTreeMap<u64, TraceId>,
    next_age: u64,
    spans: usize,
    bytes: usize,
    wakes_at: Option<Instant>,
    shown: Shown,
}

/// The spans of one trace that have come so far.
#[derive(Debug)]
pub(super) struct Trace {
    id: TraceId,
    age: u64,
    nodes: Vec<Node>,
    ids: HashSet<SpanId>,
    missing: HashSet<SpanId>,
    has_root: bool,
    first_arrival: Instant,
    last_arrival: Instant,
    bytes: usize,
    /// Those who exported wait to learn what became of the spans: one entry for the spans of an export in a row.
    acks: Vec<Ack>,
}

impl Forest {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            traces: HashMap::new(),
            by_age: BTreeMap::new(),
            next_age: 0,
            spans: 0,
            bytes: 0,
            wakes_at: None,
            shown: Shown::default(),
        }
    }

    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.wakes_at
    }

    /// Adds a span to its trace.
    pub(super) fn add(&mut self, id: TraceId, node: Node, now: Instant) {
        let bytes = node.bytes();
        self.spans += 1;
        self.bytes += bytes;
        let age = self.next_age;
        let trace = self.traces.entry(id).or_insert_with(|| {
            self.by_age.insert(age, id);
            self.next_age += 1;
            Trace::new(id, age, now)
        });
        trace.add(node, bytes, now);
        let tick = self.tick();
        self.wakes_at.get_or_insert(now + tick);
    }

    /// Keeps the ack of the span that was added last to a trace. It is delivered when the trace is shown.
    pub(super) fn keep_ack(&mut self, id: TraceId, ack: Ack) {
        let Some(trace) = self.traces.get_mut(&id) else {
            return;
        };
        let unmerged = match trace.acks.last_mut() {
            Some(last) => last.merge(ack).err(),
            None => Some(ack),
        };
        trace.acks.extend(unmerged);
    }

    /// Names the trace that began to arrive first if one more span, of `bytes` and of trace `id`, would break a bound.
    pub(super) fn oldest_over_bound(&self, id: TraceId, bytes: usize) -> Option<TraceId> {
        let is_new = !self.traces.contains_key(&id);
        let is_over = self.spans + 1 > self.limits.spans_max
            || self.bytes + bytes > self.limits.bytes_max
            || is_new && self.traces.len() >= self.limits.traces_max;
        let (_, oldest) = self.by_age.first_key_value().filter(|_| is_over)?;
        Some(*oldest)
    }

    /// Lists the traces that have waited long enough, in the order of their start, and decides when to look again.
    pub(super) fn due(&mut self, now: Instant) -> VecDeque<TraceId> {
        let due = self.traces.values().filter(|trace| {
            let quiet = now.saturating_duration_since(trace.last_arrival);
            let waited = now.saturating_duration_since(trace.first_arrival);
            quiet >= self.wait_of(trace) || self.limits.max_wait.is_some_and(|max| waited >= max)
        });
        let due = in_order_of_start(due);
        self.wakes_at = (!self.traces.is_empty()).then(|| now + self.tick());
        due
    }

    /// Lists all traces, in the order of their start.
    pub(super) fn all(&self) -> VecDeque<TraceId> {
        in_order_of_start(self.traces.values())
    }

    pub(super) fn trace(&self, id: TraceId) -> Option<&Trace> {
        self.traces.get(&id)
    }

    fn wait_of(&self, trace: &Trace) -> Duration {
        match trace.is_complete() || self.was_shown(trace.id) {
            true => self.limits.quiet,
            false => self.limits.patience,
        }
    }

    /// How often to look for traces that are due.
    fn tick(&self) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(1);

        let shorter = self.limits.quiet.min(self.limits.patience);
        let shortest = self.limits.max_wait.map_or(shorter, |max| max.min(shorter));
        (shortest / 2).clamp(SHORTEST, LONGEST)
    }

    /// Forgets what waits: it is lost.
    pub(super) fn clear(&mut self, error: Option<&Error>) {
        let traces = std::mem::take(&mut self.traces);
        for ack in traces.into_values().flat_map(|trace| trace.acks) {
            ack.lost(DropReason::Failed, error);
        }
        *self = Self::new(self.limits);
    }

    /// Whether a part of the trace was shown before.
    pub(super) fn was_shown(&self, id: TraceId) -> bool {
        self.shown.ids.contains(&id)
    }

    /// Lets go of a trace that was shown, and remembers that it was.
    pub(super) fn note_shown(&mut self, id: TraceId) {
        let Some(trace) = self.traces.remove(&id) else {
            return;
        };
        self.by_age.remove(&trace.age);
        self.spans -= trace.nodes.len();
        self.bytes -= trace.bytes;
        if self.traces.is_empty() {
            self.wakes_at = None;
        }
        self.shown.note(id);
        trace.acks.into_iter().for_each(Ack::delivered);
    }
}

fn in_order_of_start<'a>(traces: impl Iterator<Item = &'a Trace>) -> VecDeque<TraceId> {
    let mut found: Vec<_> = traces.map(|trace| (trace.start(), trace.id)).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, id)| id).collect()
}

impl Trace {
    fn new(id: TraceId, age: u64, now: Instant) -> Self {
        Self {
            id,
            age,
            nodes: Vec::new(),
            ids: HashSet::new(),
            missing: HashSet::new(),
            has_root: false,
            first_arrival: now,
            last_arrival: now,
            bytes: 0,
            acks: Vec::new(),
        }
    }

    fn add(&mut self, node: Node, bytes: usize, now: Instant) {
        self.ids.insert(node.id);
        self.missing.remove(&node.id);
        match node.parent {
            None => self.has_root = true,
            Some(parent) if self.ids.contains(&parent) => {}
            Some(parent) => {
                self.missing.insert(parent);
            }
        }
        self.nodes.push(node);
        self.bytes += bytes;
        self.last_arrival = now;
    }

    pub(super) fn id(&self) -> TraceId {
        self.id
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn has_root(&self) -> bool {
        self.has_root
    }

    /// How many parents are named and have not come.
    pub(super) fn missing_parents(&self) -> usize {
        self.missing.len()
    }

    fn is_complete(&self) -> bool {
        self.has_root && self.missing.is_empty()
    }

    /// The earliest start, in nanoseconds since 1970; 0 if no span says.
    pub(super) fn start(&self) -> u64 {
        let starts = self.nodes.iter().map(|node| node.start);
        starts.filter(|start| *start != 0).min().unwrap_or(0)
    }

    /// The latest end, in nanoseconds since 1970; 0 if no span says.
    pub(super) fn end(&self) -> u64 {
        self.nodes.iter().map(|node| node.end).max().unwrap_or(0)
    }
}

/// The traces that were shown last.
#[derive(Debug, Default)]
struct Shown {
    ids: HashSet<TraceId>,
    order: VecDeque<TraceId>,
}

impl Shown {
    fn note(&mut self, id: TraceId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > SHOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Status;
    use super::*;

    fn node(id: u8, parent: Option<u8>) -> Node {
        Node {
            id: [id; 8],
            parent: parent.map(|parent| [parent; 8]),
            name: "span".into(),
            service: "shop".into(),
            start: u64::from(id),
            end: u64::from(id) + 1,
            status: None::<Status>,
            details: Vec::new(),
        }
    }

    fn limits() -> Limits {
        Limits {
            quiet: Duration::from_secs(1),
            patience: Duration::from_secs(10),
            ..Limits::default()
        }
    }

    fn due(forest: &mut Forest, now: Instant) -> VecDeque<TraceId> {
        let due = forest.due(now);
        for id in &due {
            forest.note_shown(*id);
        }
        due
    }

    const ONE: TraceId = [1; 16];
    const TWO: TraceId = [2; 16];

    #[test]
    fn a_whole_trace_is_due_after_a_quiet_moment_in_whatever_order_it_came() {
        let mut forest = Forest::new(limits());
        let began = Instant::now();
        let after = |millis| began + Duration::from_millis(millis);
        forest.add(ONE, node(3, Some(2)), after(0));
        forest.add(ONE, node(2, Some(1)), after(100));
        assert!(
            due(&mut forest, after(5000)).is_empty(),
            "the root is missing"
        );
        forest.add(ONE, node(1, None), after(5000));
        assert!(due(&mut forest, after(5999)).is_empty(), "more may come");
        assert_eq!(due(&mut forest, after(6000)), [ONE]);
        assert_eq!(forest.spans(), 0);
        assert_eq!(forest.bytes, 0);
        assert_eq!(forest.wakes_at(), None);
    }

    #[test]
    fn a_trace_without_its_root_is_due_when_patience_ends_and_its_rest_after_a_quiet_moment() {
        let mut forest = Forest::new(limits());
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        forest.add(ONE, node(3, Some(2)), after(0));
        forest.add(TWO, node(1, Some(1)), after(0));
        assert!(due(&mut forest, after(9)).is_empty());
        assert_eq!(due(&mut forest, after(10)), [TWO, ONE]);
        forest.add(ONE, node(4, Some(3)), after(11));
        assert_eq!(due(&mut forest, after(12)), [ONE]);
    }

    #[test]
    fn no_trace_waits_longer_than_max_wait_though_more_spans_come() {
        let mut forest = Forest::new(Limits {
            max_wait: Some(Duration::from_secs(4)),
            ..limits()
        });
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        for second in 0..4 {
            forest.add(ONE, node(3, Some(2)), after(second));
            assert!(due(&mut forest, after(second)).is_empty());
        }
        assert_eq!(due(&mut forest, after(4)), [ONE]);
        forest.add(ONE, node(4, Some(2)), after(4));
        assert!(due(&mut forest, after(4)).is_empty(), "it waits anew");
    }

    #[test]
    fn it_asks_to_be_woken_while_something_waits() {
        let mut forest = Forest::new(limits());
        assert_eq!(forest.wakes_at(), None);
        let now = Instant::now();
        forest.add(ONE, node(1, None), now);
        let wakes_at = forest.wakes_at().unwrap();
        assert!(wakes_at > now && wakes_at <= now + limits().quiet);
        forest.due(wakes_at);
        assert!(forest.wakes_at().unwrap() > wakes_at);
    }

    #[test]
    fn over_each_bound_the_oldest_trace_has_to_go() {
        let small = [
            Limits {
                traces_max: 1,
                ..limits()
            },
            Limits {
                spans_max: 2,
                ..limits()
            },
            Limits {
                bytes_max: 2 * node(1, None).bytes(),
                ..limits()
            },
        ];
        for limits in small {
            let mut forest = Forest::new(limits);
            let now = Instant::now();
            let bytes = node(1, None).bytes();
            assert_eq!(forest.oldest_over_bound(ONE, bytes), None);
            forest.add(ONE, node(1, Some(9)), now);
            forest.add(ONE, node(2, Some(9)), now);
            assert_eq!(forest.oldest_over_bound(TWO, bytes), Some(ONE));
            assert_eq!(forest.trace(ONE).unwrap().nodes().len(), 2);
            forest.note_shown(ONE);
            assert_eq!(forest.oldest_over_bound(TWO, bytes), None);
            assert_eq!((forest.spans(), forest.bytes), (0, 0));
        }
    }

    #[test]
    fn all_traces_come_in_the_order_of_their_start() {
        let mut forest = Forest::new(limits());
        let now = Instant::now();
        forest.add(TWO, node(9, None), now);
        forest.add(ONE, node(7, Some(8)), now);
        forest.add(TWO, node(6, Some(9)), now);
        assert_eq!(forest.all(), [TWO, ONE]);
    }

    #[test]
    fn what_is_remembered_of_shown_traces_is_bounded() {
        let mut shown = Shown::default();
        for number in 0..2 * SHOWN_MAX as u128 {
            shown.note(number.to_be_bytes());
            shown.note(number.to_be_bytes());
        }
        assert_eq!(shown.ids.len(), SHOWN_MAX);
        assert_eq!(shown.order.len(), SHOWN_MAX);
        assert!(!shown.ids.contains(&0_u128.to_be_bytes()));
    }
}
