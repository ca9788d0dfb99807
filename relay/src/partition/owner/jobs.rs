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

/// The end of a question: the job, and what came of it.
pub(super) enum Answered {
    Submitted(String, submitted::Outcome),
    Polled(String, Polled),
    Kept(String, kept::Outcome),
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
                let outcome = match ask_openrouter(&bus, tenant.clone(), ask).await {
                    Ok(Answer::Kept(Kept { outcome: Some(outcome) })) => outcome,
                    Ok(Answer::NotAsked(not_asked)) => kept::Outcome::Failed(not_asked.message),
                    Ok(_) => kept::Outcome::Failed(NOT_UNDERSTOOD.to_owned()),
                    Err(error) => kept::Outcome::Failed(error.to_string()),
                };
                let outcome = match (outcome, directory) {
                    (kept::Outcome::Files(kept), Some(directory)) => {
                        let copied = files::copy(&kept_files, &directory, (&tenant, &openrouter_id), kept);
                        copied.await.map_or_else(kept::Outcome::Failed, kept::Outcome::Files)
                    }
                    (outcome, _) => outcome,
                };
                Answered::Kept(job, outcome)
            });
        }
    }

    fn files(&self) -> Files {
        self.tools.bus.files(self.tools.config.borrow().retention)
    }

    /// Removes the files of forgotten jobs. What cannot be removed stays, with a line in the log.
    pub(super) fn remove_files(&mut self, forgotten: Vec<ForgottenFiles>) {
        let kept_files = self.files();
        self.tasks.spawn(async move {
            for ForgottenFiles { tenant, openrouter_id, files } in forgotten {
                files::remove(&kept_files, (&tenant, &openrouter_id), files).await;
            }
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
            Ok(Answered::Kept(job, outcome)) => self.machine.files_tried(&job, &outcome, now),
            Err(error) => tracing::error!(%error, "question to OpenRouter failed"),
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
