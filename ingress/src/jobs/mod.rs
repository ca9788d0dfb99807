//! Answers the questions of relays about OpenRouter: its models, whether a request fits, submits, polls and files. Only ingresses
//! have the API keys.
//!
//! A submit is carried out once, and its outcome says whether OpenRouter made the job. A poll that finds a job's end publishes the
//! event that the callback would be, before it is answered.
//!
//! - [`answer`]: the answer to one question. [`catalogue`]: the models, kept for a while. [`keep`]: files of completed jobs.

mod answer;
mod catalogue;
mod keep;
#[cfg(test)]
mod tests;

use answer::{not_asked, unknown_question};
use catalogue::Catalogue;
use keep::Keeper;
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use talaria_bus::{OpenRouterQuestions, Publisher, Question};
use talaria_core::config::Config;
use talaria_openrouter::Client;
use talaria_proto::v1::{
    NotAsked, NotAskedKind, OpenRouterAnswer, OpenRouterQuestion, open_router_answer::Answer,
    open_router_question::Ask,
};
use talaria_telemetry::{LogLimiter, trace::Tracer};
use tokio::{
    sync::{AcquireError, Semaphore, SemaphorePermit, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Submits at once, which take seconds.
const MOST_SUBMITS: usize = 32;

/// Questions about files at once, which wait for up to 20 seconds.
const MOST_KEEPS: usize = 64;

/// Other questions at once.
const MOST_OTHERS: usize = 64;

/// Questions at once, with those that wait.
const MOST_QUESTIONS: usize = 256;

/// The deadline for an answer, somewhat shorter than the bus' own.
const ANSWER_DEADLINE: Duration = Duration::from_secs(85);

/// How long a question waits for its turn.
const TURN_DEADLINE: Duration = Duration::from_secs(5);

/// The deadline for the bus to store an event.
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// The pause before the next try to take questions.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Asks OpenRouter for the relays.
pub(crate) struct Jobs {
    config: watch::Receiver<Arc<Config>>,
    publisher: Publisher,
    client: Client,
    catalogue: Catalogue,
    keeper: Keeper,
    tracer: Tracer,
    submits: Semaphore,
    keeps: Semaphore,
    others: Semaphore,
}

impl Jobs {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>, publisher: Publisher, client: Client) -> Self {
        Self {
            config,
            publisher,
            keeper: Keeper::new(client.clone()),
            client,
            catalogue: Catalogue::default(),
            tracer: Tracer::default(),
            submits: Semaphore::new(MOST_SUBMITS),
            keeps: Semaphore::new(MOST_KEEPS),
            others: Semaphore::new(MOST_OTHERS),
        }
    }

    /// Answers questions until `stop`, and then finishes those under way within `drain`. Takes none before a tenant has a key.
    pub(crate) async fn serve(self: Arc<Self>, stop: CancellationToken, drain: impl FnOnce() -> Duration) {
        let mut config = self.config.clone();
        let has_key = |config: &Arc<Config>| config.tenants.values().any(|tenant| tenant.jobs.is_some());
        tokio::select! {
            () = stop.cancelled() => return,
            found = async { config.wait_for(has_key).await.is_ok() } => if !found { return },
        }
        let mut answering = JoinSet::new();
        while let Some(questions) = self.take_questions(&stop).await {
            self.answer_all(questions, &stop, &mut config, &mut answering).await;
        }
        let finish = async { while answering.join_next().await.is_some() {} };
        if timeout(drain(), finish).await.is_err() {
            tracing::warn!("requests to OpenRouter were cut off by the stop");
        }
    }

    /// `None` after `stop`.
    async fn take_questions(&self, stop: &CancellationToken) -> Option<OpenRouterQuestions> {
        static FAILED: LogLimiter = LogLimiter::new();
        while !stop.is_cancelled() {
            match self.publisher.openrouter_questions().await {
                Ok(questions) => return Some(questions),
                Err(error) => {
                    if let Some(left_out) = FAILED.admit() {
                        tracing::warn!(%error, left_out, "questions about OpenRouter cannot be taken");
                    }
                    tokio::select! { () = stop.cancelled() => {}, () = sleep(RETRY_DELAY) => {} }
                }
            }
        }
        None
    }

    /// Starts an answer to each question until they end. After `stop` those that came already are answered and not carried out.
    async fn answer_all(
        self: &Arc<Self>,
        mut questions: OpenRouterQuestions,
        stop: &CancellationToken,
        config: &mut watch::Receiver<Arc<Config>>,
        answering: &mut JoinSet<()>,
    ) {
        let mut is_closed = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !is_closed => {
                    is_closed = true;
                    questions.close().await;
                }
                Some(_) = answering.join_next(), if !answering.is_empty() => {}
                Ok(()) = config.changed() => {
                    let config = Arc::clone(&config.borrow_and_update());
                    let jobs = config.tenants.values().filter_map(|tenant| tenant.jobs.as_ref());
                    self.client.keep_only(jobs.filter_map(|jobs| jobs.api.as_ref()));
                }
                question = questions.next() => match question {
                    Ok(question) if is_closed => reply(question, &refused(busy("the ingress stops"))).await,
                    Ok(question) if answering.len() >= MOST_QUESTIONS => reply(question, &refused(too_many())).await,
                    Ok(question) => {
                        answering.spawn(Arc::clone(self).answer_one(question));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no more questions about OpenRouter");
                        return;
                    }
                },
            }
        }
    }

    async fn answer_one(self: Arc<Self>, question: Question) {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let answer = match OpenRouterQuestion::decode(question.question.clone()) {
            Ok(asked) => match timeout(TURN_DEADLINE, self.turn(&asked)).await {
                Ok(_permit) => self.answer(asked, deadline).await,
                Err(_) => refused(too_many()),
            },
            Err(_) => refused(unknown_question()),
        };
        reply(question, &answer).await;
    }

    /// Waits for the turn of a question. A check comes before a submit: while there is no room for one, it is refused before the
    /// relay has recorded a job.
    async fn turn(&self, asked: &OpenRouterQuestion) -> Result<SemaphorePermit<'_>, AcquireError> {
        match asked.ask {
            Some(Ask::Submit(_)) => self.submits.acquire().await,
            Some(Ask::Check(_)) => {
                drop(self.submits.acquire().await?);
                self.others.acquire().await
            }
            Some(Ask::Keep(_)) => self.keeps.acquire().await,
            _ => self.others.acquire().await,
        }
    }
}

fn refused(not_asked: NotAsked) -> OpenRouterAnswer {
    OpenRouterAnswer { answer: Some(Answer::NotAsked(not_asked)) }
}

fn busy(why: &str) -> NotAsked {
    not_asked(NotAskedKind::Unavailable, why)
}

fn too_many() -> NotAsked {
    busy("the ingress has too many requests to OpenRouter under way")
}

async fn reply(question: Question, answer: &OpenRouterAnswer) {
    if let Err(error) = question.answer(answer.encode_to_vec().into()).await {
        static FAILED: LogLimiter = LogLimiter::new();
        if let Some(left_out) = FAILED.admit() {
            tracing::warn!(%error, left_out, "question about OpenRouter not answered");
        }
    }
}
