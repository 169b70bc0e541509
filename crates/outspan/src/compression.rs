//! Compression of request bodies.

use std::fmt;
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
        let failed = |e: std::io::Error| {
            Error::internal(format!("cannot compress with {self}")).with_source(e)
        };
        match self {
            Self::None => Ok(plain.clone()),
            Self::Gzip => {
                let room = Vec::with_capacity(plain.len() / 4);
                let mut encoder = GzEncoder::new(room, flate2::Compression::new(level));
                encoder.write_all(plain).map_err(failed)?;
                encoder.finish().map(Bytes::from).map_err(failed)
            }
            Self::Zstd => zstd::bulk::compress(plain, i32::try_from(level).unwrap_or(3))
                .map(Bytes::from)
                .map_err(failed),
        }
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
