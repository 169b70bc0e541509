//! Adds records to the end of a file, each whole or not at all.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;

use crate::Attempt;
use crate::Error;
use crate::Result;
use crate::exporters::written::write_error;

/// What is asked of a file. A trait, so that tests can fill the disk in the middle of a record.
pub(super) trait Target: Send {
    fn len(&self) -> io::Result<u64>;
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn cut(&mut self, len: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// How many names lead to it; `None` where nobody can say.
    fn links(&self) -> io::Result<Option<u64>>;
    /// Reads everything from there on.
    fn read_from(&mut self, start: u64) -> io::Result<Vec<u8>>;
    /// Lets others write.
    fn unlock(&mut self);
}

/// A file on a file system.
impl Target for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn links(&self) -> io::Result<Option<u64>> {
        #[cfg(unix)]
        return Ok(Some(std::os::unix::fs::MetadataExt::nlink(
            &self.metadata()?,
        )));
        #[cfg(not(unix))]
        Ok(None)
    }

    fn read_from(&mut self, start: u64) -> io::Result<Vec<u8>> {
        // Writes go to the end wherever the position is.
        self.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn unlock(&mut self) {
        // Closing unlocks as well, unless another thread starts a program just now: its copy of the file would keep the
        // lock for a moment. There is nothing to do where unlocking fails.
        drop(Self::unlock(self));
    }
}

/// A pipe or a device, which cannot be cut.
pub(super) struct Stream(pub(super) File);

impl Target for Stream {
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn cut(&mut self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn links(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn read_from(&mut self, _start: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&mut self) {}
}

/// The end of a file that grows by whole records.
pub(super) struct Appender {
    target: Box<dyn Target>,
    name: String,
    /// Where the file must be cut before anything is added: a record was torn there.
    torn_at: Option<u64>,
}

impl Appender {
    pub(super) fn new(target: impl Target + 'static, name: String) -> Self {
        Self {
            target: Box::new(target),
            name,
            torn_at: None,
        }
    }

    /// Adds a record, and returns how many bytes it has.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable); nothing of the record stays then, or it is removed before the
    /// next one comes.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<u64> {
        self.mend()?;
        let start = self.target.len().map_err(|e| self.failed(e))?;
        let Err((written, error)) = write_all(self.target.as_mut(), record) else {
            return Ok(record.len() as u64);
        };
        if written > 0 {
            self.torn_at = Some(start);
            // If even this fails, the next record tries again before it is written.
            drop(self.mend());
        }
        let error = self.failed(error);
        Err(error.map_attempt(|own| own.with_wire_bytes(written as u64)))
    }

    /// Waits until the disk has everything.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.mend()?;
        self.target.sync().map_err(|e| {
            Error::unavailable(format!("cannot bring {} to the disk", self.name)).with_source(e)
        })
    }

    /// How long the file is, once its records are whole.
    pub(super) fn len(&mut self) -> Result<u64> {
        self.mend()?;
        self.target.len().map_err(|e| self.failed(e))
    }

    /// Whether no name leads to the file any more: what is in it is gone when it is closed.
    pub(super) fn is_removed(&self) -> Result<bool> {
        let links = self.target.links().map_err(|e| self.failed(e))?;
        Ok(links == Some(0))
    }

    /// Reads what stands behind `start`, whole records alone.
    pub(super) fn read_from(&mut self, start: u64) -> Result<Vec<u8>> {
        self.mend()?;
        self.target.read_from(start).map_err(|e| {
            let what = format!("cannot read the end of {}, which was removed", self.name);
            Error::unavailable(what)
                .with_attempt(Attempt::one())
                .with_source(e)
        })
    }

    fn mend(&mut self) -> Result<()> {
        let Some(end) = self.torn_at else {
            return Ok(());
        };
        self.target.cut(end).map_err(|e| {
            let what = format!(
                "cannot remove the unfinished record at the end of {}",
                self.name
            );
            let is_temporary = e.kind() != io::ErrorKind::Unsupported;
            Error::unavailable(what)
                .with_temporary(is_temporary)
                .with_attempt(Attempt::one())
                .with_source(e)
        })?;
        self.torn_at = None;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        write_error(&self.name, error)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.target.unlock();
    }
}

/// Writes everything; if that fails, tells how much was written.
fn write_all(target: &mut dyn Target, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match target.append(rest) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((written, e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::*;

    /// A disk with so much room.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        may_cut: bool,
        /// Whether each write is interrupted once before it is done.
        is_noisy: bool,
        is_interrupted: bool,
        synced: usize,
    }

    struct OnDisk(Arc<Mutex<Disk>>);

    impl Target for OnDisk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.lock().unwrap().bytes.len() as u64)
        }

        fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            disk.is_interrupted = disk.is_noisy && !disk.is_interrupted;
            if disk.is_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            // Two bytes at a time, as a disk does that fills up.
            let fits = bytes.len().min(disk.room).min(2);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.room -= fits;
            disk.bytes.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            let mut disk = self.0.lock().unwrap();
            if !disk.may_cut {
                return Err(io::Error::other("no"));
            }
            let freed = disk.bytes.len() - len as usize;
            disk.bytes.truncate(len as usize);
            disk.room += freed;
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            let mut disk = self.0.lock().unwrap();
            disk.synced = disk.bytes.len();
            Ok(())
        }

        fn links(&self) -> io::Result<Option<u64>> {
            Ok(Some(1))
        }

        fn read_from(&mut self, start: u64) -> io::Result<Vec<u8>> {
            Ok(self.0.lock().unwrap().bytes[start as usize..].to_vec())
        }

        fn unlock(&mut self) {}
    }

    fn appender(room: usize, may_cut: bool) -> (Appender, Arc<Mutex<Disk>>) {
        let disk = Arc::new(Mutex::new(Disk {
            room,
            may_cut,
            ..Disk::default()
        }));
        let appender = Appender::new(OnDisk(Arc::clone(&disk)), "traces.jsonl".into());
        (appender, disk)
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_nothing_and_may_be_tried_again() {
        let (mut appender, disk) = appender(8, true);
        assert_eq!(appender.append(b"first\n").unwrap(), 6);
        let error = appender.append(b"second\n").unwrap_err();
        assert!(error.is_temporary());
        assert!(error.to_string().contains("traces.jsonl"), "{error}");
        assert!(error.to_string().contains("disk is full"), "{error}");
        assert_eq!(error.attempt().wire_bytes, 2);
        assert_eq!(disk.lock().unwrap().bytes, b"first\n");
        disk.lock().unwrap().room = 100;
        appender.append(b"second\n").unwrap();
        assert_eq!(disk.lock().unwrap().bytes, b"first\nsecond\n");
    }

    #[test]
    fn nothing_is_added_behind_an_unfinished_record() {
        let (mut appender, disk) = appender(8, false);
        appender.append(b"first\n").unwrap();
        appender.append(b"second\n").unwrap_err();
        assert_eq!(disk.lock().unwrap().bytes, b"first\nse");
        disk.lock().unwrap().room = 100;
        let error = appender.append(b"second\n").unwrap_err();
        assert!(error.to_string().contains("unfinished record"), "{error}");
        assert!(error.is_temporary());
        appender.sync().unwrap_err();
        assert_eq!(disk.lock().unwrap().bytes, b"first\nse");
        disk.lock().unwrap().may_cut = true;
        appender.append(b"second\n").unwrap();
        assert_eq!(disk.lock().unwrap().bytes, b"first\nsecond\n");
    }

    #[test]
    fn a_write_that_is_interrupted_goes_on() {
        let (mut appender, disk) = appender(8, true);
        disk.lock().unwrap().is_noisy = true;
        assert_eq!(appender.append(b"first\n").unwrap(), 6);
        assert_eq!(disk.lock().unwrap().bytes, b"first\n");
    }

    #[test]
    fn what_is_brought_to_the_disk_is_all_that_was_added() {
        let (mut appender, disk) = appender(8, true);
        appender.append(b"first\n").unwrap();
        assert_eq!(disk.lock().unwrap().synced, 0);
        appender.sync().unwrap();
        assert_eq!(disk.lock().unwrap().synced, 6);
    }

    #[test]
    fn a_file_can_be_cut_and_a_pipe_cannot_for_good() {
        let mut file = tempfile::tempfile().unwrap();
        Target::append(&mut file, b"first\nse").unwrap();
        Target::cut(&mut file, 6).unwrap();
        assert_eq!(Target::len(&file).unwrap(), 6);

        let mut appender = Appender::new(Stream(file), "traces.fifo".into());
        appender.torn_at = Some(3);
        let error = appender.append(b"second\n").unwrap_err();
        assert!(error.to_string().contains("unfinished record"), "{error}");
        assert!(!error.is_temporary());
    }

    #[test]
    fn the_end_is_where_the_file_ends_now() {
        let (mut appender, disk) = appender(8, true);
        appender.append(b"first\n").unwrap();
        // Somebody emptied the file, as log rotation does that copies and truncates.
        disk.lock().unwrap().bytes.clear();
        appender.append(b"second\n").unwrap_err();
        assert_eq!(disk.lock().unwrap().bytes, b"");
    }
}
