//! How the tags of spans with the same keys look.
//!
//! Which attributes become tags, how their keys look, and all that the scope and the resource add, depends on keys and types
//! alone, and programs make spans of few kinds. So it is worked out once for each kind, and then copied.

use std::ops::Range;

use super::output::Output;
use super::shared::Part;
use super::source::Source;
use super::span::SpanMapper;
use super::span::Taken;
use super::span::for_each_own_tag;
use super::span::has_description;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::otlp::SpanKind;
use crate::otlp::raw::Attribute;
use crate::otlp::raw::Places;
use crate::otlp::raw::RawSpan;
use crate::otlp::raw::Value;
use crate::zipkin::keys::KeyTable;
use crate::zipkin::marks;
use crate::zipkin::names;
use crate::zipkin::options::Dialect;

/// How many plans are remembered: enough for the kinds of spans that one library makes, few enough to search.
const PLANS_MAX: usize = 8;

/// Which tags of the mapping's own a span has, and what else the plan depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    status_code: i32,
    has_description: bool,
    has_trace_state: bool,
    is_internal: bool,
    /// Neither Zipkin nor a tag names the kind.
    has_no_kind: bool,
    has_dropped: [bool; 3],
    has_links: bool,
    flags: u32,
}

impl Own {
    pub(super) fn of(span: &RawSpan<'_>, dialect: Dialect) -> Self {
        let is_specified = dialect == Dialect::Specification;
        let kind = SpanKind::from_number(span.kind);
        Self {
            status_code: span.status_code,
            has_description: has_description(span, dialect),
            has_trace_state: !span.trace_state.is_empty(),
            is_internal: kind == SpanKind::Internal,
            has_no_kind: matches!(kind, SpanKind::Unspecified | SpanKind::Other(_)),
            has_dropped: [
                is_specified && span.dropped_attributes != 0,
                is_specified && span.dropped_events != 0,
                is_specified && span.dropped_links != 0,
            ],
            has_links: !span.links.is_empty(),
            flags: span.flags,
        }
    }
}

/// The plans that were made last, the one at hand first.
#[derive(Debug, Default)]
pub(super) struct Plans<'a> {
    plans: Vec<Plan<'a>>,
}

impl<'a> Plans<'a> {
    pub(super) fn clear(&mut self) {
        self.plans.clear();
    }

    /// Makes the plan for a span the one at hand, and tells whether there is one.
    ///
    /// The one at hand before is that of the span before.
    #[inline]
    pub(super) fn find(&mut self, own: &Own, span: &RawSpan<'a>) -> bool {
        let Some((first, others)) = self.plans.split_first_mut() else {
            return false;
        };
        if first.is_for(own, span, span.unchanged) {
            first.unchanged = span.unchanged;
            return true;
        }
        let is_it = |plan: &&mut Plan<'a>| plan.is_for(own, span, Places::default());
        let Some(plan) = others.iter_mut().find(is_it) else {
            return false;
        };
        plan.compare(span);
        std::mem::swap(first, plan);
        true
    }

    /// Forgets where tags stand, because the message in which they do is gone.
    pub(super) fn forget_written(&mut self) {
        for plan in &mut self.plans {
            plan.written_at = None;
        }
    }

    /// Returns an empty plan, if need be in the place of an old one.
    pub(super) fn make_room(&mut self) -> Plan<'a> {
        let mut plan = match self.plans.len() {
            PLANS_MAX.. => self.plans.pop().unwrap_or_default(),
            _ => Plan::default(),
        };
        // One large plan is made anew in the time that it takes to copy its tags; eight of them would be held for nothing.
        self.plans.retain(|plan| !plan.is_large());
        if plan.is_large() {
            plan = Plan::default();
        }
        plan.clear();
        plan
    }

    /// Adds a plan, which is then the one at hand.
    pub(super) fn add(&mut self, plan: Plan<'a>) {
        self.plans.insert(0, plan);
    }

    /// Returns the plan at hand.
    pub(super) fn at_hand(&mut self) -> Option<&mut Plan<'a>> {
        self.plans.first_mut()
    }
}

/// How the tags of spans with the same keys look.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    own: Own,
    /// The keys with the types of their values, unless these are texts.
    shape: Vec<(&'a [u8], Option<&'static str>)>,
    /// For each attribute the key as it is prepared, or nothing if it becomes no tag.
    steps: Vec<Option<Range<usize>>>,
    prepared: Limited,
    /// The attribute that the Collector writes under its old name as well.
    status_code: Option<usize>,
    /// The tags that do not depend on the span any further.
    pub(super) tail: Limited,
    marks: Limited,
    /// Whether only keys and types count. Of some attributes the value does.
    is_general: bool,
    /// The attributes, as messages, of the last span with this plan.
    messages: Vec<&'a [u8]>,
    /// Which attributes the span at hand has as that span has them.
    unchanged: Places,
    /// Where the tags of that span's attributes begin in the message, if they still stand there.
    written_at: Option<usize>,
    /// How far behind it the tag of each attribute ends.
    ends: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn clear(&mut self) {
        self.shape.clear();
        self.steps.clear();
        self.prepared.clear();
        self.status_code = None;
        self.tail.clear();
        self.marks.clear();
        self.is_general = true;
        self.messages.clear();
        self.unchanged = Places::default();
        self.written_at = None;
        self.ends.clear();
    }

    /// Returns whether it takes much memory: that of large resources, or of spans with many attributes.
    fn is_large(&self) -> bool {
        const BYTES_MAX: usize = 64 << 10;
        const ATTRIBUTES_MAX: usize = 1 << 10;

        let bytes = self.prepared.len() + self.tail.len() + self.marks.len();
        bytes > BYTES_MAX || self.shape.len() > ATTRIBUTES_MAX
    }

    /// Marks a message as over if something that the plan says about it did not fit.
    fn pass_failure_on(&self, out: &mut Limited) {
        out.fail_with(&self.prepared);
        out.fail_with(&self.tail);
    }

    /// Tells whether it is the plan for a span of which some attributes are known to be as the plan has them.
    #[inline]
    fn is_for(&self, own: &Own, span: &RawSpan<'a>, known: Places) -> bool {
        if !self.is_general || self.own != *own || self.shape.len() != span.attributes.len() {
            return false;
        }
        let mut pairs = self.shape.iter().zip(&span.attributes).enumerate();
        pairs.all(|(number, (&(key, value_type), attribute))| {
            known.contains(number)
                || (attribute.key == key && type_name(attribute.value) == value_type)
        })
    }

    /// Finds out which attributes are those of the last span with this plan.
    fn compare(&mut self, span: &RawSpan<'a>) {
        self.unchanged = Places::default();
        for (number, (before, now)) in self.messages.iter().zip(&span.messages).enumerate() {
            if before == now {
                self.unchanged.insert(number);
            }
        }
    }

    /// Writes the attributes of the span at hand, each by `write` with its key as it is prepared, unless it becomes no tag.
    ///
    /// Tags that the last span with this plan has in the same form are copied from there, several at once where they are
    /// neighbours.
    #[inline]
    pub(super) fn write_attributes(
        &mut self,
        out: &mut Limited,
        span: &RawSpan<'a>,
        mut write: impl FnMut(&mut Limited, &[u8], Value<'a>),
    ) {
        self.pass_failure_on(out);
        let begin = out.len();
        let unchanged = match self.written_at {
            Some(_) => self.unchanged,
            None => Places::default(),
        };
        let before = self.written_at.unwrap_or(begin);
        self.ends.resize(span.attributes.len(), 0);
        // What is to be copied, and where in the message the tag before the one at hand ended.
        let mut copied = before..before;
        let mut old_end = before;
        let places = self.steps.iter().zip(&mut self.ends);
        for (number, (attribute, (step, end))) in span.attributes.iter().zip(places).enumerate() {
            if out.is_over() {
                break;
            }
            let old_start = std::mem::replace(&mut old_end, before + *end);
            if unchanged.contains(number) {
                if copied.is_empty() {
                    copied.start = old_start;
                }
                copied.end = old_end;
            } else {
                out.extend_from_within(std::mem::replace(&mut copied, before..before));
                if let Some(key) = step {
                    let key = self.prepared.get(key.clone()).unwrap_or_default();
                    write(out, key, attribute.value);
                }
            }
            *end = out.len() - begin + copied.len();
        }
        out.extend_from_within(copied);
        self.written_at = Some(begin);
        self.messages.clone_from(&span.messages);
    }

    /// Works out the plan for the span at hand.
    ///
    /// Of equal keys the first one stays: the mapping's own, then the span's, the scope's, the resource's.
    pub(super) fn make<O: Output>(
        &mut self,
        mapper: &mut SpanMapper,
        own: Own,
        source: &mut Source<'a>,
        taken: &Taken,
    ) {
        self.own = own;
        for buffer in [&mut self.prepared, &mut self.tail, &mut self.marks] {
            buffer.set_max(mapper.max_bytes);
        }
        mapper.table.clear();
        source.keys.clear();
        let mut known = Known {
            table: &mut mapper.table,
            keys: &mut source.keys,
        };
        for part in [&source.scope, &source.resource] {
            for tag in part.tags.iter().take(part.named) {
                if known.is_new(tag.key, tag.hash) {
                    self.tail.extend_from_slice(part.written(tag));
                }
            }
        }
        for_each_own_tag(&source.span, mapper.dialect, |key, _| {
            let hash = known.table.hash(key.as_bytes());
            known.is_new(key.as_bytes(), hash);
        });
        for attribute in &source.span.attributes {
            if self.prepared.is_over() {
                break;
            }
            self.shape.push((attribute.key, type_name(attribute.value)));
            self.is_general &= !depends_on_value(attribute.key, mapper.dialect);
            let is_tag = !taken.has(attribute) && !is_left_out(attribute, &own, mapper.dialect);
            self.step::<O>(attribute, is_tag, &mut known);
        }
        if own.flags != 0 {
            marks::push_number(&mut self.marks, marks::FLAGS, own.flags);
        }
        // OpenTelemetry's exporters have a scope, and nothing for internal spans.
        if own.has_no_kind && source.scope.has_name() {
            marks::push_number(&mut self.marks, marks::KIND, 0);
        }
        self.shared(marks::SCOPE, &source.scope, &mut known);
        self.shared(marks::RESOURCE, &source.resource, &mut known);
        if mapper.dialect == Dialect::Collector {
            self.copy_status_code(&source.span, &mut known);
        }
        if mapper.has_marks && !self.marks.is_empty() {
            self.tail.fail_with(&self.marks);
            O::tag(&mut self.tail, names::MARKS.as_bytes(), &self.marks);
        }
    }

    /// Says that the tags that were written have moved towards the end of the message, by so many bytes.
    pub(super) fn move_written(&mut self, bytes: isize) {
        self.written_at = self.written_at.and_then(|at| at.checked_add_signed(bytes));
    }

    fn step<O: Output>(
        &mut self,
        attribute: &Attribute<'a>,
        is_tag: bool,
        known: &mut Known<'_, 'a>,
    ) {
        let hash = known.table.hash(attribute.key);
        if !is_tag || !known.is_new(attribute.key, hash) {
            self.steps.push(None);
            return;
        }
        let start = self.prepared.len();
        O::prepare_key(&mut self.prepared, attribute.key);
        self.steps.push(Some(start..self.prepared.len()));
        let is_text = type_name(attribute.value).is_none();
        if !is_text || names::is_read_specially(attribute.key) {
            marks::push_key(&mut self.marks, attribute.key, attribute.value.view());
        }
    }

    /// Sees to it that a span with `http.response.status_code` has `http.status_code` as well.
    fn copy_status_code(&mut self, span: &RawSpan<'a>, known: &mut Known<'_, 'a>) {
        let is_it = |attribute: &Attribute<'_>| {
            attribute.key == names::HTTP_RESPONSE_STATUS_CODE.as_bytes()
        };
        let place = span.attributes.iter().position(is_it);
        let old_key = names::HTTP_STATUS_CODE.as_bytes();
        if place.is_some() && known.is_new(old_key, known.table.hash(old_key)) {
            self.status_code = place;
        }
    }

    /// Returns the attribute that the span at hand has under its old name as well.
    pub(super) fn copied_status_code(&self, span: &RawSpan<'a>) -> Option<Attribute<'a>> {
        span.attributes.get(self.status_code?).copied()
    }

    fn shared(&mut self, section: &str, part: &Part<'a>, known: &mut Known<'_, 'a>) {
        let before = self.marks.len();
        marks::begin(&mut self.marks);
        self.marks.extend_from_slice(section.as_bytes());
        let section_end = self.marks.len();
        for tag in part.tags.iter().skip(part.named) {
            let is_named_like_link = self.own.has_links && is_named_like_link(tag.key);
            if is_named_like_link || !known.is_new(tag.key, tag.hash) {
                continue;
            }
            self.tail.extend_from_slice(part.written(tag));
            self.marks.push(b' ');
            self.marks.extend_from_slice(part.mark(tag));
        }
        if !part.facts.is_empty() {
            self.marks.push(b' ');
            self.marks.extend_from_slice(&part.facts);
        }
        if self.marks.len() == section_end {
            self.marks.truncate(before);
        }
    }
}

/// The keys that a span has already.
struct Known<'k, 'a> {
    table: &'k mut KeyTable,
    keys: &'k mut Vec<&'a [u8]>,
}

impl<'a> Known<'_, 'a> {
    /// Takes a key, and tells whether there was none like it.
    fn is_new(&mut self, key: &'a [u8], hash: u64) -> bool {
        let keys = &mut *self.keys;
        let is_equal = |number: usize| keys.get(number) == Some(&key);
        let known = self.table.insert(hash, keys.len(), is_equal);
        if known.is_some() {
            return false;
        }
        keys.push(key);
        true
    }
}

/// Tells whether an attribute has no place among the tags: an `error` that is none, or a name that a tag of ours has.
fn is_left_out(attribute: &Attribute<'_>, own: &Own, dialect: Dialect) -> bool {
    if attribute.key == names::ERROR.as_bytes() {
        let is_false = matches!(attribute.value, Value::Bool(false) | Value::Text(b"false"));
        let is_error = own.status_code == 2;
        return !is_error && (is_false || dialect == Dialect::Collector);
    }
    attribute.key == names::MARKS.as_bytes() || (own.has_links && is_named_like_link(attribute.key))
}

fn is_named_like_link(key: &[u8]) -> bool {
    key.starts_with(names::LINK_PREFIX.as_bytes())
}

/// Tells whether an attribute may have a place among the tags, or in a field, by what its value is.
fn depends_on_value(key: &[u8], dialect: Dialect) -> bool {
    match key {
        [b'e', ..] => key == names::ERROR.as_bytes(),
        [b'z', ..] => key == names::SHARED.as_bytes() || key == names::DEBUG.as_bytes(),
        // Endpoints are made of these.
        [b'n' | b'p' | b's', ..] => dialect == Dialect::Collector,
        _ => false,
    }
}

#[inline]
fn type_name(value: Value<'_>) -> Option<&'static str> {
    match value {
        Value::Text(_) => None,
        Value::Int(_) => Some("int"),
        Value::Bool(_) => Some("bool"),
        Value::Double(_) | Value::Other(_) => marks::type_name(value.view()),
    }
}
