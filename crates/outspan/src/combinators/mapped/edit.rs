//! What a closure says about one span.

use std::borrow::Cow;

use outspan_wire::otlp::AttributeSlot;
use outspan_wire::otlp::AttributeView;
use outspan_wire::otlp::EncodeValue;
use outspan_wire::otlp::NewAttributes;
use outspan_wire::otlp::Settled;
use outspan_wire::otlp::SpanEdit;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::ValueView;
use outspan_wire::otlp::ValueWriter;
use outspan_wire::otlp::Written;

/// Says what to change about a span; what is not said stays.
///
/// Each attribute key has one change: the last one said about it counts. Cow<'static, str>s stay unique: a value that is set takes the place
/// of all that the key had, and an attribute that is renamed takes the place of one that has its new key already.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    name: Option<String>,
    trace_state: Option<String>,
    status_message: Option<String>,
    changes: Vec<(Cow<'static, str>, Change)>,
    /// For each change, whether its attribute was found.
    found: Vec<bool>,
}

/// What becomes of the attribute with a key.
#[derive(Clone, Debug)]
enum Change {
    Remove,
    Set(AttributeValue),
    Rename(Cow<'static, str>),
}

/// Holds a value for an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AttributeValue {
    /// Text.
    Str(Cow<'static, str>),
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Values of any kinds.
    Array(Vec<Self>),
}

impl Edit {
    /// Sets the span's name.
    pub fn name(&mut self, name: impl Into<String>) {
        self.name = Some(name.into());
    }

    /// Sets the trace state.
    pub fn trace_state(&mut self, trace_state: impl Into<String>) {
        self.trace_state = Some(trace_state.into());
    }

    /// Sets the description of the status, whose code stays.
    pub fn status_message(&mut self, message: impl Into<String>) {
        self.status_message = Some(message.into());
    }

    /// Gives the attribute `key` this value, whether it is there or not.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<AttributeValue>) {
        self.change(key.into(), Change::Set(value.into()));
    }

    /// Removes the attribute `key`, if it is there.
    pub fn remove(&mut self, key: impl Into<Cow<'static, str>>) {
        self.change(key.into(), Change::Remove);
    }

    /// Gives the attribute `from`, if it is there, the key `to`.
    pub fn rename(&mut self, from: impl Into<Cow<'static, str>>, to: impl Into<Cow<'static, str>>) {
        let (from, to) = (from.into(), to.into());
        if from != to {
            self.change(from, Change::Rename(to));
        }
    }

    fn change(&mut self, key: Cow<'static, str>, change: Change) {
        match self.changes.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = change,
            None => self.changes.push((key, change)),
        }
    }

    /// Whether the span is any different after it.
    pub(super) fn changes(&self, span: &SpanView<'_>) -> bool {
        let differs = |new: &Option<String>, old: &str| new.as_ref().is_some_and(|new| new != old);
        differs(&self.name, span.name())
            || differs(&self.trace_state, span.trace_state())
            || differs(&self.status_message, span.status().message())
            || self.changes.iter().any(|(key, change)| {
                let old = span.attribute(key);
                match change {
                    Change::Remove | Change::Rename(_) => old.is_some(),
                    Change::Set(new) => !old.is_some_and(|old| new.is(old)),
                }
            })
    }

    pub(super) fn clear(&mut self) {
        self.name = None;
        self.trace_state = None;
        self.status_message = None;
        self.changes.clear();
    }

    /// Gives the rewriter what concerns the span's own fields, and gets ready for its attributes.
    pub(super) fn hand_over(&mut self, edit: &mut SpanEdit) {
        if let Some(name) = self.name.take() {
            edit.name(name);
        }
        if let Some(trace_state) = self.trace_state.take() {
            edit.trace_state(trace_state);
        }
        if let Some(message) = self.status_message.take() {
            edit.status_message(message);
        }
        self.found.clear();
        self.found.resize(self.changes.len(), false);
    }

    /// Decides about an attribute that the span has.
    pub(super) fn settle(
        &mut self,
        span: &SpanView<'_>,
        attribute: AttributeView<'_>,
        slot: AttributeSlot<'_>,
    ) -> Settled {
        let key = attribute.key();
        let place = self.changes.iter().position(|(known, _)| known == key);
        let Some(place) = place else {
            return match self.is_replaced_by_a_renamed(span, key) {
                true => slot.remove(),
                false => slot.keep(),
            };
        };
        let is_first = !std::mem::replace(&mut self.found[place], true);
        match &self.changes[place].1 {
            Change::Set(value) if is_first => slot.set(key, value),
            Change::Rename(to) if is_first && !self.is_taken(place, to) => {
                slot.set(to, attribute.value())
            }
            Change::Set(_) | Change::Rename(_) | Change::Remove => slot.remove(),
        }
    }

    /// Adds what is to be set and was not there.
    pub(super) fn add_missing(&self, attributes: &mut NewAttributes<'_>) {
        for ((key, change), found) in self.changes.iter().zip(&self.found) {
            if let Change::Set(value) = change
                && !found
            {
                attributes.add(key, value);
            }
        }
    }

    /// Whether another attribute of the span gets this key.
    fn is_replaced_by_a_renamed(&self, span: &SpanView<'_>, key: &str) -> bool {
        let mut renames = self.changes.iter();
        renames.any(|(from, change)| {
            matches!(change, Change::Rename(to) if to == key) && span.attribute(from).is_some()
        })
    }

    /// Whether the key that a rename asks for is given by something said besides: a value that is set, or another rename.
    fn is_taken(&self, place: usize, to: &str) -> bool {
        let is_set = self
            .changes
            .iter()
            .any(|(key, change)| key == to && matches!(change, Change::Set(_)));
        let before = self.changes.iter().zip(&self.found).enumerate();
        let is_given = before.into_iter().any(|(other, ((_, change), found))| {
            other != place && *found && matches!(change, Change::Rename(known) if known == to)
        });
        is_set || is_given
    }
}

impl AttributeValue {
    fn is(&self, view: ValueView<'_>) -> bool {
        match (self, view) {
            (Self::Str(text), ValueView::Str(other)) => text == other,
            (Self::Bool(flag), ValueView::Bool(other)) => *flag == other,
            (Self::Int(number), ValueView::Int(other)) => *number == other,
            (Self::Double(number), ValueView::Double(other)) => number.to_bits() == other.to_bits(),
            (Self::Array(items), ValueView::Array(others)) => {
                let mut others = others.iter();
                let is_alike = items
                    .iter()
                    .all(|item| others.next().is_some_and(|other| item.is(other)));
                is_alike && others.next().is_none()
            }
            _ => false,
        }
    }
}

impl EncodeValue for AttributeValue {
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        match self {
            Self::Str(text) => value.string(text),
            Self::Bool(flag) => value.bool(*flag),
            Self::Int(number) => value.int(*number),
            Self::Double(number) => value.double(*number),
            Self::Array(items) => {
                value.array(|array| items.iter().for_each(|item| array.push(item)))
            }
        }
    }
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> Self {
        Self::Str(text.into())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

impl From<bool> for AttributeValue {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for AttributeValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for AttributeValue {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u32> for AttributeValue {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<f64> for AttributeValue {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

impl<T: Into<Self>> From<Vec<T>> for AttributeValue {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}
