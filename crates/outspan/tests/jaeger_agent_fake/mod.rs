//! An agent of Jaeger's on loopback, which reads datagrams with the `thrift` crate: none of our code.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::io::Cursor;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Mutex;

use outspan_testkit::SpanId;
use thrift::protocol::TBinaryInputProtocol;
use thrift::protocol::TCompactInputProtocol;
use thrift::protocol::TInputProtocol;
use thrift::protocol::TMessageType;
use thrift::protocol::TType;

/// Keeps what it gets in the kernel's buffer until it is asked, so that nothing has to be waited for: on loopback a
/// datagram is there when it is sent. The buffer has room for 90 small datagrams, or three of the largest.
pub(crate) struct FakeAgent {
    address: SocketAddr,
    socket: Mutex<Option<UdpSocket>>,
    packets: Mutex<Vec<Packet>>,
}

/// What a datagram said.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: usize,
    pub(crate) is_compact: bool,
    pub(crate) service: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) spans: Vec<ReadSpan>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ReadSpan {
    pub(crate) trace_id: (i64, i64),
    pub(crate) span_id: i64,
    pub(crate) name: String,
}

impl FakeAgent {
    pub(crate) fn start() -> Self {
        Self::on("127.0.0.1:0")
    }

    pub(crate) fn on(address: &str) -> Self {
        let socket = open(address.parse().unwrap());
        Self {
            address: socket.local_addr().unwrap(),
            socket: Mutex::new(Some(socket)),
            packets: Mutex::default(),
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Closes the socket. What it has got is kept.
    pub(crate) fn stop(&self) {
        self.read();
        *self.socket.lock().unwrap() = None;
    }

    /// Opens the socket again, at the same address.
    pub(crate) fn restart(&self) {
        let mut socket = self.socket.lock().unwrap();
        if socket.is_none() {
            *socket = Some(open(self.address));
        }
    }

    /// All packets until now.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        self.read();
        self.packets.lock().unwrap().clone()
    }

    /// All spans until now.
    pub(crate) fn spans(&self) -> Vec<ReadSpan> {
        let packets = self.packets();
        packets
            .into_iter()
            .flat_map(|packet| packet.spans)
            .collect()
    }

    pub(crate) fn span_ids(&self) -> Vec<SpanId> {
        let spans = self.spans();
        let ids = spans.iter().map(|span| span.span_id.to_be_bytes());
        ids.map(|id| SpanId::new(&id)).collect()
    }

    fn read(&self) {
        let socket = self.socket.lock().unwrap();
        let Some(socket) = &*socket else { return };
        let mut buffer = vec![0; 70_000];
        loop {
            match socket.recv(&mut buffer) {
                Ok(bytes) => {
                    let packet = decode(&buffer[..bytes]);
                    self.packets.lock().unwrap().push(packet);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => panic!("{e}"),
            }
        }
    }
}

fn open(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Reads one message `emitBatch`, and panics on everything else.
fn decode(datagram: &[u8]) -> Packet {
    let mut cursor = Cursor::new(datagram);
    let mut packet = match datagram[0] {
        0x82 => {
            let mut packet = message(&mut TCompactInputProtocol::new(&mut cursor));
            packet.is_compact = true;
            packet
        }
        _ => message(&mut TBinaryInputProtocol::new(&mut cursor, true)),
    };
    assert_eq!(cursor.position(), datagram.len() as u64, "bytes are left");
    packet.bytes = datagram.len();
    packet
}

fn message(from: &mut dyn TInputProtocol) -> Packet {
    let head = from.read_message_begin().unwrap();
    assert_eq!(head.name, "emitBatch");
    assert_eq!(head.message_type, TMessageType::OneWay);
    let mut packet = None;
    fields(from, |from, id| {
        assert_eq!(id, 1);
        packet = Some(batch(from));
        true
    });
    from.read_message_end().unwrap();
    packet.unwrap()
}

fn batch(from: &mut dyn TInputProtocol) -> Packet {
    let mut packet = Packet {
        bytes: 0,
        is_compact: false,
        service: String::new(),
        tags: BTreeMap::new(),
        spans: Vec::new(),
    };
    fields(from, |from, id| {
        match id {
            1 => process(from, &mut packet),
            2 => packet.spans = list(from, span),
            _ => return false,
        }
        true
    });
    packet
}

fn process(from: &mut dyn TInputProtocol, packet: &mut Packet) {
    fields(from, |from, id| {
        match id {
            1 => packet.service = from.read_string().unwrap(),
            2 => packet.tags = list(from, tag).into_iter().collect(),
            _ => return false,
        }
        true
    });
}

/// A tag with its text, empty where it is something else.
fn tag(from: &mut dyn TInputProtocol) -> (String, String) {
    let (mut key, mut text) = (String::new(), String::new());
    fields(from, |from, id| {
        match id {
            1 => key = from.read_string().unwrap(),
            3 => text = from.read_string().unwrap(),
            _ => return false,
        }
        true
    });
    (key, text)
}

fn span(from: &mut dyn TInputProtocol) -> ReadSpan {
    let mut span = ReadSpan::default();
    fields(from, |from, id| {
        match id {
            1 => span.trace_id.1 = from.read_i64().unwrap(),
            2 => span.trace_id.0 = from.read_i64().unwrap(),
            3 => span.span_id = from.read_i64().unwrap(),
            5 => span.name = from.read_string().unwrap(),
            _ => return false,
        }
        true
    });
    span
}

/// Reads a struct; `read` says of each field whether it has read it.
fn fields(
    from: &mut dyn TInputProtocol,
    mut read: impl FnMut(&mut dyn TInputProtocol, i16) -> bool,
) {
    from.read_struct_begin().unwrap();
    loop {
        let field = from.read_field_begin().unwrap();
        if field.field_type == TType::Stop {
            break;
        }
        if !read(from, field.id.unwrap()) {
            from.skip(field.field_type).unwrap();
        }
        from.read_field_end().unwrap();
    }
    from.read_struct_end().unwrap();
}

fn list<T>(from: &mut dyn TInputProtocol, read: impl Fn(&mut dyn TInputProtocol) -> T) -> Vec<T> {
    let head = from.read_list_begin().unwrap();
    assert_eq!(head.element_type, TType::Struct);
    let items = (0..head.size).map(|_| read(from)).collect();
    from.read_list_end().unwrap();
    items
}
