//! A file that is put aside when it is large or old, and begun anew.
//!
//! In this order, so that a crash anywhere leaves whole files under one name or the other:
//!
//! ```text
//! 1  remove the earliest of the files that were put aside, until there is room for one more
//! 2  bring the file to the disk
//! 3  give it its other name
//! 4  make a new file by the first name, and bring the directory to the disk
//! ```

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use super::appender::Appender;
use super::open::Identity;
use super::open::Opened;
use super::open::Place;
use super::open::directory_of;
use crate::Attempt;
use crate::Error;
use crate::Result;
use crate::exporters::blocking::Note;
use crate::exporters::stdout::push_short_time;

/// How long until a file that could not be put aside is tried again, unless an export comes first.
const PAUSE: Duration = Duration::from_secs(10);

/// When a file is put aside, and how many of them are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) bytes: Option<u64>,
    pub(super) age: Option<Duration>,
    pub(super) keep: usize,
}

/// The file that is written, and those that were put aside.
pub(super) struct Files {
    place: Place,
    rotation: Option<(Rotation, Names)>,
    /// Absent after the file was put aside and no new one could be made.
    current: Option<Current>,
    notes: Vec<Note>,
}

struct Current {
    appender: Appender,
    identity: Option<Identity>,
    /// When its first record is too old; `None` while it has none, and without rotation by age.
    too_old_at: Option<Instant>,
    /// When to look at it though no export comes.
    wakes_at: Option<Instant>,
    /// How long it was when the path was last seen to lead to it. What stands behind may have been written after the file
    /// was removed, so nobody can have read it.
    seen_len: u64,
    /// Spans that were written before that.
    seen_spans: u64,
    /// Spans that were written since then.
    unseen_spans: u64,
}

impl Files {
    /// Opens the file.
    pub(super) fn open(
        mut place: Place,
        is_truncated: bool,
        rotation: Option<Rotation>,
    ) -> Result<Self> {
        let opened = place.open(is_truncated)?;
        let rotation = match rotation {
            Some(_) if opened.identity.is_none() => {
                return Err(cannot_rotate(&place, "it is no file"));
            }
            Some(rotation) => {
                // Behind a symbolic link it is the file that is put aside, not the link.
                place.path = fs::canonicalize(&place.path)
                    .map_err(|e| cannot_rotate(&place, "it cannot be found").with_source(e))?;
                let names = Names::of(&place.path);
                let names = names.ok_or_else(|| cannot_rotate(&place, "its name is not UTF-8"))?;
                Some((rotation, names))
            }
            None => None,
        };
        let mut files = Self {
            place,
            rotation,
            current: None,
            notes: Vec::new(),
        };
        files.begin(opened)?;
        Ok(files)
    }

    /// Adds a record of so many spans, and returns how many bytes it has.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable); nothing of the record stays then.
    pub(super) fn append(&mut self, record: &[u8], spans: usize) -> Result<u64> {
        self.follow_path()?;
        self.current()?;
        if self.is_due(record.len() as u64)? {
            self.put_aside()?;
        }
        let age = self.age();
        let current = self.current()?;
        let written = current.appender.append(record)?;
        current.unseen_spans += spans as u64;
        if current.too_old_at.is_none() {
            current.expect_to_be_old(age);
        }
        Ok(written)
    }

    /// Begins a new file if the path does not lead to the open one any more.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if no new file can be made; the next call tries again.
    pub(super) fn follow_path(&mut self) -> Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        match current.is_at(&self.place.path) {
            // What cannot be looked at may well be there: writing finds out.
            None => Ok(()),
            Some(true) => current.note_seen(),
            Some(false) => self.reopen(),
        }
    }

    /// Does as [`follow_path`](Self::follow_path) if the file was removed. One that was renamed still has everything.
    ///
    /// # Errors
    ///
    /// As [`follow_path`](Self::follow_path).
    pub(super) fn follow_if_removed(&mut self) -> Result<()> {
        match &self.current {
            Some(current) if current.appender.is_removed()? => self.follow_path(),
            _ => Ok(()),
        }
    }

    /// Replaces the open file, which was renamed or removed, by a new one at the path.
    fn reopen(&mut self) -> Result<()> {
        let Some(mut old) = self.current.take() else {
            return Ok(());
        };
        let reopened = self.carry_over(&mut old);
        // The old file is kept until nothing of it is needed any more.
        if reopened.is_err() {
            self.current = Some(old);
        }
        reopened
    }

    fn carry_over(&mut self, old: &mut Current) -> Result<()> {
        let path = self.place.path.display().to_string();
        if !old.appender.is_removed()? {
            self.current()?;
            self.notes.push(Note::Info(format!(
                "{path} was renamed by another program: the {} spans written to it are in the renamed file, new ones \
                 go to a new file",
                old.seen_spans + old.unseen_spans
            )));
            return Ok(());
        }
        let len = old.appender.len()?;
        let unseen = match len > old.seen_len {
            true => old.appender.read_from(old.seen_len)?,
            false => Vec::new(),
        };
        let (kept, gone) = match unseen.is_empty() {
            true => (0, old.seen_spans + old.unseen_spans),
            false => (old.unseen_spans, old.seen_spans),
        };
        let current = self.current()?;
        if !unseen.is_empty() {
            let written = current.appender.append(&unseen);
            if let Err(error) = written {
                // The next call opens it again, and finds it without a part of these records.
                self.current = None;
                return Err(error);
            }
            current.unseen_spans = kept;
        }
        self.notes.push(Note::Warning(format!(
            "{path} was removed by another program while it was open: {gone} spans written to it are gone, {kept} were \
             written again, to a new file"
        )));
        Ok(())
    }

    /// Gives up the open file if it was removed, because no new one can be made in its place. Returns how many spans are gone
    /// of which it was not known yet that others could find them.
    pub(super) fn give_up_removed(&mut self) -> u64 {
        let is_removed = |current: &mut Current| matches!(current.appender.is_removed(), Ok(true));
        let Some(old) = self.current.take_if(is_removed) else {
            return 0;
        };
        let path = self.place.path.display();
        self.notes.push(Note::Warning(format!(
            "{path} was removed by another program while it was open, and no new file can be made: {} spans written to it \
             are gone",
            old.seen_spans + old.unseen_spans
        )));
        old.unseen_spans
    }

    /// Takes what is to be logged.
    pub(super) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Waits until the disk has everything.
    pub(super) fn sync(&mut self) -> Result<()> {
        match &mut self.current {
            Some(current) => current.appender.sync(),
            None => Ok(()),
        }
    }

    /// When the file is to be put aside for its age.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.current.as_ref()?.wakes_at
    }

    /// Puts the file aside if it is too old.
    pub(super) fn wake(&mut self) {
        // A file that was removed cannot be rotated, and its last record is to be saved first.
        let followed = self.follow_path();
        let next = match followed.and_then(|()| self.is_due(0)) {
            // Somebody emptied it: it is as old as its next record.
            Ok(false) => None,
            Ok(true) if self.put_aside().is_ok() => return,
            // The next export tries again at once, and says what is wrong.
            _ => Instant::now().checked_add(PAUSE),
        };
        if let Some(current) = &mut self.current {
            current.wakes_at = next;
            current.too_old_at = current.too_old_at.filter(|_| next.is_some());
        }
    }

    /// Whether the file is too large for so many bytes more, or too old.
    fn is_due(&mut self, bytes: u64) -> Result<bool> {
        let (Some((rotation, _)), Some(current)) = (&self.rotation, &mut self.current) else {
            return Ok(false);
        };
        let length = current.appender.len()?;
        if length == 0 {
            return Ok(false);
        }
        let limit = rotation.bytes.unwrap_or(u64::MAX);
        let is_too_old = current.too_old_at.is_some_and(|at| at <= Instant::now());
        Ok(is_too_old || length.saturating_add(bytes) > limit)
    }

    /// Gives the file another name, and begins a new one.
    fn put_aside(&mut self) -> Result<()> {
        let (Some((rotation, names)), Some(current)) = (&mut self.rotation, &mut self.current)
        else {
            return Ok(());
        };
        let path = &self.place.path;
        names.make_room(rotation.keep)?;
        if self.place.with_sync {
            current.appender.sync()?;
        }
        // Another program may have moved the file already, or put another one there.
        let found = fs::metadata(path).ok();
        if found.map(|found| Identity::of(&found)) == current.identity {
            let aside = names.free(SystemTime::now())?;
            fs::rename(path, &aside).map_err(|e| {
                let (path, aside) = (path.display(), aside.display());
                failed(format!("cannot put {path} aside as {aside}"), e)
            })?;
        }
        self.current = None;
        self.current().map(|_| ())
    }

    /// The file, made anew where it was put aside.
    fn current(&mut self) -> Result<&mut Current> {
        if self.current.is_none() {
            let opened = self.place.open(false).map_err(|e| {
                let path = self.place.path.display();
                failed(format!("cannot begin a new {path}"), e)
            })?;
            self.begin(opened)?;
        }
        let current = self.current.as_mut();
        current.ok_or_else(|| Error::internal("no file is open"))
    }

    fn begin(&mut self, opened: Opened) -> Result<()> {
        let mut current = Current {
            appender: opened.appender,
            identity: opened.identity,
            too_old_at: None,
            wakes_at: None,
            seen_len: 0,
            seen_spans: 0,
            unseen_spans: 0,
        };
        current.seen_len = current.appender.len()?;
        if current.seen_len > 0 {
            let age = self.age().map(|age| age.saturating_sub(opened.age));
            current.expect_to_be_old(age);
        }
        self.current = Some(current);
        Ok(())
    }

    fn age(&self) -> Option<Duration> {
        self.rotation.as_ref()?.0.age
    }
}

impl Current {
    /// Whether the path leads to this file; `None` if that cannot be found out, or if it is no file.
    fn is_at(&self, path: &Path) -> Option<bool> {
        let identity = self.identity?;
        match fs::metadata(path) {
            Ok(found) => Some(Identity::of(&found) == identity),
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Some(false),
                _ => None,
            },
        }
    }

    /// Notes that everything that was written is in a file that others can find.
    fn note_seen(&mut self) -> Result<()> {
        self.seen_len = self.appender.len()?;
        self.seen_spans += std::mem::take(&mut self.unseen_spans);
        Ok(())
    }

    fn expect_to_be_old(&mut self, age: Option<Duration>) {
        self.too_old_at = age.and_then(|age| Instant::now().checked_add(age));
        self.wakes_at = self.too_old_at;
    }
}

/// The names of the files that were put aside: what stands before the extension, `-`, the time, the extension.
struct Names {
    directory: PathBuf,
    before: String,
    extension: String,
    /// No time before this one is given to a file, in milliseconds since 1970: a name that became free again when its
    /// file was removed would make the latest file the earliest, and so would a clock that is set back.
    earliest: u64,
}

impl Names {
    /// `None` if the name is not UTF-8.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let length = match extension(name) {
            // What is compressed keeps what it is before that.
            packed @ (".gz" | ".gzip" | ".zst" | ".zstd") => {
                let unpacked = name.strip_suffix(packed).unwrap_or(name);
                extension(unpacked).len() + packed.len()
            }
            plain => plain.len(),
        };
        let (before, extension) = name.split_at_checked(name.len() - length)?;
        Some(Self {
            directory: directory_of(path).to_owned(),
            before: before.to_owned(),
            extension: extension.to_owned(),
            earliest: 0,
        })
    }

    /// Removes the files of the earliest names, until there is room for one more.
    fn make_room(&self, keep: usize) -> Result<()> {
        let mut names = self
            .list()
            .map_err(|e| failed(format!("cannot list {}", self.directory.display()), e))?;
        names.sort_unstable();
        let surplus = (names.len() + 1).saturating_sub(keep);
        for name in names.iter().take(surplus) {
            let path = self.directory.join(name);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(format!("cannot remove {}", path.display()), e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name().into_string();
            names.extend(name.ok().filter(|name| self.is_ours(name)));
        }
        Ok(names)
    }

    fn is_ours(&self, name: &str) -> bool {
        let stamp = name
            .strip_prefix(&self.before)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_suffix(&self.extension));
        stamp.is_some_and(is_stamp)
    }

    /// A name that no file has, behind all that were given before.
    fn free(&mut self, now: SystemTime) -> Result<PathBuf> {
        /// More files than that are not put aside within a second.
        const TRIES: u64 = 1000;

        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_millis() as u64);
        let now = now.max(self.earliest);
        for millis in now..now + TRIES {
            let stamp = stamp(millis);
            let name = format!("{}-{stamp}{}", self.before, self.extension);
            let path = self.directory.join(name);
            // A link that leads nowhere is a name as well.
            if fs::symlink_metadata(&path).is_err() {
                self.earliest = millis + 1;
                return Ok(path);
            }
        }
        let directory = self.directory.display();
        Err(
            Error::unavailable(format!("no name is free in {directory} for one more file"))
                .with_attempt(Attempt::one()),
        )
    }
}

/// The extension with its dot. What begins with its only dot has none.
fn extension(name: &str) -> &str {
    let at = name.rfind('.').filter(|at| *at > 0);
    at.and_then(|at| name.get(at..)).unwrap_or_default()
}

/// A time as it stands in a name: UTC, without the colons that Windows refuses.
fn stamp(unix_millis: u64) -> String {
    let mut stamp = String::new();
    push_short_time(&mut stamp, unix_millis.saturating_mul(1_000_000));
    stamp.pop();
    stamp.replace(':', "-")
}

fn is_stamp(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00-00-00.000";

    let fits = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte == *form,
    };
    text.len() == FORM.len() && text.bytes().zip(FORM).all(fits)
}

fn cannot_rotate(place: &Place, why: &str) -> Error {
    Error::config(format!("cannot rotate {}: {why}", place.path.display()))
}

fn failed(what: String, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable(what)
        .with_attempt(Attempt::one())
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Names {
        Names::of(&Path::new("/d").join(name)).unwrap()
    }

    #[test]
    fn the_time_stands_before_the_extension() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_378_530_123);
        for (name, aside) in [
            ("t.jsonl", "/d/t-2026-11-22T20-15-30.123.jsonl"),
            ("t.jsonl.zst", "/d/t-2026-11-22T20-15-30.123.jsonl.zst"),
            ("t.gz", "/d/t-2026-11-22T20-15-30.123.gz"),
            ("a.b.pb", "/d/a.b-2026-11-22T20-15-30.123.pb"),
            ("spans", "/d/spans-2026-11-22T20-15-30.123"),
            (".gz", "/d/.gz-2026-11-22T20-15-30.123"),
            (".t.gz", "/d/.t-2026-11-22T20-15-30.123.gz"),
        ] {
            assert_eq!(names(name).free(at).unwrap(), Path::new(aside));
        }
    }

    #[test]
    fn a_file_that_is_there_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(999);
        for expected in [
            "t-1970-01-01T00-00-00.999.pb",
            "t-1970-01-01T00-00-01.000.pb",
            "t-1970-01-01T00-00-01.001.pb",
        ] {
            let mut names = Names::of(&directory.path().join("t.pb")).unwrap();
            let free = names.free(at).unwrap();
            assert_eq!(free.file_name().unwrap(), expected);
            fs::write(free, "").unwrap();
        }
    }

    #[test]
    fn a_later_file_has_a_later_name_though_an_earlier_one_is_free_or_the_clock_goes_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut names = Names::of(&directory.path().join("t.pb")).unwrap();
        for (millis, expected) in [
            (999, "t-1970-01-01T00-00-00.999.pb"),
            (999, "t-1970-01-01T00-00-01.000.pb"),
            (5, "t-1970-01-01T00-00-01.001.pb"),
            (2000, "t-1970-01-01T00-00-02.000.pb"),
        ] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            let free = names.free(at).unwrap();
            assert_eq!(free.file_name().unwrap(), expected);
        }
    }

    #[test]
    fn only_names_of_our_form_are_ours() {
        let names = names("t.jsonl");
        assert!(names.is_ours("t-2026-11-22T20-15-30.123.jsonl"));
        for name in [
            "t.jsonl",
            "t-.jsonl",
            "t-2026-11-22T20-15-30.123",
            "t-2026-11-22T20-15-30.jsonl",
            "t-2026-11-22T20-15-30.1234.jsonl",
            "t-2026-11-22T20:15:30.123.jsonl",
            "t-2026-11-22T20-15-30.12x.jsonl",
            "tt-2026-11-22T20-15-30.123.jsonl",
            "t-2026-11-22T20-15-30.123.jsonl.gz",
            "t-x-2026-11-22T20-15-30.123.jsonl",
        ] {
            assert!(!names.is_ours(name), "{name}");
        }
    }

    #[test]
    fn the_earliest_names_are_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let names = Names::of(&directory.path().join("t.pb")).unwrap();
        let create = |name: &str| fs::write(directory.path().join(name), "").unwrap();
        for second in 0..5 {
            create(&format!("t-2026-11-22T20-15-0{second}.000.pb"));
        }
        create("t.pb");
        create("a.pb");
        names.make_room(3).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "a.pb",
                "t-2026-11-22T20-15-03.000.pb",
                "t-2026-11-22T20-15-04.000.pb",
                "t.pb"
            ]
        );
        names.make_room(3).unwrap();
        assert_eq!(names.list().unwrap().len(), 2);
    }
}
