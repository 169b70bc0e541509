//! The admin address: health, readiness, status, metrics.
//!
//! ```text
//!   agent, process ──one reading──▶ Snapshot ──▶ health │ status (JSON) │ metrics (Prometheus) ──▶ pages ──▶ server
//! ```
//!
//! Everything but the server is a function of one [`Snapshot`](snapshot::Snapshot), so what a page says agrees with itself.

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
use std::thread;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::server::Limits;
use self::server::Server;
use self::snapshot::OfAgent;
use crate::agent::Agent;

/// Answers on the admin address, until it is dropped.
///
/// It has a thread of its own, so that it answers whatever the threads of receivers and destinations are busy with.
#[derive(Debug)]
pub(crate) struct Admin {
    address: String,
    /// Brings the server to the thread. The thread ends when this is dropped, and closes everything.
    server: Option<watch::Sender<Option<Arc<Server>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens on `address`, which is `HOST:PORT`. Port 0 takes a free one. Clients can connect from now on, and wait for
    /// [`serve`](Self::serve).
    ///
    /// # Errors
    ///
    /// Words for the user: the address is none, or cannot be listened on.
    pub(crate) async fn bind(address: &str) -> Result<Self, String> {
        let sockets = listen::bind(address).await?;
        warn_of_strangers(sockets.addresses());
        let address = format!("http://{}", sockets.first());
        let (server, served) = watch::channel(None);
        let failed = |e: std::io::Error| format!("cannot start to answer for --admin: {e}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let sockets = sockets.into_std().map_err(failed)?;
        let thread = thread::Builder::new()
            .name("outspan-admin".into())
            .spawn(move || run(&runtime, sockets, served))
            .map_err(failed)?;
        Ok(Self {
            address,
            server: Some(server),
            thread: Some(thread),
        })
    }

    /// Answers from now on.
    pub(crate) fn serve(&self, agent: Arc<Agent>) {
        self.serve_with(Server::new(Limits::default(), OfAgent(agent)));
    }

    fn serve_with(&self, server: Server) {
        if let Some(sender) = &self.server {
            sender.send_replace(Some(Arc::new(server)));
        }
    }

    /// The address that is listened on, such as `http://127.0.0.1:8888`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(thread) = self.thread.take() {
            // Its longest step is to write one page. A panic there has been printed.
            drop(thread.join());
        }
    }
}

/// Answers on every socket, from the moment that there is a server until its sender is dropped.
fn run(
    runtime: &Runtime,
    sockets: Vec<std::net::TcpListener>,
    mut served: watch::Receiver<Option<Arc<Server>>>,
) {
    runtime.block_on(async {
        let server = match served.wait_for(Option::is_some).await {
            Ok(server) => server.clone(),
            Err(_) => return,
        };
        let mut listeners = JoinSet::new();
        for socket in sockets {
            match (tokio::net::TcpListener::from_std(socket), &server) {
                (Ok(socket), Some(server)) => {
                    let server = Arc::clone(server);
                    listeners.spawn(async move { server.run(socket).await });
                }
                (Err(error), _) => {
                    tracing::error!(target: "outspan", "cannot answer on the admin address: {error}");
                }
                (_, None) => {}
            }
        }
        while served.changed().await.is_ok() {}
    });
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
