//! The comparison of states, without the numbers of their lanes and items.

use super::{Memory, Notices, State, kept::Kept, lanes::LaneState, waiting::Waiting};
use crate::decisions::breaker::Shut;
use std::{collections::BTreeMap, fmt};
use talaria_proto::v1::{DeliveryTask, Job, PauseChanged, ReplayJob};

#[derive(Debug, PartialEq)]
struct KnownState<'a> {
    planned_through: u64,
    /// In the order of their base records.
    kept: Vec<KnownEvent>,
    lanes: BTreeMap<(&'a str, &'a str), KnownLane>,
    pauses: Vec<&'a PauseChanged>,
    replays: Vec<&'a ReplayJob>,
    jobs: Vec<(&'a Job, Option<u64>)>,
    notices: &'a Notices,
    owner: Option<(&'a str, u64)>,
    opened_at: Option<u64>,
    floors: (u64, u64),
}

#[derive(Debug, PartialEq)]
struct KnownEvent {
    id: String,
    /// Whether it is found by its id.
    is_known: bool,
    is_carried: bool,
    seq: u64,
    digest: u64,
    base: Option<u64>,
    times: [i64; 3],
    waiting: Vec<(DeliveryTask, bool)>,
}

#[derive(Debug, PartialEq)]
struct KnownLane {
    due: Vec<(i64, u64)>,
    under_way: Vec<u64>,
    oldest: Option<jiff::Timestamp>,
    reserved: usize,
    starts: super::starts::Starts,
    shut: Option<Shut>,
    memory: Memory,
}

impl State {
    fn all(&self) -> KnownState<'_> {
        KnownState {
            planned_through: self.planned_through,
            kept: self.kept.iter().map(|kept| self.event(kept)).collect(),
            lanes: self.lanes.ids().filter_map(|id| self.known_lane(id)).collect(),
            pauses: self.paused.all().collect(),
            replays: self.replays().collect(),
            jobs: self.jobs.with_bases().collect(),
            notices: &self.notices,
            owner: self.owner(),
            opened_at: self.opened_at,
            floors: (self.floors().events, self.floors().journal),
        }
    }

    fn event(&self, kept: &Kept) -> KnownEvent {
        let task = |waiting: &Waiting| (self.task_of(kept, waiting).unwrap(), waiting.is_under_way);
        let mut waiting: Vec<_> = self.of_event(kept).map(|(_, waiting)| task(waiting)).collect();
        waiting.sort_by(|(one, _), (other, _)| one.delivery_id.cmp(&other.delivery_id));
        KnownEvent {
            id: kept.id.to_string(),
            is_known: self.known(kept.id).is_some_and(|known| known.event_seq == kept.event_seq),
            is_carried: kept.is_carried,
            seq: kept.event_seq,
            digest: kept.digest,
            base: kept.base.seq(),
            times: [kept.base_at, kept.last_at, kept.received_at],
            waiting,
        }
    }

    /// Everything of some tenants, in lines, without the sequences of commits. An event of which nothing waits is asked for by its
    /// sequence.
    pub(super) fn share(&self, of: impl Fn(&str) -> bool, of_event: impl Fn(u64) -> bool) -> Vec<String> {
        let kept = self.kept.iter().map(|kept| KnownEvent { base: None, ..self.event(kept) });
        let kept = kept.filter(|event| match event.waiting.first() {
            Some((task, _)) => of(&task.tenant),
            None => of_event(event.seq),
        });
        let lanes: BTreeMap<_, _> = self.lanes.ids().filter_map(|id| self.known_lane(id)).collect();
        let lanes = lanes.into_iter().filter(|((tenant, _), _)| of(tenant));
        let pauses =
            self.paused.all().filter(|changed| changed.pause.as_ref().is_some_and(|pause| of(&pause.tenant)));
        let jobs = self.jobs().filter(|job| of(&job.tenant));
        kept.map(|line| format!("{line:?}"))
            .chain(lanes.map(|line| format!("{line:?}")))
            .chain(pauses.map(|line| format!("{line:?}")))
            .chain(jobs.map(|line| format!("{line:?}")))
            .chain(self.notices.share(&of))
            .chain([format!("{:?} {}", self.owner, self.last_at)])
            .collect()
    }

    /// A lane without any content is left out.
    fn known_lane(&self, id: super::LaneId) -> Option<((&str, &str), KnownLane)> {
        let LaneState { lane, due, under_way, reserved, starts, shut, .. } = self.lanes.get(id)?;
        let known = KnownLane {
            due: due.iter().copied().collect(),
            under_way: under_way.iter().copied().collect(),
            oldest: self.oldest(id),
            reserved: *reserved,
            starts: starts.clone(),
            shut: shut.clone(),
            memory: self.memory(id),
        };
        let is_empty = due.is_empty() && under_way.is_empty() && starts.all().is_empty() && shut.is_none();
        (!is_empty).then_some(((&*lane.tenant, &*lane.route), known))
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all().fmt(f)
    }
}
