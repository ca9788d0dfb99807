//! The lanes: when the deliveries of a tenant's route are due, which of them are under way, and the memory of the route.

use super::{event_set::EventSet, starts::Starts};
use crate::decisions::breaker::Shut;
use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};
use talaria_core::id::RouteKey;

/// The number of a lane in one state. Other states of the same partition may have other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(u32);

impl LaneId {
    /// Greater than all numbers of lanes.
    pub(in crate::partition) const LAST: Self = Self(u32::MAX);

    pub(in crate::partition) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The names of a lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    pub tenant: Arc<str>,
    pub route: Arc<str>,
}

/// The state of a lane.
#[derive(Clone, Debug)]
pub(super) struct LaneState {
    pub lane: Lane,
    pub key: RouteKey,
    /// Due time and event sequence of the waiting deliveries that are not under way.
    pub due: BTreeSet<(i64, u64)>,
    /// Event sequences of the deliveries that are under way.
    pub under_way: BTreeSet<u64>,
    /// The events of both.
    pub events: EventSet,
    /// The number of deliveries in `due` with a reserved slot.
    pub reserved: usize,
    pub starts: Starts,
    pub shut: Option<Shut>,
    /// Whether it is in `Lanes::changed`.
    is_changed: bool,
}

/// All lanes.
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes {
    states: Vec<LaneState>,
    /// By tenant and route.
    numbers: HashMap<Arc<str>, HashMap<Arc<str>, LaneId>>,
    /// The lanes whose due times or number under way changed.
    changed: Vec<LaneId>,
}

impl Lanes {
    pub(super) fn find(&self, tenant: &str, route: &str) -> Option<LaneId> {
        self.numbers.get(tenant)?.get(route).copied()
    }

    /// The number of a lane, which is added if it is new.
    pub(super) fn number(&mut self, tenant: &str, route: &str) -> LaneId {
        if let Some(known) = self.find(tenant, route) {
            return known;
        }
        let id = LaneId(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
        let tenant = match self.numbers.get_key_value(tenant) {
            Some((known, _)) => Arc::clone(known),
            None => tenant.into(),
        };
        let lane = Lane { tenant, route: route.into() };
        let routes = self.numbers.entry(Arc::clone(&lane.tenant)).or_default();
        routes.insert(Arc::clone(&lane.route), id);
        self.states.push(LaneState {
            lane,
            key: RouteKey::new(route),
            due: BTreeSet::new(),
            under_way: BTreeSet::new(),
            events: EventSet::default(),
            reserved: 0,
            starts: Starts::default(),
            shut: None,
            is_changed: false,
        });
        id
    }

    pub(super) fn get(&self, id: LaneId) -> Option<&LaneState> {
        self.states.get(id.index())
    }

    pub(super) fn get_mut(&mut self, id: LaneId) -> Option<&mut LaneState> {
        self.states.get_mut(id.index())
    }

    /// The lane, to change its due times or its number under way.
    pub(super) fn change(&mut self, id: LaneId) -> Option<&mut LaneState> {
        let lane = self.states.get_mut(id.index())?;
        if !mem::replace(&mut lane.is_changed, true) {
            self.changed.push(id);
        }
        Some(lane)
    }

    pub(super) fn take_changed(&mut self) -> Vec<LaneId> {
        let changed = mem::take(&mut self.changed);
        for id in &changed {
            if let Some(lane) = self.get_mut(*id) {
                lane.is_changed = false;
            }
        }
        changed
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = LaneId> {
        (0..).map(LaneId).take(self.states.len())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LaneState> {
        self.states.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LaneState> {
        self.states.iter_mut()
    }
}
