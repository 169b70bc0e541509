//! Spans without end: visits that were made before, with new ids and times, straight into the encoder.

use std::sync::Arc;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use fastrand::Rng;
use outspan::wire::otlp::EncodeSpan;
use outspan::wire::otlp::EncodedResource;
use outspan::wire::otlp::Encoder;
use outspan::wire::otlp::ScopeWriter;
use outspan::wire::otlp::SpanWriter;
use outspan::wire::otlp::StatusCode;

use crate::arguments::TraceArguments;
use crate::shop::ErrorShare;
use crate::shop::Service;
use crate::shop::Shop;
use crate::shop::Span;
use crate::shop::Status;
use crate::shop::Visit;

/// How many different visits there are, where they are not huge.
const VISITS: usize = 96;

/// How many spans all of them have at most, so that they stay within some 40 MB.
const VISIT_SPANS_MAX: usize = 50_000;

/// What a batch may have in bytes: below the 4 MiB that stock servers take over gRPC.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// Random letters to begin anywhere in, besides the length of a value.
const LETTERS: usize = 64 << 10;

/// Bytes of further attributes that a span may have.
const ATTRIBUTES_BYTES_MAX: usize = 1 << 20;

/// OTLP's `Span.flags`: sampled, and it is known whether the parent is remote.
const FLAGS: u32 = 0x101;

/// OTLP's `Span.flags`: the parent is remote.
const IS_REMOTE: u32 = 0x200;

/// Holds what streams are made of; all of them share it.
#[derive(Debug)]
pub(super) struct Patterns {
    good: Vec<Visit>,
    failing: Vec<Visit>,
    resources: Vec<EncodedResource>,
    further: Further,
    errors_percent: f64,
}

/// The attributes that the shop knows nothing of.
#[derive(Debug)]
struct Further {
    keys: Vec<String>,
    size: usize,
    letters: String,
}

/// Makes spans for ever.
#[derive(Debug)]
pub(super) struct Stream {
    patterns: Arc<Patterns>,
    random: Rng,
    errors: ErrorShare,
    at: Place,
}

/// The next span.
#[derive(Debug, Default)]
struct Place {
    is_failing: bool,
    visit: usize,
    trace: usize,
    span: usize,
    /// When the visit began, in nanoseconds since 1970.
    began: u64,
    /// For each trace of the visit.
    ids: Vec<Ids>,
}

/// The ids of a trace: span after span counts up from the first.
#[derive(Clone, Copy, Debug)]
struct Ids {
    trace: [u8; 16],
    first_span: u64,
}

impl Patterns {
    /// Makes visits as the arguments say.
    ///
    /// # Errors
    ///
    /// Words for the user, if spans would get too large.
    pub(super) fn new(arguments: &TraceArguments, random: &mut Rng) -> Result<Self, String> {
        let further = Further::new(arguments, random)?;
        let spans = arguments.spans_per_trace.map(|spans| spans as usize);
        let visits = match spans {
            Some(spans) => (VISIT_SPANS_MAX / (2 * spans)).clamp(2, VISITS),
            None => VISITS,
        };
        let mut shop = Shop::new(random.fork(), 0.0);
        let fit = |mut visit: Visit, shop: &mut Shop| {
            if let Some(spans) = spans {
                fit(&mut visit, spans, shop);
            }
            visit
        };
        let mut make = |count: usize, one: fn(&mut Shop) -> Visit| -> Vec<Visit> {
            let visits = (0..count).map(|_| {
                let visit = one(&mut shop);
                fit(visit, &mut shop)
            });
            visits.collect()
        };
        Ok(Self {
            good: make(visits, Shop::good_visit),
            failing: make(visits.div_ceil(4), Shop::failing_visit),
            resources: Service::ALL.into_iter().map(resource).collect(),
            further,
            errors_percent: arguments.errors,
        })
    }

    fn visit(&self, at: &Place) -> Option<&Visit> {
        let visits = if at.is_failing {
            &self.failing
        } else {
            &self.good
        };
        visits.get(at.visit)
    }
}

/// Gives every trace of a visit so many spans.
fn fit(visit: &mut Visit, spans: usize, shop: &mut Shop) {
    for trace in &mut visit.traces {
        while trace.spans.len() < spans {
            let more = shop.good_visit();
            if let Some(more) = more.traces.first() {
                trace.go_on_with(more);
            }
        }
    }
    visit.limit_trace_spans(spans);
}

fn resource(service: Service) -> EncodedResource {
    EncodedResource::new(|resource| {
        resource.attribute("service.name", service.name());
        for (key, value) in service.resource() {
            resource.attribute(key, value);
        }
    })
}

impl Further {
    fn new(arguments: &TraceArguments, random: &mut Rng) -> Result<Self, String> {
        let (count, size) = (arguments.attributes as usize, arguments.attribute_size);
        if count.saturating_mul(size) > ATTRIBUTES_BYTES_MAX {
            return Err("--attributes times --attribute-size is more than 1 MiB a span".into());
        }
        let letters = match count {
            0 => 0,
            _ => LETTERS + size,
        };
        Ok(Self {
            keys: (0..count).map(|i| format!("load.attribute.{i}")).collect(),
            size,
            letters: (0..letters).map(|_| random.alphanumeric()).collect(),
        })
    }

    /// The value of one of the attributes, somewhere among the letters.
    fn value(&self, place: usize) -> &str {
        let begin = place % LETTERS;
        let value = self.letters.get(begin..begin + self.size);
        value.unwrap_or_default()
    }
}

impl Stream {
    pub(super) fn new(patterns: Arc<Patterns>, random: Rng) -> Self {
        let mut stream = Self {
            errors: ErrorShare::new(patterns.errors_percent),
            patterns,
            random,
            at: Place::default(),
        };
        stream.begin_visit();
        stream
    }

    /// Pushes so many spans, or fewer if they get large; at least one.
    pub(super) fn fill(&mut self, encoder: &mut Encoder, spans: u64) {
        for _ in 0..spans {
            self.push(encoder);
            if encoder.encoded_len_max() >= BATCH_BYTES_MAX {
                return;
            }
        }
    }

    fn push(&mut self, encoder: &mut Encoder) {
        let patterns = Arc::clone(&self.patterns);
        let place = self.random.usize(..);
        let Some(visit) = patterns.visit(&self.at) else {
            return;
        };
        let Some(trace) = visit.traces.get(self.at.trace) else {
            return;
        };
        if let (Some(span), Some(ids)) = (
            trace.spans.get(self.at.span),
            self.at.ids.get(self.at.trace),
        ) {
            let parent = span.parent.and_then(|at| trace.spans.get(at));
            let is_remote = parent.is_some_and(|parent| parent.service != span.service);
            let stamped = Stamped {
                span,
                number: self.at.span,
                ids: *ids,
                visit_ids: &self.at.ids,
                began: self.at.began,
                is_remote,
                further: &patterns.further,
                place,
            };
            if let Some(resource) = patterns.resources.get(span.service as usize) {
                encoder.push(resource, &stamped);
            }
        }
        self.at.span += 1;
        if self.at.span >= trace.spans.len() {
            self.at.span = 0;
            self.at.trace += 1;
        }
        if self.at.trace >= visit.traces.len() {
            self.errors.count(visit);
            self.begin_visit();
        }
    }

    /// Chooses the next visit, with ids and a time of its own: it ends now.
    fn begin_visit(&mut self) {
        let is_failing = self.errors.is_due();
        let visits = match is_failing {
            true => self.patterns.failing.len(),
            false => self.patterns.good.len(),
        };
        let mut ids = std::mem::take(&mut self.at.ids);
        ids.clear();
        self.at = Place {
            is_failing,
            visit: self.random.usize(..visits.max(1)),
            ids,
            ..Place::default()
        };
        let Some(visit) = self.patterns.visit(&self.at) else {
            return;
        };
        self.at.began = now().saturating_sub(visit.length());
        for _ in &visit.traces {
            self.at.ids.push(Ids::new(&mut self.random));
        }
    }
}

impl Ids {
    fn new(random: &mut Rng) -> Self {
        Self {
            trace: random.u128(1..).to_be_bytes(),
            // Neither zero nor near the end, so that counting up finds no zero either.
            first_span: random.u64(1..u64::MAX / 2),
        }
    }

    fn span(self, number: usize) -> [u8; 8] {
        (self.first_span + number as u64).to_be_bytes()
    }
}

/// A span with ids and times.
struct Stamped<'a> {
    span: &'a Span,
    number: usize,
    ids: Ids,
    /// Of all traces of the visit, for links.
    visit_ids: &'a [Ids],
    began: u64,
    is_remote: bool,
    further: &'a Further,
    /// Where in the letters its values begin.
    place: usize,
}

impl EncodeSpan for Stamped<'_> {
    #[inline]
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        scope.name("shop");
        scope.version(self.span.service.version());
    }

    fn encode(&self, span: &mut SpanWriter<'_>) {
        let shape = self.span;
        span.trace_id(self.ids.trace);
        span.span_id(self.ids.span(self.number));
        if let Some(parent) = shape.parent {
            span.parent_span_id(self.ids.span(parent));
        }
        span.flags(if self.is_remote {
            FLAGS | IS_REMOTE
        } else {
            FLAGS
        });
        span.name(&shape.name);
        span.kind(shape.kind);
        span.start_time_unix_nano(self.began + shape.start);
        span.end_time_unix_nano(self.began + shape.end);
        for (key, value) in &shape.attributes {
            span.attribute(key, value);
        }
        for (number, key) in self.further.keys.iter().enumerate() {
            // Somewhere else for each attribute, so that no two of a span are alike.
            let place = self.place.wrapping_add(number * 997);
            span.attribute(key, self.further.value(place));
        }
        for event in &shape.events {
            span.event(self.began + event.time, event.name, |writer| {
                for (key, value) in &event.attributes {
                    writer.attribute(key, value);
                }
            });
        }
        for link in &shape.links {
            if let Some(to) = self.visit_ids.get(link.trace) {
                span.link(to.trace, to.span(link.span), |writer| {
                    writer.flags(FLAGS | IS_REMOTE);
                    for (key, value) in &link.attributes {
                        writer.attribute(key, value);
                    }
                });
            }
        }
        match &shape.status {
            Status::Unset => {}
            Status::Ok => span.status(StatusCode::Ok, ""),
            Status::Error(message) => span.status(StatusCode::Error, message),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use outspan::Batch;
    use outspan::wire::otlp::SpanLimits;

    use super::*;

    fn arguments() -> TraceArguments {
        TraceArguments {
            spans_per_trace: None,
            attributes: 0,
            attribute_size: 32,
            errors: 5.0,
            seed: None,
        }
    }

    fn stream(arguments: &TraceArguments) -> Stream {
        let mut random = Rng::with_seed(3);
        let patterns = Patterns::new(arguments, &mut random).unwrap();
        Stream::new(Arc::new(patterns), random)
    }

    fn batch(stream: &mut Stream, spans: u64) -> Batch {
        let mut encoder = Encoder::new(SpanLimits::unlimited());
        stream.fill(&mut encoder, spans);
        let checked = Batch::from_request(encoder.finish().unwrap().bytes).unwrap();
        assert_eq!(checked.refused, 0, "{:?}", checked.reason);
        checked.batch
    }

    /// How many spans each trace of a batch has.
    fn traces(batch: &Batch) -> HashMap<[u8; 16], usize> {
        let mut traces = HashMap::new();
        for span in batch.iter() {
            *traces.entry(span.trace_id()).or_default() += 1;
        }
        traces
    }

    #[test]
    fn a_batch_has_as_many_spans_as_asked_and_ids_that_are_all_different() {
        let mut stream = stream(&arguments());
        let mut ids = HashMap::new();
        for spans in [1, 7, 512, 2000] {
            let batch = batch(&mut stream, spans);
            assert_eq!(batch.spans() as u64, spans);
            for span in batch.iter() {
                let is_new = ids.insert((span.trace_id(), span.span_id()), ()).is_none();
                assert!(is_new);
            }
        }
    }

    #[test]
    fn traces_have_as_many_spans_as_asked() {
        for spans in [1, 2, 10, 100, 10_000] {
            let mut arguments = arguments();
            arguments.spans_per_trace = Some(spans);
            arguments.errors = 50.0;
            let mut stream = stream(&arguments);
            let mut seen: HashMap<[u8; 16], usize> = HashMap::new();
            for _ in 0..20 {
                // A batch ends after 2 MiB, in the middle of a trace.
                for (id, count) in traces(&batch(&mut stream, u64::from(spans))) {
                    *seen.entry(id).or_default() += count;
                }
            }
            let whole = seen.values().filter(|count| **count == spans as usize);
            assert!(seen.len() - whole.count() <= 1, "{spans}: {seen:?}");
        }
    }

    #[test]
    fn attributes_are_as_many_and_as_large_as_asked() {
        let mut arguments = arguments();
        arguments.attributes = 200;
        arguments.attribute_size = 77;
        let batch = batch(&mut stream(&arguments), 20);
        for span in batch.iter() {
            let further = span.attributes().iter().filter(|attribute| {
                let value = attribute.value().as_str();
                attribute.key().starts_with("load.") && value.is_some_and(|v| v.len() == 77)
            });
            assert_eq!(further.count(), 200);
        }
    }

    #[test]
    fn large_spans_make_small_batches() {
        let mut arguments = arguments();
        arguments.attributes = 8;
        arguments.attribute_size = 128 << 10;
        let batch = batch(&mut stream(&arguments), 512);
        assert_eq!(batch.spans(), 2);
        arguments.attributes = 9;
        assert!(Patterns::new(&arguments, &mut Rng::with_seed(1)).is_err());
    }

    #[test]
    fn one_seed_makes_the_same_traces() {
        let names = |batch: Batch| -> Vec<_> {
            let spans = batch.iter();
            spans
                .map(|span| (span.trace_id(), span.span_id(), span.name().to_owned()))
                .collect()
        };
        let one = names(batch(&mut stream(&arguments()), 300));
        assert_eq!(one, names(batch(&mut stream(&arguments()), 300)));
    }
}
