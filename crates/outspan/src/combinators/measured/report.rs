//! Telling how an exporter is doing, every so often.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Core;
use super::Stats;

/// Tells how a measured exporter is doing.
///
/// [`Display`](fmt::Display) writes the line that goes to the log when no hook is set.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The name of the measured exporter.
    pub name: Arc<str>,
    /// Everything since it was made.
    pub total: Stats,
    /// What was added since the report before, with what is in flight now.
    pub latest: Stats,
    /// How long ago the report before was.
    pub time: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            exports,
            spans,
            durations,
            ..
        } = &self.latest;
        write!(
            f,
            "{}: {} exports ended in the last {:.0} s, spans: {} delivered",
            self.name,
            exports.ended(),
            self.time.as_secs_f64(),
            spans.delivered
        )?;
        if spans.refused > 0 {
            write!(f, ", {} refused", spans.refused)?;
        }
        if spans.failed.total() > 0 {
            let failed = spans.failed;
            write!(f, ", {} failed ({failed})", failed.total())?;
        }
        if spans.filtered > 0 {
            write!(f, ", {} filtered", spans.filtered)?;
        }
        if spans.cancelled > 0 {
            write!(f, ", {} cancelled", spans.cancelled)?;
        }
        if spans.in_flight > 0 {
            write!(f, ", {} in flight", spans.in_flight)?;
        }
        if let Some(mean) = durations.mean() {
            write!(f, "; {:.3} s on average", mean.as_secs_f64())?;
        }
        Ok(())
    }
}

/// What a user wants to be called with reports.
pub(super) type ReportHook = Arc<dyn Fn(&Report) + Send + Sync>;

/// How often to tell whom.
#[derive(Clone)]
pub(super) struct Reporting {
    pub(super) interval: Duration,
    /// The log if there is none.
    pub(super) hook: Option<ReportHook>,
}

impl fmt::Debug for Reporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporting")
            .field("interval", &self.interval)
            .field("hook", &self.hook.is_some())
            .finish()
    }
}

/// Reports until the exporter is shut down or gone, then once more.
pub(super) async fn run(reporting: Reporting, core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut before = Stats::default();
    let mut since = Instant::now();
    let mut is_over = false;
    while !is_over {
        // Also over when nobody can say so any more: then the exporter is gone.
        let stopped = stop.wait_for(|stop| *stop);
        let waited = tokio::time::timeout(reporting.interval, stopped).await;
        is_over = waited.is_ok();
        let total = core.stats();
        let now = Instant::now();
        let report = Report {
            name: Arc::clone(&core.name),
            total,
            latest: total.since(&before),
            time: now - since,
        };
        reporting.tell(&report);
        (before, since) = (total, now);
    }
}

impl Reporting {
    fn tell(&self, report: &Report) {
        let Some(hook) = &self.hook else {
            write_line(report);
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| hook(report))).is_err() {
            let name = &report.name;
            tracing::error!(target: "outspan", parent: None, "{name}: the hook for reports panicked; it is called again");
        }
    }
}

/// Writes the line, unless there is nothing to tell.
fn write_line(report: &Report) {
    let Stats { exports, spans, .. } = &report.latest;
    if exports.begun == 0 && exports.ended() == 0 && exports.in_flight == 0 {
        return;
    }
    match spans.missed() {
        0 => tracing::info!(target: "outspan", parent: None, "{report}"),
        _ => tracing::warn!(target: "outspan", parent: None, "{report}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Outcome;
    use super::*;
    use crate::Delivery;
    use crate::Error;
    use crate::Result;

    fn report(results: &[Result<Delivery>]) -> Report {
        let mut stats = Stats::default();
        for result in results {
            stats.begin(10, 500);
            stats.end(10, &Outcome::of(10, result), Duration::from_millis(250));
        }
        Report {
            name: "backend".into(),
            total: stats,
            latest: stats,
            time: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_line_of_good_news_is_short() {
        let well = Ok(Delivery {
            accepted: 10,
            ..Delivery::default()
        });
        assert_eq!(
            report(&[well.clone(), well]).to_string(),
            "backend: 2 exports ended in the last 60 s, spans: 20 delivered; 0.250 s on average"
        );
    }

    #[test]
    fn a_line_of_bad_news_says_what_became_of_every_span() {
        let refused = Ok(Delivery {
            accepted: 7,
            refused: 3,
            ..Delivery::default()
        });
        let mut report = report(&[
            refused,
            Err(Error::timeout("no answer", crate::Deadline::never())),
        ]);
        report.latest.spans.filtered = 2;
        report.latest.spans.cancelled = 4;
        report.latest.spans.in_flight = 5;
        assert_eq!(
            report.to_string(),
            "backend: 2 exports ended in the last 60 s, spans: 7 delivered, 3 refused, 10 failed (10 timeout), \
             2 filtered, 4 cancelled, 5 in flight; 0.250 s on average"
        );
    }
}
