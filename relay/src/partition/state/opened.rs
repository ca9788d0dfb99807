//! `Opened`: all of the state that is not in the records about kept events.

use super::{
    Notices, State,
    lanes::LaneState,
    pauses::Paused,
    time::{nanos, read, timestamp, write},
};
use crate::decisions::breaker::Shut;
use jiff::Timestamp;
use talaria_bus::Identity;
use talaria_proto::{
    time::to_proto,
    v1::{BreakerCause, Opened, Record, RouteChanged, RouteMemory, record::What},
};

/// The most starts that `Opened` repeats, over all lanes. Each takes 14 bytes, and a commit may have 1 MB. If there are more,
/// the newest of each lane are repeated: for a while after a takeover, routes with a very fast pace may get more requests than
/// their pace allows.
const MOST_STARTS: usize = 20_000;

impl State {
    /// The record with which a relay opens the partition. It repeats all pauses, breakers, running jobs, and the starts of the
    /// last two hours.
    pub(crate) fn opened(&self, identity: &Identity, now: Timestamp) -> Record {
        let opened = Opened {
            relay: identity.relay.clone(),
            run: identity.run,
            planned_through: self.planned_through,
            pauses: self.paused.set_back(self.behind(nanos(now))),
            routes: self.memories(nanos(now)),
            jobs: self.replays.values().cloned().collect(),
            notices: self.notices.repeated(now),
        };
        Record { at: Some(to_proto(now)), event_seq: 0, what: Some(What::Opened(opened)) }
    }

    /// By a clock that reads `now`.
    fn memories(&self, now: i64) -> Vec<RouteMemory> {
        let behind = self.behind(now);
        let recent = |lane: &LaneState| {
            let sent = lane.starts.recent(now.saturating_add(behind));
            sent.into_iter().map(|sent| sent.saturating_sub(behind)).collect()
        };
        let mut lanes: Vec<(&LaneState, Vec<i64>)> =
            self.lanes.iter().map(|lane| (lane, recent(lane))).collect();
        let most = share(lanes.iter().map(|(_, sent)| sent.len()).collect(), MOST_STARTS);
        for (_, sent) in &mut lanes {
            sent.drain(..sent.len().saturating_sub(most));
        }
        lanes.iter().filter_map(|(lane, sent)| memory(lane, sent, behind)).collect()
    }

    /// Replaces all that the record repeats, so that no record before it counts.
    pub(super) fn apply_opened(&mut self, opened: &Opened, at: i64) {
        let behind = self.behind(at);
        if behind > 0 {
            self.set_back(behind);
        }
        self.owner = Some((opened.relay.clone(), opened.run));
        self.passed(opened.planned_through);
        self.paused = Paused::default();
        opened.pauses.iter().for_each(|changed| self.paused.change(changed));
        self.replays.clear();
        opened.jobs.iter().for_each(|job| self.change_replay(job));
        self.notices = Notices::default();
        opened.notices.iter().for_each(|told| self.change_notices(told));
        for lane in self.lanes.iter_mut() {
            lane.starts.clear();
            lane.shut = None;
        }
        for route in &opened.routes {
            if let Some(changed) = &route.shut {
                self.change_route(changed);
            }
            let lane = self.lanes.number(&route.tenant, &route.route);
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.starts.replace(route.sent.iter().map(|sent| read(Some(sent))));
            }
        }
    }
}

/// The memory of a lane's route, with the breaker set back by `behind` nanoseconds; `None` if it is empty.
fn memory(lane: &LaneState, sent: &[i64], behind: i64) -> Option<RouteMemory> {
    let sent: Vec<_> = sent.iter().copied().map(write).collect();
    let (tenant, route) = (&*lane.lane.tenant, &*lane.lane.route);
    let shut = lane.shut.clone().map(|shut| {
        let until = timestamp(nanos(shut.until).saturating_sub(behind));
        route_changed(tenant, route, Some(&Shut { until, ..shut }))
    });
    let memory = RouteMemory { tenant: tenant.to_owned(), route: route.to_owned(), shut, sent };
    (memory.shut.is_some() || !memory.sent.is_empty()).then_some(memory)
}

/// The most that each of several lists may keep, so that all of them together keep at most `most`.
fn share(mut lengths: Vec<usize>, most: usize) -> usize {
    lengths.sort_unstable();
    let (mut rest, lists) = (most, lengths.len());
    for (index, length) in lengths.into_iter().enumerate() {
        let share = rest / (lists - index);
        if length > share {
            return share;
        }
        rest -= length;
    }
    most
}

/// The record of a route's breaker; `shut` is `None` when the route is open.
pub(crate) fn route_changed(tenant: &str, route: &str, shut: Option<&Shut>) -> RouteChanged {
    let (tenant, route) = (tenant.to_owned(), route.to_owned());
    let Some(shut) = shut else { return RouteChanged { tenant, route, ..RouteChanged::default() } };
    RouteChanged {
        tenant,
        route,
        held_because: shut.why.clone(),
        held_until: Some(to_proto(shut.until)),
        cause: BreakerCause::from(shut.cause).into(),
        tries: shut.tries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_share_the_room_that_short_ones_leave() {
        assert_eq!(share(vec![9, 1, 5], 100), 100);
        assert_eq!(share(vec![50, 1, 50], 21), 10);
        assert_eq!(share(vec![7], 5), 5);
        assert_eq!(share(vec![3, 3], 6), 6);
        assert_eq!(share(vec![2; 9], 5), 0);
        assert_eq!(share(vec![], 5), 5);
    }
}
