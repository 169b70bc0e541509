//! How an agent is doing.

use std::time::Duration;

use crate::pipeline::DestinationStatus;
use crate::receivers::AckStatus;
use crate::receivers::ReceiverStatus;

/// Says what an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// Takes no spans any more, delivers what it holds.
    Stopping,
    Stopped,
}

impl State {
    pub(super) fn of(number: u8) -> Self {
        match number {
            n if n == Self::Running as u8 => Self::Running,
            n if n == Self::Stopping as u8 => Self::Stopping,
            _ => Self::Stopped,
        }
    }

    /// The word for it in reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// Says how everything in an agent is.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) uptime: Duration,
    pub(crate) receivers: Vec<ReceiverStatus>,
    pub(crate) acks: Option<AckStatus>,
    pub(crate) connections: u64,
    pub(crate) connections_refused: u64,
    pub(crate) destinations: Vec<DestinationStatus>,
    pub(crate) memory: MemoryStatus,
}

/// Says how much of the bound of memory is taken, in bytes. Queues are with their destinations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryStatus {
    pub(crate) max: usize,
    pub(crate) receiving: usize,
    pub(crate) receiving_max: usize,
}

impl Status {
    /// Spans that were accepted, over every transport.
    pub(crate) fn accepted(&self) -> u64 {
        self.receivers.iter().map(|of| of.accepted_spans).sum()
    }

    /// Spans that were refused for good, over every transport.
    pub(crate) fn refused(&self) -> u64 {
        self.receivers.iter().map(|of| of.refused_spans).sum()
    }

    /// Spans that came over UDP and found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.receivers.iter().map(|of| of.dropped_spans).sum()
    }
}
