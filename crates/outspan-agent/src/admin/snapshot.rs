//! One reading of everything that is shown.

use std::sync::Arc;

use super::process::ProcessStatus;
use crate::agent::Agent;
use crate::agent::State;
use crate::agent::Status;

/// Reads what the pages show.
pub(super) trait Source {
    /// Reads everything.
    fn snapshot(&self) -> Snapshot;

    /// Reads whether the agent runs. Health needs no more, and this waits for no lock.
    fn state(&self) -> State {
        self.snapshot().agent.state
    }
}

/// Reads from an agent.
pub(super) struct OfAgent(pub(super) Arc<Agent>);

/// Holds what the pages show, read at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) agent: Status,
    /// The addresses that spans are received on.
    pub(super) listening: Vec<String>,
    pub(super) process: ProcessStatus,
}

impl Snapshot {
    pub(super) fn of(agent: &Agent) -> Self {
        Self {
            agent: agent.status(),
            listening: agent.addresses().to_vec(),
            process: ProcessStatus::read(),
        }
    }
}

impl Source for OfAgent {
    fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.0)
    }

    fn state(&self) -> State {
        self.0.state()
    }
}

impl<F: Fn() -> Snapshot> Source for F {
    fn snapshot(&self) -> Snapshot {
        self()
    }
}
