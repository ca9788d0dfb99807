//! Questions to OpenRouter about jobs, which an ingress carries out, and their files.

use super::{Running, files};
use crate::partition::machine::{ForgottenFiles, KeepFiles, PollJob, Submit};
use metrics::counter;
use prost::Message as _;
use talaria_bus::{AskError, Bus, Files};
use talaria_proto::v1::{
    AskKeep, AskPoll, AskSubmit, Kept, NotAskedKind, OpenRouterAnswer, OpenRouterQuestion, Polled, Submitted,
    kept, open_router_answer::Answer, open_router_question::Ask, polled, submitted,
};
use talaria_telemetry::LogLimiter;

/// The end of a question: the job, and what came of it.
pub(super) enum Answered {
    Submitted(String, submitted::Outcome),
    Polled(String, Polled),
    Kept(String, Kept),
    Removed(Vec<String>),
}

impl Running {
    /// The intent is durable. If this relay ends before the answer is recorded, the next owner records that the answer is lost.
    pub(super) fn submit(&mut self, submit: Submit) {
        let bus = self.tools.bus.clone();
        let Submit { job, tenant, callback_token, video } = submit;
        let ask = Ask::Submit(AskSubmit { video: Some(video), callback_token });
        self.asked.spawn(async move {
            let outcome = match ask_openrouter(&bus, tenant, ask).await {
                Ok(Answer::Submitted(Submitted { outcome: Some(outcome) })) => outcome,
                Ok(Answer::NotAsked(not_asked)) if not_asked.kind() == NotAskedKind::Unavailable => {
                    submitted::Outcome::NotSent(not_asked.message)
                }
                Ok(Answer::NotAsked(not_asked)) => submitted::Outcome::Refused(not_asked.message),
                Ok(_) => submitted::Outcome::Unknown(NOT_UNDERSTOOD.to_owned()),
                Err(error) if error.was_not_asked() => submitted::Outcome::NotSent(error.to_string()),
                Err(error) => submitted::Outcome::Unknown(error.to_string()),
            };
            let label = match &outcome {
                submitted::Outcome::Made(_) => "made",
                submitted::Outcome::Refused(_) | submitted::Outcome::NotSent(_) => "refused",
                submitted::Outcome::Unknown(_) => "unknown",
            };
            counter!("talaria_jobs_submitted_total", "outcome" => label).increment(1);
            Answered::Submitted(job, outcome)
        });
    }

    /// Begins the polls that are due.
    pub(super) fn poll_jobs(&mut self) {
        let now = self.now();
        if !self.machine.has_room(0) || self.machine.next_due_job().is_none_or(|due| due > now) {
            return;
        }
        for PollJob { job, tenant, openrouter_id, model, callback_token } in self.machine.due_polls(now) {
            let bus = self.tools.bus.clone();
            let ask = Ask::Poll(AskPoll { openrouter_id, model, callback_token });
            self.asked.spawn(async move {
                let failed = |why| Polled { outcome: Some(polled::Outcome::Failed(why)), retry_after_ms: 0 };
                let polled = match ask_openrouter(&bus, tenant, ask).await {
                    Ok(Answer::Polled(polled)) => polled,
                    Ok(Answer::NotAsked(not_asked)) => failed(not_asked.message),
                    Ok(_) => failed(NOT_UNDERSTOOD.to_owned()),
                    Err(error) => failed(error.to_string()),
                };
                Answered::Polled(job, polled)
            });
        }
    }

    /// Asks for the files that are to be kept.
    pub(super) fn keep_files(&mut self) {
        let now = self.now();
        if !self.machine.has_room(0) || self.machine.next_due_job().is_none_or(|due| due > now) {
            return;
        }
        for KeepFiles { job, tenant, openrouter_id, count, directory } in self.machine.due_files(now) {
            let (bus, kept_files) = (self.tools.bus.clone(), self.files());
            let ask = Ask::Keep(AskKeep { openrouter_id: openrouter_id.clone(), count });
            self.asked.spawn(async move {
                let failed = |why| Kept { outcome: Some(kept::Outcome::Failed(why)), files: Vec::new() };
                let mut kept = match ask_openrouter(&bus, tenant.clone(), ask).await {
                    Ok(Answer::Kept(kept)) if kept.outcome.is_some() => kept,
                    Ok(Answer::NotAsked(not_asked)) => failed(not_asked.message),
                    Ok(_) => failed(NOT_UNDERSTOOD.to_owned()),
                    Err(error) => failed(error.to_string()),
                };
                if let Some(directory) = directory
                    && let Err(why) =
                        files::copy(&kept_files, &directory, (&tenant, &openrouter_id), &mut kept.files).await
                {
                    kept.outcome = Some(kept::Outcome::Failed(why));
                }
                Answered::Kept(job, kept)
            });
        }
    }

    fn files(&self) -> Files {
        self.tools.bus.files(self.tools.config.borrow().retention)
    }

    /// Removes the files of jobs that are then forgotten. After a failure they are tried again.
    pub(super) fn remove_files(&mut self, forgotten: Vec<ForgottenFiles>) {
        if forgotten.is_empty() || self.is_removing {
            return;
        }
        self.is_removing = true;
        let kept_files = self.files();
        self.asked.spawn(async move {
            let mut removed = Vec::new();
            for ForgottenFiles { tenant, openrouter_id, files, job } in forgotten {
                match files::remove(&kept_files, (&tenant, &openrouter_id), files).await {
                    Ok(()) => removed.push(job),
                    Err(error) => {
                        static FAILED: LogLimiter = LogLimiter::new();
                        if let Some(left_out) = FAILED.admit() {
                            tracing::warn!(error, job, left_out, "files of a job stay, and so does the job");
                        }
                    }
                }
            }
            Answered::Removed(removed)
        });
    }

    pub(super) fn answered(&mut self, answered: Result<Answered, tokio::task::JoinError>) {
        let now = self.now();
        match answered {
            Ok(Answered::Submitted(job, outcome)) => {
                self.machine.job_submitted(&job, &outcome, now, rand::random());
            }
            Ok(Answered::Polled(job, polled)) => {
                let label = match &polled.outcome {
                    Some(polled::Outcome::Running(_)) => "running",
                    Some(polled::Outcome::Ended(_)) => "ended",
                    Some(polled::Outcome::NotFound(_)) => "not_found",
                    Some(polled::Outcome::Denied(_)) => "denied",
                    Some(polled::Outcome::Failed(_)) | None => "failed",
                };
                counter!("talaria_job_polls_total", "outcome" => label).increment(1);
                self.machine.job_polled(&job, &polled, now, rand::random());
            }
            Ok(Answered::Kept(job, kept)) => self.machine.files_tried(&job, &kept, now),
            Ok(Answered::Removed(jobs)) => {
                self.is_removing = false;
                self.machine.files_removed(jobs, now);
            }
            Err(error) => {
                self.is_removing = false;
                tracing::error!(%error, "question to OpenRouter failed");
            }
        }
    }
}

const NOT_UNDERSTOOD: &str = "the answer of the ingress is not understood; does it run another version?";

async fn ask_openrouter(bus: &Bus, tenant: String, ask: Ask) -> Result<Answer, AskError> {
    let question = OpenRouterQuestion { tenant, ask: Some(ask) };
    let answer = bus.ask_openrouter(question.encode_to_vec().into()).await?;
    let decoded = OpenRouterAnswer::decode(answer).ok().and_then(|answer| answer.answer);
    decoded.ok_or_else(|| AskError::NoAnswer(NOT_UNDERSTOOD.to_owned()))
}
