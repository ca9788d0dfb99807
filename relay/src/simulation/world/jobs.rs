//! Jobs: a stand-in for OpenRouter that loses requests, answers and callbacks, and the owner's questions to it.

use super::World;
use crate::{
    decisions::job,
    partition::testing::{Command, KeepFiles, PollJob, Submit},
    simulation::agenda::Happening,
};
use jiff::Timestamp;
use rand::Rng as _;
use std::{collections::BTreeMap, time::Duration};
use talaria_core::{
    id::{EventId, JobId},
    time::after,
};
use talaria_proto::{
    time::to_proto,
    v1::{
        Ended, Event, EventSource, FilesState, Job, JobFiles, JobState, Kept, Made, Polled, StartJob,
        VideoRequest, kept, polled, submitted,
    },
};
use tokio::sync::oneshot;

/// The longest time of a question and its answer.
const ASKED: Duration = Duration::from_secs(4);

/// The longest job. Some are longer than `poll.give_up`.
const LONGEST_JOB: Duration = Duration::from_secs(4 * 3_600);

/// A question's answer that the owner has not seen yet.
#[derive(Debug)]
pub(super) enum JobAnswer {
    Submitted(String, submitted::Outcome),
    Polled(String, Polled),
    Kept(String, Kept),
}

/// The jobs, as OpenRouter knows them.
#[derive(Default)]
pub(super) struct OpenRouter {
    jobs: BTreeMap<u64, OpenRouterJob>,
    /// Their numbers by their ids in the journal.
    numbers: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct OpenRouterJob {
    id: String,
    tenant: String,
    callback_token: String,
    /// How many requests to make the job arrived.
    requests: u32,
    /// When it ends, once it is made.
    ends: Option<Timestamp>,
    callback_came: bool,
}

impl World {
    /// A client submits a job.
    pub(super) fn submit_job(&mut self, tenant: usize) {
        let number = self.openrouter.jobs.len() as u64;
        let (tenant, request_id) = (format!("t{tenant}"), format!("r{number}"));
        let id = JobId::new(&tenant, &request_id).to_string();
        let callback_token = format!("token{number}");
        let job = Job {
            id: id.clone(),
            tenant: tenant.clone(),
            request_id,
            callback_token: callback_token.clone(),
            ..Job::default()
        };
        let Some(owner) = self.owner() else { return };
        let job_at_openrouter = OpenRouterJob {
            id: format!("or-{number}"),
            tenant,
            callback_token,
            requests: 0,
            ends: None,
            callback_came: false,
        };
        self.openrouter.jobs.insert(number, job_at_openrouter);
        self.openrouter.numbers.insert(id, number);
        let start = StartJob { job: Some(job), video: Some(VideoRequest::default()), without_estimate: true };
        let (reply, _) = oneshot::channel();
        let wall = self.wall();
        if let Some(relay) = &mut self.relays[owner] {
            relay.machine.command(Command::StartJob(Box::new(start)), reply, wall);
        }
        self.pump(owner);
    }

    /// A submit goes out.
    pub(super) fn begin_submit(&mut self, relay: usize, run: u64, submit: &Submit) {
        // A relay that was overtaken after its commit was durable submits all the same, once; the next owner has called the answer lost.
        let state = self.journal.jobs.get(&submit.job).map(Job::state);
        let is_known = matches!(state, Some(JobState::Submitting | JobState::Unknown));
        assert!(is_known || self.journal.has_lost, "a submit that is not recorded: {submit:?}");
        let job = self.openrouter.numbers[&submit.job];
        self.soon(ASKED, Happening::SubmitArrives { relay, run, job });
    }

    pub(super) fn submit_arrives(&mut self, relay: usize, run: u64, number: u64) {
        let lot = self.rng.random_range(0..10);
        // Refused: it certainly made no job.
        if lot > 0 {
            let lasts = if self.rng.random_ratio(1, 20) { LONGEST_JOB } else { Duration::from_secs(300) };
            let ends = after(self.now, self.rng.random_range(Duration::from_secs(1)..lasts));
            let job = self.openrouter.jobs.get_mut(&number).unwrap();
            job.requests += 1;
            assert_eq!(job.requests, 1, "{job:?} was submitted twice");
            job.ends = Some(ends);
            self.schedule(ends, Happening::JobEnds { job: number });
        }
        self.soon(ASKED, Happening::SubmitAnswered { relay, run, job: number, is_lost: lot == 1 });
    }

    pub(super) fn submit_answered(&mut self, relay: usize, run: u64, number: u64, is_lost: bool) {
        let job = &self.openrouter.jobs[&number];
        let outcome = match (job.requests, is_lost) {
            (0, _) => submitted::Outcome::Refused("no connection".into()),
            (_, true) => submitted::Outcome::Unknown("the answer was cut off".into()),
            (_, false) => {
                submitted::Outcome::Made(Made { openrouter_id: job.id.clone(), status: "pending".into() })
            }
        };
        self.answered(relay, run, JobAnswer::Submitted(self.id_of(number), outcome));
    }

    /// OpenRouter finished a job; its callback is lost at times.
    pub(super) fn job_ends(&mut self, number: u64) {
        if self.rng.random_ratio(1, 4) {
            return;
        }
        self.openrouter.jobs.get_mut(&number).unwrap().callback_came = true;
        self.store(self.end_of(number, EventSource::Unspecified));
    }

    pub(super) fn begin_poll(&mut self, relay: usize, run: u64, poll: &PollJob) {
        let job = self.openrouter.numbers[&poll.job];
        assert_eq!(poll.openrouter_id, self.openrouter.jobs[&job].id);
        self.soon(ASKED, Happening::PollAnswered { relay, run, job });
    }

    pub(super) fn poll_answered(&mut self, relay: usize, run: u64, number: u64) {
        let outcome = match self.rng.random_range(0..20) {
            0 => polled::Outcome::Failed("502".into()),
            1 => polled::Outcome::NotFound("not found".into()),
            2 => polled::Outcome::Denied("User not found.".into()),
            _ if self.openrouter.jobs[&number].ends.is_some_and(|ends| ends <= self.now) => {
                let event = self.end_of(number, EventSource::Poll);
                let ended = Ended { status: "completed".into(), event_id: event.id.clone() };
                self.store(event);
                polled::Outcome::Ended(ended)
            }
            _ => polled::Outcome::Running("pending".into()),
        };
        // An unknown job is given up after ten minutes.
        let outcome = match outcome {
            polled::Outcome::NotFound(why) if self.rng.random_ratio(9, 10) => polled::Outcome::Failed(why),
            outcome => outcome,
        };
        let polled = Polled { outcome: Some(outcome), retry_after_ms: 0 };
        self.answered(relay, run, JobAnswer::Polled(self.id_of(number), polled));
    }

    pub(super) fn begin_keep(&mut self, relay: usize, run: u64, keep: &KeepFiles) {
        let job = keep.openrouter_id.strip_prefix("or-").unwrap().parse().unwrap();
        let own = self.id_of(job);
        let is_lost = own != keep.job;
        // Its event comes again after both were forgotten, or after the journal lost its end. Or the relay was overtaken and does not
        // know it yet; it cannot record what it learns.
        let is_known = self.journal.jobs.contains_key(&keep.job);
        let may_be_another = !is_known || self.journal.has_lost || self.journal.forgotten_jobs.contains(&own);
        assert!(!is_lost || may_be_another, "{} is another job than {own}", keep.job);
        self.soon(ASKED, Happening::FilesAnswered { relay, run, job, is_lost });
    }

    pub(super) fn files_answered(&mut self, relay: usize, run: u64, number: u64, is_lost: bool) {
        let outcome = match self.rng.random_range(0..8) {
            0..4 => kept::Outcome::Failed("502".into()),
            4 => kept::Outcome::UnderWay(1),
            5 => kept::Outcome::Refused("too long".into()),
            _ => kept::Outcome::All(true),
        };
        let kept = Kept { files: Vec::new(), outcome: Some(outcome) };
        let job = &self.openrouter.jobs[&number];
        let id = if is_lost { job::of_others(&job.tenant, &job.id).id } else { self.id_of(number) };
        self.answered(relay, run, JobAnswer::Kept(id, kept));
    }

    fn answered(&mut self, number: usize, run: u64, answer: JobAnswer) {
        if !self.is_run(number, run) {
            return;
        }
        if let Some(relay) = &mut self.relays[number] {
            relay.answers.push_back(answer);
        }
        self.pump(number);
    }

    fn id_of(&self, number: u64) -> String {
        JobId::new(&self.openrouter.jobs[&number].tenant, &format!("r{number}")).to_string()
    }

    fn end_of(&self, number: u64, source: EventSource) -> Event {
        let job = &self.openrouter.jobs[&number];
        let kind = "video.generation.completed";
        Event {
            id: EventId::new(&job.tenant, &job.id, kind).to_string(),
            tenant: job.tenant.clone(),
            r#type: kind.into(),
            job_id: job.id.clone(),
            status: "completed".into(),
            payload: "{}".into(),
            // A poll's payload has other bytes.
            payload_sha256: vec![source as u8; 32].into(),
            received_at: Some(to_proto(self.wall())),
            source: source.into(),
            callback_token: job.callback_token.clone(),
            ..Event::default()
        }
    }

    /// Checks that every recorded job has an end, and that it is the one at OpenRouter.
    pub(super) fn account_of_jobs(&self) -> String {
        let mut states: BTreeMap<&str, u32> = BTreeMap::new();
        for (id, job) in &self.journal.jobs {
            let Some(number) = self.openrouter.numbers.get(id) else {
                assert!(job.tracked, "{job:?}");
                continue;
            };
            let at_openrouter = &self.openrouter.jobs[number];
            *states.entry(job.state().as_str_name()).or_default() += 1;
            let was_made = at_openrouter.requests > 0;
            let keeps = job.state() == JobState::Completed && keeps(&job.tenant);
            let files = job.files.as_ref().map(JobFiles::state);
            let is_ended = matches!(files, Some(FilesState::Kept | FilesState::NotKept));
            assert_eq!(is_ended, keeps, "{job:?}");
            match job.state() {
                JobState::Completed => assert!(was_made, "{job:?} was never made"),
                JobState::Refused => assert!(!was_made, "{job:?} was made: {at_openrouter:?}"),
                JobState::Abandoned => {
                    assert!(!at_openrouter.callback_came, "{job:?} had a callback: {at_openrouter:?}");
                }
                other => panic!("{job:?} has no end: {other:?}"),
            }
        }
        assert_eq!(self.journal.conflicts, 0, "a polled end and its callback are no conflict");
        format!("{states:?}")
    }
}

/// Whether a tenant keeps files: every other one does.
fn keeps(tenant: &str) -> bool {
    tenant.trim_start_matches('t').parse::<usize>().unwrap().is_multiple_of(2)
}
