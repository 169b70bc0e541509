//! The admin address: health, readiness, status, metrics.
//!
//! ```text
//!   agent, process ──one reading──▶ Snapshot ──▶ health │ status (JSON) │ metrics (Prometheus) ──▶ pages ──▶ server
//! ```
//!
//! Everything but the server is a function of one [`Snapshot`], so what a page says agrees with itself.

mod health;
mod listen;
mod metrics;
mod pages;
mod process;
mod server;
mod snapshot;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use self::server::Limits;
use self::server::Server;
use self::snapshot::Snapshot;
use crate::agent::Agent;

/// Answers on the admin address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    address: String,
    /// One task an address; they end when this is dropped, and their connections with them.
    _listeners: JoinSet<()>,
}

impl Admin {
    /// Listens on `address`, which is `HOST:PORT`, and answers from then on. Port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Words for the user: the address is none, or cannot be listened on.
    pub(crate) async fn start(address: &str, agent: Arc<Agent>) -> Result<Self, String> {
        let server = Server::new(Limits::default(), move || Snapshot::of(&agent));
        Self::serve(address, Arc::new(server)).await
    }

    async fn serve(address: &str, server: Arc<Server>) -> Result<Self, String> {
        let sockets = listen::bind(address).await?;
        warn_of_strangers(sockets.addresses());
        let address = format!("http://{}", sockets.first());
        let mut listeners = JoinSet::new();
        for socket in sockets.into_all() {
            let server = Arc::clone(&server);
            listeners.spawn(async move { server.run(socket).await });
        }
        Ok(Self {
            address,
            _listeners: listeners,
        })
    }

    /// The address that is listened on, such as `http://127.0.0.1:8888`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// Nobody has to say who they are here, so what other machines may read is worth a word.
fn warn_of_strangers(addresses: &[SocketAddr]) {
    let open = addresses
        .iter()
        .find(|address| !address.ip().to_canonical().is_loopback());
    if let Some(address) = open {
        tracing::warn!(
            target: "outspan",
            "the admin address {address} can be reached from other machines, and everybody may read it"
        );
    }
}

#[cfg(test)]
mod tests;
