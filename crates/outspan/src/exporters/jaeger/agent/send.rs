//! Handing datagrams to the kernel, and what its errors mean.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan_wire::PieceContent;
use outspan_wire::jaeger::WriteOptions;
use outspan_wire::jaeger::Writer;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::Result;

use super::address::Whereabouts;
use super::encode::Oversized;
use super::pace::Pace;

/// How long a refusal from another machine may take to be waited for, where there has been one.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);

/// Sends batches to one agent, one at a time.
pub(super) struct Sender {
    server: Arc<str>,
    is_closed: AtomicBool,
    line: Mutex<Line>,
}

impl Sender {
    pub(super) fn new(
        options: WriteOptions,
        whereabouts: Whereabouts,
        bytes_per_second: usize,
    ) -> Self {
        Self {
            server: whereabouts.address().to_string().into(),
            is_closed: AtomicBool::new(false),
            line: Mutex::new(Line {
                writer: Writer::new(options),
                outlet: Outlet {
                    whereabouts,
                    connected: None,
                    pace: Pace::new(bytes_per_second),
                    is_suspect: false,
                },
            }),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Refuses every later export, and closes the socket as soon as no export runs.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        if let Ok(mut line) = self.line.try_lock() {
            line.outlet.connected = None;
        }
    }

    /// Delivers a batch.
    pub(super) async fn deliver(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let Some(mut line) = until.run(self.line.lock()).await else {
            let message = format!("other exports to {} are being sent", self.server);
            return Err(Error::timeout(message, until));
        };
        let mut total = Delivery {
            attempt: Attempt::default().with_server(Arc::clone(&self.server)),
            ..Delivery::default()
        };
        let mut left = batch;
        while let Err(stop) = line.send(&left, until, &mut total).await {
            match stop {
                Stop::TooLong { from, bytes } => {
                    line.allow(bytes / 2);
                    left = left.cut(from..left.spans());
                }
                Stop::Failed { from, error } => {
                    let error = error.map_attempt(|own| own.with_server(Arc::clone(&self.server)));
                    total.leave(left.cut(from..left.spans()), error);
                    break;
                }
            }
        }
        if self.is_closed() {
            line.outlet.connected = None;
        }
        total.into_result()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Sender");
        shown
            .field("server", &self.server)
            .field("is_closed", &self.is_closed);
        if let Ok(line) = self.line.try_lock() {
            shown
                .field("options", line.writer.options())
                .field("pace", &line.outlet.pace)
                .field("whereabouts", &line.outlet.whereabouts);
        }
        shown.finish_non_exhaustive()
    }
}

/// From batches to datagrams.
struct Line {
    writer: Writer,
    outlet: Outlet,
}

/// Why a batch did not go out to its end. `from` is the first span that did not.
enum Stop {
    /// The kernel found a datagram with several spans too long.
    TooLong {
        from: usize,
        bytes: usize,
    },
    Failed {
        from: usize,
        error: Error,
    },
}

impl Line {
    /// Writes shorter datagrams from now on.
    fn allow(&mut self, bytes: usize) {
        let options = self.writer.options().clone();
        self.writer = Writer::new(options.bytes_max(bytes));
    }

    /// Sends a batch. What went, and what never can, joins `total`.
    async fn send(
        &mut self,
        batch: &Batch,
        until: Deadline,
        total: &mut Delivery,
    ) -> Result<(), Stop> {
        let limit = self.writer.options().bytes_max;
        let mut oversized = Oversized::default();
        let result = self.send_pieces(batch, until, total, &mut oversized).await;
        oversized.leave(batch, limit, total);
        result
    }

    async fn send_pieces(
        &mut self,
        batch: &Batch,
        until: Deadline,
        total: &mut Delivery,
        oversized: &mut Oversized,
    ) -> Result<(), Stop> {
        let mut next = 0;
        for piece in self.writer.pieces(batch.as_request()) {
            // A large batch is many datagrams; others have their turn between them.
            tokio::task::yield_now().await;
            let failed = |error| Stop::Failed { from: next, error };
            let piece = piece.map_err(|error| {
                failed(Error::internal("a batch cannot be written in Thrift").with_source(error))
            })?;
            if piece.spans.start != next || piece.spans.is_empty() {
                return Err(failed(wrong_pieces()));
            }
            let spans = piece.spans.len();
            match piece.content {
                PieceContent::TooLarge { bytes } => oversized.add(next, bytes),
                PieceContent::Bytes(datagram) => {
                    let bytes = datagram.len();
                    match self.outlet.send(&datagram, until).await {
                        Ok(()) => {
                            total.accepted += spans as u64;
                            total.attempt.attempts += 1;
                            total.attempt.wire_bytes += bytes as u64;
                        }
                        Err(error) if error.is_too_large() && spans == 1 => {
                            oversized.add(next, bytes);
                        }
                        Err(error) if error.is_too_large() => {
                            return Err(Stop::TooLong { from: next, bytes });
                        }
                        Err(error) => return Err(failed(error)),
                    }
                }
                _ => return Err(failed(wrong_pieces())),
            }
            next = piece.spans.end;
        }
        match next == batch.spans() {
            true => Ok(()),
            false => Err(Stop::Failed {
                from: next,
                error: wrong_pieces(),
            }),
        }
    }
}

fn wrong_pieces() -> Error {
    Error::internal("the datagrams do not hold the batch's spans")
}

/// A socket to where the agent is, and how quickly it may be used.
struct Outlet {
    whereabouts: Whereabouts,
    connected: Option<Connected>,
    pace: Pace,
    /// Whether a datagram was refused, and none has gone since without that.
    is_suspect: bool,
}

struct Connected {
    peer: SocketAddr,
    socket: UdpSocket,
}

impl Outlet {
    /// Hands a datagram to the kernel: to the next address where one refuses it.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge) when the kernel finds it too long, [`Unavailable`](crate::ErrorKind::Unavailable) when no
    /// address takes it, [`Timeout`](crate::ErrorKind::Timeout).
    async fn send(&mut self, datagram: &[u8], until: Deadline) -> Result<()> {
        self.wait_for_turn(datagram.len(), until).await?;
        let mut refusals = 0;
        loop {
            let peer = self.whereabouts.current(until).await?;
            let too_late = || Error::timeout(format!("no packet could be sent to {peer}"), until);
            let sent = until.run(self.send_to(peer, datagram)).await;
            let Err(error) = sent.ok_or_else(too_late)? else {
                self.pace.sent(datagram.len(), Instant::now());
                self.is_suspect = false;
                return Ok(());
            };
            if is_too_long(&error) {
                let bytes = datagram.len();
                let message = format!("the system does not send {bytes} bytes at once");
                return Err(Error::too_large(message).with_source(error));
            }
            self.connected = None;
            self.is_suspect = true;
            self.whereabouts.turn_to_next();
            refusals += 1;
            if refusals >= self.whereabouts.count() {
                self.whereabouts.doubt();
                let attempt = Attempt::one().with_wire_bytes(datagram.len() as u64);
                return Err(unreachable(peer, error).with_attempt(attempt));
            }
        }
    }

    async fn wait_for_turn(&mut self, bytes: usize, until: Deadline) -> Result<()> {
        let wait = self.pace.wait(bytes, Instant::now());
        let turn = until.run(tokio::time::sleep(wait)).await;
        if turn.is_none() || until.has_passed() {
            return Err(Error::timeout("not all packets could be sent", until));
        }
        Ok(())
    }

    /// Sends a datagram to one address, and hears whether it was refused.
    async fn send_to(&mut self, peer: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let connected = match self.connected.take() {
            Some(connected) if connected.peer == peer => connected,
            _ => Connected::open(peer).await?,
        };
        let connected = self.connected.insert(connected);
        if connected.was_refused() {
            // That is about datagrams that have gone. This one may go the same way.
            self.is_suspect = true;
            self.whereabouts.doubt();
        }
        connected.send(datagram, self.is_suspect).await
    }
}

impl Connected {
    async fn open(peer: SocketAddr) -> io::Result<Self> {
        let any = match peer {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(peer).await?;
        Ok(Self { peer, socket })
    }

    /// Whether earlier datagrams were refused. The kernel would say so in place of sending the next one.
    fn was_refused(&self) -> bool {
        !matches!(self.socket.take_error(), Ok(None))
    }

    /// Sends a datagram. On the same machine a refusal is there at once; from others it is waited for only when
    /// `is_suspect`.
    async fn send(&self, datagram: &[u8], is_suspect: bool) -> io::Result<()> {
        with_room(|| self.socket.send(datagram)).await?;
        let refusal = match is_suspect {
            true => self.refusal().await?,
            false => self.socket.take_error()?,
        };
        refusal.map_or(Ok(()), Err)
    }

    async fn refusal(&self) -> io::Result<Option<io::Error>> {
        let hear = || match self.socket.take_error()? {
            Some(error) => Ok(error),
            None => Err(io::ErrorKind::WouldBlock.into()),
        };
        let heard = self.socket.async_io(Interest::ERROR, hear);
        match tokio::time::timeout(REFUSAL_WAIT, heard).await {
            Ok(heard) => heard.map(Some),
            Err(_) => self.socket.take_error(),
        }
    }
}

/// Sends, and tries again where the system has no room just now. A full socket buffer is no error: sending waits for it.
async fn with_room<F>(mut send: impl FnMut() -> F) -> io::Result<usize>
where
    F: Future<Output = io::Result<usize>>,
{
    const PAUSE_MAX: Duration = Duration::from_millis(50);

    let mut pause = Duration::from_millis(1);
    loop {
        match send().await {
            Err(error) if has_no_room(&error) => tokio::time::sleep(pause).await,
            other => return other,
        }
        pause = PAUSE_MAX.min(pause * 2);
    }
}

fn has_no_room(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::NOBUFS | Errno::NOMEM))
}

fn is_too_long(error: &io::Error) -> bool {
    errno(error) == Some(Errno::MSGSIZE)
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// Puts an error of the network's into words. All of them may pass, a firewall's as well.
fn unreachable(peer: SocketAddr, error: io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::ConnectionRefused => ": nothing listens there",
        io::ErrorKind::PermissionDenied => ": a firewall keeps them back",
        _ => "",
    };
    Error::unavailable(format!(
        "cannot send packets to the agent at {peer}{advice}"
    ))
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_room_just_now_a_datagram_waits_and_every_other_error_is_told() {
        let begun = tokio::time::Instant::now();
        let mut tries = 0;
        let sent = with_room(|| {
            tries += 1;
            let tried = tries;
            async move {
                match tried {
                    1..=7 => Err(Errno::NOBUFS.into()),
                    8 => Err(Errno::NOMEM.into()),
                    _ => Ok(5),
                }
            }
        });
        assert_eq!(sent.await.unwrap(), 5);
        let waits = [1, 2, 4, 8, 16, 32, 50, 50];
        assert_eq!(begun.elapsed().as_millis(), waits.iter().sum());

        let refused = with_room(|| async { Err(Errno::CONNREFUSED.into()) });
        let error = refused.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn who_keeps_packets_back_is_named() {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 6831));
        for (kind, advice) in [
            (
                io::ErrorKind::ConnectionRefused,
                "6831: nothing listens there",
            ),
            (
                io::ErrorKind::PermissionDenied,
                "6831: a firewall keeps them back",
            ),
            (io::ErrorKind::NetworkUnreachable, "6831"),
        ] {
            let error = unreachable(peer, kind.into());
            assert!(error.is_temporary());
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
