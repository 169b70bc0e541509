//! Where the bytes come from: counted, decompressed, and looked at before they are read.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Cursor;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use flate2::bufread::MultiGzDecoder;

use super::Format;
use crate::Compression;

/// Decompressed bytes, buffered.
pub(super) type Source = Box<dyn BufRead + Send>;

/// The first bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];
/// The first bytes of a Zstandard frame (RFC 8878, section 3.1.1).
pub(super) const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// How far to look for something that is known.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A file that was opened and looked at.
pub(super) struct Opened {
    pub(super) source: Source,
    pub(super) compression: Compression,
    pub(super) look: Look,
}

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Known(Format),
    Utf16,
    Unknown([u8; 4]),
}

/// Opens `plain`, removes a compression around it and looks at what is inside.
pub(super) fn open(
    source: impl Read + Send + 'static,
    consumed: Arc<AtomicU64>,
    format: Option<Format>,
    record_bytes_max: usize,
) -> io::Result<Opened> {
    let counted = BufReader::with_capacity(
        64 * 1024,
        Counted {
            inner: source,
            consumed,
        },
    );
    let (head, counted) = with_head(counted, |head, ended| head.len() >= ZSTD.len() || ended)?;
    let compression = compression_of(&head);
    let counted = Cursor::new(head).chain(counted);
    let plain: Source = match compression {
        Compression::None => Box::new(counted),
        Compression::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(counted))),
        Compression::Zstd => Box::new(BufReader::new(zstd::Decoder::with_buffer(counted)?)),
    };
    let mut look = format.map(Look::Known);
    let (head, plain) = with_head(plain, |head, ended| {
        look = look.or_else(|| look_at(head, ended, record_bytes_max));
        look.is_some()
    })?;
    Ok(Opened {
        source: Box::new(Cursor::new(head).chain(plain)),
        compression,
        look: look.unwrap_or(Look::Unknown([0; 4])),
    })
}

fn compression_of(head: &[u8]) -> Compression {
    if head.starts_with(GZIP) {
        return Compression::Gzip;
    }
    if head.starts_with(ZSTD) {
        return Compression::Zstd;
    }
    Compression::None
}

/// Reads until `enough` says so; it is asked after every read, and told when the source has ended.
///
/// Reads no more than is there, so that a pipe that is still being written to is served as it comes.
fn with_head<R: Read>(
    mut source: R,
    mut enough: impl FnMut(&[u8], bool) -> bool,
) -> io::Result<(Vec<u8>, R)> {
    let mut head = Vec::new();
    let mut ended = false;
    while !enough(&head, ended) && !ended {
        let mut chunk = [0; 1024];
        match source.read(&mut chunk) {
            Ok(0) => ended = true,
            Ok(read) => head.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok((head, source))
}

/// Tells the format, or `None` when more bytes are needed.
fn look_at(head: &[u8], ended: bool, record_bytes_max: usize) -> Option<Look> {
    let complete = ended || head.len() >= HEAD_BYTES_MAX;
    if head.is_empty() && ended {
        return Some(Look::Known(Format::Json));
    }
    if !complete && head.len() < 5 {
        return None;
    }
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Some(Look::Utf16);
    }
    if looks_like_json(head, complete)? {
        return Some(Look::Known(Format::Json));
    }
    if head.first() == Some(&REQUEST_TAG) {
        return Some(Look::Known(Format::Protobuf));
    }
    if looks_like_records(head, record_bytes_max) {
        return Some(Look::Known(Format::ProtobufRecords));
    }
    if has_json_record_line(head) {
        return Some(Look::Known(Format::Json));
    }
    complete.then(|| {
        let mut first = [0; 4];
        for (to, from) in first.iter_mut().zip(head) {
            *to = *from;
        }
        Look::Unknown(first)
    })
}

/// Field 1, length-delimited: what a request begins with.
const REQUEST_TAG: u8 = 0x0a;

/// Whether the bytes begin like a JSON object. `None` when that shows only later.
///
/// A protobuf request begins with a line feed, and its second byte can be `{`; so the test goes on to the first key,
/// where a request has a tag, which is a control character.
fn looks_like_json(head: &[u8], complete: bool) -> Option<bool> {
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    let mut rest = text.trim_ascii_start().iter();
    match rest.next() {
        None if complete => return Some(text.len() < head.len() || has_only_json_space(text)),
        None => return None,
        Some(b'{') => {}
        Some(_) => return Some(false),
    }
    match rest.as_slice().trim_ascii_start() {
        [] if complete => Some(true),
        [] | [b'"'] if !complete => None,
        [b'"', first, ..] => Some(*first >= b' '),
        [b'"'] | [b'}', ..] => Some(true),
        // Broken JSON, which its own reader explains best, unless a request can begin like this.
        _ => Some(head.first() != Some(&REQUEST_TAG)),
    }
}

/// The UTF-8 form of U+FEFF, which some editors put in front.
pub(super) const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

fn has_only_json_space(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Whether some later line begins like a record: a file that was cut at its front.
fn has_json_record_line(head: &[u8]) -> bool {
    head.split(|&byte| byte == b'\n')
        .any(super::json::begins_record)
}

/// Whether the bytes begin with a plausible length of four bytes and a plausible message.
fn looks_like_records(head: &[u8], record_bytes_max: usize) -> bool {
    let Some((length, message)) = head.split_first_chunk::<4>() else {
        // A file cut within its first length.
        return head.first() == Some(&0);
    };
    let length = u32::from_be_bytes(*length);
    let fits = usize::try_from(length).is_ok_and(|length| length <= record_bytes_max);
    let begins_well = match message.first() {
        None => true,
        Some(&first) => length == 0 || first == REQUEST_TAG || matches!(first, b'{' | 0x28),
    };
    fits && begins_well
}

/// Counts what is read from the outside.
struct Counted<R> {
    inner: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.consumed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(head: &[u8]) -> Look {
        look_at(head, true, 1 << 20).unwrap()
    }

    #[test]
    fn every_format_is_known_by_its_first_bytes() {
        assert_eq!(look(b""), Look::Known(Format::Json));
        assert_eq!(look(b" \r\n"), Look::Known(Format::Json));
        assert_eq!(look(b"{}"), Look::Known(Format::Json));
        assert_eq!(
            look(b"\n\n{\n  \"resourceSpans\""),
            Look::Known(Format::Json)
        );
        assert_eq!(look(b"\xef\xbb\xbf{\"a\":1}"), Look::Known(Format::Json));
        assert_eq!(look(b"{resourceSpans:"), Look::Known(Format::Json));
        assert_eq!(
            look(b"99\"}]}\n{\"resourceSpans\":[]}\n"),
            Look::Known(Format::Json)
        );
        assert_eq!(look(b"\x0a\x00"), Look::Known(Format::Protobuf));
        assert_eq!(
            look(b"\x00\x00\x00\x02\x0a\x00"),
            Look::Known(Format::ProtobufRecords)
        );
        assert_eq!(look(b"\x00\x00"), Look::Known(Format::ProtobufRecords));
        assert_eq!(look(b"\xff\xfe{\x00"), Look::Utf16);
        assert_eq!(look(b"%PDF-1.7"), Look::Unknown(*b"%PDF"));
        assert_eq!(look(b"[1]"), Look::Unknown(*b"[1]\0"));
    }

    #[test]
    fn a_request_whose_length_is_a_brace_is_no_json() {
        // ResourceSpans of 123 bytes, its Resource of 34 or 32, whose attribute begins.
        assert_eq!(
            look(b"\n{\n\"\n\x20\n\x0cservice.name"),
            Look::Known(Format::Protobuf)
        );
        assert_eq!(
            look(b"\n{\n \n\x1e\n\x0cservice.name"),
            Look::Known(Format::Protobuf)
        );
        assert_eq!(look(b"\n{\x12y\n\x00"), Look::Known(Format::Protobuf));
    }

    #[test]
    fn undecided_bytes_ask_for_more() {
        assert_eq!(look_at(b"", false, 1 << 20), None);
        assert_eq!(look_at(b"\n\n\n\n\n\n{", false, 1 << 20), None);
        assert_eq!(look_at(b"\n\n\n\n\n\n{ \"", false, 1 << 20), None);
        assert_eq!(look_at(b"hello there", false, 1 << 20), None);
    }
}
