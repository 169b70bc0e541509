//! A Zipkin span as it was read, whatever its form.

use std::borrow::Cow;

use crate::otlp::SpanKind;
use crate::zipkin::keys::KeyTable;

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
    pub(super) table: KeyTable,
    pub(super) debug: bool,
    pub(super) shared: bool,
}

/// One side of a call.
#[derive(Debug, Default)]
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
    pub(super) value_type: ValueType,
    pub(super) role: Role,
    /// Whether the marks name it, so that its key says nothing.
    pub(super) is_marked: bool,
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
            debug: false,
            shared: false,
        }
    }

    /// Forgets the span, and keeps the room for its lists.
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
        self.tags.clear();
        self.table.clear();
        self.debug = false;
        self.shared = false;
    }

    /// Adds a tag. Of equal keys the last one counts, as in Zipkin.
    pub(super) fn tag(&mut self, key: Cow<'a, str>, value: Cow<'a, str>, value_type: ValueType) {
        let hash = self.table.hash(key.as_bytes());
        let is_equal = |number: usize| self.tags.get(number).is_some_and(|tag| tag.key == key);
        let known = self.table.insert(hash, self.tags.len(), is_equal);
        if let Some(tag) = known.and_then(|number| self.tags.get_mut(number)) {
            tag.value = value;
            tag.value_type = value_type;
            return;
        }
        self.tags.push(Tag {
            key,
            value,
            value_type,
            role: Role::Span,
            is_marked: false,
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
