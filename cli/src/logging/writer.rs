//! A buffer before standard error, written by a separate thread in batches.
//!
//! Logging appends to the buffer and never waits. A system call and a wake-up for each line would cost more than the line itself.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use tracing_subscriber::fmt::MakeWriter;

/// Capacity of the buffer. Lines beyond it are dropped.
const MAX_BYTES: usize = 8 << 20;

/// Delay between the first line and the write.
const BATCH_DELAY: Duration = Duration::from_millis(10);

/// For the remaining lines at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Buffered lines. Clones share the buffer.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    changed: Condvar,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    dropped: u64,
    is_writing: bool,
    is_ending: bool,
}

/// Writes the buffered lines when it is dropped.
pub struct Guard {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        // No code panics under this lock.
        self.0.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dropped lines.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Starts the writing thread.
    pub(super) fn write_to(&self, output: impl Write + Send + 'static) -> io::Result<Guard> {
        let lines = self.clone();
        let thread = thread::Builder::new().name("log".into()).spawn(move || lines.write_batches(output))?;
        Ok(Guard { lines: self.clone(), thread: Some(thread) })
    }

    fn write_batches(&self, mut output: impl Write) {
        let mut bytes = Vec::new();
        loop {
            let wait = |waiting: &mut Buffer| waiting.bytes.is_empty() && !waiting.is_ending;
            let waiting =
                self.0.changed.wait_while(self.lock(), wait).unwrap_or_else(PoisonError::into_inner);
            let is_ending = waiting.is_ending;
            drop(waiting);
            if !is_ending {
                thread::sleep(BATCH_DELAY);
            }
            let mut waiting = self.lock();
            mem::swap(&mut waiting.bytes, &mut bytes);
            waiting.is_writing = !bytes.is_empty();
            drop(waiting);
            // An error of standard error cannot be reported.
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

/// Writes one line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > MAX_BYTES {
            waiting.dropped += 1;
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
        let rests = |waiting: &mut Buffer| waiting.is_writing || !waiting.bytes.is_empty();
        let ended = self.lines.0.changed.wait_timeout_while(waiting, FLUSH_TIMEOUT, rests);
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

    /// Accepts one write for each turn.
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
    fn lines_that_are_not_read_are_dropped_and_counted_and_nothing_waits() {
        let (lines, (turn, turns), read) = (Lines::default(), mpsc::channel(), Arc::default());
        let guard = lines.write_to(Reader { turns, read: Arc::clone(&read) }).unwrap();
        let line = [b'x'; 1 << 10];
        let count = 3 * MAX_BYTES / line.len();
        for _ in 0..count {
            (&lines).write_all(&line).unwrap();
        }
        let dropped = usize::try_from(lines.dropped()).unwrap();
        assert!((count / 3..=2 * count / 3).contains(&dropped), "{dropped} of {count}");
        drop(turn);
        drop(guard);
        assert_eq!(
            read.lock().unwrap().len(),
            (count - dropped) * line.len(),
            "all others are written in the end"
        );
    }
}
