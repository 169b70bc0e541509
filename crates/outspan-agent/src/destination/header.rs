//! Headers from the command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use outspan::Error;
use outspan::Secret;
use outspan::otlp::HeaderProvider;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;

/// Holds a header as `--header` gives it: `NAME=VALUE` or `NAME: VALUE`.
///
/// A value `@FILE` is read from the file, `env:NAME` from the environment variable, so that secrets need not stand on
/// the command line, where other users see them. The value is never shown.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// The header's name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: Secret,
    /// Where the value is read again when the destination does not take it any more.
    pub(crate) file: Option<PathBuf>,
}

/// How often the process was asked to read files again. A signal asks the whole process, so this is one number for it.
static RELOADS: AtomicU64 = AtomicU64::new(0);

/// Has every [`FileHeaders`] read its files again before the next export.
pub(super) fn reload() {
    // Nothing else is published with it.
    RELOADS.fetch_add(1, Ordering::Relaxed);
}

/// Gives headers whose values are in files, and reads the files again when the destination does not take them any more:
/// somebody may have put a new token there.
#[derive(Debug)]
pub(crate) struct FileHeaders {
    files: Vec<(String, PathBuf)>,
    values: Mutex<Vec<(String, Secret)>>,
    /// The number of [`RELOADS`] that the values are of.
    reloads: AtomicU64,
    /// Held by the thread that reads, so that a file system that hangs has one thread at most.
    turn: Arc<Semaphore>,
}

impl FileHeaders {
    /// Takes the headers that have files; nothing if none has.
    pub(crate) fn of(headers: &[Header]) -> Option<Self> {
        let in_files = || headers.iter().filter(|header| header.file.is_some());
        let files =
            in_files().filter_map(|header| Some((header.name.clone(), header.file.clone()?)));
        let files: Vec<_> = files.collect();
        let values = in_files().map(|header| (header.name.clone(), header.value.clone()));
        (!files.is_empty()).then(|| Self {
            values: Mutex::new(values.collect()),
            files,
            reloads: AtomicU64::new(RELOADS.load(Ordering::Relaxed)),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Reads every file, on a thread of its own: a file system that hangs must take neither this thread nor one of those
    /// that compress and decode for everybody.
    async fn read(&self) -> outspan::Result<()> {
        let unfinished = || Error::internal("reading the files of headers did not finish");
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|e| unfinished().with_source(e))?;
        let files = self.files.clone();
        let (done, read) = oneshot::channel();
        let thread = std::thread::Builder::new().name("outspan-files".into());
        let started = thread.spawn(move || {
            let values = read_files(files);
            drop(turn);
            // The attempt that asked may be over.
            drop(done.send(values));
        });
        started.map_err(|e| Error::unavailable("no thread to read headers").with_source(e))?;
        *self.lock() = read.await.map_err(|e| unfinished().with_source(e))??;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Secret)>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeaderProvider for FileHeaders {
    async fn headers(&self, refresh: bool) -> outspan::Result<Vec<(String, Secret)>> {
        let reloads = RELOADS.load(Ordering::Relaxed);
        let is_due = self.reloads.swap(reloads, Ordering::Relaxed) != reloads;
        if refresh {
            self.read().await?;
        } else if is_due && let Err(error) = self.read().await {
            // The destination may well take what was used so far.
            // In a task of its own, because `tracing` is switched off in exports.
            drop(tokio::spawn(async move {
                tracing::error!(target: "outspan", "{}; the values of before stay in use", error.chain());
            }));
        }
        Ok(self.lock().clone())
    }
}

/// Reads every file. The error is temporary: whoever replaces a file may not be done.
fn read_files(files: Vec<(String, PathBuf)>) -> outspan::Result<Vec<(String, Secret)>> {
    let values = files.into_iter().map(|(name, path)| {
        let value = Secret::file(path)
            .map_err(|e| Error::unavailable(format!("header {name}: {}", e.message())))?;
        Ok((name, value))
    });
    values.collect()
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text may hold a secret, so no error repeats more of it than the name.
        let (name, value) = text
            .split_once(['=', ':'])
            .ok_or("a header needs a name and a value: NAME=VALUE")?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return Err("the header's name is missing: NAME=VALUE".into());
        }
        Ok(Self {
            name: name.to_owned(),
            file: value.strip_prefix('@').map(PathBuf::from),
            value: read_value(value).map_err(|e| format!("header {name}: {}", e.chain()))?,
        })
    }
}

fn read_value(text: &str) -> outspan::Result<Secret> {
    if let Some(file) = text.strip_prefix('@') {
        return Secret::file(file);
    }
    if let Some(variable) = text.strip_prefix("env:") {
        return Secret::env(variable);
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> (String, String) {
        let header: Header = text.parse().unwrap();
        (header.name, header.value.expose().to_owned())
    }

    #[test]
    fn both_ways_to_write_a_header_are_read() {
        let expected = ("authorization".to_owned(), "Bearer a=b:c".to_owned());
        assert_eq!(parse("authorization=Bearer a=b:c"), expected);
        assert_eq!(parse("authorization: Bearer a=b:c"), expected);
        assert_eq!(parse("x-empty="), ("x-empty".to_owned(), String::new()));
    }

    #[test]
    fn a_value_is_read_from_a_file_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Bearer t0ken\n").unwrap();
        let header = parse(&format!("authorization=@{}", file.path().display()));
        assert_eq!(header.1, "Bearer t0ken");
    }

    #[tokio::test]
    async fn files_are_read_again_when_asked_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        std::fs::write(file.path(), "old").unwrap();
        let headers = [format!("a=@{path}"), "b=fixed".to_owned()];
        let headers: Vec<Header> = headers.iter().map(|text| text.parse().unwrap()).collect();
        let provider = FileHeaders::of(&headers).unwrap();
        std::fs::write(file.path(), "new\n").unwrap();
        let value = |value: &str| vec![("a".to_owned(), Secret::new(value))];
        assert_eq!(provider.headers(false).await.unwrap(), value("old"));
        assert_eq!(provider.headers(true).await.unwrap(), value("new"));
        assert_eq!(provider.headers(false).await.unwrap(), value("new"));
        file.close().unwrap();
        let error = provider.headers(true).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        assert!(FileHeaders::of(&headers[1..]).is_none());
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn file_that_cannot_be_read_in_time_takes_one_thread() {
        let directory = tempfile::tempdir().unwrap();
        let [file, pipe] = ["token", "pipe"].map(|name| directory.path().join(name));
        std::fs::write(&file, "old").unwrap();
        let header: Header = format!("a=@{}", file.display()).parse().unwrap();
        let provider = FileHeaders::of(&[header]).unwrap();
        // Reading a pipe that nobody writes to takes as long as a file system that hangs.
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        std::fs::rename(&pipe, &file).unwrap();
        for _ in 0..3 {
            let attempt = provider.headers(true);
            let attempt = tokio::time::timeout(Duration::from_secs(10), attempt);
            assert!(attempt.await.is_err(), "the attempt ends by its deadline");
            assert_eq!(provider.turn.available_permits(), 0);
        }
        let value = |value: &str| vec![("a".to_owned(), Secret::new(value))];
        assert_eq!(provider.headers(false).await.unwrap(), value("old"));
        std::fs::write(&file, "new").unwrap();
        drop(provider.turn.acquire().await.unwrap());
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "new").unwrap();
        assert_eq!(provider.headers(true).await.unwrap(), value("new"));
    }

    #[test]
    fn errors_name_the_header_and_never_show_a_value() {
        let error = Header::from_str("t0ken").unwrap_err();
        assert!(!error.contains("t0ken"), "{error}");
        assert!(Header::from_str("=t0ken").is_err());
        let error = Header::from_str("x=env:OUTSPAN_TEST_NO_SUCH_VARIABLE").unwrap_err();
        assert_eq!(
            error,
            "header x: environment variable OUTSPAN_TEST_NO_SUCH_VARIABLE is not set"
        );
        let error = Header::from_str("x=@/no/such/file").unwrap_err();
        assert!(error.contains("/no/such/file"), "{error}");
        assert!(!format!("{:?}", Header::from_str("x=t0ken")).contains("t0ken"));
    }
}
