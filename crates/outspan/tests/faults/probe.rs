//! What a part of a stack was asked and what it claimed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use tokio::time::Instant;

use crate::destination::ids;

/// What stands between two parts of a stack. It changes nothing.
#[derive(Debug)]
pub(crate) struct Probe {
    inner: Exporter,
    log: ProbeLog,
}

/// What a [`Probe`] saw. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProbeLog {
    seen: Arc<Mutex<Seen>>,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: Vec<Call>,
    pub(crate) flushes: Vec<Asked>,
    pub(crate) shutdowns: Vec<Asked>,
    /// Answers that break a rule by themselves.
    pub(crate) broken: Vec<String>,
}

/// When the time of a call is up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Never,
    At(Instant),
    /// It was when the call began.
    Before,
}

/// A flush or a shutdown.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) end: When,
    pub(crate) drained: Option<Drained>,
}

/// One export.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) asked: BTreeSet<u64>,
    pub(crate) end: When,
    pub(crate) began: Instant,
    pub(crate) fate: Fate,
}

/// How an export ended.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It has not, or its future was dropped.
    Open,
    Answered {
        accepted: u64,
        refused: u64,
        filtered: u64,
        /// The spans that were not delivered.
        rest: BTreeSet<u64>,
    },
}

impl Probe {
    pub(crate) fn around(inner: Exporter, log: &ProbeLog) -> Exporter {
        Exporter::new(Self {
            inner,
            log: log.clone(),
        })
    }
}

impl ProbeLog {
    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn begin(&self, batch: &Batch, until: Deadline) -> usize {
        let asked = ids(batch);
        let mut seen = self.lock();
        let call = Call {
            asked: asked.iter().copied().collect(),
            end: When::of(until),
            began: Instant::now(),
            fate: Fate::Open,
        };
        if call.asked.len() < asked.len() {
            seen.broken
                .push(format!("a batch has a span twice: {asked:?}"));
        }
        seen.calls.push(call);
        seen.calls.len() - 1
    }

    fn answered(&self, place: usize, answer: &Result<Delivery>) {
        let mut seen = self.lock();
        let asked = seen.calls[place].asked.clone();
        let fate = match answer {
            Ok(delivery) => {
                seen.broken.extend(broken(&asked, delivery));
                Fate::Answered {
                    accepted: delivery.accepted,
                    refused: delivery.refused,
                    filtered: delivery.filtered,
                    rest: rest(delivery).into_iter().collect(),
                }
            }
            Err(_) => Fate::Answered {
                accepted: 0,
                refused: 0,
                filtered: 0,
                rest: asked,
            },
        };
        seen.calls[place].fate = fate;
    }
}

impl Call {
    /// Whether the answer was that nothing was delivered.
    pub(crate) fn has_failed(&self) -> bool {
        match &self.fate {
            Fate::Answered { rest, .. } => *rest == self.asked,
            Fate::Open => false,
        }
    }
}

impl Seen {
    /// The spans of which it was said that they are accepted, refused or filtered.
    pub(crate) fn settled(&self) -> BTreeSet<u64> {
        let mut settled = BTreeSet::new();
        for call in &self.calls {
            if let Fate::Answered { rest, .. } = &call.fate {
                settled.extend(call.asked.difference(rest));
            }
        }
        settled
    }

    /// How many spans were accepted, refused and filtered.
    pub(crate) fn sums(&self) -> [u64; 3] {
        let mut sums = [0; 3];
        for call in &self.calls {
            if let Fate::Answered {
                accepted,
                refused,
                filtered,
                ..
            } = call.fate
            {
                let claims = [accepted, refused, filtered];
                sums.iter_mut()
                    .zip(claims)
                    .for_each(|(sum, claim)| *sum += claim);
            }
        }
        sums
    }

    /// Whether an export had no answer.
    pub(crate) fn has_open_calls(&self) -> bool {
        self.calls
            .iter()
            .any(|call| matches!(call.fate, Fate::Open))
    }
}

impl When {
    /// Reads a deadline, on the clock that stands still meanwhile.
    fn of(until: Deadline) -> Self {
        match until.remaining() {
            None => Self::Never,
            Some(left) if left.is_zero() => Self::Before,
            Some(left) => Self::At(Instant::now() + left),
        }
    }

    pub(crate) fn is_by(self, other: Self) -> bool {
        match (self, other) {
            (Self::Before, _) | (_, Self::Never) => true,
            (Self::At(mine), Self::At(theirs)) => mine <= theirs,
            (Self::Never | Self::At(_), _) => false,
        }
    }
}

fn rest(delivery: &Delivery) -> Vec<u64> {
    let parts = delivery.rest.iter();
    parts.flat_map(|part| ids(&part.batch)).collect()
}

/// What is wrong with an answer, whatever happened.
fn broken(asked: &BTreeSet<u64>, delivery: &Delivery) -> Option<String> {
    let rest = rest(delivery);
    let told = delivery.accepted + delivery.refused + delivery.filtered + rest.len() as u64;
    let distinct: BTreeSet<u64> = rest.iter().copied().collect();
    let is_right =
        told == asked.len() as u64 && distinct.len() == rest.len() && distinct.is_subset(asked);
    (!is_right).then(|| format!("asked for {asked:?}, answered {delivery:?}"))
}

impl Export for Probe {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let place = self.log.begin(&batch, until);
        let answer = self.inner.export(batch, until).await;
        self.log.answered(place, &answer);
        answer
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        let place = {
            let mut seen = self.log.lock();
            seen.flushes.push(Asked {
                end: When::of(until),
                drained: None,
            });
            seen.flushes.len() - 1
        };
        let answer = self.inner.flush(until).await;
        self.log.lock().flushes[place].drained = answer.as_ref().ok().cloned();
        answer
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        let place = {
            let mut seen = self.log.lock();
            seen.shutdowns.push(Asked {
                end: When::of(until),
                drained: None,
            });
            seen.shutdowns.len() - 1
        };
        let answer = self.inner.shutdown(until).await;
        self.log.lock().shutdowns[place].drained = answer.as_ref().ok().cloned();
        answer
    }
}
