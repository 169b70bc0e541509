//! Puts a request's content together: decompressed, in one piece, within bounds.
//!
//! Every byte is taken from the [`Intake`] before it is kept. A request that says how long it is gets its room at once
//! while there is plenty, so that what has begun can end; when half of all is taken, room grows with what arrives, so that
//! a mere claim costs nobody else anything. Whoever finds no room is sent away; nobody waits for it.

use std::sync::Arc;

use bytes::Bytes;

use super::failure::Bound;
use super::failure::Failure;
use super::inflate::Decoder;
use super::inflate::Encoding;
use super::inflate::Fault;
use super::inflate::ZSTD_WINDOW_MAX;
use crate::agent::Intake;
use crate::agent::Taken;

/// From which size on a content gets more address space than it needs, and how many times as much. Pages that nobody writes
/// to cost nothing, and moving what is already there would take milliseconds. The address space is bounded as well, by
/// administrators; many contents that got all that they may ever need would use it up, and the next allocation would end
/// the program.
const LARGE: usize = 1 << 20;
const SPACE: usize = 4;

/// How much is decompressed at a time, in bytes.
const SLICE_BYTES_MIN: usize = 4 << 10;
const SLICE_BYTES_MAX: usize = 64 << 10;

/// How much larger than their compressed form spans are expected to be; four to ten times is usual.
const EXPANSION: usize = 4;

/// After how much work others get their turn, in bytes: well below a millisecond.
const TURN_BYTES: usize = 256 << 10;

/// What a frame costs at least, however short it is, in bytes.
const FRAME_COST: usize = 512;

/// Lets others have their turn when enough was done.
#[derive(Debug, Default)]
pub(super) struct Turns {
    done: usize,
}

/// The content of one request while it arrives.
#[derive(Debug)]
pub(super) struct Content {
    encoding: Encoding,
    decoder: Option<Decoder>,
    /// Bytes that came, as they are sent.
    arrived: usize,
    buffer: Buffer,
}

/// Bytes one after another, in room that is taken before.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    taken: Taken,
    intake: Arc<Intake>,
    limit: usize,
    /// What the same request has taken for something else.
    besides: usize,
}

impl Turns {
    /// Notes work, and lets others have their turn if it is time.
    pub(super) async fn work(&mut self, bytes: usize) {
        self.done += bytes.max(FRAME_COST);
        if self.done >= TURN_BYTES {
            self.done = 0;
            tokio::task::yield_now().await;
        }
    }
}

impl Content {
    /// Begins a content of at most `limit` bytes after decompression.
    ///
    /// # Errors
    ///
    /// If it can never fit, or decompressing has no room.
    pub(super) fn begin(
        intake: &Arc<Intake>,
        limit: usize,
        encoding: Encoding,
        declared: Option<usize>,
    ) -> Result<Self, Box<Failure>> {
        // Compressed forms that are longer than what is in them are attacks, or nothing that spans compress to.
        if declared.is_some_and(|declared| declared > limit) {
            return Err(Failure::too_large(Bound::Request(limit)));
        }
        let mut buffer = Buffer {
            bytes: Vec::new(),
            taken: intake.begin(),
            intake: Arc::clone(intake),
            limit,
            besides: 0,
        };
        let decoder = encoding
            .decoder(intake)
            .map_err(|fault| failure_of(fault, encoding, &buffer))?;
        buffer.besides = decoder.as_ref().map_or(0, Decoder::memory);
        if let Some(declared) = declared {
            buffer.expect(match decoder {
                None => declared,
                Some(_) => declared.saturating_mul(EXPANSION).min(limit),
            });
        }
        Ok(Self {
            encoding,
            decoder,
            arrived: 0,
            buffer,
        })
    }

    /// Takes a piece of the body.
    ///
    /// # Errors
    ///
    /// If it is too large, finds no room, or cannot be decompressed.
    pub(super) async fn add(
        &mut self,
        piece: Bytes,
        turns: &mut Turns,
    ) -> Result<(), Box<Failure>> {
        self.arrived = self.arrived.saturating_add(piece.len());
        if self.arrived > self.buffer.limit {
            return Err(self.buffer.too_large());
        }
        if self.decoder.is_some() {
            return self.inflate(&piece, turns).await;
        }
        turns.work(piece.len()).await;
        // Copied, also if it is all there is: a piece holds on to the connection's buffer that it was read into, which is
        // often many times as large and charged to nobody.
        self.buffer.push(&piece)
    }

    async fn inflate(&mut self, piece: &[u8], turns: &mut Turns) -> Result<(), Box<Failure>> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        let mut rest = piece;
        loop {
            let slice =
                (rest.len().saturating_mul(EXPANSION)).clamp(SLICE_BYTES_MIN, SLICE_BYTES_MAX);
            // One byte of output where none is allowed tells whether the end is reached.
            let mut probe = [0];
            let start = self.buffer.bytes.len();
            let room = match self.buffer.limit - start {
                0 => &mut probe[..],
                left => self.buffer.room(slice.min(left))?,
            };
            let size = room.len();
            let step = decoder.step(rest, room);
            let step = step.map_err(|fault| failure_of(fault, self.encoding, &self.buffer))?;
            self.buffer.besides = decoder.memory();
            if start == self.buffer.limit && step.produced > 0 {
                return Err(self.buffer.too_large());
            }
            self.buffer.bytes.truncate(start + step.produced);
            rest = rest.get(step.consumed..).unwrap_or_default();
            turns.work(step.consumed + step.produced).await;
            if rest.is_empty() && step.produced < size {
                return Ok(());
            }
            if step == Default::default() {
                return Err(Failure::undecodable(
                    self.encoding.as_str(),
                    "it makes no progress",
                ));
            }
        }
    }

    /// Gives all of it out, with the room that it takes.
    ///
    /// # Errors
    ///
    /// If it ends too early for a decompressor. A body of no bytes at all is empty, whatever its headers say.
    pub(super) fn finish(self) -> Result<(Bytes, Taken), Box<Failure>> {
        if let Some(decoder) = &self.decoder
            && self.arrived > 0
        {
            let end = decoder.finish();
            end.map_err(|fault| failure_of(fault, self.encoding, &self.buffer))?;
        }
        let mut bytes = self.buffer.bytes;
        let mut taken = self.buffer.taken;
        // What is kept for long must not hold on to more than its own length.
        bytes.shrink_to_fit();
        taken.shrink(taken.bytes().saturating_sub(bytes.capacity()));
        Ok((bytes.into(), taken))
    }
}

impl Buffer {
    /// Takes room for so many bytes at once, if there is plenty.
    fn expect(&mut self, bytes: usize) {
        let plenty = self.intake.free().saturating_sub(self.intake.max() / 2);
        if bytes <= plenty {
            self.taken.grow(bytes);
        }
    }

    /// Takes room for `bytes` bytes in all.
    fn take(&mut self, bytes: usize) -> Result<(), Box<Failure>> {
        let had = self.taken.bytes();
        if bytes <= had {
            return Ok(());
        }
        let generous = bytes.max(had.saturating_mul(2)).min(self.limit.max(bytes));
        if self.taken.grow(generous - had) || self.taken.grow(bytes - had) {
            return Ok(());
        }
        Err(no_room(bytes + self.besides, &self.intake))
    }

    /// Makes sure that `more` bytes can be added.
    fn reserve(&mut self, more: usize) -> Result<(), Box<Failure>> {
        let needed = self.bytes.len() + more;
        if needed > self.limit {
            return Err(self.too_large());
        }
        self.take(needed)?;
        if needed <= self.bytes.capacity() {
            return Ok(());
        }
        let all = match needed > LARGE {
            true => needed.saturating_mul(SPACE).min(self.limit),
            false => self.taken.bytes().clamp(needed, self.limit),
        };
        let length = self.bytes.len();
        self.bytes
            .try_reserve_exact(all - length)
            .or_else(|_| self.bytes.try_reserve_exact(more))
            .map_err(|_| Failure::no_room())
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), Box<Failure>> {
        self.reserve(piece.len())?;
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// So many bytes more, to be written to.
    fn room(&mut self, more: usize) -> Result<&mut [u8], Box<Failure>> {
        self.reserve(more)?;
        let start = self.bytes.len();
        self.bytes.resize(start + more, 0);
        Ok(self.bytes.get_mut(start..).unwrap_or_default())
    }

    fn too_large(&self) -> Box<Failure> {
        Failure::too_large(Bound::Request(self.limit))
    }
}

fn failure_of(fault: Fault, encoding: Encoding, buffer: &Buffer) -> Box<Failure> {
    match fault {
        Fault::Invalid(why) => Failure::undecodable(encoding.as_str(), why),
        Fault::Window => Failure::too_large(Bound::Window(ZSTD_WINDOW_MAX)),
        Fault::NoRoom(needed) => no_room(needed + buffer.taken.bytes(), &buffer.intake),
    }
}

/// What to say to a request that needs so much in all: later, unless there will never be as much.
pub(super) fn no_room(needed: usize, intake: &Intake) -> Box<Failure> {
    match needed > intake.max() {
        true => Failure::too_large(Bound::Memory(intake.max())),
        false => Failure::no_room(),
    }
}
