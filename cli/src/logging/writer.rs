//! Standard error, behind a thread of its own that writes many lines at a time.
//!
//! A line that is logged is appended to a buffer and waits for nothing. While a service logs a line for each callback, a
//! system call for each of them, and a thread that is woken for each, would cost more than the line itself.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait to be written; lines that come then are left out.
const MOST_BYTES: usize = 8 << 20;

/// How long lines gather after the first one.
const GATHERING: Duration = Duration::from_millis(10);

/// How long the rest may take at the end, where standard error is not read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines that wait to be written. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    left_out: u64,
    is_writing: bool,
    is_ending: bool,
}

/// Writes what waits before it is gone.
pub struct Guard {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lines were left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.lock().left_out
    }

    /// Starts the thread that writes them.
    pub(super) fn write_to(&self, output: impl Write + Send + 'static) -> io::Result<Guard> {
        let lines = self.clone();
        let thread =
            thread::Builder::new().name("log".into()).spawn(move || lines.write_what_waits(output))?;
        Ok(Guard { lines: self.clone(), thread: Some(thread) })
    }

    fn write_what_waits(&self, mut output: impl Write) {
        let mut bytes = Vec::new();
        loop {
            let wait = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.is_ending;
            let waiting =
                self.0.changed.wait_while(self.lock(), wait).unwrap_or_else(PoisonError::into_inner);
            let is_ending = waiting.is_ending;
            drop(waiting);
            if !is_ending {
                thread::sleep(GATHERING);
            }
            let mut waiting = self.lock();
            mem::swap(&mut waiting.bytes, &mut bytes);
            waiting.is_writing = !bytes.is_empty();
            drop(waiting);
            // Who cannot be written to cannot be told either.
            let _ = output.write_all(&bytes).and_then(|()| output.flush());
            bytes.clear();
            let mut waiting = self.lock();
            waiting.is_writing = false;
            self.0.changed.notify_all();
            if is_ending && waiting.bytes.is_empty() {
                return;
            }
        }
    }
}

/// One line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > MOST_BYTES {
            waiting.left_out += 1;
        } else {
            let was_empty = waiting.bytes.is_empty();
            waiting.bytes.extend_from_slice(line);
            drop(waiting);
            if was_empty {
                self.0.changed.notify_all();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut waiting = self.lines.lock();
        waiting.is_ending = true;
        self.lines.0.changed.notify_all();
        let rests = |waiting: &mut Waiting| waiting.is_writing || !waiting.bytes.is_empty();
        let ended = self.lines.0.changed.wait_timeout_while(waiting, LAST_LINES, rests);
        let is_written = ended.is_ok_and(|(_, waited)| !waited.timed_out());
        if is_written && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes what is written when it is let to.
    struct Reader {
        turns: mpsc::Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.turns.recv();
            self.read.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_are_not_read_are_left_out_and_counted_and_nothing_waits() {
        let (lines, (turn, turns), read) = (Lines::default(), mpsc::channel(), Arc::default());
        let guard = lines.write_to(Reader { turns, read: Arc::clone(&read) }).unwrap();
        let line = [b'x'; 1 << 10];
        let count = 3 * MOST_BYTES / line.len();
        for _ in 0..count {
            (&lines).write_all(&line).unwrap();
        }
        let left_out = usize::try_from(lines.left_out()).unwrap();
        assert!((count / 3..=2 * count / 3).contains(&left_out), "{left_out} of {count}");
        drop(turn);
        drop(guard);
        assert_eq!(
            read.lock().unwrap().len(),
            (count - left_out) * line.len(),
            "all others are written in the end"
        );
    }
}
