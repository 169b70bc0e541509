//! What a visit to the shop leaves behind: traces, described without ids and dates.

use std::borrow::Cow;

use outspan::wire::otlp::EncodeValue;
use outspan::wire::otlp::SpanKind;
use outspan::wire::otlp::ValueWriter;
use outspan::wire::otlp::Written;

/// Names the services of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Service {
    Frontend,
    Catalogue,
    Cart,
    Checkout,
    Payment,
    Stock,
    Shipping,
}

impl Service {
    pub(crate) const ALL: [Self; 7] = [
        Self::Frontend,
        Self::Catalogue,
        Self::Cart,
        Self::Checkout,
        Self::Payment,
        Self::Stock,
        Self::Shipping,
    ];

    /// The value of `service.name`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Catalogue => "catalogue",
            Self::Cart => "cart",
            Self::Checkout => "checkout",
            Self::Payment => "payment",
            Self::Stock => "stock",
            Self::Shipping => "shipping",
        }
    }

    /// The value of `service.version`, which is also that of the scope.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Frontend => "3.4.1",
            Self::Catalogue => "1.12.0",
            Self::Cart => "2.0.3",
            Self::Checkout => "1.7.2",
            Self::Payment => "0.9.8",
            Self::Stock => "1.1.0",
            Self::Shipping => "1.0.5",
        }
    }

    /// What every service says of itself, besides its name.
    pub(crate) fn resource(self) -> [(&'static str, &'static str); 5] {
        [
            ("service.namespace", "shop"),
            ("service.version", self.version()),
            ("service.instance.id", self.instance()),
            ("deployment.environment.name", "demo"),
            ("host.name", "shop-01.example.com"),
        ]
    }

    fn instance(self) -> &'static str {
        match self {
            Self::Frontend => "frontend-1",
            Self::Catalogue => "catalogue-1",
            Self::Cart => "cart-1",
            Self::Checkout => "checkout-1",
            Self::Payment => "payment-1",
            Self::Stock => "stock-1",
            Self::Shipping => "shipping-1",
        }
    }
}

/// Holds what one customer, or one job, causes: a trace, and those that follow from it later.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Visit {
    /// What it is about, such as `checkout`.
    pub(crate) about: &'static str,
    /// In the order they begin. Links point to earlier ones.
    pub(crate) traces: Vec<Trace>,
}

/// Holds the spans of a trace: the root first, every other one after its parent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trace {
    pub(crate) spans: Vec<Span>,
}

/// Describes a span. Times are nanoseconds since its visit began.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) service: Service,
    /// The parent's place in the trace.
    pub(crate) parent: Option<usize>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: SpanKind,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) events: Vec<Event>,
    pub(crate) links: Vec<Link>,
    pub(crate) status: Status,
}

/// Describes an event of a span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    /// Nanoseconds since the visit began.
    pub(crate) time: u64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
}

/// Points to a span of an earlier trace of the same visit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) trace: usize,
    pub(crate) span: usize,
    pub(crate) attributes: Vec<(&'static str, Value)>,
}

/// Says how a span ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Unset,
    Ok,
    Error(Cow<'static, str>),
}

/// Holds the value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(Cow<'static, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Texts(&'static [&'static str]),
}

impl Visit {
    /// How many spans its traces have.
    pub(crate) fn spans(&self) -> usize {
        self.traces.iter().map(|trace| trace.spans.len()).sum()
    }

    /// How long it takes from the first start to the last end, in nanoseconds.
    pub(crate) fn length(&self) -> u64 {
        let spans = self.traces.iter().flat_map(|trace| &trace.spans);
        spans.map(|span| span.end).max().unwrap_or(0)
    }

    /// Cuts off what goes beyond so many spans in all. What is left is whole: every parent and every linked span exists.
    pub(crate) fn limit_spans(&mut self, mut spans: usize) {
        for trace in &mut self.traces {
            trace.spans.truncate(spans);
            spans -= trace.spans.len();
        }
        self.traces.retain(|trace| !trace.spans.is_empty());
        self.drop_dangling_links();
    }

    /// Cuts off what goes beyond so many spans in each trace.
    pub(crate) fn limit_trace_spans(&mut self, spans: usize) {
        for trace in &mut self.traces {
            trace.spans.truncate(spans.max(1));
        }
        self.drop_dangling_links();
    }

    fn drop_dangling_links(&mut self) {
        let sizes: Vec<usize> = self.traces.iter().map(|trace| trace.spans.len()).collect();
        let exists = |link: &Link| sizes.get(link.trace).is_some_and(|size| link.span < *size);
        for span in self.traces.iter_mut().flat_map(|trace| &mut trace.spans) {
            span.links.retain(exists);
        }
    }
}

impl Trace {
    /// Whether one of its spans ended with an error.
    pub(crate) fn has_error(&self) -> bool {
        let mut spans = self.spans.iter();
        spans.any(|span| matches!(span.status, Status::Error(_)))
    }

    /// Has the root go on with what another trace did, as a longer visit would: later, and without the other root.
    pub(crate) fn go_on_with(&mut self, other: &Self) {
        let Some(begin) = self.spans.first().map(|root| root.end) else {
            return;
        };
        let before = self.spans.len();
        for span in other.spans.iter().skip(1) {
            let mut span = span.clone();
            // Place 0 is the root, here as there; the others keep their order.
            span.parent = span
                .parent
                .map(|at| if at == 0 { 0 } else { before + at - 1 });
            span.links.clear();
            span.start += begin;
            span.end += begin;
            for event in &mut span.events {
                event.time += begin;
            }
            self.spans.push(span);
        }
        let length = other.spans.first().map_or(0, |root| root.end);
        if let Some(root) = self.spans.first_mut() {
            root.end += length;
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&'static [&'static str]> for Value {
    fn from(texts: &'static [&'static str]) -> Self {
        Self::Texts(texts)
    }
}

impl EncodeValue for Value {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        match self {
            Self::Text(text) => value.string(text),
            Self::Int(number) => value.int(*number),
            Self::Float(number) => value.double(*number),
            Self::Bool(flag) => value.bool(*flag),
            Self::Texts(texts) => texts.encode(value),
        }
    }
}
