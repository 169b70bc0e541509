//! Writes lines on a thread of its own, so that a standard error nobody reads blocks nobody.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

/// Bytes of lines that may wait: thousands of usual lines.
const BYTES_MAX: usize = 1 << 20;

/// How long the first line that finds no room waits for some. The lines after it are dropped at once, until a line was
/// written again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Keeps lines until they are written. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Background {
    queue: Arc<Queue>,
}

/// The one lock here is never held while something is written, so a thread that logs waits for other loggers only.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// Notified when a line was added, when one was written, and when the last handle is gone.
    changed: Condvar,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    /// Of the lines that wait, and of the one that is being written.
    bytes: usize,
    is_writing: bool,
    /// Whether a line waited for room in vain, and none was written since.
    is_stuck: bool,
    /// How many lines were dropped and not reported yet.
    dropped: u64,
}

impl Background {
    /// Starts a thread that hands each line to `write`. The thread ends with the process.
    ///
    /// # Errors
    ///
    /// Returns an error if the system gives no thread.
    pub(super) fn start(write: impl Fn(&str) + Send + 'static) -> io::Result<Self> {
        Self::bounded(BYTES_MAX, write)
    }

    fn bounded(bytes_max: usize, write: impl Fn(&str) + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            bytes_max,
        });
        let for_thread = Arc::clone(&queue);
        thread::Builder::new()
            .name("outspan-log".into())
            .spawn(move || for_thread.run(write))?;
        Ok(Self { queue })
    }

    /// Adds a line, or drops it if there is no room.
    pub(super) fn add(&self, line: &str) {
        let queue = &*self.queue;
        let mut state = queue.lock();
        let is_full = |state: &mut State| state.bytes + line.len() > queue.bytes_max;
        if is_full(&mut state) && !state.is_stuck {
            let waited = queue
                .changed
                .wait_timeout_while(state, PATIENCE, |state| is_full(state));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.is_stuck = is_full(&mut state);
        }
        if is_full(&mut state) {
            state.dropped += 1;
            return;
        }
        state.push(line.to_owned());
        drop(state);
        queue.changed.notify_all();
    }

    /// Waits until every line is written, for `limit` at most.
    pub(super) fn finish(&self, limit: Duration) {
        let state = self.queue.lock();
        let is_busy = |state: &mut State| state.bytes > 0 || state.is_writing;
        // After the limit the lines that are left are lost: nobody reads them.
        drop(
            self.queue
                .changed
                .wait_timeout_while(state, limit, |state| is_busy(state)),
        );
    }
}

impl Queue {
    fn run(&self, write: impl Fn(&str)) {
        loop {
            let line = self.take();
            write(&line);
            let mut state = self.lock();
            state.bytes -= line.len();
            state.is_writing = false;
            state.is_stuck = false;
            if state.dropped > 0 {
                let dropped = std::mem::take(&mut state.dropped);
                state.push(format!(
                    "warning: dropped {dropped} log lines, because standard error was not read\n"
                ));
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn take(&self) -> String {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.is_writing = true;
                return line;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn lines_are_written_in_order_and_awaited() {
        let (sender, lines) = mpsc::channel();
        let background = Background::start(move |line| {
            sender.send(line.to_owned()).unwrap();
        });
        let background = background.unwrap();
        for number in 0..100 {
            background.add(&format!("{number}\n"));
        }
        background.finish(LIMIT);
        let written: Vec<_> = lines.try_iter().collect();
        let expected: Vec<_> = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn output_nobody_reads_blocks_no_caller_and_drops_are_reported() {
        let (sender, lines) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let background = Background::bounded(100, move |line| {
            // Ends with an error once the gate is open.
            gate.recv().ok();
            sender.send(line.to_owned()).unwrap();
        });
        let background = background.unwrap();
        let began = std::time::Instant::now();
        for _ in 0..1000 {
            background.add("ten bytes\n");
        }
        background.finish(Duration::from_millis(1));
        assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
        drop(open);
        background.finish(LIMIT);
        let written: Vec<String> = lines.try_iter().collect();
        assert_eq!(
            written.iter().filter(|line| *line == "ten bytes\n").count(),
            10
        );
        let note = "warning: dropped 990 log lines, because standard error was not read\n";
        assert!(written.iter().any(|line| line == note), "{written:?}");
    }
}
