//! What this thread writes into the log, for tests.

use std::sync::Arc;
use std::sync::Mutex;

use tracing::subscriber::DefaultGuard;

/// Keeps the lines that this thread writes until it is dropped.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Lines,
    _guard: DefaultGuard,
}

impl Log {
    pub(crate) fn begin() -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        Self {
            _guard: tracing::subscriber::set_default(subscriber),
            lines,
        }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.0.lock().unwrap().clone()
    }

    /// How many warnings there are with these words.
    pub(crate) fn warnings(&self, words: &str) -> usize {
        let is_one = |line: &&str| line.contains("WARN") && line.contains(words);
        self.text().lines().filter(is_one).count()
    }
}

#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<String>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap()
            .push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
