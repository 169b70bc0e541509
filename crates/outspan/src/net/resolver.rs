//! Looking host names up without keeping anybody else waiting.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tower_service::Service;

/// Asks the system for the addresses of a name, one question at a time, each on a thread of its own.
///
/// The system's call blocks, and cannot be stopped, for as long as a name server does not answer. On shared threads a
/// destination with a dead name server would take them all from the healthy ones. The clones of one exporter share the
/// turn, so it never has more than one thread.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    turn: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Finds the addresses of a name; their ports mean nothing.
    pub(crate) async fn addresses(&self, name: &str) -> io::Result<vec::IntoIter<SocketAddr>> {
        Self::look_up(Arc::clone(&self.turn), name.to_owned()).await
    }

    async fn look_up(turn: Arc<Semaphore>, name: String) -> io::Result<vec::IntoIter<SocketAddr>> {
        let turn = turn.acquire_owned().await.map_err(io::Error::other)?;
        let (found, answer) = oneshot::channel();
        std::thread::Builder::new()
            .name("outspan-lookup".into())
            .spawn(move || {
                // The port is put in by whoever asked.
                let addresses = (name.as_str(), 0).to_socket_addrs();
                drop(turn);
                // Nobody may wait for the answer any more.
                drop(found.send(addresses));
            })?;
        answer.await.map_err(io::Error::other)?
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let turn = Arc::clone(&self.turn);
        Box::pin(Self::look_up(turn, name.as_str().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ask(resolver: &mut Resolver, name: &str) -> <Resolver as Service<Name>>::Future {
        resolver.call(name.parse().unwrap())
    }

    #[test]
    fn a_name_has_addresses_or_an_error() {
        let mut resolver = Resolver::new();
        let found = futures_executor::block_on(ask(&mut resolver, "localhost")).unwrap();
        assert!(found.clone().count() > 0);
        assert!({ found }.all(|address| address.ip().is_loopback()));
        let error = futures_executor::block_on(ask(&mut resolver, "no\0name"));
        assert!(error.is_err());
    }

    #[test]
    fn the_clones_of_a_resolver_ask_one_question_at_a_time() {
        let mut resolver = Resolver::new();
        let mut clone = resolver.clone();
        let turn = Arc::clone(&resolver.turn).try_acquire_owned().unwrap();
        let mut waiting = ask(&mut clone, "localhost");
        assert!((&mut waiting).now_or_never().is_none());
        let threads = resolver.turn.available_permits();
        assert_eq!(threads, 0);
        drop(turn);
        futures_executor::block_on(waiting).unwrap();
        futures_executor::block_on(ask(&mut resolver, "localhost")).unwrap();
    }
}
