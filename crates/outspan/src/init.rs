//! Everything in one call.

use std::borrow::Cow;
use std::fmt;
use std::thread;
use std::thread::ScopedJoinHandle;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::Sampler;
use opentelemetry_sdk::trace::SdkTracer;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::ShouldSample;
use opentelemetry_sdk::trace::TracerProviderBuilder;
use outspan_wire::otlp::SpanLimits;

use crate::Account;
use crate::Cause;
use crate::Deadline;
use crate::Drained;
use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::diagnostics::tell;
use crate::ending::Ending;
use crate::ending::not_ended;
use crate::env::ExporterName;
use crate::env::SamplerName;
use crate::env::Settings;
use crate::env::Warning;
use crate::guard::GRACE;
use crate::sdk::BatchProcessor;
use crate::sdk::BatchProcessorBuilder;
use crate::sdk::ProcessorHandle;
use crate::sdk::SimpleHandle;
use crate::sdk::SimpleProcessor;
use crate::stdout;
use crate::work::is_own_thread;

/// How long the guard's drop may take: what the SDK gives a shutdown, and half of the 10 s that `docker stop` waits.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// What exporters are called that the program made itself.
const CODE: &str = "code";

/// Sets tracing up as the environment says: exporter, processor and provider, which becomes the global one.
///
/// See [`env`](crate::env) for the variables, and [`builder`] for what can be set in code. Keep the guard until the program
/// ends: when it is dropped it delivers what is left.
///
/// A propagator, for the `traceparent` header, is not installed, because which ones a program speaks is its own business:
/// `opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new())` installs W3C's.
///
/// # Errors
///
/// [`Config`](crate::ErrorKind::Config) for what is wrong in the environment and cannot be passed over.
///
/// # Examples
///
/// With `tracing`, through `tracing-opentelemetry`:
///
#[cfg_attr(feature = "http", doc = "```")]
#[cfg_attr(not(feature = "http"), doc = "```no_run")]
/// use tracing_subscriber::prelude::*;
///
/// fn main() -> outspan::Result<()> {
///     # // Ends nothing here: the example must not wait for a server that is not there.
///     # let guard = outspan::builder().drop_timeout(std::time::Duration::ZERO).init()?;
///     # if false {
///     let guard = outspan::init()?;
///     # }
///     let spans = tracing_opentelemetry::layer().with_tracer(guard.tracer("shop"));
///     tracing_subscriber::registry().with(spans).init();
///
///     let order = tracing::info_span!("order", items = 3);
///     order.in_scope(|| { /* the work */ });
///     drop(order);
///     Ok(())
/// } // The guard is dropped here: it delivers what is left, and warns if it could not.
/// ```
///
/// With the OpenTelemetry API:
///
#[cfg_attr(feature = "http", doc = "```")]
#[cfg_attr(not(feature = "http"), doc = "```no_run")]
/// use opentelemetry::trace::Tracer;
///
/// # fn main() -> outspan::Result<()> {
/// # let guard = outspan::builder().drop_timeout(std::time::Duration::ZERO).init()?;
/// # if false {
/// let guard = outspan::init()?;
/// # }
/// guard.tracer("shop").in_span("order", |_context| { /* the work */ });
/// # Ok(())
/// # }
/// ```
pub fn init() -> Result<Guard> {
    builder().init()
}

/// Starts [`init`] with settings in code, which beat the environment.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use opentelemetry::KeyValue;
///
/// # fn main() -> outspan::Result<()> {
/// let guard = outspan::builder()
///     .service_name("cart")
///     .attribute(KeyValue::new("deployment.environment.name", "production"))
///     .exporter(outspan::stdout::compact().build()?)
///     .batch(|batch| batch.delay(Duration::from_secs(1)))
///     .init()?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
pub fn builder() -> InitBuilder {
    InitBuilder {
        settings: None,
        service_name: None,
        attributes: Vec::new(),
        resource: None,
        exporters: Vec::new(),
        sampler: None,
        span_limits: None,
        batch: Vec::new(),
        provider: Vec::new(),
        is_global: true,
        drop_timeout: DROP_TIMEOUT,
    }
}

type BatchOptions = Box<dyn Fn(BatchProcessorBuilder) -> BatchProcessorBuilder + Send>;
type ProviderOptions = Box<dyn FnOnce(TracerProviderBuilder) -> TracerProviderBuilder + Send>;

/// Collects what beats the environment; see [`builder`].
#[must_use]
pub struct InitBuilder {
    settings: Option<Settings>,
    service_name: Option<String>,
    attributes: Vec<KeyValue>,
    resource: Option<Resource>,
    exporters: Vec<Exporter>,
    sampler: Option<Box<dyn ShouldSample>>,
    span_limits: Option<SpanLimits>,
    batch: Vec<BatchOptions>,
    provider: Vec<ProviderOptions>,
    is_global: bool,
    drop_timeout: Duration,
}

impl InitBuilder {
    /// Takes settings instead of reading the environment.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Names the service, in place of `OTEL_SERVICE_NAME` and of any resource's `service.name`.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Adds an attribute of the resource, in place of one with the same key in the environment or in a resource.
    pub fn attribute(mut self, attribute: KeyValue) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// Adds a resource, whose attributes beat those of `OTEL_RESOURCE_ATTRIBUTES`.
    ///
    /// Build it with `Resource::builder_empty()` and detectors: `Resource::builder()` would read the environment again, without
    /// decoding it.
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Sends spans here, in place of what `OTEL_TRACES_EXPORTER` names. Each exporter given gets all spans, through a batch
    /// processor of its own.
    pub fn exporter(mut self, exporter: Exporter) -> Self {
        self.exporters.push(exporter);
        self
    }

    /// Sets the sampler, in place of `OTEL_TRACES_SAMPLER`.
    pub fn sampler(mut self, sampler: impl ShouldSample + 'static) -> Self {
        self.sampler = Some(Box::new(sampler));
        self
    }

    /// Sets limits on what a span may hold, in place of `OTEL_SPAN_*_LIMIT` and the like.
    pub fn span_limits(mut self, limits: SpanLimits) -> Self {
        self.span_limits = Some(limits);
        self
    }

    /// Sets options of the batch processors, on top of `OTEL_BSP_*`.
    pub fn batch(
        mut self,
        options: impl Fn(BatchProcessorBuilder) -> BatchProcessorBuilder + Send + 'static,
    ) -> Self {
        self.batch.push(Box::new(options));
        self
    }

    /// Sets options of the provider, such as an id generator or further processors.
    ///
    /// Processors added here are flushed and shut down with the rest; what that achieved is not part of the guard's answer.
    pub fn provider(
        mut self,
        options: impl FnOnce(TracerProviderBuilder) -> TracerProviderBuilder + Send + 'static,
    ) -> Self {
        self.provider.push(Box::new(options));
        self
    }

    /// Sets whether the provider becomes the global one. The default is yes.
    pub fn global(mut self, is_global: bool) -> Self {
        self.is_global = is_global;
        self
    }

    /// Sets how long dropping the guard may take. The default is 5 s: what the SDK gives a shutdown, and half of the 10 s
    /// that container runtimes wait before they kill.
    ///
    /// It is used up only while there is a chance to deliver: by a destination that is slow, hangs, or was there before and
    /// is down now. One that has never answered in the life of the program and refuses connections, as where no collector
    /// runs, or has a host name that does not exist, is given up after 0.6 s and at least 3 attempts, which leaves a collector that is just starting some time. A
    /// destination that asked for a longer wait than this is tried once and then given up. Choose less for a command that
    /// people wait for, more for a service whose collector may be restarted at the same time.
    pub fn drop_timeout(mut self, timeout: Duration) -> Self {
        self.drop_timeout = timeout;
        self
    }

    /// Sets everything up.
    ///
    /// With `OTEL_SDK_DISABLED=true` there are no spans at all, whatever code sets, and no global provider is installed.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for what is wrong in the environment or in code and cannot be passed over;
    /// [`Internal`](crate::ErrorKind::Internal) if the operating system cannot start the library's thread.
    pub fn init(mut self) -> Result<Guard> {
        let settings = match self.settings.take() {
            Some(settings) => settings,
            None => Settings::from_env()?,
        };
        for warning in &settings.warnings {
            tell(&warning.to_string());
        }
        let mut destinations = Vec::new();
        let provider = match settings.sdk_disabled {
            true => SdkTracerProvider::builder()
                .with_sampler(Sampler::AlwaysOff)
                .build(),
            false => self.build_provider(&settings, &mut destinations)?,
        };
        if self.is_global && !settings.sdk_disabled {
            opentelemetry::global::set_tracer_provider(provider.clone());
        }
        Ok(Guard {
            provider,
            destinations,
            warnings: settings.warnings,
            drop_timeout: self.drop_timeout,
            ending: Ending::default(),
        })
    }

    fn build_provider(
        &mut self,
        settings: &Settings,
        destinations: &mut Vec<Destination>,
    ) -> Result<SdkTracerProvider> {
        let limits = self.span_limits.unwrap_or(settings.span_limits);
        let mut provider = SdkTracerProvider::builder()
            .with_span_limits(sdk_limits(limits))
            .with_resource(environment_resource(settings));
        if let Some(resource) = self.resource.take() {
            provider = provider.with_resource(resource);
        }
        provider = provider.with_resource(self.code_resource());
        provider = match (self.sampler.take(), settings.sampler) {
            (Some(sampler), _) => provider.with_sampler(sampler),
            (None, Some(name)) => provider.with_sampler(sampler(name)),
            (None, None) => provider.with_sampler(sampler(SamplerName::ParentBasedAlwaysOn)),
        };
        provider = self.add_processors(provider, settings, limits, destinations)?;
        for options in std::mem::take(&mut self.provider) {
            provider = options(provider);
        }
        Ok(provider.build())
    }

    fn code_resource(&mut self) -> Resource {
        let attributes = std::mem::take(&mut self.attributes);
        let mut builder = Resource::builder_empty().with_attributes(attributes);
        if let Some(name) = self.service_name.take() {
            builder = builder.with_service_name(name);
        }
        builder.build()
    }

    fn add_processors(
        &mut self,
        mut provider: TracerProviderBuilder,
        settings: &Settings,
        limits: SpanLimits,
        destinations: &mut Vec<Destination>,
    ) -> Result<TracerProviderBuilder> {
        let exporters = std::mem::take(&mut self.exporters);
        let names: &[ExporterName] = match exporters.is_empty() {
            true => &settings.exporters,
            false => &[],
        };
        for exporter in exporters {
            let batch = self.batch_options(BatchProcessor::builder(exporter), settings, limits);
            let processor = batch.build()?;
            destinations.push(Destination::batch(CODE, processor.handle()));
            provider = provider.with_span_processor(processor);
        }
        for &name in names {
            if name == ExporterName::Console {
                let processor = SimpleProcessor::new(stdout::pretty().build()?).span_limits(limits);
                destinations.push(Destination::simple(name.as_str(), processor.handle()));
                provider = provider.with_span_processor(processor);
                continue;
            }
            let batch = named_batch(name, settings)?;
            let processor = self.batch_options(batch, settings, limits).build()?;
            destinations.push(Destination::batch(name.as_str(), processor.handle()));
            provider = provider.with_span_processor(processor);
        }
        Ok(provider)
    }

    /// Adds the environment's settings to a batch processor, then code's.
    fn batch_options(
        &self,
        mut batch: BatchProcessorBuilder,
        settings: &Settings,
        limits: SpanLimits,
    ) -> BatchProcessorBuilder {
        let read = &settings.batch;
        batch = batch.span_limits(limits).queue_spans(read.max_queue_size);
        if let Some(delay) = read.schedule_delay {
            batch = batch.delay(delay);
        }
        if let Some(spans) = read.max_export_batch_size {
            batch = batch.max_batch_spans(spans);
        }
        if let Some(timeout) = read.export_timeout {
            batch = batch.attempt_timeout(Some(timeout).filter(|timeout| !timeout.is_zero()));
        }
        self.batch
            .iter()
            .fold(batch, |batch, options| options(batch))
    }
}

impl fmt::Debug for InitBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitBuilder")
            .field("settings", &self.settings)
            .field("service_name", &self.service_name)
            .field("attributes", &self.attributes)
            .field("resource", &self.resource)
            .field("exporters", &self.exporters)
            .field("sampler", &self.sampler)
            .field("span_limits", &self.span_limits)
            .field("is_global", &self.is_global)
            .field("drop_timeout", &self.drop_timeout)
            .finish_non_exhaustive()
    }
}

/// Holds what [`init`] set up. When it is dropped it delivers what is left and shuts everything down.
///
/// Keep it until the end of `main`: `let _ = outspan::init()` drops it at once. A program that ends by
/// `std::process::exit`, or by a signal it does not handle, drops nothing: call [`shutdown`](Self::shutdown) before, or wait for
/// the signal and return from `main`.
///
/// # What was lost
///
/// At the end, each destination to which not all spans were delivered costs one line, with counts by reason, its address and
/// the last error: as a `tracing` warning with the target `outspan`, or on standard error if the program has no subscriber. It
/// covers the whole life of the program, and comes once, whether the guard is dropped, [`shutdown`](Self::shutdown) is called, or
/// the provider is shut down. Nothing is written if nothing was lost.
///
/// A subscriber with nothing but `tracing-opentelemetry` takes that line and shows it to nobody: add one that writes, such
/// as `tracing_subscriber::fmt::layer()`.
///
/// # Spans that have not ended
///
/// A span is delivered when it has ended. One that is open when the guard is dropped is not delivered, not even if it ends
/// later; [`Drained::unended`] and the line at the end say how many there were. End spans first: locals are dropped in the
/// reverse order of their declaration, so declare the guard before spans and before what holds some (`tracing`'s span
/// guards, a context that is attached), or drop those by hand. Let tasks that still work end before the guard goes, or give
/// them up knowingly.
#[must_use = "spans are delivered until the guard is dropped"]
#[derive(Debug)]
pub struct Guard {
    provider: SdkTracerProvider,
    destinations: Vec<Destination>,
    warnings: Vec<Warning>,
    drop_timeout: Duration,
    ending: Ending,
}

impl Guard {
    /// The provider.
    pub fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    /// A tracer of the provider, for the part of the program with this name.
    pub fn tracer(&self, name: impl Into<Cow<'static, str>>) -> SdkTracer {
        self.provider.tracer(name)
    }

    /// Says where every span is that ended so far and was sampled: the sum over all destinations.
    pub fn account(&self) -> Account {
        let mut sum = Account::default();
        for (_, account) in self.accounts() {
            sum.received += account.received;
            sum.delivered += account.delivered;
            sum.refused += account.refused;
            sum.dropped.merge(&account.dropped);
            sum.queued += account.queued;
            sum.in_flight += account.in_flight;
        }
        sum
    }

    /// Says where every span is, for each destination: by its name in `OTEL_TRACES_EXPORTER`, or `code`.
    pub fn accounts(&self) -> impl Iterator<Item = (&'static str, Account)> + '_ {
        let destinations = self.destinations.iter();
        destinations.map(|destination| (destination.name, destination.account()))
    }

    /// What is wrong in the environment and was passed over. It has been logged, or printed on standard error where
    /// nothing was there yet to log to.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Delivers what is held now, within `timeout`, and says what became of it. Blocks the calling thread.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](crate::ErrorKind::ShutDown) after a shutdown, the exporter's error if it could not flush. Spans that were
    /// lost, or are still held when the time is up, are no error here but are in the [`Drained`].
    pub fn flush(&self, timeout: Duration) -> Result<Drained> {
        self.all(|destination| destination.flush(timeout))
    }

    /// Delivers what is held, shuts everything down within `timeout`, and says what became of the spans. Blocks the calling
    /// thread.
    ///
    /// A second shutdown, from whichever thread, waits for the first within its own `timeout`, and returns its result. If that
    /// takes longer, the spans that are still held are [`Drained::left`].
    ///
    /// # Errors
    ///
    /// [`Internal`](crate::ErrorKind::Internal) on the library's own thread, such as within an exporter, which cannot wait for
    /// itself; the shutdown goes on in the background, and another thread can wait for it with another call. The
    /// exporter's error if it could not shut down. Spans that were lost are no error here but are in the [`Drained`].
    pub fn shutdown(&self, timeout: Duration) -> Result<Drained> {
        if is_own_thread() {
            // The processors begin in the background. A caller on another thread waits for them, so this call must
            // not end the guard with its error.
            return self.all(|destination| destination.shutdown(timeout));
        }
        let Some(turn) = self.ending.begin() else {
            let ended = self.ending.wait(timeout);
            return ended.unwrap_or_else(|| self.unfinished(timeout));
        };
        let began = Instant::now();
        let result = self.all(|destination| destination.shutdown(timeout));
        // Ends the tracers, and the processors that the program added. Ours answer that they are over, so the result
        // says nothing.
        let left = timeout.saturating_sub(began.elapsed()).max(GRACE);
        drop(self.provider.shutdown_with_timeout(left));
        turn.finish(result)
    }

    /// What a caller gets whose time is over before the shutdown of another one.
    fn unfinished(&self, timeout: Duration) -> Result<Drained> {
        let error = not_ended(Deadline::after(timeout).named("shutdown timeout"));
        let mut drained = Drained {
            left: self.account().open(),
            ..Drained::default()
        };
        if drained.left == 0 {
            return Err(error);
        }
        drained.add_cause(Cause::new(error));
        Ok(drained)
    }

    /// Asks all destinations at once, so that one deadline holds for all, and adds up.
    fn all(&self, ask: impl Fn(&Destination) -> Result<Drained> + Sync) -> Result<Drained> {
        if let [only] = self.destinations.as_slice() {
            return ask(only);
        }
        let results = match is_own_thread() {
            // The library's own thread cannot wait, neither for a processor nor for a thread that waits for one. None of
            // them blocks it.
            true => self.destinations.iter().map(ask).collect(),
            false => self.ask_at_once(&ask),
        };
        let mut total = Drained::default();
        let mut first_error = None;
        for result in results {
            match result {
                Ok(drained) => total.merge(&drained),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) if !total.is_complete() => {
                total.add_cause(Cause::new(error));
                Ok(total)
            }
            Some(error) => Err(error.with_context("the other destinations", total.to_string())),
            None => Ok(total),
        }
    }

    /// Asks each destination on a thread of its own.
    fn ask_at_once(
        &self,
        ask: &(impl Fn(&Destination) -> Result<Drained> + Sync),
    ) -> Vec<Result<Drained>> {
        thread::scope(|scope| {
            let start = |destination| {
                let ask_it = move || ask(destination);
                let thread = thread::Builder::new().spawn_scoped(scope, ask_it);
                // Without threads they are asked one after the other, which may take longer.
                thread.map_err(|_| ask(destination))
            };
            let asked: Vec<_> = self.destinations.iter().map(start).collect();
            let panicked = |_| Err(Error::internal("a processor panicked"));
            let wait = |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(panicked);
            asked
                .into_iter()
                .map(|one| one.map_or_else(|now| now, wait))
                .collect()
        })
    }
}

impl Drop for Guard {
    /// Shuts down within the drop timeout, unless that has happened. The processors tell what was lost.
    fn drop(&mut self) {
        // The caller of a shutdown has its result.
        if self.ending.result().is_none()
            && let Err(error) = self.shutdown(self.drop_timeout)
        {
            tell(&format!("cannot shut down: {}", error.chain()));
        }
    }
}

/// A processor and its name.
#[derive(Debug)]
struct Destination {
    name: &'static str,
    handle: Handle,
}

#[derive(Debug)]
enum Handle {
    Batch(ProcessorHandle),
    Simple(SimpleHandle),
}

impl Destination {
    fn batch(name: &'static str, handle: ProcessorHandle) -> Self {
        if name != CODE {
            handle.name(name);
        }
        let handle = Handle::Batch(handle);
        Self { name, handle }
    }

    fn simple(name: &'static str, handle: SimpleHandle) -> Self {
        handle.name(name);
        let handle = Handle::Simple(handle);
        Self { name, handle }
    }

    fn account(&self) -> Account {
        match &self.handle {
            Handle::Batch(handle) => handle.account(),
            Handle::Simple(handle) => handle.account(),
        }
    }

    fn flush(&self, timeout: Duration) -> Result<Drained> {
        match &self.handle {
            Handle::Batch(handle) => handle.flush(timeout),
            Handle::Simple(handle) => handle.flush(timeout),
        }
    }

    fn shutdown(&self, timeout: Duration) -> Result<Drained> {
        match &self.handle {
            Handle::Batch(handle) => handle.shutdown(timeout),
            Handle::Simple(handle) => handle.shutdown(timeout),
        }
    }
}

/// A batch processor for an exporter of `OTEL_TRACES_EXPORTER`.
fn named_batch(name: ExporterName, settings: &Settings) -> Result<BatchProcessorBuilder> {
    match name {
        #[cfg(feature = "_otlp")]
        ExporterName::Otlp => {
            let exporter = settings.otlp.bare_exporter()?;
            Ok(BatchProcessor::builder(exporter)
                .attempt_timeout(settings.otlp.attempt_timeout())
                .export_limit(settings.otlp.export_limit()))
        }
        #[cfg(feature = "zipkin")]
        ExporterName::Zipkin => {
            let exporter = settings.zipkin.bare_exporter()?;
            Ok(BatchProcessor::builder(exporter)
                .attempt_timeout(settings.zipkin.attempt_timeout())
                .export_limit(settings.zipkin.export_limit()))
        }
        #[cfg(feature = "jaeger")]
        ExporterName::Jaeger => {
            let exporter = settings.jaeger.bare_exporter()?;
            Ok(BatchProcessor::builder(exporter)
                .attempt_timeout(settings.jaeger.attempt_timeout())
                .export_limit(settings.jaeger.export_limit()))
        }
        #[cfg(not(feature = "_otlp"))]
        ExporterName::Otlp => Err(not_compiled_in(name, settings, "grpc or http")),
        #[cfg(not(feature = "zipkin"))]
        ExporterName::Zipkin => Err(not_compiled_in(name, settings, "zipkin")),
        #[cfg(not(feature = "jaeger"))]
        ExporterName::Jaeger => Err(not_compiled_in(name, settings, "jaeger")),
        ExporterName::Console => Ok(BatchProcessor::builder(stdout::pretty().build()?)),
        ExporterName::OtlpStdout => Ok(BatchProcessor::builder(stdout::otlp_json_lines().build()?)),
    }
}

/// Says which feature an exporter needs; what the settings say about it does not exist without.
#[cfg(not(all(feature = "_otlp", feature = "jaeger", feature = "zipkin")))]
fn not_compiled_in(name: ExporterName, _settings: &Settings, feature: &str) -> Error {
    let name = name.as_str();
    Error::config(format!(
        "the exporter {name} is not compiled in: enable the feature {feature}, or set OTEL_TRACES_EXPORTER to another"
    ))
}

/// What the SDK provides and the environment says. The SDK's own detector does not decode `OTEL_RESOURCE_ATTRIBUTES`.
fn environment_resource(settings: &Settings) -> Resource {
    let attributes = settings.resource_attributes.iter();
    let attributes = attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let builder = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_service_name(unknown_service())
        .with_attributes(attributes);
    match &settings.service_name {
        Some(name) => builder.with_service_name(name.clone()),
        None => builder,
    }
    .build()
}

/// The name of a service that nobody named (semantic conventions, "Service").
fn unknown_service() -> String {
    let program = std::env::current_exe().ok();
    let name = program
        .as_deref()
        .and_then(|path| path.file_name()?.to_str());
    match name {
        Some(name) => format!("unknown_service:{name}"),
        None => "unknown_service".to_owned(),
    }
}

fn sampler(name: SamplerName) -> Sampler {
    let parent_based = |root| Sampler::ParentBased(Box::new(root));
    match name {
        SamplerName::AlwaysOn => Sampler::AlwaysOn,
        SamplerName::AlwaysOff => Sampler::AlwaysOff,
        SamplerName::TraceIdRatio(ratio) => Sampler::TraceIdRatioBased(ratio),
        SamplerName::ParentBasedAlwaysOn => parent_based(Sampler::AlwaysOn),
        SamplerName::ParentBasedAlwaysOff => parent_based(Sampler::AlwaysOff),
        SamplerName::ParentBasedTraceIdRatio(ratio) => {
            parent_based(Sampler::TraceIdRatioBased(ratio))
        }
    }
}

/// The counts, which the SDK applies while spans are recorded; the processors apply the rest.
fn sdk_limits(limits: SpanLimits) -> opentelemetry_sdk::trace::SpanLimits {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    opentelemetry_sdk::trace::SpanLimits {
        max_events_per_span: count(limits.events),
        max_attributes_per_span: count(limits.attributes),
        max_links_per_span: count(limits.links),
        max_attributes_per_event: count(limits.attributes_per_event),
        max_attributes_per_link: count(limits.attributes_per_link),
    }
}
