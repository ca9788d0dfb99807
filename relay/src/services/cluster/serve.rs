//! Answers the questions of other relays, with the code that answers clients.

use super::{
    ListRequest,
    pieces::{LARGEST_ANSWER, Pieces, largest_piece},
    wire::{decode, list_part, numbers, partitions},
};
use crate::services::{
    access::Caller,
    control::{Operator, explain},
    error::Error,
};
use bytes::Bytes;
use prost::Message;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use talaria_bus::Questions;
use talaria_core::config::Scope;
use talaria_proto::v1::{
    Answer, AnswerPiece, ClusterMethod as Method, ListControlActionsRequest, ListDeliveriesRequest,
    ListEventsRequest, ListJobsRequest, ListQuarantinedRequest, ListReplayJobsRequest, ListUnmatchedRequest,
    PlannedThrough, Question, QuestionFailure, answer::Outcome,
};
use talaria_telemetry::LogLimiter;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// The most questions at once; more wait.
const AT_ONCE: usize = 64;

/// After a failed subscription.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Answers other relays until `stop`.
pub(crate) async fn answer_questions(operator: Operator, stop: CancellationToken) {
    let (pieces, mut answering) = (Pieces::default(), JoinSet::new());
    let work = async {
        loop {
            match operator.local.bus.questions().await {
                // A bus for one process has no other relays.
                Ok(None) => std::future::pending().await,
                Ok(Some(mut questions)) => {
                    serve(&operator, &pieces, &mut questions, &mut answering).await;
                }
                Err(error) => log_failure(&error),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}

fn log_failure(error: &talaria_bus::Error) {
    static FAILED: LogLimiter = LogLimiter::new();
    if let Some(left_out) = FAILED.admit() {
        tracing::warn!(%error, left_out, "question subscription failed");
    }
}

/// Until the subscription ends. Answers that were begun go on.
async fn serve(operator: &Operator, pieces: &Pieces, questions: &mut Questions, answering: &mut JoinSet<()>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let question = match questions.next().await {
            Ok(question) => question,
            Err(error) => {
                log_failure(&error);
                return;
            }
        };
        let (operator, pieces) = (operator.clone(), pieces.clone());
        answering.spawn(async move {
            let piece = piece(&operator, &pieces, &question.question).await;
            if let Some(piece) = piece
                && let Err(error) = question.answer(piece.encode_to_vec().into()).await
            {
                tracing::debug!(%error, "answer to another relay failed");
            }
            drop(permit);
        });
        while answering.try_join_next().is_some() {}
    }
}

/// The piece to send back; `None` for an unreadable question, or if the answer is not kept any more.
async fn piece(operator: &Operator, pieces: &Pieces, question: &Bytes) -> Option<AnswerPiece> {
    let question: Question = decode(question).ok()?;
    let largest = largest_piece(operator.local.bus.largest_commit());
    if let Some(rest) = question.rest {
        return pieces.rest(rest, largest);
    }
    let answer = answer(operator, question).await;
    let mut encoded = answer.encode_to_vec();
    if encoded.len() > LARGEST_ANSWER {
        let failure = Outcome::Failure(QuestionFailure::from(&Error::AnswerTooLarge));
        encoded = Answer { outcome: Some(failure), ..answer }.encode_to_vec();
    }
    Some(pieces.first(encoded.into(), largest))
}

async fn answer(operator: &Operator, question: Question) -> Answer {
    let local = &operator.local;
    // Before the rows are read: a commit that is folded afterwards is missing in them.
    let (own, view_behind) = (local.own(), local.behind());
    let asked = partitions(&question.partitions, local.bus.partitions());
    let is_of_partitions = question.method() != Method::GetEvidence;
    let outcome = if is_of_partitions && own.partitions.is_disjoint(&asked) {
        Err(Error::NotOwned)
    } else {
        respond(operator, &question).await
    };
    // A partition that was lost meanwhile may be missing in the answer.
    let still = local.own().partitions;
    let mut answered: BTreeSet<_> = own.partitions.intersection(&still).copied().collect();
    if outcome == Err(Error::NotOwned) {
        answered.clear();
    }
    Answer {
        outcome: Some(match &outcome {
            Ok(response) => Outcome::Response(response.clone()),
            Err(error) => Outcome::Failure(error.into()),
        }),
        partitions: numbers(&answered),
        view_behind,
    }
}

async fn respond(operator: &Operator, question: &Question) -> Result<Bytes, Error> {
    let (local, request) = (&operator.local, &question.request);
    let caller = Caller::from(question.caller.clone().unwrap_or_default());
    let method = question.method();
    // The relay that asks has checked this, too; a faulty version must not give control to every caller.
    let (needed, name) = needed(method);
    if caller.scope < needed {
        return Err(Error::Forbidden(format!("this takes a token of scope {name}")));
    }
    if question.min_commit > 0 {
        local.shows(&local.own(), question.min_commit).await?;
    }
    let caller = &caller;
    match method {
        Method::GetEvent => encode(local.event(caller, decode(request)?).await),
        Method::GetDelivery => encode(local.delivery(caller, decode(request)?).await),
        Method::GetEvidence => encode(local.evidence_of(caller, decode(request)?).await),
        Method::ListEvents => list::<ListEventsRequest>(operator, caller, request).await,
        Method::ListUnmatched => list::<ListUnmatchedRequest>(operator, caller, request).await,
        Method::ListDeliveries => list::<ListDeliveriesRequest>(operator, caller, request).await,
        Method::ListQuarantined => list::<ListQuarantinedRequest>(operator, caller, request).await,
        Method::ListReplayJobs => list::<ListReplayJobsRequest>(operator, caller, request).await,
        Method::ListControlActions => list::<ListControlActionsRequest>(operator, caller, request).await,
        Method::GetSummary => encode(local.summary(caller, decode(request)?).await),
        Method::GetSeries => encode(local.series(caller, decode(request)?).await),
        Method::Explain => encode(explain::explain(local, caller, decode(request)?).await),
        Method::Pause => encode(operator.pause(caller, decode(request)?).await),
        Method::Resume => encode(operator.resume(caller, decode(request)?).await),
        Method::ProbeRoute => encode(operator.probe(caller, decode(request)?).await),
        Method::CancelDelivery => encode(operator.cancel(caller, decode(request)?).await),
        Method::ReplayDelivery => encode(operator.replay(caller, decode(request)?).await),
        Method::ReportRun => encode(operator.report_run(decode(request)?).await),
        Method::CountReplay => encode(operator.count_replay(caller, decode(request)?).await),
        Method::StartReplay => encode(operator.start_replay(caller, decode(request)?).await),
        Method::CancelReplay => encode(operator.cancel_replay(caller, decode(request)?).await),
        Method::GetReplayJob => encode(local.job(caller, decode(request)?).await),
        Method::ListIds => encode(local.ids(caller, decode(request)?).await),
        Method::StartJob => encode(operator.start_job(caller, decode(request)?).await),
        Method::StopJob => encode(operator.stop_job(caller, decode(request)?).await),
        Method::GetJob => encode(local.openrouter_job(caller, decode(request)?).await),
        Method::ListJobs => list::<ListJobsRequest>(operator, caller, request).await,
        Method::ListCosts => encode(local.costs(caller, decode(request)?).await),
        Method::PlannedThrough => {
            let event_seq = local.planned_through().await;
            encode(Ok(PlannedThrough { event_seq }))
        }
        Method::Unspecified => Err(Error::UnknownQuestion),
    }
}

/// The scope that a method needs, and its name.
fn needed(method: Method) -> (Scope, &'static str) {
    use Method::{
        CancelDelivery, CancelReplay, Pause, ProbeRoute, ReplayDelivery, ReportRun, Resume, StartJob,
        StartReplay, StopJob,
    };
    match method {
        CancelDelivery | CancelReplay | Pause | ProbeRoute | ReplayDelivery | ReportRun | Resume
        | StartReplay => (Scope::Control, "control"),
        StartJob | StopJob => (Scope::Submit, "submit"),
        _ => (Scope::Read, "read"),
    }
}

async fn list<L: ListRequest>(operator: &Operator, caller: &Caller, request: &Bytes) -> Result<Bytes, Error> {
    let page = decode::<L>(request)?.page(&operator.local, caller).await?;
    encode(Ok(list_part::<L>(page)))
}

fn encode(response: Result<impl Message, Error>) -> Result<Bytes, Error> {
    response.map(|response| response.encode_to_vec().into())
}
