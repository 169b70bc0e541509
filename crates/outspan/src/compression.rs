//! Compression of request bodies.

use std::fmt;
use std::io;
use std::io::Write;
use std::str::FromStr;

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::Error;
use crate::Result;

/// Names how request bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all: the default, as in the OTLP specification's schema.
    #[default]
    None,
    /// gzip, which every OTLP server must accept. Levels 0 to 9; 6 unless told.
    Gzip,
    /// Zstandard, smaller and cheaper where the server takes it. Levels 1 to 22; 3 unless told.
    Zstd,
}

impl Compression {
    /// The name in `content-encoding`, `grpc-encoding` and `OTEL_EXPORTER_OTLP_COMPRESSION`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The level that is used unless another is given: what each format's own tool uses.
    pub fn default_level(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Gzip => 6,
            Self::Zstd => 3,
        }
    }

    /// Checks a level.
    pub(crate) fn check_level(self, level: u32) -> Result<u32> {
        let range = match self {
            Self::None => return Ok(0),
            Self::Gzip => 0..=9,
            Self::Zstd => 1..=22,
        };
        if range.contains(&level) {
            return Ok(level);
        }
        Err(Error::config(format!(
            "invalid compression level {level}: {self} takes {} to {}",
            range.start(),
            range.end()
        )))
    }

    /// Compresses `plain`.
    pub(crate) fn compress(self, level: u32, plain: &Bytes) -> Result<Bytes> {
        self.compress_within(level, plain, usize::MAX)
    }

    /// Compresses `plain` into at most `max_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge) over the bound; compressing stops there, and no more memory is taken.
    pub(crate) fn compress_within(
        self,
        level: u32,
        plain: &Bytes,
        max_bytes: usize,
    ) -> Result<Bytes> {
        let mut out = Bounded::new(plain.len() / 4, max_bytes);
        let done = match self {
            Self::None => return Ok(plain.clone()),
            Self::Gzip => gzip(level, plain, &mut out),
            Self::Zstd => zstd(level, plain, &mut out),
        };
        match done {
            Ok(()) => Ok(out.into_bytes()),
            Err(_) if out.is_over => Err(Error::too_large(format!(
                "{} bytes have more than {max_bytes} bytes after compression with {self}, the limit",
                plain.len()
            ))),
            Err(e) => Err(Error::internal(format!("cannot compress with {self}")).with_source(e)),
        }
    }
}

fn gzip(level: u32, plain: &[u8], out: &mut Bounded) -> io::Result<()> {
    let mut encoder = GzEncoder::new(out, flate2::Compression::new(level));
    encoder.write_all(plain)?;
    encoder.finish().map(drop)
}

fn zstd(level: u32, plain: &[u8], out: &mut Bounded) -> io::Result<()> {
    let level = i32::try_from(level).unwrap_or(3);
    let mut encoder = zstd::Encoder::new(out, level)?;
    // With the size it takes no more memory than the input calls for, and says the size to the reader.
    encoder.set_pledged_src_size(Some(plain.len() as u64))?;
    encoder.include_contentsize(true)?;
    encoder.write_all(plain)?;
    encoder.finish().map(drop)
}

/// A buffer that fails over a bound, and never grows beyond it.
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
    is_over: bool,
}

impl Bounded {
    fn new(capacity: usize, max_bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity.min(max_bytes)),
            max_bytes,
            is_over: false,
        }
    }

    fn into_bytes(mut self) -> Bytes {
        self.bytes.shrink_to_fit();
        self.bytes.into()
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.bytes.len().saturating_add(bytes.len());
        if needed > self.max_bytes {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if needed > self.bytes.capacity() {
            let doubled = self.bytes.capacity().saturating_mul(2);
            let wanted = doubled.max(needed).min(self.max_bytes);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        for one in [Self::None, Self::Gzip, Self::Zstd] {
            if text.eq_ignore_ascii_case(one.as_str()) {
                return Ok(one);
            }
        }
        Err(Error::config(format!(
            "unknown compression \"{text}\": use none, gzip or zstd"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_read_by_the_format_s_own_decoder() {
        let plain = Bytes::from(b"spans ".repeat(1000));
        let gzip = Compression::Gzip.compress(6, &plain).unwrap();
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..]), &mut out).unwrap();
        assert_eq!(out, plain);
        let zstd = Compression::Zstd.compress(3, &plain).unwrap();
        assert_eq!(zstd::decode_all(&zstd[..]).unwrap(), plain);
        assert!(gzip.len() < plain.len() / 10 && zstd.len() < plain.len() / 10);
    }

    #[test]
    fn compressing_stops_at_its_bound() {
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let plain: Bytes = noise.take(4 << 20).collect::<Vec<u8>>().into();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let level = compression.default_level();
            let mut result = Ok(Bytes::new());
            let memory = allocation_counter::measure(|| {
                result = compression.compress_within(level, &plain, 1 << 20);
            });
            let error = result.unwrap_err();
            assert!(error.is_too_large(), "{error}");
            assert!(error.to_string().contains("limit"), "{error}");
            // The bound, twice where the buffer grows, and what a compressor works with.
            assert!(memory.bytes_max < 4 << 20, "{compression}: {memory:?}");
            let whole = compression.compress(level, &plain).unwrap();
            let same = compression.compress_within(level, &plain, whole.len());
            assert_eq!(same.unwrap(), whole);
        }
    }

    #[test]
    fn levels_out_of_range_are_refused_in_words() {
        let error = Compression::Gzip.check_level(10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid compression level 10: gzip takes 0 to 9"
        );
        assert_eq!("ZSTD".parse::<Compression>().unwrap(), Compression::Zstd);
        assert!("br".parse::<Compression>().is_err());
    }
}
