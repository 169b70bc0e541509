//! Jaeger's Thrift over UDP, as its clients send it to an agent: one message a datagram, and nobody to answer.
//!
//! What cannot be read is counted and passed over; what finds no room is counted and lost, because its sender cannot be told
//! to come back. What comes faster than it is read waits in the kernel's buffer, and beyond that the kernel drops it.
//! Each socket reads one datagram at a time, so what it holds is bounded by that datagram and the spans in it.

use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outspan::Deadline;
use outspan::engine::Ack;
use outspan::wire::jaeger;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::connection::Stop;
use super::connection::stopped;
use super::counters::Counters;
use super::counters::Transport;
use super::failure::Failure;
use super::limits;
use super::remarks::Remark;
use super::spans::Spans;
use super::tally::Outcome;
use super::tally::Tally;
use crate::pipeline::Pipeline;
use crate::pipeline::Refusal;

/// How long a datagram is at most, in bytes: what its header can say.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// How much memory reading a datagram may take.
const DATAGRAM_MEMORY_MAX: usize = 1 << 20;

/// How much of what nobody has read yet the kernel is asked to keep, in bytes: 64 full datagrams. Linux gives no more than
/// `net.core.rmem_max`, which is 208 KiB unless raised, and counts its own overhead in.
const KERNEL_BUFFER_BYTES: usize = 4 << 20;

/// How many datagrams are still taken after the end, of those that had come before it.
const LAST_DATAGRAMS_MAX: usize = 4096;

/// How long it has to be quiet for all of those to have been taken.
const LAST_WAIT: Duration = Duration::from_millis(20);

/// Reads the datagrams of all sockets.
#[derive(Debug)]
pub(super) struct Datagrams {
    pipeline: Arc<Pipeline>,
    counters: Arc<Counters>,
    limits: jaeger::ReadLimits,
    /// What came is no batch.
    malformed: Remark,
    /// Spans are invalid.
    invalid: Remark,
    /// There was no room.
    lost: Remark,
    /// The system gives no datagrams.
    receive: Remark,
}

/// Opens a socket.
pub(super) fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    // A smaller buffer works as well, only not with bursts as large.
    drop(socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES));
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

impl Datagrams {
    pub(super) fn new(pipeline: Arc<Pipeline>, counters: Arc<Counters>) -> Self {
        let mut limits = jaeger::ReadLimits::default();
        limits.memory_max = DATAGRAM_MEMORY_MAX;
        Self {
            pipeline,
            counters,
            limits,
            malformed: Remark::default(),
            invalid: Remark::default(),
            lost: Remark::default(),
            receive: Remark::default(),
        }
    }

    /// Takes what comes to a socket until everything is to stop, and then what had come before.
    pub(super) async fn receive(self: Arc<Self>, socket: UdpSocket, mut stop: Stop) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let received = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                received = socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((bytes, peer)) => self.take(buffer.get(..bytes).unwrap_or_default(), peer),
                // What we never sent cannot be refused, but a system may say so.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    self.remark_receive(&error);
                    tokio::select! {
                        () = sleep(limits::ACCEPT_PAUSE) => {}
                        () = stopped(&mut stop) => break,
                    }
                }
            }
        }
        let until = *stop.borrow();
        self.take_last(&socket, &mut buffer, until).await;
    }

    /// Takes what is there already.
    async fn take_last(&self, socket: &UdpSocket, buffer: &mut [u8], until: Option<Deadline>) {
        let until = until.unwrap_or_else(Deadline::never);
        for _ in 0..LAST_DATAGRAMS_MAX {
            let quiet = until.min(Deadline::after(LAST_WAIT));
            let Some(Ok((bytes, peer))) = quiet.run(socket.recv_from(buffer)).await else {
                return;
            };
            self.take(buffer.get(..bytes).unwrap_or_default(), peer);
        }
    }

    fn take(&self, datagram: &[u8], peer: SocketAddr) {
        let mut tally = Tally::begin(self.counters.of(transport_of(datagram)));
        tally.bytes = datagram.len();
        let read = jaeger::read_datagram(datagram, &self.limits);
        let what = "Jaeger batch in a datagram";
        let spans = read
            .map_err(|error| Failure::malformed(what, &error))
            .and_then(|read| Spans::of(what, read));
        let spans = match spans {
            Ok(spans) => spans,
            Err(failure) => {
                tally.outcome = failure.outcome;
                tally.refused_spans = failure.refused_spans;
                self.remark_malformed(peer, &failure);
                return;
            }
        };
        let count = spans.batch.spans();
        tally.refused_spans = spans.refused;
        if let Some(partial) = &spans.partial {
            self.remark_invalid(peer, &partial.error_message);
        }
        match self.pipeline.accept(spans.batch, Ack::none()) {
            Ok(()) => {
                tally.outcome = Outcome::Accepted;
                tally.accepted_spans = count;
            }
            Err(refusal) => {
                tally.outcome = Outcome::Dropped;
                tally.dropped_spans = count;
                self.remark_lost(peer, count, refusal);
            }
        }
    }

    fn remark_malformed(&self, peer: SocketAddr, failure: &Failure) {
        if let Some(more) = self.malformed.due() {
            tracing::warn!(target: "outspan", "passed over a datagram from {peer}: {}{more}", failure.status.message);
        }
    }

    fn remark_invalid(&self, peer: SocketAddr, what: &str) {
        if let Some(more) = self.invalid.due() {
            tracing::warn!(target: "outspan", "left spans from {peer} out: {what}{more}");
        }
    }

    fn remark_lost(&self, peer: SocketAddr, spans: usize, refusal: Refusal) {
        let why = match refusal {
            Refusal::Full { .. } => "no destination has room for more",
            Refusal::TooLarge { .. } => "no destination's queue can hold so much (--memory)",
            Refusal::Stopping { .. } => "this agent is stopping",
        };
        if let Some(more) = self.lost.due() {
            tracing::warn!(
                target: "outspan",
                "lost {spans} spans from {peer}, because {why}, and UDP cannot tell them to send again{more}"
            );
        }
    }

    fn remark_receive(&self, error: &io::Error) {
        if let Some(more) = self.receive.due() {
            tracing::warn!(target: "outspan", "cannot take datagrams for a moment: {error}{more}");
        }
    }
}

/// What a datagram is counted as, by its first byte; what begins otherwise is neither.
fn transport_of(datagram: &[u8]) -> Transport {
    /// The version of Thrift's binary protocol, and the first byte of a length before it had one.
    const BINARY: [u8; 2] = [0x80, 0x00];

    match datagram.first() {
        Some(first) if BINARY.contains(first) => Transport::JaegerBinary,
        _ => Transport::JaegerCompact,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use outspan::engine::BatchLimits;
    use outspan::engine::MemoryQueue;
    use outspan::wire::PieceContent;
    use outspan_testkit::ScriptedExporter;
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::*;
    use crate::log::Log;
    use crate::receivers::Kind;
    use crate::receivers::ReceiverStatus;

    const SOON: Duration = Duration::from_secs(20);

    struct Rig {
        counters: Arc<Counters>,
        pipeline: Arc<Pipeline>,
        child: ScriptedExporter,
        stop: watch::Sender<Option<Deadline>>,
        sender: UdpSocket,
    }

    impl Rig {
        async fn new(queue: usize) -> Self {
            let child = ScriptedExporter::new();
            let queue = MemoryQueue::builder(child.exporter())
                .name("child")
                .bytes(queue);
            let limits = BatchLimits {
                spans: 1_000_000,
                bytes: 1 << 30,
                delay: Duration::from_secs(3600),
            };
            let pipeline = Arc::new(Pipeline::new(queue.batches(limits).start().unwrap()));
            let counters = Arc::new(Counters::new([Kind::JaegerUdp]));
            let datagrams = Datagrams::new(Arc::clone(&pipeline), Arc::clone(&counters));
            let socket = open("127.0.0.1:0".parse().unwrap()).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            sender.connect(socket.local_addr().unwrap()).await.unwrap();
            let (stop, stopped) = watch::channel(None);
            tokio::spawn(Arc::new(datagrams).receive(socket, stopped));
            Self {
                counters,
                pipeline,
                child,
                stop,
                sender,
            }
        }

        async fn send(&self, datagram: &[u8]) {
            self.sender.send(datagram).await.unwrap();
        }

        /// What was counted for the compact and the binary protocol, once so many datagrams were.
        async fn counted(&self, datagrams: u64) -> [ReceiverStatus; 2] {
            let wait = async {
                loop {
                    let status = self.counters.status();
                    let all = status
                        .iter()
                        .map(|of| of.accepted_requests + of.refused_requests + of.dropped_requests);
                    if all.sum::<u64>() >= datagrams {
                        return status;
                    }
                    // Sleeps: counters tell nobody when they change.
                    sleep(Duration::from_millis(2)).await;
                }
            };
            let status = timeout(SOON, wait).await.expect("they are counted in time");
            status.try_into().unwrap()
        }

        async fn end(&self) {
            self.stop.send_replace(Some(Deadline::after(SOON)));
            timeout(SOON, self.stop.closed()).await.unwrap();
        }
    }

    fn datagram(protocol: jaeger::Protocol, spans: usize) -> Bytes {
        let options = jaeger::WriteOptions::datagram().protocol(protocol);
        let batch = outspan_testkit::batch_of(spans);
        let mut writer = jaeger::Writer::new(options);
        let first = writer.pieces(batch.as_request()).next();
        match first.unwrap().unwrap().content {
            PieceContent::Bytes(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn either_protocol_is_taken_at_any_port() {
        let rig = Rig::new(1 << 20).await;
        rig.send(&datagram(jaeger::Protocol::Compact, 3)).await;
        rig.send(&datagram(jaeger::Protocol::Binary, 4)).await;
        let [compact, binary] = rig.counted(2).await;
        assert_eq!((compact.accepted_requests, compact.accepted_spans), (1, 3));
        assert_eq!((binary.accepted_requests, binary.accepted_spans), (1, 4));
        assert!(compact.bytes > 100 && binary.bytes > compact.bytes);
        rig.end().await;
        rig.pipeline.shutdown(Deadline::after(SOON)).await;
        assert_eq!(rig.child.received().len(), 7);
    }

    #[tokio::test]
    async fn garbage_is_counted_told_and_passed_over() {
        let log = Log::begin();
        let rig = Rig::new(1 << 20).await;
        let good = datagram(jaeger::Protocol::Compact, 1);
        rig.send(b"").await;
        rig.send(b"GET / HTTP/1.1\r\n\r\n").await;
        rig.send(&[0x80, 1, 0, 4, 0, 0]).await;
        rig.send(&good[..good.len() / 2]).await;
        rig.send(&vec![0x82; 65_507]).await;
        rig.send(&good).await;
        let [compact, binary] = rig.counted(6).await;
        assert_eq!(
            (compact.refused_requests, compact.accepted_requests),
            (4, 1)
        );
        assert_eq!((binary.refused_requests, binary.accepted_requests), (1, 0));
        rig.end().await;
        let from = rig.sender.local_addr().unwrap();
        let words = format!("passed over a datagram from {from}: ");
        assert_eq!(log.warnings(&words), 1, "{}", log.text());
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_as_dropped_and_told() {
        let log = Log::begin();
        let rig = Rig::new(4 << 10).await;
        let large = datagram(jaeger::Protocol::Compact, 20);
        for _ in 0..10 {
            rig.send(&large).await;
        }
        let [compact, _] = rig.counted(10).await;
        assert_eq!(compact.accepted_requests + compact.dropped_requests, 10);
        assert_eq!(compact.accepted_spans + compact.dropped_spans, 200);
        assert!(compact.dropped_spans > 0, "{compact:?}");
        rig.end().await;
        assert_eq!(log.warnings("lost 20 spans from "), 1, "{}", log.text());
    }

    #[tokio::test]
    async fn what_had_come_before_the_end_is_still_taken() {
        let rig = Rig::new(1 << 20).await;
        // Nothing runs in between: all of them wait in the kernel when the end is told.
        let datagram = datagram(jaeger::Protocol::Compact, 2);
        rig.sender.writable().await.unwrap();
        for _ in 0..5 {
            rig.sender.try_send(&datagram).unwrap();
        }
        rig.end().await;
        let [compact, _] = rig.counted(5).await;
        assert_eq!(compact.accepted_spans, 10);
    }
}
