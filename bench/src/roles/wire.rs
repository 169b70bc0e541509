//! How spans go over the wire in a bench.

use std::io::Read;
use std::io::Write;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

/// The method that OTLP's trace service has on gRPC.
pub(crate) const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The path of traces on OTLP/HTTP.
pub(crate) const HTTP_PATH: &str = "/v1/traces";

/// The protocol, on both sides of the program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    /// HTTP/1.1.
    Http,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self, String> {
        [Self::Grpc, Self::Http]
            .into_iter()
            .find(|protocol| protocol.as_str() == name)
            .ok_or_else(|| format!("unknown protocol {name}"))
    }
}

/// What bodies are compressed with, on both sides of the program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    None,
    /// At level 6.
    Gzip,
    /// At level 3.
    Zstd,
}

impl Coding {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|coding| coding.as_str() == name)
            .ok_or_else(|| format!("unknown compression {name}"))
    }

    pub(crate) fn compress(self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(plain.to_vec()),
            Self::Gzip => {
                let level = flate2::Compression::new(6);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(plain)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(plain, 3),
        }
    }

    /// Appends what `packed` holds to `plain`.
    pub(crate) fn decompress(self, packed: &[u8], plain: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::None => plain.extend_from_slice(packed),
            Self::Gzip => {
                flate2::read::MultiGzDecoder::new(packed).read_to_end(plain)?;
            }
            Self::Zstd => zstd::stream::copy_decode(packed, plain)?,
        }
        Ok(())
    }
}

/// Puts gRPC's five bytes in front of a message.
pub(crate) fn grpc_frame(message: &[u8], is_compressed: bool) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(u8::from(is_compressed));
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}
