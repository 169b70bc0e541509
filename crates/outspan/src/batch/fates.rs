//! What became of a batch at each child of a fan-out.

use std::sync::Arc;

use crate::Batch;
use crate::Delivery;
use crate::Error;
use crate::ErrorKind;
use crate::Undelivered;
use crate::pending::PendingSpans;

/// A note on a batch: who still misses what of it.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The fan-out that wrote it.
    fan_out: u64,
    pub(crate) fates: Vec<Fate>,
    /// The notes of other fan-outs, at most one of each.
    others: Option<Arc<Self>>,
}

impl Pending {
    pub(crate) fn new(fan_out: u64, fates: Vec<Fate>) -> Self {
        Self {
            fan_out,
            fates,
            others: None,
        }
    }

    /// The note of one fan-out.
    pub(crate) fn find(&self, fan_out: u64) -> Option<&Self> {
        match self.fan_out == fan_out {
            true => Some(self),
            false => self.others.as_ref()?.find(fan_out),
        }
    }

    /// Puts it before the notes of others; an older one of its own goes.
    pub(crate) fn before(self, notes: Option<&Arc<Self>>) -> Self {
        Self {
            others: notes.and_then(|notes| Self::without(notes, self.fan_out)),
            ..self
        }
    }

    /// All notes but that of one fan-out.
    pub(crate) fn without(notes: &Arc<Self>, fan_out: u64) -> Option<Arc<Self>> {
        if notes.find(fan_out).is_none() {
            return Some(Arc::clone(notes));
        }
        let others = notes.others.as_ref();
        let others = others.and_then(|others| Self::without(others, fan_out));
        match notes.fan_out == fan_out {
            true => others,
            false => Some(Arc::new(Self {
                others,
                ..Self::clone(notes)
            })),
        }
    }
}

/// What one child has and has not of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// What it may still take.
    pub(crate) missing: Vec<Batch>,
    /// Why it did not take that yet.
    trouble: Vec<Error>,
    /// What it will never take.
    pub(crate) lost: Vec<Undelivered>,
    /// How many spans it took.
    accepted: u64,
    /// How many spans it refused for good.
    pub(crate) refused: u64,
    /// How many spans a filter in front of it dropped.
    pub(crate) filtered: u64,
    message: Option<String>,
    /// What it took and has not written yet.
    pub(crate) pending: Vec<PendingSpans>,
}

impl Fate {
    pub(crate) fn missing(batch: Batch) -> Self {
        Self {
            missing: vec![batch],
            ..Self::default()
        }
    }

    /// What it may still take, to be sent again.
    pub(crate) fn missed(&self) -> Vec<Batch> {
        self.missing.clone()
    }

    /// Takes note of what an export achieved.
    pub(crate) fn note(&mut self, delivery: Delivery) {
        self.accepted += delivery.accepted;
        self.pending.extend(delivery.pending);
        self.refused += delivery.refused;
        self.filtered += delivery.filtered;
        self.message = delivery.message.or(self.message.take());
        self.trouble.clear();
        for left in delivery.rest {
            if left.error.is_temporary() {
                self.trouble.push(left.error);
                self.missing.push(left.batch);
            } else {
                self.lost.push(left);
            }
        }
    }

    /// Whether nothing of a batch of so many spans has arrived, not even behind a fan-out inside, and nothing was said about
    /// any span for good.
    pub(crate) fn has_nothing(&self, spans: u64) -> bool {
        let is_noted = self.missing.iter().any(Batch::is_noted);
        self.accepted == 0 && self.refused == 0 && self.open() == spans && !is_noted
    }

    fn open(&self) -> u64 {
        let missing = self.missing.iter().map(|batch| batch.spans() as u64);
        let lost = self.lost.iter().map(|left| left.batch.spans() as u64);
        missing.chain(lost).sum()
    }

    fn errors(&self) -> impl Iterator<Item = &Error> {
        self.trouble
            .iter()
            .chain(self.lost.iter().map(|left| &left.error))
    }
}

/// The words of all children, each with its name.
pub(crate) fn join_messages<'a>(
    fates: impl Iterator<Item = (&'a str, &'a Fate)>,
) -> Option<String> {
    let said = fates.filter_map(|(name, fate)| {
        let message = fate.message.as_deref()?;
        Some(match fate.refused {
            0 => format!("{name}: {message}"),
            refused => format!("{name} refused {refused}: {message}"),
        })
    });
    let said: Vec<_> = said.collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// One error for all children that failed, or none.
///
/// It is temporary if any of them is, asks for the longest wait that any of them asks for, and is given up by retries if
/// all of them are. It is never `too_large` for several spans, because only some children may find them so, and those
/// got them in parts.
pub(crate) fn join_errors<'a>(
    fates: impl Iterator<Item = (&'a str, &'a Fate)>,
    spans: u64,
) -> Option<Error> {
    let fates: Vec<_> = fates.collect();
    let failed: Vec<_> = fates
        .iter()
        .filter(|(_, fate)| fate.errors().next().is_some())
        .collect();
    let errors: Vec<&Error> = failed.iter().flat_map(|(_, fate)| fate.errors()).collect();
    let speaks = errors
        .iter()
        .find(|error| error.is_temporary())
        .or(errors.first())?;
    let words: Vec<_> = failed
        .iter()
        .filter_map(|(name, fate)| {
            let error = fate.errors().next()?;
            Some(format!(
                "{name} ({} of {spans} spans): {}",
                fate.open(),
                error.chain()
            ))
        })
        .collect();
    let kind = match speaks.kind() {
        ErrorKind::TooLarge if spans > 1 => ErrorKind::Refused,
        kind => kind,
    };
    let text = format!(
        "{} of {} destinations failed: {}",
        failed.len(),
        fates.len(),
        words.join("; ")
    );
    let mut joined = Error::new(kind, text).with_temporary(speaks.is_temporary());
    if let Some(delay) = errors.iter().filter_map(|error| error.retry_after()).max() {
        joined = joined.with_retry_after(delay);
    }
    let mut temporary = errors.iter().filter(|error| error.is_temporary());
    if speaks.is_temporary() && temporary.all(|error| error.retries_used_up()) {
        joined = joined.with_retries_used_up();
    }
    // A child that did not fail has answered, so the whole is not out of reach.
    if failed.len() == fates.len() && errors.iter().all(|error| error.is_connection_refused()) {
        joined = joined.with_connection_refused();
    }
    if failed.len() < fates.len() {
        joined = joined.with_partial();
    }
    Some(joined)
}
