//! One reading of everything that is shown.

use super::process::ProcessStatus;
use crate::agent::Agent;
use crate::agent::Status;

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
