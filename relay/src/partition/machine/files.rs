//! Files of completed jobs: asked for, waited for, and removed before their jobs are forgotten.

use super::{Machine, jobs::LOOKED_AT};
use crate::decisions::{
    conclude,
    job::{self, files},
};
use jiff::Timestamp;
use std::path::PathBuf;
use talaria_core::config;
use talaria_proto::{
    time::from_proto,
    v1::{Event, FilesState, Job, JobFiles, JobsForgotten, Kept, kept, record::What},
};

/// The most jobs of one tenant whose files are asked for at once.
pub(super) const KEPT: usize = 4;

/// The longest id at OpenRouter of another program's job whose files are kept, in bytes.
const LONGEST_ID: usize = 200;

/// The most jobs that are forgotten at a time.
const FORGOTTEN: usize = 1000;

/// A completed job whose files to keep.
#[derive(Debug)]
pub(crate) struct KeepFiles {
    pub job: String,
    pub tenant: String,
    pub openrouter_id: String,
    pub count: u32,
    /// Where to put a copy.
    pub directory: Option<PathBuf>,
}

/// A forgotten job, whose files are removed.
#[derive(Debug)]
pub(crate) struct ForgottenFiles {
    pub tenant: String,
    pub openrouter_id: String,
    pub files: JobFiles,
    pub job: String,
}

impl Machine {
    /// The jobs whose files are to be asked for now.
    pub(crate) fn due_files(&mut self, now: Timestamp) -> Vec<KeepFiles> {
        let mut due_files = Vec::new();
        if self.is_draining {
            return due_files;
        }
        let is_due = |job: &&Job| files::due(job).is_some_and(|due| due <= now) && self.may_ask(job);
        let due: Vec<Job> = self.state.due_jobs(now).filter(is_due).take(LOOKED_AT).cloned().collect();
        for job in due {
            if !self.has_room(0) {
                break;
            }
            if !self.may_ask(&job) {
                continue;
            }
            let Some(keep) = self.keep_settings(&job.tenant) else {
                let why = "the tenant has no media.mode: keep any more".to_owned();
                let files = job.files.map(|files| files.kept).unwrap_or_default();
                self.files_tried(&job.id, &Kept { files, outcome: Some(kept::Outcome::Failed(why)) }, now);
                continue;
            };
            self.keeping.insert(job.id.clone(), job.tenant.clone());
            due_files.push(KeepFiles {
                count: job.files.as_ref().map_or(1, |files| files.count),
                directory: keep.directory,
                job: job.id,
                tenant: job.tenant,
                openrouter_id: job.openrouter_id,
            });
        }
        due_files
    }

    pub(super) fn keep_settings(&self, tenant: &str) -> Option<config::Keep> {
        self.config.tenants.get(tenant)?.media.as_ref()?.keep.clone()
    }

    /// A question about a job's files was answered. Deliveries that wait for them go on when they are kept or given up.
    pub(crate) fn files_tried(&mut self, id: &str, kept: &Kept, now: Timestamp) {
        self.keeping.remove(id);
        let Some(before) = self.state.job(id) else { return };
        let waited_until = files::longest_wait(before);
        let Some(job) = files::tried(before, kept, now) else { return };
        let known = job.files.clone().unwrap_or_default();
        match known.state() {
            FilesState::Kept => tracing::info!(job = id, tenant = job.tenant, "files of a job kept"),
            FilesState::NotKept => tracing::error!(
                job = id,
                tenant = job.tenant,
                because = known.reason,
                tries = known.tries,
                "files of a job not kept; links still fetch them"
            ),
            FilesState::Fetching | FilesState::Unspecified => {}
        }
        let waiting = waited_until
            .filter(|_| files::longest_wait(&job).is_none())
            .and_then(|until| Some((until, self.state.deliveries_of(job.event_id.parse().ok()?))));
        self.push_job(now, job);
        let Some((until, waiting)) = waiting else { return };
        for key in waiting {
            let Some((task, _)) = self.task(key).filter(|_| !self.state.is_under_way(key)) else { continue };
            // Others wait for something else.
            let due = from_proto(task.due_at.as_ref());
            if task.attempts == 0 && !task.slot_reserved && (now..=until).contains(&due) {
                let why = "its job's file is here, or given up".to_owned();
                self.push(conclude::reschedule(&task, now, now, why, false).into_record());
            }
        }
    }

    /// A job that another program submitted, at its end. `None` if its event came before.
    pub(super) fn job_of_others(&self, event: &Event, now: Timestamp) -> Option<Job> {
        let id = event.id.parse().ok()?;
        if self.state.known(id).is_some() || event.job_id.is_empty() || event.job_id.len() > LONGEST_ID {
            return None;
        }
        let job = job::of_others(&event.tenant, &event.job_id);
        Some(job::begun(job, &self.poll_settings(&event.tenant), now))
    }

    /// Forgets jobs. Those with files are given back, and forgotten after their files are removed: [`Machine::files_removed`].
    pub(super) fn forget_jobs(&mut self, older_than: Timestamp, now: Timestamp) -> Vec<ForgottenFiles> {
        let mut old = self.state.forgettable_jobs(older_than);
        old.truncate(FORGOTTEN);
        let mut with_files = Vec::new();
        let mut job_ids = Vec::new();
        for id in old {
            match self.state.job(&id).and_then(|job| Some((job, job.files.clone()?))) {
                Some((job, files)) => with_files.push(ForgottenFiles {
                    tenant: job.tenant.clone(),
                    openrouter_id: job.openrouter_id.clone(),
                    files,
                    job: id,
                }),
                None => job_ids.push(id),
            }
        }
        self.files_removed(job_ids, now);
        with_files
    }

    /// Jobs have no files any more, and are forgotten.
    pub(crate) fn files_removed(&mut self, job_ids: Vec<String>, now: Timestamp) {
        if !job_ids.is_empty() {
            self.push_what(now, 0, What::JobsForgotten(JobsForgotten { job_ids }));
        }
    }
}
