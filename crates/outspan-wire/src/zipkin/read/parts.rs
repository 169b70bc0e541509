//! A Zipkin span as it was read, whatever its form.

use std::borrow::Cow;

use crate::otlp::SpanKind;
use crate::zipkin::keys::KeyTable;

/// Below this, every whole number is exact as a `f64`.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The fields of a span.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) id: [u8; 8],
    pub(super) parent_id: [u8; 8],
    /// What is wrong with the ids, beyond being zero.
    pub(super) fault: Option<&'static str>,
    pub(super) kind: SpanKind,
    pub(super) name: Cow<'a, str>,
    /// In microseconds, as the duration; 0 if there is none.
    pub(super) timestamp: u64,
    pub(super) duration: u64,
    pub(super) local: Endpoint<'a>,
    pub(super) remote: Endpoint<'a>,
    pub(super) annotations: Vec<Annotation<'a>>,
    /// Invariant: each key once.
    pub(super) tags: Vec<Tag<'a>>,
    table: KeyTable,
    /// As long as its keys come as those of the span before did, how many tags of the span were read; the tags behind are still
    /// those of the span before, and the table has all of them.
    alike: Option<usize>,
    /// Counts how often the keys of the tags changed from span to span.
    shape: u64,
    pub(super) debug: bool,
    pub(super) shared: bool,
}

/// One side of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoint<'a> {
    pub(super) service_name: Cow<'a, str>,
    pub(super) ipv4: Cow<'a, str>,
    pub(super) ipv6: Cow<'a, str>,
    /// 0 if there is none.
    pub(super) port: u16,
}

#[derive(Debug, Default)]
pub(super) struct Annotation<'a> {
    /// In microseconds.
    pub(super) timestamp: u64,
    pub(super) value: Cow<'a, str>,
}

#[derive(Debug)]
pub(super) struct Tag<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Cow<'a, str>,
    /// What the form says the value is; the marks may know better.
    pub(super) read_as: ValueType,
    pub(super) value_type: ValueType,
    pub(super) role: Role,
    /// What the marks say it is; its key then says nothing.
    pub(super) mark: Option<Mark>,
}

impl Tag<'_> {
    /// Returns the value, if the form says that it is a number, and it is a whole one.
    pub(super) fn whole(&self) -> Option<i64> {
        if !matches!(self.read_as, ValueType::Int | ValueType::Double) {
            return None;
        }
        if let Ok(number) = self.value.parse() {
            return Some(number);
        }
        let number: f64 = self.value.parse().ok()?;
        (number.fract() == 0.0 && number.abs() < MAX_EXACT).then_some(number as i64)
    }
}

/// What the marks say about a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) section: Role,
    pub(super) value_type: ValueType,
}

/// What a tag is in OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Span,
    Scope,
    Resource,
    /// Something else than an attribute.
    Consumed,
}

/// What the text of a tag stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Text,
    Bool,
    Int,
    Double,
    Bytes,
    Json,
    Empty,
}

impl<'a> Parts<'a> {
    pub(super) fn new() -> Self {
        Self {
            trace_id: [0; 16],
            id: [0; 8],
            parent_id: [0; 8],
            fault: None,
            kind: SpanKind::Unspecified,
            name: Cow::Borrowed(""),
            timestamp: 0,
            duration: 0,
            local: Endpoint::default(),
            remote: Endpoint::default(),
            annotations: Vec::new(),
            tags: Vec::new(),
            table: KeyTable::new(),
            alike: Some(0),
            shape: 0,
            debug: false,
            shared: false,
        }
    }

    /// Forgets the span, but for the keys of its tags: the next one mostly has the same.
    pub(super) fn clear(&mut self) {
        self.trace_id = [0; 16];
        self.id = [0; 8];
        self.parent_id = [0; 8];
        self.fault = None;
        self.kind = SpanKind::Unspecified;
        self.name = Cow::Borrowed("");
        self.timestamp = 0;
        self.duration = 0;
        self.local = Endpoint::default();
        self.remote = Endpoint::default();
        self.annotations.clear();
        self.alike = Some(0);
        self.debug = false;
        self.shared = false;
    }

    /// Adds a tag. Of equal keys the last one counts, as in Zipkin.
    #[inline]
    pub(super) fn tag(&mut self, key: Cow<'a, str>, value: Cow<'a, str>, value_type: ValueType) {
        if let Some(number) = self.alike {
            if self.tags.get(number).is_some_and(|tag| tag.key == key) {
                return self.expected_tag(value, value_type);
            }
            self.change_shape(number);
        }
        self.add(key, value, value_type);
    }

    /// Returns the key that the next tag has if the span is like the one before, unless it stands in the text with escapes.
    #[inline]
    pub(super) fn expected_key(&self) -> Option<&'a str> {
        match self.tags.get(self.alike?)?.key {
            Cow::Borrowed(key) => Some(key),
            Cow::Owned(_) => None,
        }
    }

    /// Adds a tag with the expected key.
    #[inline]
    pub(super) fn expected_tag(&mut self, value: Cow<'a, str>, value_type: ValueType) {
        let Some(number) = self.alike else {
            return;
        };
        if let Some(tag) = self.tags.get_mut(number) {
            tag.value = value;
            tag.read_as = value_type;
            self.alike = Some(number + 1);
        }
    }

    /// Tells whether the tags so far have the keys of those of the span before.
    pub(super) fn is_alike(&self) -> bool {
        self.alike.is_some()
    }

    /// Returns the length of the key that the next tag has if the span is like the one before.
    #[inline]
    pub(super) fn expected_key_len(&self) -> Option<usize> {
        Some(self.tags.get(self.alike?)?.key.len())
    }

    /// Keeps the next tag of the span before.
    #[inline]
    pub(super) fn keep_tag(&mut self) {
        self.alike = self.alike.map(|number| number + 1);
    }

    /// Keeps the tags of the span before that were not read again.
    pub(super) fn keep_rest(&mut self) {
        self.alike = Some(self.tags.len());
    }

    /// Ends the tags; before that, they can be counted but not looked at.
    pub(super) fn end_tags(&mut self) {
        if let Some(number) = self.alike.filter(|&number| number < self.tags.len()) {
            self.change_shape(number);
        }
    }

    /// Returns how many tags were added.
    pub(super) fn tags_len(&self) -> usize {
        self.alike.unwrap_or(self.tags.len())
    }

    /// Returns a number that spans in a row share if they have the same keys in the same order.
    pub(super) fn shape(&self) -> u64 {
        self.shape
    }

    /// Forgets the tags of the span before, from this number on.
    fn change_shape(&mut self, number: usize) {
        self.alike = None;
        self.shape += 1;
        self.tags.truncate(number);
        self.table.clear();
        for (number, tag) in self.tags.iter().enumerate() {
            let hash = self.table.hash(tag.key.as_bytes());
            self.table.insert(hash, number, |_| false);
        }
    }

    fn add(&mut self, key: Cow<'a, str>, value: Cow<'a, str>, value_type: ValueType) {
        let hash = self.table.hash(key.as_bytes());
        let is_equal = |number: usize| self.tags.get(number).is_some_and(|tag| tag.key == key);
        let known = self.table.insert(hash, self.tags.len(), is_equal);
        if let Some(tag) = known.and_then(|number| self.tags.get_mut(number)) {
            tag.value = value;
            tag.read_as = value_type;
            return;
        }
        self.tags.push(Tag {
            key,
            value,
            read_as: value_type,
            value_type,
            role: Role::Span,
            mark: None,
        });
    }

    /// Finds a tag's number.
    pub(super) fn find(&self, key: &str) -> Option<usize> {
        let hash = self.table.hash(key.as_bytes());
        self.table.find(hash, |number| {
            self.tags.get(number).is_some_and(|tag| tag.key == key)
        })
    }

    /// Finds a tag.
    pub(super) fn get(&self, key: &str) -> Option<&Tag<'a>> {
        self.tags.get(self.find(key)?)
    }

    /// Says why OTLP cannot hold the span.
    pub(super) fn invalid(&self) -> Option<&'static str> {
        if self.fault.is_some() {
            return self.fault;
        }
        if self.trace_id == [0; 16] {
            return Some("its trace id is absent or zero");
        }
        if self.id == [0; 8] {
            return Some("its id is absent or zero");
        }
        None
    }

    /// Returns the start in nanoseconds.
    pub(super) fn start(&self) -> u64 {
        nanos(self.timestamp)
    }

    /// Returns the end in nanoseconds; a span without a duration ends where it starts.
    pub(super) fn end(&self) -> u64 {
        self.start().saturating_add(nanos(self.duration))
    }
}

impl Endpoint<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.service_name.is_empty() && self.address().is_empty() && self.port == 0
    }

    pub(super) fn address(&self) -> &str {
        if self.ipv4.is_empty() {
            &self.ipv6
        } else {
            &self.ipv4
        }
    }
}

/// Turns microseconds into nanoseconds; what is beyond the year 2554 becomes the last time there is.
pub(super) fn nanos(micros: u64) -> u64 {
    micros.saturating_mul(1000)
}
