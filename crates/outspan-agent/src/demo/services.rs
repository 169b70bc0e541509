//! The services of the shop, each with an OpenTelemetry SDK of its own, as if it were a process of its own.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;

use opentelemetry::Array;
use opentelemetry::Context;
use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::StringValue;
use opentelemetry::TraceId;
use opentelemetry::Value as SdkValue;
use opentelemetry::trace::Event as SdkEvent;
use opentelemetry::trace::Link as SdkLink;
use opentelemetry::trace::Span as _;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanKind as SdkKind;
use opentelemetry::trace::Status as SdkStatus;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;
use opentelemetry_sdk::trace::SdkTracer;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::Span as SdkSpan;
use outspan::Account;
use outspan::Compression;
use outspan::Exporter;
use outspan::Retry;
use outspan::otlp;
use outspan::otlp::Protocol;
use outspan::sdk::BatchProcessor;
use outspan::sdk::ProcessorHandle;
use outspan::sdk::WhenFull;
use outspan::wire::otlp::SpanKind;

use crate::shop::Service;
use crate::shop::Span;
use crate::shop::Status;
use crate::shop::Trace;
use crate::shop::Value;
use crate::shop::Visit;

/// How long spans wait for others to go with. Somebody is looking on, so it is shorter than a service's 5 s.
const DELAY: Duration = Duration::from_millis(300);

/// The first wait before trying again.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// How long the shop waits for room before a span is lost. The agent is in the same program, so there soon is some.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// What the spans of one service that wait may take, in bytes.
const QUEUE_BYTES: usize = 4 << 20;

/// Makes spans with the SDK.
#[derive(Debug)]
pub(super) struct Services {
    each: BTreeMap<Service, Running>,
}

#[derive(Debug)]
struct Running {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    handle: ProcessorHandle,
}

/// Says where the agent listens, as URLs for an exporter.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) grpc: String,
    pub(super) http: String,
}

impl Services {
    /// Starts all services. Some send over gRPC, some over HTTP, in several encodings.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(super) fn start(addresses: &Addresses) -> Result<Self, String> {
        let start = |service| Running::start(service, addresses).map(|running| (service, running));
        let each = Service::ALL.into_iter().map(start);
        Ok(Self {
            each: each
                .collect::<outspan::Result<_>>()
                .map_err(|e| e.chain().to_string())?,
        })
    }

    /// Makes the spans of a visit that began at `began`, and tells the id of each trace before one of its spans ends.
    pub(super) fn make(&self, visit: &Visit, began: SystemTime, mut tell: impl FnMut(TraceId)) {
        let mut contexts: Vec<Vec<SpanContext>> = Vec::with_capacity(visit.traces.len());
        for trace in &visit.traces {
            let made = self.make_trace(trace, &contexts, began, &mut tell);
            contexts.push(made);
        }
    }

    fn make_trace(
        &self,
        trace: &Trace,
        before: &[Vec<SpanContext>],
        began: SystemTime,
        tell: &mut impl FnMut(TraceId),
    ) -> Vec<SpanContext> {
        let mut contexts: Vec<SpanContext> = Vec::with_capacity(trace.spans.len());
        let mut open: Vec<SdkSpan> = Vec::with_capacity(trace.spans.len());
        for shape in &trace.spans {
            let parent = shape.parent.and_then(|at| {
                let is_remote = trace.spans.get(at)?.service != shape.service;
                Some(as_parent(contexts.get(at)?, is_remote))
            });
            let Some(running) = self.each.get(&shape.service) else {
                continue;
            };
            let span = running.begin(shape, &parent.unwrap_or_default(), before, began);
            if contexts.is_empty() {
                tell(span.span_context().trace_id());
            }
            contexts.push(span.span_context().clone());
            open.push(span);
        }
        // Parents come first in the list, and end last.
        for (mut span, shape) in open.into_iter().zip(&trace.spans).rev() {
            span.set_status(status(&shape.status));
            span.end_with_timestamp(began + Duration::from_nanos(shape.end));
        }
        contexts
    }

    /// What became of the spans of all services.
    pub(super) fn account(&self) -> Account {
        let mut sum = Account::default();
        for account in self.each.values().map(|running| running.handle.account()) {
            sum.received += account.received;
            sum.delivered += account.delivered;
            sum.refused += account.refused;
            sum.dropped.merge(&account.dropped);
            sum.queued += account.queued;
            sum.in_flight += account.in_flight;
        }
        sum
    }

    /// Delivers what is held, within `limit`, all services at the same time. Blocks the calling thread.
    ///
    /// Returns what went wrong, in words.
    pub(super) fn stop(&self, limit: Duration) -> Vec<String> {
        std::thread::scope(|scope| {
            let each = self.each.iter();
            let stops = each.map(|(service, running)| {
                let stop = move || running.provider.shutdown_with_timeout(limit);
                (service, scope.spawn(stop))
            });
            // All begin before the first is waited for.
            let stops: Vec<_> = stops.collect();
            let ends = stops.into_iter().filter_map(|(service, stop)| {
                let name = service.name();
                match stop.join() {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(format!("{name}: {error}")),
                    Err(_) => Some(format!("{name}: stopping failed, please report this bug")),
                }
            });
            ends.collect()
        })
    }
}

impl Running {
    fn start(service: Service, addresses: &Addresses) -> outspan::Result<Self> {
        let processor = BatchProcessor::builder(exporter(service, addresses)?)
            .delay(DELAY)
            .queue_bytes(QUEUE_BYTES)
            .when_full(WhenFull::Wait(ROOM_WAIT))
            .retry(Retry::default().initial_interval(FIRST_WAIT))
            .build()?;
        let handle = processor.handle();
        let attributes = service.resource();
        let resource = Resource::builder()
            .with_service_name(service.name())
            .with_attributes(attributes.map(|(key, value)| KeyValue::new(key, value)))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource)
            // Whatever the environment says: every span is counted.
            .with_sampler(Sampler::AlwaysOn)
            .build();
        let scope = InstrumentationScope::builder("shop").with_version(service.version());
        let tracer = provider.tracer_with_scope(scope.build());
        Ok(Self {
            provider,
            tracer,
            handle,
        })
    }

    fn begin(
        &self,
        shape: &Span,
        parent: &Context,
        before: &[Vec<SpanContext>],
        began: SystemTime,
    ) -> SdkSpan {
        let at = |nanos: u64| began + Duration::from_nanos(nanos);
        let events = shape.events.iter().map(|event| {
            SdkEvent::new(event.name, at(event.time), key_values(&event.attributes), 0)
        });
        let links = shape.links.iter().filter_map(|link| {
            let to = before.get(link.trace)?.get(link.span)?;
            Some(SdkLink::new(to.clone(), key_values(&link.attributes), 0))
        });
        self.tracer
            .span_builder(shape.name.clone())
            .with_kind(kind(shape.kind))
            .with_start_time(at(shape.start))
            .with_attributes(key_values(&shape.attributes))
            .with_events(events.collect())
            .with_links(links.collect())
            .start_with_context(&self.tracer, parent)
    }
}

/// Every way to send that the agent knows is used by somebody.
fn exporter(service: Service, addresses: &Addresses) -> outspan::Result<Exporter> {
    let grpc = || otlp::grpc(&addresses.grpc);
    let http = || otlp::http(&addresses.http);
    match service {
        Service::Frontend | Service::Payment => grpc().build(),
        Service::Cart => grpc().compression(Compression::Gzip).build(),
        Service::Catalogue => http().build(),
        Service::Checkout => http().compression(Compression::Gzip).build(),
        Service::Stock => http().protocol(Protocol::HttpJson).build(),
        Service::Shipping => http().compression(Compression::Zstd).build(),
    }
}

/// What a service knows of the span that called it, or that it is in.
fn as_parent(parent: &SpanContext, is_remote: bool) -> Context {
    let seen = SpanContext::new(
        parent.trace_id(),
        parent.span_id(),
        parent.trace_flags(),
        is_remote,
        parent.trace_state().clone(),
    );
    Context::new().with_remote_span_context(seen)
}

fn key_values(attributes: &[(&'static str, Value)]) -> Vec<KeyValue> {
    let attributes = attributes.iter();
    attributes
        .map(|(key, value)| KeyValue::new(*key, sdk_value(value)))
        .collect()
}

fn sdk_value(value: &Value) -> SdkValue {
    match value {
        Value::Text(text) => SdkValue::String(StringValue::from(text.clone())),
        Value::Int(number) => SdkValue::I64(*number),
        Value::Float(number) => SdkValue::F64(*number),
        Value::Bool(flag) => SdkValue::Bool(*flag),
        Value::Texts(texts) => {
            let texts = texts.iter().map(|text| StringValue::from(*text));
            SdkValue::Array(Array::String(texts.collect()))
        }
    }
}

fn status(status: &Status) -> SdkStatus {
    match status {
        Status::Unset => SdkStatus::Unset,
        Status::Ok => SdkStatus::Ok,
        Status::Error(message) => SdkStatus::error(message.clone()),
    }
}

fn kind(kind: SpanKind) -> SdkKind {
    match kind {
        SpanKind::Server => SdkKind::Server,
        SpanKind::Client => SdkKind::Client,
        SpanKind::Producer => SdkKind::Producer,
        SpanKind::Consumer => SdkKind::Consumer,
        _ => SdkKind::Internal,
    }
}
