//! Makes a file that is there ready for more.
//!
//! A crash may have left a part of a record at the end. Behind it, records with lengths and compressed ones could not be
//! read, so it is cut off. Nobody was told that such a record was delivered, unless the machine crashed before the disk
//! had it.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;

use flate2::bufread::GzDecoder;

use super::Format;
use crate::Compression;
use crate::Error;
use crate::Result;

/// What was found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Whole records to the end. The last one of JSON lines may lack its line feed.
    Whole { needs_line_feed: bool },
    /// Whole records up to here, then a part of one.
    Torn { end: u64 },
    /// Something else, from this byte on.
    Foreign { at: u64 },
}

/// Cuts an unfinished record off the end of the file, and says so in the log.
///
/// # Errors
///
/// [`Config`](crate::ErrorKind::Config) if the file holds something else, or cannot be read or cut.
pub(super) fn make_ready(
    file: &File,
    format: Format,
    compression: Compression,
    name: &str,
) -> Result<()> {
    let failed = |e: io::Error| Error::config(format!("cannot continue {name}")).with_source(e);
    match look(file, format, compression).map_err(failed)? {
        Found::Whole {
            needs_line_feed: false,
        } => Ok(()),
        Found::Whole {
            needs_line_feed: true,
        } => {
            let line_feed = compression.compress(compression.default_level(), &b"\n"[..].into())?;
            let mut end = file;
            end.write_all(&line_feed).map_err(failed)
        }
        Found::Torn { end } => {
            let torn = file.metadata().map_err(failed)?.len().saturating_sub(end);
            file.set_len(end).map_err(failed)?;
            tracing::warn!(
                target: "outspan",
                "cut {torn} bytes of an unfinished record off the end of {name}, which a crash left there"
            );
            Ok(())
        }
        Found::Foreign { at } => {
            let what = match compression {
                Compression::None => format.to_string(),
                compression => format!("{format} in {compression}"),
            };
            Err(Error::config(format!(
                "cannot continue {name}: it is no file of {what} from byte {at} on, use another file or truncate it"
            )))
        }
    }
}

fn look(file: &File, format: Format, compression: Compression) -> io::Result<Found> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let len = file.metadata()?.len();
    reader.seek(SeekFrom::Start(0))?;
    match (compression, format) {
        _ if len == 0 => Ok(Found::Whole {
            needs_line_feed: false,
        }),
        (Compression::None, Format::Json) => look_at_lines(&mut reader),
        (Compression::None, _) => look_at_lengths(&mut reader, len),
        (compression, format) => {
            let mut walk = Members {
                compression,
                is_lines: format == Format::Json,
                end: 0,
                last_byte: b'\n',
            };
            walk.look(reader)
        }
    }
}

fn look_at_lines(reader: &mut BufReader<&File>) -> io::Result<Found> {
    let head = reader.fill_buf()?;
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    if !matches!(head.trim_ascii_start().first(), None | Some(b'{')) {
        return Ok(Found::Foreign { at: 0 });
    }
    reader.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    reader.read_exact(&mut last)?;
    Ok(Found::Whole {
        needs_line_feed: last != *b"\n",
    })
}

fn look_at_lengths(reader: &mut BufReader<&File>, len: u64) -> io::Result<Found> {
    /// Field 1, length-delimited: what a request begins with.
    const REQUEST_TAG: u8 = 0x0a;
    /// Larger ones nobody writes.
    const RECORD_BYTES_MAX: u64 = 1 << 30;

    let mut end = 0;
    while end < len {
        let mut length = [0; 4];
        let there = (len - end).min(4) as usize;
        reader.read_exact(length.get_mut(..there).unwrap_or_default())?;
        let length = u64::from(u32::from_be_bytes(length));
        if there < 4 && length <= RECORD_BYTES_MAX {
            return Ok(Found::Torn { end });
        }
        let begins_well =
            length == 0 || len - end == 4 || reader.fill_buf()?.first() == Some(&REQUEST_TAG);
        if !begins_well || length > RECORD_BYTES_MAX {
            return Ok(Found::Foreign { at: end });
        }
        if len - end - 4 < length {
            return Ok(Found::Torn { end });
        }
        reader.seek_relative(i64::try_from(length).unwrap_or(i64::MAX))?;
        end += 4 + length;
    }
    Ok(Found::Whole {
        needs_line_feed: false,
    })
}

/// Goes through gzip members or Zstandard frames.
struct Members {
    compression: Compression,
    is_lines: bool,
    /// Where the last whole one ends.
    end: u64,
    last_byte: u8,
}

impl Members {
    fn look(&mut self, mut reader: BufReader<&File>) -> io::Result<Found> {
        loop {
            let next = reader.fill_buf()?;
            if next.is_empty() {
                return Ok(Found::Whole {
                    needs_line_feed: self.is_lines && self.last_byte != b'\n',
                });
            }
            if !self.may_begin_with(next) {
                return Ok(Found::Foreign { at: self.end });
            }
            match self.pass_over(&mut reader) {
                Ok(()) => self.end = reader.stream_position()?,
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Found::Torn { end: self.end });
                }
                // Damage has no number of the operating system. No crash of ours leaves it, so nothing is cut.
                Err(e) if e.raw_os_error().is_none() => {
                    return Ok(Found::Foreign { at: self.end });
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn may_begin_with(&self, next: &[u8]) -> bool {
        let magic: &[u8] = match self.compression {
            Compression::Gzip => &[0x1f, 0x8b],
            _ => &[0x28, 0xb5, 0x2f, 0xfd],
        };
        let length = magic.len().min(next.len());
        next.get(..length) == magic.get(..length)
    }

    fn pass_over(&mut self, reader: &mut BufReader<&File>) -> io::Result<()> {
        match self.compression {
            Compression::Gzip => self.drain(GzDecoder::new(reader)),
            _ => self.drain(zstd::Decoder::with_buffer(reader)?.single_frame()),
        }
    }

    fn drain(&mut self, mut member: impl Read) -> io::Result<()> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match member.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    let last = chunk.get(..read).and_then(<[u8]>::last);
                    self.last_byte = last.copied().unwrap_or(self.last_byte);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &[u8], format: Format, compression: Compression) -> Found {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        look(&file, format, compression).unwrap()
    }

    fn found_by_lengths(content: &[u8]) -> Found {
        found(content, Format::ProtobufRecords, Compression::None)
    }

    #[test]
    fn what_is_cut_may_be_a_record_of_ours_and_what_may_not_is_left_alone() {
        let whole = b"\0\0\0\x02\x0a\0\0\0\0\0";
        let is_whole = Found::Whole {
            needs_line_feed: false,
        };
        assert_eq!(found_by_lengths(whole), is_whole);
        for before in [&[][..], whole] {
            let end = before.len() as u64;
            let after = |tail: &[u8]| found_by_lengths(&[before, tail].concat());
            for torn in [
                &b"\0"[..],
                b"\0\0\x01",
                b"\x40",
                b"\0\0\x01\0",
                b"\0\0\x01\0\x0a",
                b"\x40\0\0\0\x0a",
            ] {
                assert_eq!(after(torn), Found::Torn { end }, "{torn:?}");
            }
            for foreign in [
                &b"hi"[..],
                b"\0\0\0\x05hello",
                b"\x40\0\0\x01\x0a",
                b"\xff\xff\xff\xff\x0a",
            ] {
                let at = end;
                assert_eq!(after(foreign), Found::Foreign { at }, "{foreign:?}");
            }
        }
    }

    #[test]
    fn damage_is_no_crash_and_nothing_behind_it_is_cut() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let pack = |text: &str| {
                let plain = text.to_owned().into_bytes().into();
                let packed = compression.compress(compression.default_level(), &plain);
                packed.unwrap().to_vec()
            };
            let (first, second) = (pack("{}\n"), pack("{\"a\":1}\n{}\n"));
            let at = first.len() as u64;
            let whole = [&first[..], &second, &first].concat();
            let look = |content: &[u8]| found(content, Format::Json, compression);
            let is_whole = Found::Whole {
                needs_line_feed: false,
            };
            assert_eq!(look(&whole), is_whole);
            // The checksum is near the end of each.
            let mut damaged = whole.clone();
            damaged[first.len() + second.len() - 8] ^= 0x55;
            if compression == Compression::Gzip {
                assert_eq!(look(&damaged), Found::Foreign { at });
            }
            let mut damaged = whole;
            damaged[first.len()] ^= 0x55;
            assert_eq!(look(&damaged), Found::Foreign { at });
            for short in [&b"x"[..], b"xyz"] {
                let content = [&first[..], short].concat();
                assert_eq!(look(&content), Found::Foreign { at }, "{compression}");
            }
        }
    }
}
