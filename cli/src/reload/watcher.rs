//! When to look at the configuration again: when something happened in a directory that has to do with it, when somebody
//! asks, and now and then in any case.
//!
//! Directories are watched and not files: editors write another file and give it the name, and a ConfigMap is a directory of
//! links to a link, `..data`, that is replaced. Some file systems tell nothing, and what they keep to themselves is found
//! by looking now and then.

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

/// How long nothing may change before the files are read: writers often write several.
const QUIET: Duration = Duration::from_millis(200);

/// And no longer than this it is waited for.
const LONGEST: Duration = Duration::from_secs(2);

/// How often it is looked in any case.
const NOW_AND_THEN: Duration = Duration::from_secs(30);

/// Why to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Something may be otherwise.
    MayHaveChanged,
    /// By SIGHUP.
    ToReload,
}

pub(super) struct Watcher {
    hangup: Signal,
    /// `None` where the system cannot watch files.
    system: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// The names of the files; what happens to the content of others does not matter.
    names: Arc<Mutex<BTreeSet<OsString>>>,
    happened: Arc<Notify>,
}

impl Watcher {
    pub(super) fn new(hangup: Signal) -> Self {
        let happened = Arc::<Notify>::default();
        let tell = Arc::clone(&happened);
        let names = Arc::<Mutex<BTreeSet<OsString>>>::default();
        let matter = Arc::clone(&names);
        let system = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error says that something was missed.
            if event
                .is_ok_and(|event| !changes(&event, &matter.lock().unwrap_or_else(PoisonError::into_inner)))
            {
                return;
            }
            tell.notify_one();
        });
        let system = system.inspect_err(|error| {
            let every = NOW_AND_THEN;
            tracing::warn!(%error, "changes of the configuration are not told, so it is looked at every {every:?}");
        });
        Self { hangup, system: system.ok(), watched: BTreeSet::new(), names, happened }
    }

    /// Returns when it is time to look at the file and at those that it names.
    pub(super) async fn look_again(&mut self, path: &Path, others: &[PathBuf]) -> Told {
        let paths: Vec<PathBuf> =
            others.iter().map(PathBuf::as_path).chain([path]).map(Path::to_path_buf).collect();
        let (directories, names) = tokio::task::spawn_blocking(move || (directories(&paths), names(&paths)))
            .await
            .unwrap_or_default();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        if self.watch(directories) {
            // Something may have happened there before.
            return Told::MayHaveChanged;
        }
        tokio::select! {
            _ = self.hangup.recv() => Told::ToReload,
            () = settled(&self.happened) => Told::MayHaveChanged,
            () = tokio::time::sleep(NOW_AND_THEN) => Told::MayHaveChanged,
        }
    }

    /// Watches these directories and no others. Whether there is one that was not watched before.
    fn watch(&mut self, directories: BTreeSet<PathBuf>) -> bool {
        let Some(system) = &mut self.system else { return false };
        for gone in self.watched.difference(&directories) {
            // It may be gone indeed.
            let _ = system.unwatch(gone);
        }
        self.watched.retain(|directory| directories.contains(directory));
        let mut any = false;
        for directory in directories {
            // Once more also where it is watched: it may be another directory of that name.
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

/// Whether what happened may have changed a file of these names; reading one does not. A directory may have a log beside them,
/// to which something is written all the time.
fn changes(event: &Event, names: &BTreeSet<OsString>) -> bool {
    let matters = || event.paths.iter().filter_map(|path| path.file_name()).any(|name| names.contains(name));
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write) && matters(),
        EventKind::Modify(ModifyKind::Data(_)) => matters(),
        _ => true,
    }
}

/// Waits until something happens, and then until nothing more does.
async fn settled(happened: &Notify) {
    happened.notified().await;
    let end = Instant::now() + LONGEST;
    while Instant::now() < end && tokio::time::timeout(QUIET, happened.notified()).await.is_ok() {}
}

/// The names of these files, and of those that links lead to.
fn names(paths: &[PathBuf]) -> BTreeSet<OsString> {
    let real = paths.iter().filter_map(|path| fs::canonicalize(path).ok());
    let all = paths.iter().cloned().chain(real);
    all.filter_map(|path| path.file_name().map(OsStr::to_owned)).collect()
}

/// Where these files are, and where links lead to.
fn directories(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let parent = |path: PathBuf| path.parent().map(Path::to_path_buf);
    let named = paths.iter().filter_map(|path| parent(std::path::absolute(path).ok()?));
    let real = paths.iter().filter_map(|path| parent(fs::canonicalize(path).ok()?));
    named.chain(real).collect()
}
