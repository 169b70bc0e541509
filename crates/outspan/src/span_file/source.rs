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
use super::look::Look;
use super::look::look_at;
use crate::Compression;

/// Decompressed bytes, buffered.
pub(super) type Source = Box<dyn BufRead + Send>;

/// The first bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];
/// The first bytes of a Zstandard frame (RFC 8878, section 3.1.1).
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// A file that was opened and looked at.
pub(super) struct Opened {
    pub(super) source: Source,
    pub(super) compression: Compression,
    pub(super) look: Look,
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

/// Tells whether bytes begin with a Zstandard frame, or with a skippable one, as the files of `pzstd` do.
pub(super) fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(ZSTD) || matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn compression_of(head: &[u8]) -> Compression {
    if head.starts_with(GZIP) {
        return Compression::Gzip;
    }
    if is_zstd(head) {
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

/// Waits for bytes, whatever signals arrive meanwhile.
pub(super) fn fill(source: &mut Source) -> io::Result<&[u8]> {
    // Asked twice, because a loop that returns what it borrowed is one the borrow checker does not follow.
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    source.fill_buf()
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
