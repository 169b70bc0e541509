//! Decompresses bodies as they come: a piece of input, a slice of output, as often as it takes.
//!
//! What a decompressor holds is taken from the bound of requests on their way in, before it is allocated:
//!
//! ```text
//! gzip, deflate   64 KiB     the window of 32 KiB, and tables
//! zstd            192 KiB + window + up to 3 blocks of up to 128 KiB     the window is what the frame's header says
//! ```
//!
//! gzip may have several members and zstd several frames (RFC 1952, RFC 8878); their contents follow one another.
//! `deflate` is the format of zlib (RFC 9110, 8.4.1.2), and, as some senders understood it, also the bare one. Anything
//! behind the end is an error.

use std::fmt;
use std::sync::Arc;

use flate2::Decompress;
use flate2::FlushDecompress;
use flate2::Status;
use zstd::stream::raw::DParameter;
use zstd::stream::raw::Decoder as ZstdDecoder;
use zstd::stream::raw::InBuffer;
use zstd::stream::raw::Operation;
use zstd::stream::raw::OutBuffer;

use crate::agent::Intake;
use crate::agent::Taken;

/// The largest window of zstd: what RFC 8878, 3.1.1.1.2, wants everybody to support, and no more.
pub(super) const ZSTD_WINDOW_MAX: usize = 1 << ZSTD_WINDOW_LOG_MAX;
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

const INFLATE_BYTES: usize = 64 << 10;
const ZSTD_BYTES: usize = 192 << 10;
const ZSTD_BLOCK_BYTES_MAX: usize = 128 << 10;

/// The window of gzip and zlib, as a power of two: the largest there is.
const INFLATE_WINDOW_LOG: u8 = 15;

/// Names what a body can be compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// Says why there is no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The input is not what it should be.
    Invalid(&'static str),
    /// The window of zstd is larger than [`ZSTD_WINDOW_MAX`].
    Window,
    /// There is no room for what decompressing needs, in bytes.
    NoRoom(usize),
}

/// Says how far a step went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Bytes of the input that are used up.
    pub(super) consumed: usize,
    /// Bytes of the output that are filled.
    pub(super) produced: usize,
}

/// Decompresses one body.
pub(super) struct Decoder {
    codec: Codec,
    taken: Taken,
}

enum Codec {
    Gzip(Inflating),
    Deflate(Inflating),
    Zstd(Box<Zstd>),
}

/// Where a stream of gzip or zlib is.
enum Inflating {
    /// Nothing came yet.
    Begins,
    Runs(Decompress),
    /// The stream, or gzip's member, is complete.
    Ended,
}

struct Zstd {
    decoder: ZstdDecoder<'static>,
    header: FrameHeader,
    /// Whether the input may end here.
    is_between_frames: bool,
}

/// Collects the header of a frame, which says how much memory the frame needs.
///
/// ```text
/// frame     = magic(FD2FB528, little-endian) descriptor [window] [dictionary] [content size] blocks
/// skippable = magic(184D2A50 to 184D2A5F) length(4 bytes) bytes
/// ```
#[derive(Clone, Copy, Default)]
struct FrameHeader {
    bytes: [u8; Self::BYTES_MAX],
    read: usize,
}

impl Encoding {
    /// Finds the encoding by its name in a header, in any case.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Encoding); 6] = [
            (b"", Encoding::Identity),
            (b"identity", Encoding::Identity),
            (b"gzip", Encoding::Gzip),
            (b"x-gzip", Encoding::Gzip),
            (b"deflate", Encoding::Deflate),
            (b"zstd", Encoding::Zstd),
        ];
        let name = name.trim_ascii();
        let known = NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, encoding)| *encoding)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// Begins to decompress; nothing for bodies that are not compressed.
    pub(super) fn decoder(self, intake: &Arc<Intake>) -> Result<Option<Decoder>, Fault> {
        let mut taken = intake.begin();
        let codec = match self {
            Self::Identity => return Ok(None),
            Self::Gzip | Self::Deflate => {
                take(&mut taken, INFLATE_BYTES)?;
                match self {
                    Self::Gzip => Codec::Gzip(Inflating::Begins),
                    _ => Codec::Deflate(Inflating::Begins),
                }
            }
            Self::Zstd => {
                take(&mut taken, ZSTD_BYTES)?;
                Codec::Zstd(Box::new(Zstd::new()?))
            }
        };
        Ok(Some(Decoder { codec, taken }))
    }
}

impl Decoder {
    /// How many bytes it has taken.
    pub(super) fn memory(&self) -> usize {
        self.taken.bytes()
    }

    /// Makes output of input, as much as one of both allows.
    ///
    /// When all input is consumed and output was left over, everything is out that can be.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        match &mut self.codec {
            Codec::Gzip(state) => {
                if matches!(state, Inflating::Ended) && !input.is_empty() {
                    *state = Inflating::Begins;
                }
                state.step(input, output, |_| Decompress::new_gzip(INFLATE_WINDOW_LOG))
            }
            Codec::Deflate(state) => {
                if matches!(state, Inflating::Ended) && !input.is_empty() {
                    return Err(Fault::Invalid("bytes follow its end"));
                }
                state.step(input, output, |first| {
                    Decompress::new(has_zlib_header(first))
                })
            }
            Codec::Zstd(zstd) => zstd.step(input, output, &mut self.taken),
        }
    }

    /// Whether the input may end here.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let is_complete = match &self.codec {
            Codec::Gzip(state) | Codec::Deflate(state) => matches!(state, Inflating::Ended),
            Codec::Zstd(zstd) => zstd.may_end(),
        };
        match is_complete {
            true => Ok(()),
            false => Err(Fault::Invalid("it ends too early")),
        }
    }
}

impl Inflating {
    fn step(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        begin: impl FnOnce(u8) -> Decompress,
    ) -> Result<Step, Fault> {
        if let (Self::Begins, Some(first)) = (&*self, input.first()) {
            *self = Self::Runs(begin(*first));
        }
        let Self::Runs(inflate) = self else {
            return Ok(Step::default());
        };
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(input, output, FlushDecompress::None)
            .map_err(|_| Fault::Invalid("its bytes make no sense"))?;
        // Both differences are at most as long as the slices.
        let step = Step {
            consumed: (inflate.total_in() - before_in) as usize,
            produced: (inflate.total_out() - before_out) as usize,
        };
        if status == Status::StreamEnd {
            *self = Self::Ended;
        }
        Ok(step)
    }
}

/// Tells zlib's header from a bare stream by the first byte. A bare stream would begin with a stored block whose padding
/// is not zero, which nobody writes.
fn has_zlib_header(first: u8) -> bool {
    const DEFLATE: u8 = 8;
    first & 0x0F == DEFLATE
}

impl Zstd {
    fn new() -> Result<Self, Fault> {
        const BROKEN: Fault = Fault::NoRoom(ZSTD_BYTES);

        // Both fail for want of memory only.
        let mut decoder = ZstdDecoder::new().map_err(|_| BROKEN)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
            .map_err(|_| BROKEN)?;
        Ok(Self {
            decoder,
            header: FrameHeader::default(),
            is_between_frames: true,
        })
    }

    fn step(&mut self, input: &[u8], output: &mut [u8], taken: &mut Taken) -> Result<Step, Fault> {
        if self.is_between_frames {
            let consumed = self.header.read(input);
            if let Some(buffers) = self.header.buffers()? {
                let needed = ZSTD_BYTES + buffers;
                take(taken, needed.saturating_sub(taken.bytes()))?;
                self.is_between_frames = false;
                self.begin_frame()?;
            }
            return Ok(Step {
                consumed,
                produced: 0,
            });
        }
        self.run(input, output)
    }

    /// Whether nothing of a frame has come.
    fn may_end(&self) -> bool {
        self.is_between_frames && self.header.read == 0
    }

    /// Passes the header on, now that there is room for what it asks for.
    fn begin_frame(&mut self) -> Result<(), Fault> {
        let header = std::mem::take(&mut self.header);
        let step = self.run(header.as_slice(), &mut [])?;
        match step.consumed == header.read {
            true => Ok(()),
            false => Err(Fault::Invalid("its header makes no sense")),
        }
    }

    fn run(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(output);
        let hint = self
            .decoder
            .run(&mut from, &mut to)
            .map_err(|_| Fault::Invalid("its bytes make no sense"))?;
        self.is_between_frames = hint == 0;
        Ok(Step {
            consumed: from.pos(),
            produced: to.pos(),
        })
    }
}

impl FrameHeader {
    const BYTES_MAX: usize = 18;
    const MAGIC_BYTES: usize = 4;
    const MAGIC: u32 = 0xFD2F_B528;
    const SKIPPABLE: u32 = 0x184D_2A50;

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.read).unwrap_or_default()
    }

    /// Takes of the input what belongs to the header; returns how much that is.
    fn read(&mut self, input: &[u8]) -> usize {
        let mut consumed = 0;
        while self.read < self.length() {
            let (Some(byte), Some(place)) = (input.get(consumed), self.bytes.get_mut(self.read))
            else {
                break;
            };
            *place = *byte;
            self.read += 1;
            consumed += 1;
        }
        consumed
    }

    /// How long it is, as far as that can be told by now.
    fn length(&self) -> usize {
        match self.descriptor() {
            Some(descriptor) if !self.is_skippable() => descriptor.length(),
            _ => Self::MAGIC_BYTES + 1,
        }
    }

    fn magic(&self) -> Option<u32> {
        let magic = self.as_slice().first_chunk()?;
        Some(u32::from_le_bytes(*magic))
    }

    fn is_skippable(&self) -> bool {
        self.magic()
            .is_some_and(|magic| magic & !0xF == Self::SKIPPABLE)
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.as_slice()
            .get(Self::MAGIC_BYTES)
            .copied()
            .map(Descriptor)
    }

    /// How many bytes of buffers the frame needs, once the header is complete.
    fn buffers(&self) -> Result<Option<usize>, Fault> {
        match self.magic() {
            Some(magic) if magic != Self::MAGIC && !self.is_skippable() => {
                return Err(Fault::Invalid("no frame begins where one should"));
            }
            _ => {}
        }
        if self.read < self.length() {
            return Ok(None);
        }
        let Some(descriptor) = self.descriptor().filter(|_| !self.is_skippable()) else {
            return Ok(Some(0));
        };
        let window = match descriptor.is_single_segment() {
            true => self.content_size(descriptor),
            false => {
                self.as_slice()
                    .get(Self::MAGIC_BYTES + 1)
                    .map_or(0, |exponent_and_mantissa| {
                        let base = 1_u64 << (10 + (exponent_and_mantissa >> 3));
                        base + base / 8 * u64::from(exponent_and_mantissa & 7)
                    })
            }
        };
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        if window > ZSTD_WINDOW_MAX {
            return Err(Fault::Window);
        }
        // One block of input, and, where blocks follow one another, two of output behind the window.
        let blocks = if descriptor.is_single_segment() { 1 } else { 3 };
        Ok(Some(window + blocks * window.min(ZSTD_BLOCK_BYTES_MAX)))
    }

    /// The size of the content in a header that has one; two bytes are counted from 256 (RFC 8878, 3.1.1.1.4).
    fn content_size(&self, descriptor: Descriptor) -> u64 {
        let length = descriptor.content_size_length();
        let start = self.read.saturating_sub(length);
        let digits = self.as_slice().get(start..).unwrap_or_default();
        let size = digits
            .iter()
            .rev()
            .fold(0, |size, byte| size << 8 | u64::from(*byte));
        match length {
            2 => size + 256,
            _ => size,
        }
    }
}

/// The byte behind the magic number: which fields follow (RFC 8878, 3.1.1.1.1).
#[derive(Clone, Copy)]
struct Descriptor(u8);

impl Descriptor {
    fn is_single_segment(self) -> bool {
        self.0 & 0x20 != 0
    }

    fn content_size_length(self) -> usize {
        match self.0 >> 6 {
            0 => usize::from(self.is_single_segment()),
            flag => 1 << flag,
        }
    }

    fn dictionary_length(self) -> usize {
        match self.0 & 3 {
            3 => 4,
            flag => usize::from(flag),
        }
    }

    /// How long a header with it is.
    fn length(self) -> usize {
        let window = usize::from(!self.is_single_segment());
        FrameHeader::MAGIC_BYTES
            + 1
            + window
            + self.dictionary_length()
            + self.content_size_length()
    }
}

fn take(taken: &mut Taken, bytes: usize) -> Result<(), Fault> {
    match taken.grow(bytes) {
        true => Ok(()),
        false => Err(Fault::NoRoom(taken.bytes() + bytes)),
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zstd::zstd_safe;

    use super::*;

    /// Frames with contents and windows of many sizes, and with and without the content's size in the header.
    fn frames() -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for size in [0, 1, 255, 256, 300, 65_791, 65_792, 200_000, 3_000_000] {
            let content: Vec<u8> = (0..size)
                .map(|n: u32| (n.wrapping_mul(n) >> 7) as u8)
                .collect();
            frames.push(zstd::bulk::compress(&content, 1).unwrap());
            for window_log in [10, 17, 20, 23] {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder.window_log(window_log).unwrap();
                encoder.write_all(&content).unwrap();
                frames.push(encoder.finish().unwrap());
            }
        }
        frames
    }

    #[test]
    fn what_is_taken_for_zstd_covers_what_it_allocates() {
        for frame in frames() {
            let intake = Arc::new(Intake::new(64 << 20));
            let mut decoder = Encoding::Zstd.decoder(&intake).unwrap().unwrap();
            let mut context = zstd_safe::DCtx::create();
            let mut output = vec![0; 4096];
            let (mut read, mut allocated) = (0, 0);
            loop {
                let step = decoder.step(&frame[read..], &mut output).unwrap();
                read += step.consumed;
                if read == frame.len() && step.produced < output.len() {
                    break;
                }
            }
            decoder.finish().unwrap();
            let mut from = zstd_safe::InBuffer::around(&frame);
            while from.pos() < frame.len() {
                let mut to = zstd_safe::OutBuffer::around(&mut output[..]);
                context.decompress_stream(&mut to, &mut from).unwrap();
                allocated = context.sizeof().max(allocated);
            }
            let taken = decoder.memory();
            assert!(taken >= allocated, "{taken} for {allocated}");
            assert!(taken < allocated + (256 << 10), "{taken} for {allocated}");
        }
    }

    #[test]
    fn the_size_of_a_content_is_read_as_zstd_reads_it() {
        let mut seen = 0;
        for frame in frames() {
            let mut header = FrameHeader::default();
            header.read(&frame);
            let descriptor = header.descriptor().unwrap();
            if descriptor.content_size_length() > 0 {
                let theirs = zstd_safe::get_frame_content_size(&frame).unwrap();
                assert_eq!(Some(header.content_size(descriptor)), theirs);
                seen += 1;
            }
        }
        assert!(seen >= 8);
    }

    /// RFC 8878, 3.1.1.1.2: an exponent and a mantissa of eighths.
    #[test]
    fn a_window_is_as_large_as_the_header_says() {
        let buffers = |descriptor: u8, rest: &[u8]| {
            let frame = [&FrameHeader::MAGIC.to_le_bytes()[..], &[descriptor], rest].concat();
            let mut header = FrameHeader::default();
            assert_eq!(header.read(&frame), frame.len());
            header.buffers()
        };
        let block = ZSTD_BLOCK_BYTES_MAX;
        for (window, bytes) in [
            (0, 1 << 10),
            (1, (1 << 10) + (1 << 7)),
            (7, (1 << 10) + 7 * (1 << 7)),
            (7 << 3, 1 << 17),
            (7 << 3 | 5, (1 << 17) + 5 * (1 << 14)),
            (13 << 3, 8 << 20),
        ] {
            let needed = bytes + 3 * block.min(bytes);
            assert_eq!(buffers(0, &[window]), Ok(Some(needed)), "{window}");
        }
        for window in [13 << 3 | 1, 14 << 3, 0xFF] {
            assert_eq!(buffers(0, &[window]), Err(Fault::Window), "{window}");
        }
        // All in one segment: the window is the content, of one byte or two.
        assert_eq!(buffers(0x20, &[100]), Ok(Some(200)));
        let two = 256 + 0x1234;
        assert_eq!(buffers(0x60, &[0x34, 0x12]), Ok(Some(2 * two)));
        // Half a header says nothing yet.
        assert_eq!(buffers(0x60, &[0x34]), Ok(None));
        assert_eq!(buffers(3, &[0, 1, 2, 3]), Ok(None));
    }

    #[test]
    fn zlib_is_told_from_a_bare_stream_at_any_level() {
        for level in 0..=9 {
            let level = flate2::Compression::new(level);
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
            let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), level);
            for bytes in [&b""[..], b"some bytes, some bytes"] {
                zlib.write_all(bytes).unwrap();
                bare.write_all(bytes).unwrap();
            }
            assert!(has_zlib_header(zlib.finish().unwrap()[0]));
            assert!(!has_zlib_header(bare.finish().unwrap()[0]));
        }
    }
}
