//! Takes connections from an address, as many as may be open.

use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use outspan::Deadline;
use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::connection;
use super::connection::Cause;
use super::connection::Ended;
use super::connection::Stop;
use super::connection::stopped;
use super::counters::Counters;
use super::counters::Transport;
use super::limits;
use super::limits::Limits;
use super::listen::Protocol;
use super::listen::Spoken;
use super::remarks::Remarks;
use super::requests::Answers;
use super::tls::Tls;
use crate::agent::Intake;

/// Holds what all connections share.
#[derive(Debug)]
pub(super) struct Hub<A> {
    pub(super) answers: Arc<A>,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
    /// Bounds the heads of open requests, over all connections.
    pub(super) heads: Arc<Intake>,
    /// Bounds the requests of HTTP/2 whose rest is thrown away, over all connections.
    pub(super) drains: Arc<Intake>,
    /// There where an address wants it.
    pub(super) tls: Option<Arc<Tls>>,
    /// Over all addresses.
    pub(super) connections_max: usize,
    pub(super) remarks: Remarks,
}

/// Holds an address that connections come to.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) spoken: Spoken,
    /// The address as it may be shown.
    pub(super) shown: String,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
struct Slot(Arc<Counters>);

/// Takes connections and serves them until everything is to stop, then ends them by the deadline.
///
/// # Cancellation
///
/// Closes the address and every connection that came over it.
pub(super) async fn accept<A: Answers>(hub: Arc<Hub<A>>, door: Door, mut stop: Stop) {
    let mut connections = JoinSet::new();
    let mut pause = limits::ACCEPT_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(ended) = connections.join_next() => {
                hub.remark_panic(ended);
                continue;
            }
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = limits::ACCEPT_PAUSE;
                let Some(slot) = hub.slot(peer) else {
                    continue;
                };
                tune(&stream);
                let hub = Arc::clone(&hub);
                let served = connection::serve(hub, stream, peer, door.spoken, stop.clone());
                connections.spawn(async move {
                    served.await;
                    drop(slot);
                });
            }
            Err(error) if is_of_the_sender(&error) => {}
            Err(error) => {
                hub.remark_accept(&door.shown, &error);
                tokio::select! {
                    () = sleep(pause) => {}
                    () = stopped(&mut stop) => break,
                }
                pause = (pause * 2).min(limits::ACCEPT_PAUSE_MAX);
            }
        }
    }
    // Another agent may listen from here on.
    drop(door);
    end(&hub, connections, stop).await;
}

/// Waits for connections to end; those that are there at the deadline are closed. The deadline may come nearer.
async fn end<A: Answers>(hub: &Hub<A>, mut connections: JoinSet<()>, mut stop: Stop) {
    loop {
        let until = *stop.borrow_and_update();
        let until = until.unwrap_or_else(|| Deadline::after(Duration::ZERO));
        tokio::select! {
            biased;
            ended = connections.join_next() => match ended {
                Some(ended) => hub.remark_panic(ended),
                None => return,
            },
            () = until.passed() => break,
            changed = stop.changed() => if changed.is_err() {
                break;
            },
        }
    }
    connections.shutdown().await;
}

/// Whether the error is about a connection that was gone before we took it.
fn is_of_the_sender(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// Answers are small and wanted at once, and senders vanish without a word.
fn tune(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new()
        .with_time(limits::TCP_KEEP_ALIVE)
        .with_interval(limits::TCP_KEEP_ALIVE_INTERVAL)
        .with_retries(limits::TCP_KEEP_ALIVE_RETRIES);
    // A connection that does not take these is served all the same; our own limits hold for it.
    drop(stream.set_nodelay(true));
    drop(SockRef::from(stream).set_tcp_keepalive(&keep_alive));
}

impl<A> Hub<A> {
    /// Room for one more connection; without it the connection is counted as refused.
    fn slot(&self, peer: SocketAddr) -> Option<Slot> {
        let max = self.connections_max;
        let open = &self.counters.connections;
        let taken = open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            usize::try_from(open)
                .is_ok_and(|open| open < max)
                .then_some(open + 1)
        });
        if taken.is_ok() {
            return Some(Slot(Arc::clone(&self.counters)));
        }
        self.counters
            .connections_refused
            .fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.remarks.refused.due() {
            tracing::warn!(
                target: "outspan",
                "refused a connection from {peer}: {max} are open, and that is the limit (--max-connections, --memory, open files){more}"
            );
        }
        None
    }

    /// Counts a request whose mere head has no room.
    pub(super) fn refuse_request(&self, protocol: Protocol, headers: &HeaderMap) {
        let is_grpc = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let transport = match protocol {
            Protocol::Otlp if is_grpc => Transport::Grpc,
            protocol => Transport::http(protocol),
        };
        let counters = self.counters.of(transport);
        counters.deferred_requests.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.remarks.crowded.due() {
            tracing::warn!(target: "outspan", "too many requests are open at the same time, the next ones have to come back{more}");
        }
    }

    fn remark_accept(&self, address: &str, error: &io::Error) {
        if let Some(more) = self.remarks.accept.due() {
            tracing::warn!(target: "outspan", "cannot take connections on {address} for a moment: {error}{more}");
        }
    }

    fn remark_panic(&self, ended: Result<(), JoinError>) {
        let Err(error) = ended else {
            return;
        };
        if let Some(more) = self.remarks.panic.due() {
            tracing::error!(target: "outspan", "a connection ended by a mistake of this program: {error}{more}");
        }
    }

    pub(super) fn remark_handshake(&self, peer: SocketAddr, error: &io::Error) {
        if let Some(more) = self.remarks.handshake.due() {
            tracing::info!(target: "outspan", "the handshake of TLS with {peer} failed: {error}{more}");
        }
    }

    pub(super) fn remark_plain(&self, peer: SocketAddr) {
        if let Some(more) = self.remarks.plain.due() {
            tracing::info!(
                target: "outspan",
                "{peer} sends without TLS to an address that wants it: use https:// there, grpcs:// for gRPC{more}"
            );
        }
    }

    pub(super) fn remark_tls(&self, peer: SocketAddr) {
        if let Some(more) = self.remarks.tls.due() {
            tracing::info!(
                target: "outspan",
                "{peer} speaks TLS to an address without it: use http:// there, or listen on grpcs:// or https://{more}"
            );
        }
    }

    pub(super) fn remark_slow(&self, peer: SocketAddr, what: &str) {
        if let Some(more) = self.remarks.slow.due() {
            tracing::info!(target: "outspan", "closed the connection from {peer}, which {what}{more}");
        }
    }

    pub(super) fn remark_end(&self, peer: SocketAddr, ended: &Ended) {
        let cause: &dyn std::fmt::Display = match ended {
            Ended::ByItself(Ok(())) | Ended::CutOff(Cause::Left | Cause::GraceOver) => return,
            Ended::CutOff(cause) => return self.remark_slow(peer, &cause.to_string()),
            Ended::ByItself(Err(error)) => error,
        };
        if let Some(more) = self.remarks.broken.due() {
            tracing::info!(target: "outspan", "the connection from {peer} broke: {cause}{more}");
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_sender_that_is_gone_does_not_stop_others() {
        for kind in [
            ErrorKind::ConnectionAborted,
            ErrorKind::ConnectionReset,
            ErrorKind::Interrupted,
        ] {
            assert!(is_of_the_sender(&kind.into()), "{kind}");
        }
        // No files are left, for example: asking again at once would be in vain.
        for kind in [ErrorKind::OutOfMemory, ErrorKind::Other] {
            assert!(!is_of_the_sender(&kind.into()), "{kind}");
        }
    }

    #[tokio::test]
    async fn connections_send_at_once_and_ask_whether_the_sender_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sender = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(!stream.nodelay().unwrap());
        tune(&stream);
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
        drop(sender);
    }
}
