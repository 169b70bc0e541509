//! `outspan agent`: receives spans and passes them on.

mod destinations;
mod memory;
mod report;
mod status;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan::Deadline;
use outspan::Runtime;
use outspan::engine::AckLevel;
use outspan::engine::BatchLimits;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use self::destinations::Target;
pub(crate) use self::memory::Intake;
pub(crate) use self::memory::MEMORY_MIN;
pub(crate) use self::memory::Taken;
pub(crate) use self::status::MemoryStatus;
pub(crate) use self::status::State;
pub(crate) use self::status::Status;

use self::memory::Division;
use crate::admin::Admin;
use crate::arguments::AgentArguments;
use crate::destination::ReaderGone;
use crate::destination::exporter::DestinationFiles;
use crate::pipeline::Pipeline;
use crate::receivers;
use crate::receivers::Listen;
use crate::receivers::ReceiverStatus;
use crate::receivers::Receivers;
#[cfg(feature = "kafka")]
use crate::receivers::kafka::Consumers;
#[cfg(feature = "kafka")]
use crate::receivers::kafka::Subscription;
use crate::screen::Screen;
use crate::screen::Tone;
use crate::screen::start_log;
use crate::signals::Request;
use crate::signals::Signal;
use crate::signals::Signals;

/// The exit status for wrong usage or configuration.
const USAGE: u8 = 2;

/// Of the time for stopping, how much requests that have begun may take to end; the rest is for delivering.
const REQUESTS_SHARE: u32 = 4;

/// Of the time that an answer waits, how much its spans may wait in a queue; the rest is for the batch and its export.
const QUEUE_WAIT_SHARE: u32 = 2;

/// Runs the command.
pub(crate) fn run(arguments: AgentArguments) -> ExitCode {
    // A standard error that nobody reads must not stop the agent.
    let screen = Screen::new(arguments.color, arguments.quiet).in_background();
    start_log(&screen, arguments.verbose);
    let status = carry_out(&Arc::new(arguments), &screen).unwrap_or_else(|message| {
        screen.tell(Tone::Error, message);
        USAGE
    });
    screen.finish();
    ExitCode::from(status)
}

fn carry_out(arguments: &Arc<AgentArguments>, screen: &Screen) -> Result<u8, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("outspan-agent")
        // Large requests are read and large batches compressed there, and each may hold a core for as long as it takes.
        .max_blocking_threads(threads * 2)
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    let status = runtime.block_on(operate(arguments, screen));
    // What may still run there is a file that a hung file system does not give.
    runtime.shutdown_background();
    status
}

/// Starts an agent, waits for what ends it, and stops it in order.
async fn operate(arguments: &Arc<AgentArguments>, screen: &Screen) -> Result<u8, String> {
    let mut signals = Signals::listen_with_reload().map_err(|e| format!("cannot start: {e}"))?;
    tracing::debug!(target: "outspan", "starting");
    let reader = ReaderGone::new();
    let (agent, admin) = tokio::select! {
        // An agent that has started and one that was stopped at the same moment was started.
        biased;
        started = start(arguments, &reader) => started?,
        signal = signals.next() => {
            report::stopped_early(screen, signal);
            return Ok(0);
        }
    };
    report::started(screen, &agent, arguments);
    if let Some(admin) = &admin {
        screen.say(format_args!("admin on {}", admin.address()));
    }
    let reloads = Reloads::new(screen, &agent);
    let why = loop {
        tokio::select! {
            request = signals.request() => match request {
                Request::Stop(signal) => break Ending::Signal(signal),
                Request::Reload => reloads.request(screen),
            },
            () = reader.wait() => break Ending::ReaderGone,
        }
    };
    report::stopping(screen, why, &agent, arguments.shutdown_timeout);
    let until = Deadline::after(arguments.shutdown_timeout).named("--shutdown-timeout");
    let stopped = tokio::select! {
        () = agent.stop(until) => Ok(()),
        again = signals.next() => Err(again),
    };
    if let Err(again) = stopped {
        report::stopping_now(screen, again);
        agent.abort().await;
    }
    Ok(report::stopped(screen, why, &agent))
}

/// Runs reloads beside everything else: a hung file system must not keep signals from being handled.
#[derive(Debug)]
struct Reloads {
    /// Keeps one request while a reload runs: the files may have changed after it read them. Further ones add nothing.
    wanted: Arc<Notify>,
    is_running: Arc<AtomicBool>,
    /// Whether it was said that the running reload takes its time.
    is_told: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Reloads {
    /// Starts to wait for requests.
    fn new(screen: &Screen, agent: &Arc<Agent>) -> Self {
        let wanted = Arc::new(Notify::new());
        let (is_running, is_told) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let mut task = JoinSet::new();
        task.spawn({
            let (screen, agent, wanted) = (screen.clone(), Arc::clone(agent), Arc::clone(&wanted));
            let (is_running, is_told) = (Arc::clone(&is_running), Arc::clone(&is_told));
            async move {
                loop {
                    wanted.notified().await;
                    is_running.store(true, Ordering::Relaxed);
                    report::reloaded(&screen, agent.reload().await);
                    is_running.store(false, Ordering::Relaxed);
                    is_told.store(false, Ordering::Relaxed);
                }
            }
        });
        Self {
            wanted,
            is_running,
            is_told,
            _task: task,
        }
    }

    /// Asks for a reload: now, or after the one that is running. The flags only choose what is logged.
    fn request(&self, screen: &Screen) {
        if self.is_running.load(Ordering::Relaxed) && !self.is_told.swap(true, Ordering::Relaxed) {
            let text = "SIGHUP: the reload before is still running; files are read again after it";
            screen.tell(Tone::Warning, text);
        }
        self.wanted.notify_one();
    }
}

/// Opens files and every address, and only then serves the first request.
///
/// # Errors
///
/// Words for the user; nothing was accepted then.
///
/// # Cancellation
///
/// Nothing was accepted. A file that is being opened may still be opened.
async fn start(
    arguments: &Arc<AgentArguments>,
    reader: &ReaderGone,
) -> Result<(Arc<Agent>, Option<Admin>), String> {
    let (given, reader) = (Arc::clone(arguments), reader.clone());
    // A named pipe, a slow disk: signals are heard meanwhile.
    let runtime = Runtime::from(Handle::current());
    let settings = tokio::task::spawn_blocking(move || Settings::new(&given, &reader, &runtime));
    let settings = settings.await.map_err(|e| format!("cannot start: {e}"))??;
    let bound = Bound::open(settings).await?;
    let admin = match arguments.admin.as_str() {
        "off" => None,
        address => Some(Admin::bind(address).await?),
    };
    let agent = Arc::new(bound.start()?);
    if let Some(admin) = &admin {
        admin.serve(Arc::clone(&agent));
    }
    Ok((agent, admin))
}

/// Says what ends an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Signal(Signal),
    /// Whoever read standard output has gone.
    ReaderGone,
}

/// Everything an agent needs to start.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: Vec<Listen>,
    /// What to consume from Kafka.
    #[cfg(feature = "kafka")]
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) targets: Vec<Target>,
    pub(crate) receiving: receivers::Settings,
    pub(crate) batches: BatchLimits,
    /// Bytes for everything the agent holds.
    pub(crate) memory: usize,
}

/// Receives spans and passes them on, until it is stopped.
#[derive(Debug)]
pub(crate) struct Agent {
    receivers: Receivers,
    #[cfg(feature = "kafka")]
    consumers: Consumers,
    pipeline: Arc<Pipeline>,
    intake: Arc<Intake>,
    /// The files of destinations that can be read again.
    #[cfg_attr(
        not(unix),
        expect(dead_code, reason = "only a signal of Unix asks for it")
    )]
    files: Arc<Vec<DestinationFiles>>,
    memory: usize,
    started: Instant,
    state: AtomicU8,
}

/// Holds everything that can fail to be opened. Nobody is served yet.
#[derive(Debug)]
pub(crate) struct Bound {
    receivers: receivers::Bound,
    #[cfg(feature = "kafka")]
    subscriptions: Vec<Subscription>,
    targets: Vec<Target>,
    batches: BatchLimits,
    division: Division,
    memory: usize,
    /// How long spans may wait in a queue if their sender waits for their end.
    max_wait: Option<Duration>,
}

impl Bound {
    /// Opens every address that is listened on. Clients can connect from now on, and wait for an answer.
    ///
    /// # Errors
    ///
    /// Words for the user; nothing is left open then.
    pub(crate) async fn open(settings: Settings) -> Result<Self, String> {
        let division = Division::of(settings.memory, settings.targets.len());
        let mut receiving = settings.receiving;
        receiving.max_request_bytes = receiving
            .max_request_bytes
            .min(division.queue)
            .min(division.receiving);
        receiving.max_connections = receiving.max_connections.min(division.connections);
        let acks = receiving.acks;
        let is_waited_for = acks.level == AckLevel::Delivered;
        Ok(Self {
            max_wait: is_waited_for.then(|| acks.timeout / QUEUE_WAIT_SHARE),
            receivers: receivers::Bound::open(&settings.listen, receiving).await?,
            #[cfg(feature = "kafka")]
            subscriptions: settings.subscriptions,
            targets: settings.targets,
            batches: settings.batches,
            division,
            memory: settings.memory,
        })
    }

    /// Starts the queues, then consuming, then the receivers, which cannot fail.
    ///
    /// # Errors
    ///
    /// Words for the user; nothing was accepted then, and nothing is left running.
    pub(crate) fn start(self) -> Result<Agent, String> {
        let division = self.division;
        let mut files = Vec::new();
        let mut targets = self.targets;
        for target in &mut targets {
            files.extend(target.files.take());
        }
        let mut pipeline = destinations::start_pipeline(targets, division.queue, self.batches)?;
        if let Some(max_wait) = self.max_wait {
            pipeline = pipeline.with_max_wait(max_wait);
        }
        let pipeline = Arc::new(pipeline);
        let intake = Arc::new(Intake::new(division.receiving));
        #[cfg(feature = "kafka")]
        let consumers =
            Consumers::start(&self.subscriptions, division.queue, self.batches, &pipeline)?;
        let receivers = self
            .receivers
            .serve(Arc::clone(&intake), Arc::clone(&pipeline));
        Ok(Agent {
            receivers,
            #[cfg(feature = "kafka")]
            consumers,
            pipeline,
            intake,
            files: Arc::new(files),
            memory: self.memory,
            started: Instant::now(),
            state: AtomicU8::new(State::Running as u8),
        })
    }
}

impl Agent {
    /// Starts an agent without an admin address.
    ///
    /// # Errors
    ///
    /// Words for the user; nothing is left running then.
    pub(crate) async fn start(settings: Settings) -> Result<Self, String> {
        Bound::open(settings).await?.start()
    }

    /// Reads the files of certificates and tokens again. Says what became of each: what is in use now, or why the content
    /// of before stays in use.
    pub(crate) async fn reload(&self) -> Vec<Result<String, String>> {
        let mut outcomes = self.receivers.reload().await;
        let files = Arc::clone(&self.files);
        let checked = tokio::task::spawn_blocking(move || {
            let outcomes: Vec<_> = files.iter().map(DestinationFiles::reload).collect();
            outcomes
        });
        match checked.await {
            Ok(checked) => outcomes.extend(checked),
            Err(error) => outcomes.push(Err(format!("reading files did not finish: {error}"))),
        }
        outcomes
    }

    /// Stops in order: addresses, requests that have begun, queues. What is held at `until` is counted as lost.
    pub(crate) async fn stop(&self, until: Deadline) {
        self.set_state(State::Stopping);
        let requests = match until.remaining() {
            Some(left) => until.min(Deadline::after(left / REQUESTS_SHARE)),
            None => until,
        };
        // Nothing more comes that spans could wait for, and answers may wait for them.
        self.pipeline.hand_over();
        self.stop_receiving(requests).await;
        self.pipeline.shutdown(until).await;
        self.set_state(State::Stopped);
    }

    /// Stops at once. What is held is counted as lost.
    pub(crate) async fn abort(&self) {
        self.set_state(State::Stopping);
        self.stop_receiving(Deadline::after(Duration::ZERO)).await;
        self.pipeline.abort().await;
        self.set_state(State::Stopped);
    }

    #[cfg(not(feature = "kafka"))]
    async fn stop_receiving(&self, until: Deadline) {
        self.receivers.stop(until).await;
    }

    /// Consuming ends before the queues do, so that what they lose then is not committed.
    #[cfg(feature = "kafka")]
    async fn stop_receiving(&self, until: Deadline) {
        futures_util::join!(self.receivers.stop(until), self.consumers.stop(until));
    }

    /// The addresses that are listened on, such as `grpc://127.0.0.1:4317`.
    pub(crate) fn addresses(&self) -> &[String] {
        self.receivers.addresses()
    }

    /// What is consumed, such as `kafka://localhost:9092/otlp_spans as group outspan`.
    pub(crate) fn consumed(&self) -> Vec<String> {
        #[cfg(feature = "kafka")]
        return self.consumers.addresses().map(str::to_owned).collect();
        #[cfg(not(feature = "kafka"))]
        return Vec::new();
    }

    fn receiver_status(&self) -> Vec<ReceiverStatus> {
        #[cfg(feature = "kafka")]
        let kafka = self.consumers.status();
        #[cfg(not(feature = "kafka"))]
        let kafka: Option<ReceiverStatus> = None;
        let mut status = self.receivers.status();
        status.extend(kafka);
        status
    }

    /// Says how everything is.
    pub(crate) fn status(&self) -> Status {
        Status {
            state: self.state(),
            uptime: self.started.elapsed(),
            receivers: self.receiver_status(),
            acks: self.receivers.acks(),
            connections: self.receivers.connections(),
            connections_refused: self.receivers.connections_refused(),
            destinations: self.pipeline.status(),
            memory: MemoryStatus {
                max: self.memory,
                receiving: self.intake.used(),
                receiving_max: self.intake.max(),
            },
        }
    }

    /// Says whether the agent runs.
    pub(crate) fn state(&self) -> State {
        State::of(self.state.load(Ordering::Acquire))
    }

    fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }
}
