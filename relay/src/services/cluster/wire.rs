//! Questions and answers as they cross the bus.

use super::{
    merge::Page,
    pieces::{Assembled, Assembly},
};
use crate::services::{
    access::Caller,
    cluster::list::ListRequest,
    error::{ANSWER_DEADLINE, Error},
};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeSet;
use talaria_bus::{Bus, Partition};
use talaria_core::config::Scope;
use talaria_proto::v1::{
    Answer, AnswerPiece, ClusterMethod, ListItem, ListPart, Question, QuestionCaller, answer::Outcome,
};
use talaria_telemetry::LogLimiter;
use tokio::time::timeout;

/// The most bytes of entries in an answer, unless it is a single entry. The relay that asks goes on from there.
const LARGEST_LIST: usize = 4 << 20;

impl From<&Caller> for QuestionCaller {
    fn from(caller: &Caller) -> Self {
        Self {
            token_name: caller.token.clone(),
            control: caller.scope == Scope::Control,
            submit: caller.scope >= Scope::Submit,
            tenant: caller.tenant.clone().unwrap_or_default(),
        }
    }
}

impl From<QuestionCaller> for Caller {
    fn from(caller: QuestionCaller) -> Self {
        Self {
            token: caller.token_name,
            scope: match (caller.control, caller.submit) {
                // An older relay sets `control` alone.
                (true, _) => Scope::Control,
                (false, true) => Scope::Submit,
                (false, false) => Scope::Read,
            },
            tenant: Some(caller.tenant).filter(|tenant| !tenant.is_empty()),
        }
    }
}

pub(super) fn question(
    caller: &Caller,
    method: ClusterMethod,
    request: &impl Message,
    min_commit: u64,
) -> Question {
    Question {
        method: method.into(),
        request: request.encode_to_vec().into(),
        caller: Some(caller.into()),
        partitions: Vec::new(),
        min_commit,
        rest: None,
    }
}

pub(super) fn numbers(partitions: &BTreeSet<Partition>) -> Vec<u32> {
    partitions.iter().map(|partition| partition.number().into()).collect()
}

/// The partitions with these numbers, of `count`.
pub(super) fn partitions(numbers: &[u32], count: u16) -> BTreeSet<Partition> {
    numbers.iter().filter_map(|number| Partition::new(u16::try_from(*number).ok()?, count)).collect()
}

pub(super) fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, Error> {
    M::decode(bytes.clone()).map_err(|_| Error::NotUnderstood)
}

/// The part of a list in an answer. A page that is too large is cut.
pub(super) fn list_part<L: ListRequest>(page: Page<L::Position, L::Item>) -> ListPart {
    let (mut items, mut size) = (Vec::new(), 0);
    let mut end = page.end.as_ref().map(L::token).unwrap_or_default();
    let mut entries = page.items.into_iter().peekable();
    while let Some((position, item)) = entries.next() {
        let item = Bytes::from(item.encode_to_vec());
        size += item.len();
        items.push(ListItem { position: L::token(&position), item });
        if size >= LARGEST_LIST && entries.peek().is_some() {
            end = L::token(&position);
            break;
        }
    }
    ListPart { items, end, total: page.total }
}

/// The page from a part of a list.
pub(super) fn page<L: ListRequest>(part: &ListPart) -> Result<Page<L::Position, L::Item>, Error> {
    let position = |token: &str| L::position(token).map_err(|_| Error::NotUnderstood);
    let items = part.items.iter().map(|entry| Ok((position(&entry.position)?, decode(&entry.item)?)));
    let end = if part.end.is_empty() { None } else { Some(position(&part.end)?) };
    Ok(Page { items: items.collect::<Result<_, Error>>()?, end, total: part.total })
}

/// The answer of another relay.
pub(in crate::services) struct PeerAnswer {
    pub relay: String,
    /// The partitions of the question.
    pub asked: BTreeSet<Partition>,
    /// The partitions that it answered for.
    pub answered: BTreeSet<Partition>,
    pub behind: u64,
    pub outcome: Result<Bytes, Error>,
}

impl PeerAnswer {
    pub(in crate::services) fn decoded<M: Message + Default>(&self) -> Result<M, Error> {
        decode(self.outcome.as_ref().map_err(Clone::clone)?)
    }
}

/// Asks a relay. A failure on the way is an outcome, too, for no partition.
pub(super) async fn ask(
    bus: Bus,
    relay: String,
    asked: BTreeSet<Partition>,
    mut question: Question,
) -> PeerAnswer {
    question.partitions = numbers(&asked);
    match whole(&bus, &relay, &question).await {
        Ok(answer) => {
            let answered = partitions(&answer.partitions, bus.partitions());
            let outcome = match answer.outcome {
                Some(Outcome::Response(response)) => Ok(response),
                Some(Outcome::Failure(failure)) => Err(failure.into()),
                None => Err(Error::NotUnderstood),
            };
            PeerAnswer { relay, asked, answered, behind: answer.view_behind, outcome }
        }
        Err(error) => {
            static SILENT: LogLimiter = LogLimiter::new();
            if let Some(left_out) = SILENT.admit() {
                tracing::warn!(relay, %error, left_out, "relay did not answer");
            }
            PeerAnswer { relay, asked, answered: BTreeSet::new(), behind: 0, outcome: Err(error) }
        }
    }
}

async fn whole(bus: &Bus, relay: &str, question: &Question) -> Result<Answer, Error> {
    let mut assembly = Assembly::default();
    let mut piece = exchange(bus, relay, question).await?;
    loop {
        match assembly.add(&piece)? {
            Assembled::Whole(answer) => return decode(&answer),
            Assembled::Needs(rest) => {
                let question = Question { rest: Some(rest), ..Question::default() };
                piece = exchange(bus, relay, &question).await?;
            }
        }
    }
}

async fn exchange(bus: &Bus, relay: &str, question: &Question) -> Result<AnswerPiece, Error> {
    let asked = bus.ask(relay, question.encode_to_vec().into());
    let answer = timeout(ANSWER_DEADLINE, asked).await.map_err(|_| Error::NoAnswer)??;
    decode(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::{Delivery, ListDeliveriesRequest, ListQuarantinedRequest, QuarantinedCallback};

    #[test]
    fn a_question_arrives_unchanged() {
        let own = |scope| Caller { token: "ops".into(), scope, tenant: Some("acme".into()) };
        for caller in [own(Scope::Read), own(Scope::Submit), Caller::unrestricted()] {
            let request = ListDeliveriesRequest { page_size: 7, ..ListDeliveriesRequest::default() };
            let mut asked = question(&caller, ClusterMethod::ListDeliveries, &request, 9);
            let three = Partition::all(64).skip(3).take(1).collect();
            asked.partitions = numbers(&three);
            let there = Question::decode(asked.encode_to_vec().as_slice()).unwrap();
            assert_eq!(there.method(), ClusterMethod::ListDeliveries);
            assert_eq!(decode::<ListDeliveriesRequest>(&there.request), Ok(request));
            assert_eq!(Caller::from(there.caller.unwrap()), caller);
            assert_eq!((partitions(&there.partitions, 64), there.min_commit), (three, 9));
        }
        assert!(partitions(&[64, 70_000], 64).is_empty(), "there are no such partitions");
        assert!(decode::<Question>(&Bytes::from_static(&[0xFF])).is_err());
    }

    #[test]
    fn an_older_relay_says_control_alone() {
        let older = QuestionCaller { control: true, ..QuestionCaller::default() };
        assert_eq!(Caller::from(older).scope, Scope::Control);
        assert_eq!(Caller::from(QuestionCaller::default()).scope, Scope::Read);
    }

    #[test]
    fn a_page_arrives_unchanged() {
        let delivery = |id: &str| Delivery { id: id.into(), ..Delivery::default() };
        let items = vec![((9, -1), delivery("dlv_a")), ((8, 7), delivery("dlv_b"))];
        for end in [None, Some((8, 7))] {
            let found = Page { items: items.clone(), end, total: 3 };
            assert_eq!(
                page::<ListDeliveriesRequest>(&list_part::<ListDeliveriesRequest>(found.clone())),
                Ok(found)
            );
        }
        let wrong = ListPart { end: "x".into(), ..ListPart::default() };
        assert!(page::<ListDeliveriesRequest>(&wrong).is_err());
    }

    #[test]
    fn a_page_is_cut_where_it_becomes_too_large() {
        let callback = |payload: usize| QuarantinedCallback {
            payload: vec![0; payload].into(),
            ..QuarantinedCallback::default()
        };
        let found = |sizes: &[usize]| {
            let items =
                (1..).zip(sizes.iter().rev()).map(|(at, size)| ((at, String::new()), callback(*size)));
            Page { items: items.collect::<Vec<_>>().into_iter().rev().collect(), end: None, total: 0 }
        };
        let cross =
            |found| page::<ListQuarantinedRequest>(&list_part::<ListQuarantinedRequest>(found)).unwrap();
        let cut = cross(found(&[9, LARGEST_LIST, 9, 9]));
        assert_eq!((cut.items.len(), cut.end), (2, Some((3, String::new()))), "the rest is asked for next");
        let single = cross(found(&[LARGEST_LIST * 2]));
        assert_eq!((single.items.len(), single.end), (1, None), "a single entry is not cut");
    }
}
