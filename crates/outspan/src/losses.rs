//! How many spans were dropped, by reason.

use std::fmt;

/// Says why spans were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// A queue was at its bound of bytes or spans.
    QueueFull,
    /// The destination failed and was not tried again; the spans may have arrived.
    Failed,
    /// One span alone is more than the destination takes.
    TooLarge,
    /// The spans waited longer than they were allowed to.
    Expired,
    /// A filter removed them on request.
    Filtered,
    /// They were still here at the end of a shutdown, or came after it.
    Shutdown,
    /// They could not be put into the destination's format.
    Encode,
}

impl DropReason {
    /// Every reason, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::Failed,
        Self::TooLarge,
        Self::Expired,
        Self::Filtered,
        Self::Shutdown,
        Self::Encode,
    ];

    /// Names the reason as metrics and logs show it, such as `queue_full`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Failed => "failed",
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
            Self::Filtered => "filtered",
            Self::Shutdown => "shutdown",
            Self::Encode => "encode",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counts dropped spans by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    spans: [u64; DropReason::ALL.len()],
}

impl Losses {
    /// Adds `spans` under `reason`.
    pub fn add(&mut self, reason: DropReason, spans: u64) {
        self.spans[reason.index()] += spans;
    }

    /// Takes `spans` away that were counted under `reason`.
    pub(crate) fn remove(&mut self, reason: DropReason, spans: u64) {
        let counted = &mut self.spans[reason.index()];
        *counted = counted.saturating_sub(spans);
    }

    /// Adds another count to this one.
    pub fn merge(&mut self, other: &Self) {
        for reason in DropReason::ALL {
            self.add(reason, other.of(reason));
        }
    }

    /// How many spans were dropped for `reason`.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.spans[reason.index()]
    }

    /// How many spans were dropped in all.
    pub fn total(&self) -> u64 {
        self.spans.iter().sum()
    }

    /// The same without those that a filter removed on request.
    pub(crate) fn unwanted(&self) -> Self {
        let mut losses = *self;
        losses.spans[DropReason::Filtered.index()] = 0;
        losses
    }

    /// The reasons that occurred, with their spans.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.of(reason)))
            .filter(|(_, spans)| *spans > 0)
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return f.write_str("nothing");
        }
        for (i, (reason, spans)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{spans} {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_and_say_why() {
        let mut losses = Losses::default();
        losses.add(DropReason::QueueFull, 3);
        losses.add(DropReason::Failed, 2);
        losses.add(DropReason::QueueFull, 1);
        assert_eq!(losses.total(), 6);
        assert_eq!(losses.to_string(), "4 queue_full, 2 failed");
        assert_eq!(Losses::default().to_string(), "nothing");
    }

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        let places: std::collections::HashSet<_> =
            DropReason::ALL.iter().map(|r| r.index()).collect();
        assert_eq!(places.len(), DropReason::ALL.len());
        assert!(places.iter().all(|&p| p < DropReason::ALL.len()));
    }
}
