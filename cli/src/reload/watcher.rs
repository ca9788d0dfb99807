//! When to read the configuration again: after a change in one of its directories, on SIGHUP, and at an interval.
//!
//! Directories are watched instead of files, because editors replace a file by another, and a ConfigMap replaces `..data`, a link
//! that its files lead through. Some file systems send no notifications; the interval finds their changes.

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{signal::unix::Signal, sync::Notify, time::Instant};

/// The files are read after this time without a change, because several are often written together.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Limit for repeated changes.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);

const POLL_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// A file may have changed.
    Change,
    /// SIGHUP.
    Signal,
}

pub(super) struct Watcher {
    hangup: Signal,
    /// `None` if the system cannot watch files.
    system: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// The names of the files. Changes in the content of others are ignored.
    names: Arc<Mutex<BTreeSet<OsString>>>,
    happened: Arc<Notify>,
}

impl Watcher {
    pub(super) fn new(hangup: Signal) -> Self {
        let happened = Arc::<Notify>::default();
        let notify = Arc::clone(&happened);
        let names = Arc::<Mutex<BTreeSet<OsString>>>::default();
        let watched_names = Arc::clone(&names);
        let system = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // After an error, a change may have been missed.
            if event.is_ok_and(|event| {
                !changes(&event, &watched_names.lock().unwrap_or_else(PoisonError::into_inner))
            }) {
                return;
            }
            notify.notify_one();
        });
        let system = system.inspect_err(|error| {
            tracing::warn!(%error, interval = ?POLL_INTERVAL, "cannot watch files; the configuration is polled");
        });
        Self { hangup, system: system.ok(), watched: BTreeSet::new(), names, happened }
    }

    /// Returns when the file and those that it names have to be read again.
    pub(super) async fn wait(&mut self, path: &Path, others: &[PathBuf]) -> Trigger {
        let paths: Vec<PathBuf> =
            others.iter().map(PathBuf::as_path).chain([path]).map(Path::to_path_buf).collect();
        let (directories, names) = tokio::task::spawn_blocking(move || (directories(&paths), names(&paths)))
            .await
            .unwrap_or_default();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        if self.watch(directories) {
            // A change may have happened before the watch began.
            return Trigger::Change;
        }
        tokio::select! {
            _ = self.hangup.recv() => Trigger::Signal,
            () = debounced(&self.happened) => Trigger::Change,
            () = tokio::time::sleep(POLL_INTERVAL) => Trigger::Change,
        }
    }

    /// Watches exactly these directories. Returns whether one of them is new.
    fn watch(&mut self, directories: BTreeSet<PathBuf>) -> bool {
        let Some(system) = &mut self.system else { return false };
        for gone in self.watched.difference(&directories) {
            // The directory may have been removed.
            let _ = system.unwatch(gone);
        }
        self.watched.retain(|directory| directories.contains(directory));
        let mut any = false;
        for directory in directories {
            // Again for a watched one: it may have been replaced by a directory of the same name.
            match system.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => any |= self.watched.insert(directory),
                Err(error) => {
                    self.watched.remove(&directory);
                    tracing::debug!(%error, directory = %directory.display(), "cannot watch a directory");
                }
            }
        }
        any
    }
}

/// Whether an event may have changed a file of these names. Reading is no change, nor is writing to another file, such as a log in
/// the same directory.
fn changes(event: &Event, names: &BTreeSet<OsString>) -> bool {
    let is_ours = || event.paths.iter().filter_map(|path| path.file_name()).any(|name| names.contains(name));
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write) && is_ours(),
        EventKind::Modify(ModifyKind::Data(_)) => is_ours(),
        _ => true,
    }
}

/// Waits for a change, and then until changes pause.
async fn debounced(happened: &Notify) {
    happened.notified().await;
    let end = Instant::now() + MAX_DEBOUNCE;
    while Instant::now() < end && tokio::time::timeout(DEBOUNCE, happened.notified()).await.is_ok() {}
}

/// The names of these files and of their link targets.
fn names(paths: &[PathBuf]) -> BTreeSet<OsString> {
    let real = paths.iter().filter_map(|path| fs::canonicalize(path).ok());
    let all = paths.iter().cloned().chain(real);
    all.filter_map(|path| path.file_name().map(OsStr::to_owned)).collect()
}

/// The directories of these files and of their link targets.
fn directories(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let parent = |path: PathBuf| path.parent().map(Path::to_path_buf);
    let named = paths.iter().filter_map(|path| parent(std::path::absolute(path).ok()?));
    let real = paths.iter().filter_map(|path| parent(fs::canonicalize(path).ok()?));
    named.chain(real).collect()
}
