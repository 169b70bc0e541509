//! Formats of span files on the command line.

use clap::ValueEnum;
use outspan::Compression;
use outspan::file::Format;

/// The part of the help that says which formats there are.
pub(super) const FORMATS: &str = "\
Formats:
  otlp-json            OTLP JSON, an object a line (.jsonl, .json, .ndjson)
  otlp-proto           OTLP protobuf, one request (.otlp.pb, .otlp.bin)
  otlp-proto-records   OTLP protobuf, many requests with a length before each, as file:
                       and the Collector write them (.pb, .bin, .binpb)
  zipkin-json          Zipkin v2, JSON (.zipkin.json)
  zipkin-proto         Zipkin v2, protobuf (.zipkin.pb, .zipkin.bin)
  jaeger-thrift        Jaeger's batches, binary Thrift, one after the other (.thrift)
  jaeger-json          traces as Jaeger's query gives them out (.jaeger.json)";

/// Names the formats of span files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    OtlpJson,
    OtlpProto,
    OtlpProtoRecords,
    ZipkinJson,
    ZipkinProto,
    JaegerThrift,
    JaegerJson,
}

impl FileFormat {
    /// The format for those who read it.
    pub(crate) fn to_read(self) -> Format {
        match self {
            Self::OtlpJson => Format::Json,
            Self::OtlpProto => Format::Protobuf,
            Self::OtlpProtoRecords => Format::ProtobufRecords,
            Self::ZipkinJson => Format::ZipkinJson,
            Self::ZipkinProto => Format::ZipkinProtobuf,
            Self::JaegerThrift => Format::JaegerThrift,
            Self::JaegerJson => Format::JaegerJson,
        }
    }

    /// The format and the compression that the name of a file tells.
    pub(crate) fn of_name(name: &str) -> (Option<Self>, Compression) {
        let (stem, compression) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Compression::Gzip),
            Some((stem, "zst")) => (stem, Compression::Zstd),
            _ => (name, Compression::None),
        };
        let mut extensions = stem.rsplit('.');
        let last = extensions.next().unwrap_or_default();
        let kind = extensions.next().unwrap_or_default();
        let has_stem = stem.contains('.');
        let format = match (kind, last) {
            _ if !has_stem => None,
            ("zipkin", "json") => Some(Self::ZipkinJson),
            ("zipkin", "pb" | "bin" | "binpb") => Some(Self::ZipkinProto),
            ("jaeger", "json") => Some(Self::JaegerJson),
            ("otlp", "pb" | "bin" | "binpb") => Some(Self::OtlpProto),
            (_, "thrift") => Some(Self::JaegerThrift),
            (_, "jsonl" | "json" | "ndjson") => Some(Self::OtlpJson),
            (_, "pb" | "bin" | "binpb") => Some(Self::OtlpProtoRecords),
            _ => None,
        };
        (format, compression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        let plain = |name| FileFormat::of_name(name).0;
        assert_eq!(plain("a.jsonl"), Some(FileFormat::OtlpJson));
        assert_eq!(plain("a.b.pb"), Some(FileFormat::OtlpProtoRecords));
        assert_eq!(plain("a.otlp.pb"), Some(FileFormat::OtlpProto));
        assert_eq!(plain("a.zipkin.json"), Some(FileFormat::ZipkinJson));
        assert_eq!(plain("zipkin.json"), Some(FileFormat::ZipkinJson));
        assert_eq!(plain("a.zipkin.bin"), Some(FileFormat::ZipkinProto));
        assert_eq!(plain("a.thrift"), Some(FileFormat::JaegerThrift));
        assert_eq!(plain("a.jaeger.json"), Some(FileFormat::JaegerJson));
        for unknown in ["", "a", "json", "pb", "a.txt", "a.json.bak", "a.gz", ".zst"] {
            assert_eq!(plain(unknown), None, "{unknown}");
        }
        let packed = FileFormat::of_name("a.zipkin.json.gz");
        assert_eq!(packed, (Some(FileFormat::ZipkinJson), Compression::Gzip));
        let packed = FileFormat::of_name("a.pb.zst");
        assert_eq!(
            packed,
            (Some(FileFormat::OtlpProtoRecords), Compression::Zstd)
        );
    }

    #[test]
    fn every_format_is_told_in_the_help() {
        for format in FileFormat::value_variants() {
            let name = format.to_possible_value().unwrap();
            assert!(
                FORMATS.contains(&format!("\n  {} ", name.get_name())),
                "{format:?}"
            );
        }
    }
}
