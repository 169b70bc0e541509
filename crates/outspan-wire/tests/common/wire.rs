//! Requests as no well-behaved program writes them, but as protobuf allows, or just not, made from arbitrary bytes.
//!
//! The bytes serve as a list of decisions, so a shorter or smaller input means a simpler request. The result follows the
//! trace schema closely enough to get deep into a decoder: parts of messages repeated and reordered, values of a oneof
//! overwritten, unknown fields and groups, longer forms of integers; and now and then a fault.

use Kind::*;
use Shape::*;

/// Makes a request from decisions.
pub(crate) fn request_from(decisions: &[u8]) -> Vec<u8> {
    let mut source = Source {
        decisions,
        faults: false,
    };
    source.faults = source.byte() >= 160;
    source.message(Request, 0)
}

#[derive(Clone, Copy)]
enum Kind {
    Request,
    ResourceSpans,
    Resource,
    EntityRef,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

#[derive(Clone, Copy)]
enum Shape {
    Text,
    Bytes(usize),
    Number,
    Eight,
    Four,
    Message(Kind),
}

fn schema(kind: Kind) -> &'static [(u32, Shape)] {
    match kind {
        Request => &[(1, Message(ResourceSpans))],
        ResourceSpans => &[(1, Message(Resource)), (2, Message(ScopeSpans)), (3, Text)],
        Resource => &[(1, Message(KeyValue)), (2, Number), (3, Message(EntityRef))],
        EntityRef => &[(1, Text), (2, Text), (3, Text), (4, Text)],
        ScopeSpans => &[(1, Message(Scope)), (2, Message(Span)), (3, Text)],
        Scope => &[(1, Text), (2, Text), (3, Message(KeyValue)), (4, Number)],
        Span => &[
            (1, Bytes(16)),
            (2, Bytes(8)),
            (1, Bytes(16)),
            (2, Bytes(8)),
            (3, Text),
            (4, Bytes(8)),
            (5, Text),
            (6, Number),
            (7, Eight),
            (8, Eight),
            (9, Message(KeyValue)),
            (9, Message(KeyValue)),
            (10, Number),
            (11, Message(Event)),
            (12, Number),
            (13, Message(Link)),
            (14, Number),
            (15, Message(Status)),
            (16, Four),
        ],
        Event => &[(1, Eight), (2, Text), (3, Message(KeyValue)), (4, Number)],
        Link => &[
            (1, Bytes(16)),
            (2, Bytes(8)),
            (3, Text),
            (4, Message(KeyValue)),
            (5, Number),
            (6, Four),
        ],
        Status => &[(2, Text), (3, Number)],
        KeyValue => &[
            (1, Text),
            (1, Text),
            (2, Message(AnyValue)),
            (2, Message(AnyValue)),
            (2, Message(AnyValue)),
            (3, Number),
        ],
        AnyValue => &[
            (1, Text),
            (1, Text),
            (2, Number),
            (3, Number),
            (4, Eight),
            (5, Message(ArrayValue)),
            (5, Message(ArrayValue)),
            (6, Message(KeyValueList)),
            (6, Message(KeyValueList)),
            (7, Bytes(3)),
            (8, Number),
        ],
        ArrayValue => &[(1, Message(AnyValue))],
        KeyValueList => &[(1, Message(KeyValue))],
    }
}

struct Source<'a> {
    decisions: &'a [u8],
    /// Whether the request may have faults. One alone spoils it, so most requests are to have none.
    faults: bool,
}

impl Source<'_> {
    /// Returns the next decision; 0 when there are none left, which always means the simplest choice.
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.decisions.split_first() else {
            return 0;
        };
        self.decisions = rest;
        first
    }

    fn message(&mut self, kind: Kind, depth: usize) -> Vec<u8> {
        let mut message = Vec::new();
        if depth > 130 {
            return message;
        }
        // Mostly a few fields, so that the decisions last for a whole request.
        let fields = match self.byte() {
            choice @ 0..128 => choice % 3 + 1,
            choice @ 128..250 => choice % 8,
            _ => 20,
        };
        for _ in 0..fields {
            if self.decisions.is_empty() {
                break;
            }
            self.field(kind, depth, &mut message);
        }
        message
    }

    fn field(&mut self, kind: Kind, depth: usize, message: &mut Vec<u8>) {
        let schema = schema(kind);
        let (number, shape) = schema[usize::from(self.byte()) % schema.len()];
        match self.byte() {
            247.. if !self.faults => self.known(number, shape, depth, message),
            0..220 => self.known(number, shape, depth, message),
            220..236 => self.unknown(message),
            236..244 => self.group(0, message),
            244..247 => match shape {
                Number | Eight | Four => self.known(number, shape, depth, message),
                Text | Bytes(_) | Message(_) => {
                    self.value(number, 2, &mut Vec::new(), message);
                }
            },
            // Another wire type than the schema says, or than there is.
            247..250 => {
                let wire_type = self.byte() % 8;
                let mut bytes = vec![self.byte(); 8];
                self.value(number, wire_type, &mut bytes, message);
            }
            250 => {
                let garbage = self.byte() % 12;
                message.extend((0..garbage).map(|_| self.byte()).collect::<Vec<_>>());
            }
            // Very deep nesting, around the bound.
            251..253 => {
                let levels = 80 + usize::from(self.byte() % 40);
                let mut value = self.message(AnyValue, depth);
                for _ in 0..levels / 2 {
                    let mut array = vec![0x0a];
                    varint(value.len() as u64, &mut array);
                    array.extend(value);
                    value = vec![0x2a];
                    varint(array.len() as u64, &mut value);
                    value.extend(array);
                }
                self.value(number, 2, &mut value, message);
            }
            // A length that claims more than there is.
            253 => {
                varint(u64::from(number << 3 | 2), message);
                varint(u64::from(self.byte()) << (self.byte() % 57), message);
            }
            _ => self.known(number, shape, depth, message),
        }
    }

    fn known(&mut self, number: u32, shape: Shape, depth: usize, message: &mut Vec<u8>) {
        match shape {
            Text => {
                let mut text = self.text();
                self.value(number, 2, &mut text, message);
            }
            Bytes(length) => {
                let length = match self.byte() {
                    240..244 => length + 1,
                    244..248 => length - 1,
                    248..252 => 0,
                    _ => length,
                };
                let fill = self.byte();
                let mut bytes: Vec<u8> = (0..length).map(|index| fill & index as u8).collect();
                self.value(number, 2, &mut bytes, message);
            }
            Number => {
                self.key(number, 0, message);
                self.number(message);
            }
            Eight => {
                let mut bytes = vec![self.byte(); 8];
                self.value(number, 1, &mut bytes, message);
            }
            Four => {
                let mut bytes = vec![self.byte(); 4];
                self.value(number, 5, &mut bytes, message);
            }
            Message(kind) => {
                let mut inner = self.message(kind, depth + 1);
                self.value(number, 2, &mut inner, message);
            }
        }
    }

    fn text(&mut self) -> Vec<u8> {
        let choice = self.byte();
        match choice {
            0..100 => b"name"[..usize::from(choice % 5)].to_vec(),
            100..160 => format!("key.number_{}", choice % 4).into_bytes(),
            160..190 => "größe 🦀 ß"[..].as_bytes().to_vec(),
            190..200 => vec![b'x'; 125 + usize::from(choice % 8)],
            200..250 => {
                let length = usize::from(self.byte() % 40);
                vec![b'a' + choice % 26; length]
            }
            // Mostly not UTF-8.
            _ if self.faults => (0..choice % 4).map(|_| self.byte()).collect(),
            _ => Vec::new(),
        }
    }

    fn unknown(&mut self, message: &mut Vec<u8>) {
        let number = 17 + u32::from(self.byte()) * 3;
        let wire_type = [0, 1, 2, 5][usize::from(self.byte() % 4)];
        let length = match wire_type {
            1 => 8,
            5 => 4,
            _ => usize::from(self.byte() % 6),
        };
        let mut bytes = vec![0x33; length];
        self.value(number, wire_type, &mut bytes, message);
    }

    fn group(&mut self, depth: usize, message: &mut Vec<u8>) {
        let number = 20 + u32::from(self.byte() % 4);
        self.key(number, 3, message);
        for _ in 0..self.byte() % 3 {
            self.unknown(message);
        }
        if depth < 110 && self.byte() > 200 {
            self.group(depth + 1, message);
        }
        let end = if self.byte() > 250 {
            number + 1
        } else {
            number
        };
        self.key(end, 4, message);
    }

    fn value(&mut self, number: u32, wire_type: u8, bytes: &mut Vec<u8>, message: &mut Vec<u8>) {
        self.key(number, wire_type, message);
        match wire_type {
            0 => self.number(message),
            2 => {
                self.integer(bytes.len() as u64, message);
                message.append(bytes);
            }
            _ => message.append(bytes),
        }
    }

    fn key(&mut self, number: u32, wire_type: u8, message: &mut Vec<u8>) {
        self.integer(u64::from(number << 3) | u64::from(wire_type), message);
    }

    fn number(&mut self, message: &mut Vec<u8>) {
        let value = match self.byte() {
            choice @ 0..200 => u64::from(choice % 7),
            200..220 => u64::MAX,
            220..240 => 1 << 32 | 5,
            _ => u64::from(self.byte()) << (self.byte() % 57),
        };
        self.integer(value, message);
    }

    /// Writes an integer, now and then in a longer form than needed, or in a form that is too long.
    fn integer(&mut self, value: u64, message: &mut Vec<u8>) {
        let start = message.len();
        varint(value, message);
        if self.byte() < 250 {
            return;
        }
        let extra = usize::from(self.byte() % 10);
        let last = message.len() - 1;
        let bytes_max = if self.faults { 11 } else { 10 };
        if extra == 0 || message.len() - start + extra > bytes_max {
            return;
        }
        message[last] |= 0x80;
        message.extend(std::iter::repeat_n(0x80, extra - 1));
        message.push(0);
    }
}

fn varint(mut value: u64, message: &mut Vec<u8>) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
