//! What a queue says about itself: few log lines, however long and bad the trouble is.
//!
//! Each kind of trouble is told at once when it begins, then once an interval with what came since, then once when it
//! is over. The interval starts at 30 s and doubles up to 5 min while the trouble goes on, so that a destination that is
//! dead for a minute and comes back costs three lines. Lines are `tracing` events with the target `outspan`. They are
//! written by the tasks of queues and processors only, never by a thread that ends a span: its subscriber may be in the middle
//! of closing that very span, with locks held.

use std::fmt;
#[cfg(feature = "sdk")]
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
#[cfg(feature = "sdk")]
use tracing::subscriber::NoSubscriber;

use crate::Cause;
use crate::DropReason;
use crate::Error;
use crate::Losses;

/// How long a kind of trouble stays quiet after its first line.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long the quiet grows while the trouble goes on.
const INTERVAL_MAX: Duration = Duration::from_secs(300);

/// Says that spans were dropped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DropEvent {
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub spans: u64,
    /// The destination's error, where there is one.
    pub error: Option<Error>,
}

/// What a queue holds while it cannot deliver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) spans: u64,
    pub(crate) bytes: usize,
    pub(crate) bytes_max: usize,
}

/// What comes after an attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Retrial {
    /// The queue's own waits.
    UntilItWorks,
    /// A wait that the destination asked for.
    After(Duration),
    /// The queue is being shut down.
    UntilShutdown,
}

/// What a user wants to be called with each drop.
pub(crate) type Hook = Arc<dyn Fn(&DropEvent) + Send + Sync>;

/// Writes the log lines of one queue, and calls the user's hook.
#[derive(Default)]
pub(crate) struct Diagnostics {
    /// Whose lines these are, if several queues write into one log.
    name: Option<String>,
    on_drop: Option<Hook>,
    state: Mutex<State>,
    /// Says that there is something to wait for.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    outage: Option<Outage>,
    outages: Topic,
    dropped: [Dropped; DropReason::ALL.len()],
    dropped_total: u64,
    refused: Topic,
    /// The last refusal, and the last failure that may pass: the causes of what is lost.
    last_refusal: Option<Error>,
    last_failure: Option<Error>,
    servers: Servers,
    hook_panicked: bool,
}

/// The addresses to which spans went.
#[derive(Debug, Default)]
enum Servers {
    #[default]
    Unknown,
    One(Arc<str>),
    /// Behind a fan-out or the like: none of them speaks for the others.
    Several,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    told: bool,
    error: String,
    held: Held,
    dropped_before: u64,
}

#[derive(Debug, Default)]
struct Dropped {
    topic: Topic,
    error: Option<Error>,
}

/// One kind of trouble: what came since its last line, and until when it stays quiet.
#[derive(Debug)]
struct Topic {
    pending: u64,
    since: Option<Instant>,
    interval: Duration,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Trouble(String),
    News(String),
}

impl Line {
    fn of(&self, name: &str) -> Self {
        match self {
            Self::Trouble(text) => Self::Trouble(format!("{name}: {text}")),
            Self::News(text) => Self::News(format!("{name}: {text}")),
        }
    }
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            pending: 0,
            since: None,
            interval: INTERVAL,
        }
    }
}

impl Topic {
    /// Until when the topic stays quiet, if it does.
    fn quiet_until(&self) -> Option<Instant> {
        self.since.map(|since| since + self.interval)
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until().is_some_and(|until| now < until)
    }

    /// Adds to what came; true when it has to be told at once.
    fn note(&mut self, count: u64, now: Instant) -> bool {
        self.pending += count;
        !self.is_quiet(now)
    }

    /// Takes what has to be told now.
    fn tell(&mut self, now: Instant) -> u64 {
        self.since = Some(now);
        std::mem::take(&mut self.pending)
    }

    /// Ends a quiet time: with a summary if anything came, else the topic starts afresh.
    fn summary(&mut self, now: Instant, goes_on: bool) -> Option<(u64, Duration)> {
        let since = self.since?;
        if self.is_quiet(now) {
            return None;
        }
        if self.pending == 0 && !goes_on {
            *self = Self::default();
            return None;
        }
        self.interval = (self.interval * 2).min(INTERVAL_MAX);
        Some((self.tell(now), now - since))
    }
}

impl Diagnostics {
    /// Calls `on_drop` for drops, besides the log.
    pub(crate) fn new(on_drop: Option<Hook>) -> Self {
        Self {
            on_drop,
            ..Self::default()
        }
    }

    /// Begins each line with `name`.
    pub(crate) fn named(mut self, name: Option<String>) -> Self {
        self.name = name;
        self
    }

    /// Says what the destination's trouble is, while it lasts.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.lock();
        state.outage.as_ref().map(|outage| outage.error.clone())
    }

    /// An attempt failed and will be made again.
    pub(crate) fn failed(&self, error: &Error, held: Held, retrial: Retrial) {
        let line = self.lock().failed(error, held, retrial, Instant::now());
        self.write(line);
    }

    /// The destination took or refused something: it can be reached.
    pub(crate) fn answered(&self) {
        let mut state = self.lock();
        if state.outage.is_none() {
            return;
        }
        let line = state.recovered(Instant::now());
        drop(state);
        self.write(line);
    }

    /// Spans were dropped.
    pub(crate) fn dropped(&self, reason: DropReason, spans: u64, error: Option<&Error>) {
        if spans == 0 {
            return;
        }
        let line = self.lock().dropped(reason, spans, error, Instant::now());
        self.write(line);
        self.call_hook(reason, spans, error);
    }

    /// A filter dropped spans, as it was asked to: nothing for the log.
    pub(crate) fn filtered(&self, spans: u64) {
        if spans > 0 {
            self.call_hook(DropReason::Filtered, spans, None);
        }
    }

    /// The destination refused spans for good.
    pub(crate) fn refused(&self, spans: u64, error: &Error) {
        let line = self.lock().refused(spans, error, Instant::now());
        self.write(line);
    }

    /// Remembers the destination's address.
    pub(crate) fn note_server(&self, server: &Arc<str>) {
        let mut state = self.lock();
        match &state.servers {
            Servers::Unknown => state.servers = Servers::One(Arc::clone(server)),
            Servers::One(known) if known != server => state.servers = Servers::Several,
            Servers::One(_) | Servers::Several => {}
        }
    }

    /// The destination's address, if it is known and there is only one.
    pub(crate) fn server(&self) -> Option<Arc<str>> {
        let state = self.lock();
        match &state.servers {
            Servers::One(server) => Some(Arc::clone(server)),
            Servers::Several => None,
            Servers::Unknown => {
                let error = state.last_failure.as_ref().or(state.last_refusal.as_ref());
                error?.attempt().server.clone()
            }
        }
    }

    /// The last errors behind such losses, of the whole life of the queue.
    pub(crate) fn causes(&self, lost: &Losses, refused: u64) -> Vec<Cause> {
        let state = self.lock();
        let mut errors = Vec::new();
        for (reason, _) in lost.unwanted().iter() {
            let own = &state.dropped[reason.index()].error;
            // A queue is full because the destination does not take what comes.
            let full = reason == DropReason::QueueFull;
            let error = own
                .as_ref()
                .or(state.last_failure.as_ref().filter(|_| full));
            errors.extend(error.cloned());
        }
        errors.extend(state.last_refusal.clone().filter(|_| refused > 0));
        drop(state);
        errors
            .into_iter()
            .map(|error| self.named_cause(Cause::new(error)))
            .collect()
    }

    /// A cause with the name of the destination, if the queue has one.
    pub(crate) fn named_cause(&self, cause: Cause) -> Cause {
        match &self.name {
            Some(name) => cause.at_least_at(name),
            None => cause,
        }
    }

    /// Writes the summaries when they are due, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let lines = self.lock().tick(Instant::now());
            lines.iter().for_each(|line| self.say(line));
            let next = self.lock().next_tick();
            let wait = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Writes what has not been told yet, because nothing follows.
    pub(crate) fn finish(&self) {
        let lines = self.lock().finish(Instant::now());
        lines.iter().for_each(|line| self.say(line));
    }

    /// Writes a line, which may begin a quiet time.
    fn write(&self, line: Option<Line>) {
        let Some(line) = line else {
            return;
        };
        self.say(&line);
        self.changed.notify_one();
    }

    fn say(&self, line: &Line) {
        match &self.name {
            Some(name) => write(&line.of(name)),
            None => write(line),
        }
    }

    fn call_hook(&self, reason: DropReason, spans: u64, error: Option<&Error>) {
        let Some(hook) = &self.on_drop else {
            return;
        };
        let event = DropEvent {
            reason,
            spans,
            error: error.cloned(),
        };
        if catch_unwind(AssertUnwindSafe(|| hook(&event))).is_ok() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.lock().hook_panicked, true);
        if is_first {
            tracing::error!(target: "outspan", "the hook for dropped spans panicked; spans are still counted");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostics")
            .field("name", &self.name)
            .field("on_drop", &self.on_drop.is_some())
            .field("state", &*self.lock())
            .finish()
    }
}

impl State {
    fn failed(
        &mut self,
        error: &Error,
        held: Held,
        retrial: Retrial,
        now: Instant,
    ) -> Option<Line> {
        let text = error.chain().to_string();
        self.last_failure = Some(error.clone());
        let dropped_before = self.dropped_total;
        let outage = self.outage.get_or_insert_with(|| Outage {
            since: now,
            told: false,
            error: String::new(),
            held,
            dropped_before,
        });
        outage.error = text;
        outage.held = held;
        let tell = self.outages.note(1, now) && !outage.told;
        if !tell {
            return None;
        }
        outage.told = true;
        self.outages.tell(now);
        Some(Line::Trouble(format!(
            "cannot deliver spans: {}; {retrial}, keeping {held}",
            outage.error
        )))
    }

    fn recovered(&mut self, now: Instant) -> Option<Line> {
        let outage = self.outage.take()?;
        if !outage.told {
            return None;
        }
        // The next outage within the quiet time waits for its end: a destination that comes and goes is one trouble.
        self.outages.tell(now);
        let seconds = (now - outage.since).as_secs_f64();
        let lost = match self.dropped_total - outage.dropped_before {
            0 => "no span was lost".to_owned(),
            1 => "1 span was lost".to_owned(),
            lost => format!("{lost} spans were lost"),
        };
        Some(Line::News(format!(
            "the destination takes spans again after {seconds:.1} s; {lost}"
        )))
    }

    fn dropped(
        &mut self,
        reason: DropReason,
        spans: u64,
        error: Option<&Error>,
        now: Instant,
    ) -> Option<Line> {
        self.dropped_total += spans;
        let dropped = &mut self.dropped[reason.index()];
        if let Some(error) = error {
            dropped.error = Some(error.clone());
        }
        if !dropped.topic.note(spans, now) {
            return None;
        }
        let spans = dropped.topic.tell(now);
        let why = why_dropped(reason, dropped.error.as_ref());
        Some(Line::Trouble(format!("dropped {}: {why}", count(spans))))
    }

    fn refused(&mut self, spans: u64, why: &Error, now: Instant) -> Option<Line> {
        if spans > 0 {
            self.last_refusal = Some(why.clone());
        }
        if !self.refused.note(spans, now) {
            return None;
        }
        let spans = self.refused.tell(now);
        Some(match spans {
            0 => Line::News(format!("the destination warns: {}", why.chain())),
            _ => Line::Trouble(format!(
                "the destination refused {}: {}",
                count(spans),
                why.chain()
            )),
        })
    }

    fn next_tick(&self) -> Option<Instant> {
        let drops = self.dropped.iter().map(|dropped| &dropped.topic);
        drops
            .chain([&self.outages, &self.refused])
            .filter_map(Topic::quiet_until)
            .min()
    }

    fn tick(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        lines.extend(self.outage_summary(now));
        for (reason, dropped) in DropReason::ALL.into_iter().zip(&mut self.dropped) {
            if let Some((spans, time)) = dropped.topic.summary(now, false) {
                lines.push(dropped_summary(reason, dropped, spans, time));
            }
        }
        if let Some((spans, time)) = self.refused.summary(now, false) {
            lines.push(Line::Trouble(format!(
                "the destination refused {} in the last {}",
                count(spans),
                seconds(time)
            )));
        }
        lines
    }

    fn outage_summary(&mut self, now: Instant) -> Option<Line> {
        let (attempts, time) = self.outages.summary(now, self.outage.is_some())?;
        let Some(outage) = &mut self.outage else {
            // It came and went during the quiet time.
            return Some(Line::News(format!(
                "{attempts} attempts to deliver spans failed in the last {} and were made good",
                seconds(time)
            )));
        };
        outage.told = true;
        Some(Line::Trouble(format!(
            "still cannot deliver spans: {}; attempts that failed in the last {}: {attempts}, keeping {}",
            outage.error,
            seconds(time),
            outage.held
        )))
    }

    fn finish(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        for (reason, dropped) in DropReason::ALL.into_iter().zip(&mut self.dropped) {
            let since = dropped.topic.since;
            if dropped.topic.pending > 0
                && let Some(since) = since
            {
                let spans = dropped.topic.tell(now);
                lines.push(dropped_summary(reason, dropped, spans, now - since));
            }
        }
        lines
    }
}

fn dropped_summary(reason: DropReason, dropped: &Dropped, spans: u64, time: Duration) -> Line {
    Line::Trouble(format!(
        "dropped {} more in the last {}: {}",
        count(spans),
        seconds(time),
        why_dropped(reason, dropped.error.as_ref())
    ))
}

fn why_dropped(reason: DropReason, error: Option<&Error>) -> String {
    let why = match reason {
        DropReason::QueueFull => {
            "the queue is full; raise its bound, or see why the destination takes less than comes"
        }
        DropReason::Failed => {
            "the destination failed and is not tried again; they may have arrived"
        }
        DropReason::TooLarge => "each of them alone is more than the destination takes",
        DropReason::Expired => "they could not be delivered within the export limit",
        DropReason::Filtered => "a filter removed them",
        DropReason::Shutdown => {
            "they had not been delivered at the end of the shutdown, or ended after it"
        }
        DropReason::Encode => "they cannot be encoded, because their ids are zero",
    };
    match error {
        Some(error) => format!("{why} ({reason}): {}", error.chain()),
        None => format!("{why} ({reason})"),
    }
}

fn count(spans: u64) -> String {
    match spans {
        1 => "1 span".to_owned(),
        _ => format!("{spans} spans"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}

impl fmt::Display for Retrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UntilItWorks => f.write_str("trying again until it works"),
            Self::After(wait) => write!(
                f,
                "trying again in {}, as the destination asked",
                seconds(*wait)
            ),
            Self::UntilShutdown => f.write_str("shutting down"),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            spans,
            bytes,
            bytes_max,
        } = *self;
        write!(
            f,
            "{} ({} of at most {})",
            count(spans),
            Size(bytes),
            Size(bytes_max)
        )
    }
}

/// A number of bytes as people read it.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: f64 = 1024.0;
        let bytes = self.0 as f64;
        if bytes < KIB {
            return write!(f, "{} B", self.0);
        }
        if bytes < KIB * KIB {
            return write!(f, "{:.1} KiB", bytes / KIB);
        }
        write!(f, "{:.1} MiB", bytes / KIB / KIB)
    }
}

/// Tells people something. At the beginning and at the end of a program nothing may be there to log to.
#[cfg(feature = "sdk")]
pub(crate) fn tell(text: &str) {
    let is_heard = tracing::dispatcher::get_default(|heard| !heard.is::<NoSubscriber>());
    if is_heard {
        tracing::warn!(target: "outspan", "{text}");
        return;
    }
    // `eprintln!` panics if standard error is closed, which is no reason for a program to abort at its end.
    let mut stderr = std::io::stderr().lock();
    drop(writeln!(stderr, "outspan: {text}"));
}

fn write(line: &Line) {
    match line {
        Line::Trouble(text) => tracing::warn!(target: "outspan", "{text}"),
        Line::News(text) => tracing::info!(target: "outspan", "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;

    const HELD: Held = Held {
        spans: 512,
        bytes: 200 * 1024,
        bytes_max: 64 << 20,
    };

    /// Lets a destination fail every `every` until `time` has passed, and returns the lines.
    fn outage(state: &mut State, began: Instant, time: Duration, every: Duration) -> Vec<String> {
        let error = Error::unavailable("connection refused");
        let mut lines = Vec::new();
        let mut now = began;
        while now < began + time {
            lines.extend(state.tick(now));
            lines.extend(state.failed(&error, HELD, Retrial::UntilItWorks, now));
            now += every;
        }
        lines.extend(state.recovered(began + time));
        lines.into_iter().map(text).collect()
    }

    fn text(line: Line) -> String {
        match line {
            Line::Trouble(text) | Line::News(text) => text,
        }
    }

    #[test]
    fn a_destination_that_is_dead_for_a_minute_costs_three_lines() {
        let mut state = State::default();
        let began = Instant::now();
        let lines = outage(
            &mut state,
            began,
            Duration::from_secs(60),
            Duration::from_millis(10),
        );
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert_eq!(
            lines[0],
            "cannot deliver spans: connection refused; trying again until it works, keeping 512 spans \
             (200.0 KiB of at most 64.0 MiB)"
        );
        assert!(
            lines[1].starts_with("still cannot deliver spans: connection refused; attempts"),
            "{}",
            lines[1]
        );
        assert_eq!(
            lines[2],
            "the destination takes spans again after 60.0 s; no span was lost"
        );
    }

    #[test]
    fn a_destination_that_is_dead_for_an_hour_costs_few_lines() {
        let mut state = State::default();
        let hour = Duration::from_secs(3600);
        let lines = outage(&mut state, Instant::now(), hour, Duration::from_secs(1));
        assert!((10..=20).contains(&lines.len()), "{}", lines.len());
    }

    #[test]
    fn a_destination_that_comes_and_goes_is_one_trouble() {
        let mut state = State::default();
        let began = Instant::now();
        let error = Error::unavailable("reset");
        let mut lines = Vec::new();
        for second in 0..120 {
            let now = began + Duration::from_secs(second);
            lines.extend(state.tick(now));
            lines.extend(state.failed(&error, HELD, Retrial::UntilItWorks, now));
            lines.extend(state.recovered(now + Duration::from_millis(500)));
        }
        assert!(lines.len() <= 6, "{lines:#?}");
        assert!(lines.len() >= 3, "{lines:#?}");
    }

    #[test]
    fn the_news_of_recovery_says_what_was_lost() {
        let mut state = State::default();
        let now = Instant::now();
        let error = Error::unavailable("down");
        state.failed(&error, HELD, Retrial::UntilItWorks, now);
        state.dropped(DropReason::QueueFull, 41, None, now);
        state.dropped(DropReason::QueueFull, 1, None, now);
        let news = state.recovered(now + Duration::from_secs(5)).map(text);
        assert_eq!(
            news.as_deref(),
            Some("the destination takes spans again after 5.0 s; 42 spans were lost")
        );
    }

    #[test]
    fn drops_are_told_at_once_and_then_in_sums() {
        let mut state = State::default();
        let began = Instant::now();
        let mut lines = Vec::new();
        for second in 0..60 {
            let now = began + Duration::from_secs(second);
            lines.extend(state.tick(now));
            lines.extend(state.dropped(DropReason::QueueFull, 10, None, now));
        }
        let lines: Vec<_> = lines.into_iter().map(text).collect();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].starts_with("dropped 10 spans: the queue is full"));
        assert!(lines[1].starts_with("dropped 290 spans more in the last 30 s"));
        let rest = state.finish(began + Duration::from_secs(60)).remove(0);
        assert!(text(rest).starts_with("dropped 300 spans more"));
        assert!(state.finish(began + Duration::from_secs(60)).is_empty());
    }

    #[test]
    fn each_reason_is_told_for_itself() {
        let mut state = State::default();
        let now = Instant::now();
        let lines = DropReason::ALL.map(|reason| state.dropped(reason, 1, None, now));
        assert!(lines.iter().all(Option::is_some));
    }

    #[test]
    fn a_topic_that_was_quiet_for_long_starts_afresh() {
        let mut state = State::default();
        let began = Instant::now();
        assert!(state.dropped(DropReason::Failed, 1, None, began).is_some());
        let later = began + Duration::from_secs(31);
        assert!(state.tick(later).is_empty());
        assert!(state.next_tick().is_none());
        assert!(state.dropped(DropReason::Failed, 1, None, later).is_some());
    }

    #[test]
    fn a_hook_that_panics_is_called_again() {
        let calls = Arc::new(AtomicUsize::new(0));
        let hook = {
            let calls = Arc::clone(&calls);
            move |_: &DropEvent| {
                calls.fetch_add(1, Ordering::Relaxed);
                panic!("a hook of a careless user");
            }
        };
        let diagnostics = Diagnostics::new(Some(Arc::new(hook)));
        diagnostics.dropped(DropReason::Failed, 1, None);
        diagnostics.dropped(DropReason::Failed, 0, None);
        diagnostics.dropped(DropReason::Failed, 1, None);
        assert_eq!(calls.load(Ordering::Relaxed), 2, "and not for nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn summaries_come_by_themselves() {
        let diagnostics = Diagnostics::default();
        diagnostics.dropped(DropReason::Failed, 1, None);
        diagnostics.dropped(DropReason::Failed, 2, None);
        let run = diagnostics.run();
        let wait = tokio::time::sleep(Duration::from_secs(31));
        tokio::select! {
            () = run => unreachable!("it runs for ever"),
            () = wait => {}
        }
        let pending = diagnostics.lock().dropped[DropReason::Failed.index()]
            .topic
            .pending;
        assert_eq!(pending, 0, "the two were told");
    }
}
