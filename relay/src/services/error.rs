//! The error of a request, from its check to its answer. It becomes a [`Status`] where the answer leaves the relay.

use crate::decisions::probe::NoProbe;
use std::time::Duration;
use talaria_bus::Partition;
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::v1::{DeliveryState, QuestionFailure};
use thiserror::Error;
use tonic::{Code, Status};

/// For the answer of another relay.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Error {
    /// The request is malformed.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Forbidden(String),
    /// From another relay.
    #[error("{message}")]
    Refused { code: Code, message: String },
    #[error("no {what} is known{}", hint(*.behind, ", or it is not kept any more"))]
    NotKnown { what: String, behind: u64 },
    #[error("no {what} is known{}", hint(*.behind, ": it never came, waits to be planned, or is not kept any more"))]
    NeverCame { what: String, behind: u64 },
    #[error("no {what} is known to the relays that answer: {}", unanswered(.missing))]
    NotKnownYet { what: String, missing: Vec<Partition> },
    #[error("{0}")]
    NoSuchRoute(String),
    #[error("{0}")]
    NoSuchTenant(String),
    #[error("{id} does not wait any more: it is {}: {reason}", .state.name())]
    NotWaiting { id: DeliveryId, state: DeliveryState, reason: String },
    #[error(
        "an attempt of {0} is under way, and whether it arrives cannot be known: try again when it has ended"
    )]
    UnderWay(DeliveryId),
    #[error("{id} was sent again meanwhile: it is of generation {now}, and not {wanted}")]
    OtherGeneration { id: DeliveryId, wanted: u32, now: u32 },
    #[error("the event of {0} is not kept any more")]
    EventNotKept(DeliveryId),
    #[error("the route {tenant}/{route} is not configured; replay once it is back")]
    RouteNotConfigured { tenant: String, route: String },
    #[error(
        "the route {tenant}/{route} does not want {event}: its events or its filters are for others; `talaria explain {event}` says \
         why"
    )]
    RouteDoesNotWant { event: EventId, tenant: String, route: String },
    #[error("{tenant}/{route} {why}")]
    NoProbe { tenant: String, route: String, why: NoProbe },
    #[error("{0} was not sent under this generation")]
    NotSent(DeliveryId),
    #[error("{0} has ended already")]
    JobEnded(String),
    #[error("{id} has no files: it is {state}")]
    NotCompleted { id: String, state: &'static str },
    #[error(
        "{0} has no links: when it ended, its tenant gave none; write media: {{mode: link}} beside openrouter of the tenant, for the jobs \
         after it"
    )]
    NoLinks(String),
    #[error("the event of {0} is not kept any more")]
    EndNotKept(String),
    #[error("{0} is being submitted: try again in a minute")]
    BeingSubmitted(String),
    /// The tenant's configuration lacks it, or the ingress cannot read it.
    #[error("{0}")]
    NoApiKey(String),
    #[error("another request came under the id {0}; a new request needs an id of its own")]
    OtherRequest(String),
    #[error("the job was not submitted: {0}")]
    OverBudget(String),
    #[error("{0}; no job was made, try again")]
    NoIngress(String),
    #[error("what is asked for is too large for the bus")]
    TooLarge,
    #[error("the bus or the status is far behind; nothing was done, try again")]
    FarBehind,
    #[error(
        "the partition was given to another relay meanwhile, and it may still be done: see what is there before you ask again"
    )]
    Lost,
    #[error("{}", unanswered(.0))]
    NoOwner(Vec<Partition>),
    #[error("it did not answer within {ANSWER_DEADLINE:?}")]
    NoAnswer,
    #[error(
        "the relay {relay}, which owns partition {partition}, did not answer, and it may still be done: see what is there before you \
         ask again"
    )]
    MayBeDone { relay: String, partition: Partition },
    #[error("its answer is not understood; does it run another version?")]
    NotUnderstood,
    #[error("the answer is too large to be given by another relay")]
    AnswerTooLarge,
    #[error("this relay does not own the partition")]
    NotOwned,
    #[error("this relay does not know what is asked")]
    UnknownQuestion,
    #[error("the journal does not reach back to this token; watch without one")]
    TokenTooOld,
    #[error("who may ask was changed: ask again")]
    Revoked,
    #[error("the relay is stopping; resume with the last token")]
    Stopping,
    #[error("{0}")]
    Bus(String),
    #[error("the status view cannot be read; the log says why")]
    View,
}

/// A hint about an unknown id, by the number of commits that the view is behind.
fn hint(behind: u64, otherwise: &str) -> String {
    match behind {
        0 => otherwise.to_owned(),
        n => format!(": the status is {n} commits of the journal behind; ask again soon"),
    }
}

fn unanswered(partitions: &[Partition]) -> String {
    let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    let which = if numbers.len() == 1 { "partition" } else { "partitions" };
    format!(
        "{which} {} cannot be asked: no relay owns it at the moment, or its owner does not answer; try again",
        numbers.join(", ")
    )
}

impl Error {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Forbidden(_) => Code::PermissionDenied,
            Self::Refused { code, .. } => *code,
            Self::TokenTooOld => Code::OutOfRange,
            Self::Revoked => Code::Unauthenticated,
            Self::NotKnown { .. }
            | Self::NeverCame { .. }
            | Self::NotSent(_)
            | Self::NoSuchRoute(_)
            | Self::NoSuchTenant(_) => Code::NotFound,
            Self::NotWaiting { .. }
            | Self::UnderWay(_)
            | Self::OtherGeneration { .. }
            | Self::EventNotKept(_)
            | Self::RouteNotConfigured { .. }
            | Self::RouteDoesNotWant { .. }
            | Self::NoProbe { .. }
            | Self::JobEnded(_)
            | Self::NotCompleted { .. }
            | Self::NoLinks(_)
            | Self::EndNotKept(_)
            | Self::BeingSubmitted(_)
            | Self::NoApiKey(_)
            | Self::TooLarge => Code::FailedPrecondition,
            Self::OtherRequest(_) => Code::AlreadyExists,
            Self::NotKnownYet { .. }
            | Self::FarBehind
            | Self::Lost
            | Self::NoOwner(_)
            | Self::NoAnswer
            | Self::NotUnderstood
            | Self::MayBeDone { .. }
            | Self::NotOwned
            | Self::Stopping
            | Self::NoIngress(_)
            | Self::Bus(_) => Code::Unavailable,
            Self::UnknownQuestion => Code::Unimplemented,
            Self::AnswerTooLarge | Self::OverBudget(_) => Code::ResourceExhausted,
            Self::View => Code::Internal,
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.code() == Code::NotFound
    }

    /// Whether the error is an answer to the question. Other errors mean that the relay could not find out.
    pub(super) fn is_an_answer(&self) -> bool {
        use Code::{FailedPrecondition, InvalidArgument, NotFound, OutOfRange, PermissionDenied};
        matches!(self.code(), NotFound | FailedPrecondition | InvalidArgument | PermissionDenied | OutOfRange)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<talaria_bus::Error> for Error {
    fn from(error: talaria_bus::Error) -> Self {
        Self::Bus(error.to_string())
    }
}

impl From<&Error> for QuestionFailure {
    fn from(error: &Error) -> Self {
        Self { code: error.code().into(), message: error.to_string(), not_owned: *error == Error::NotOwned }
    }
}

impl From<QuestionFailure> for Error {
    fn from(failure: QuestionFailure) -> Self {
        if failure.not_owned {
            return Self::NotOwned;
        }
        Self::Refused { code: Code::from_i32(failure.code), message: failure.message }
    }
}

impl Error {
    /// The error of an id that is unknown here and at all other relays that answered.
    pub(super) fn of_all(self, others_behind: u64, missing: Vec<Partition>) -> Self {
        match self {
            Self::NotKnown { what, .. } | Self::NeverCame { what, .. } if !missing.is_empty() => {
                Self::NotKnownYet { what, missing }
            }
            Self::NotKnown { what, behind } => Self::NotKnown { what, behind: behind.max(others_behind) },
            Self::NeverCame { what, behind } => Self::NeverCame { what, behind: behind.max(others_behind) },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_the_bus_as_it_is() {
        let partition = Partition::new(7, 64).unwrap();
        for error in [
            Error::NotKnown { what: "event evt_x".into(), behind: 3 },
            Error::JobEnded("rpl_1".into()),
            Error::NoOwner(vec![partition]),
            Error::NotOwned,
            Error::View,
        ] {
            let there = Error::from(QuestionFailure::from(&error));
            assert_eq!((there.code(), there.to_string()), (error.code(), error.to_string()));
            let status = Status::from(there);
            assert_eq!((status.code(), status.message().to_owned()), (error.code(), error.to_string()));
        }
    }

    #[test]
    fn an_unknown_id_may_be_too_old_or_not_folded_yet() {
        let not_known = |behind| Error::NotKnown { what: "event evt_x".into(), behind }.to_string();
        assert_eq!(not_known(0), "no event evt_x is known, or it is not kept any more");
        assert_eq!(
            not_known(9),
            "no event evt_x is known: the status is 9 commits of the journal behind; ask again soon"
        );
        let missing: Vec<Partition> = Partition::all(64).skip(3).take(2).collect();
        let yet = Error::NotKnownYet { what: "event evt_x".into(), missing: missing.clone() };
        assert!(
            yet.to_string().contains("to the relays that answer: partitions 03, 04 cannot be asked"),
            "{yet}"
        );
        assert_eq!(yet.code(), Code::Unavailable, "it may be there");
        assert!(
            Error::NoOwner(missing[..1].to_vec()).to_string().starts_with("partition 03 cannot be asked")
        );
    }
}
