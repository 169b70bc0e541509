//! A proxy of connections that falls silent without closing anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to a server, byte for byte, as a proxy or a load balancer does, until it is told to fall silent.
///
/// Runs in the runtime in which it was started. Dropping it ends it; its connections end with their clients or with the
/// runtime.
///
/// ```
/// use outspan_testkit::Collector;
/// use outspan_testkit::Relay;
/// use outspan_testkit::run_test;
///
/// run_test(async {
///     let collector = Collector::grpc();
///     let relay = Relay::start(collector.address()).await;
///     println!("send to http://{}", relay.address());
///     relay.silence();
/// });
/// ```
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    mode: watch::Sender<Mode>,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mode {
    is_silent: bool,
    /// How often it fell silent: a connection sees that also when it looks after the recovery.
    silences: u64,
}

impl Relay {
    /// Listens on a port of the loopback address for connections to the server.
    ///
    /// # Panics
    ///
    /// If the machine gives no port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            target,
            mode: watch::Sender::new(Mode::default()),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            // An error means that the peer has gone before it was accepted.
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    accepting.take(stream);
                }
            }
        });
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes nothing on from now on, neither over the connections that there are nor over new ones. All stay open, and
    /// what the client sends is read and dropped.
    pub fn silence(&self) {
        self.shared.mode.send_modify(|mode| {
            mode.is_silent = true;
            mode.silences += 1;
        });
    }

    /// Passes new connections on from now on. Those that fell silent stay so.
    pub fn recover(&self) {
        self.shared.mode.send_modify(|mode| mode.is_silent = false);
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn take(self: &Arc<Self>, client: TcpStream) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(self);
        // Looked up here, not by the task: that may run after the next change.
        let mode = self.mode.subscribe();
        let born = *mode.borrow();
        tokio::spawn(async move {
            shared.pass(client, mode, born).await;
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Passes bytes on until one side ends the connection or the relay falls silent; then drops what the client sends.
    async fn pass(&self, mut client: TcpStream, mut mode: watch::Receiver<Mode>, born: Mode) {
        // The sender lives in self.
        let silenced = mode.wait_for(|mode| mode.is_silent || mode.silences != born.silences);
        // Kept open: the server must not tell the client that the connection is over.
        let mut server = None;
        let passed = async {
            let server = server.insert(TcpStream::connect(self.target).await?);
            copy_bidirectional(&mut client, server).await
        };
        tokio::select! {
            biased;
            _ = silenced => {}
            _ended = passed => return,
        }
        // The client ends the connection, or a reset does.
        drop(tokio::io::copy(&mut client, &mut tokio::io::sink()).await);
    }
}
