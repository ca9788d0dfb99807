//! Operators' commands, reloads, and the retention.

use super::{RelayRun, RouteName, World};
use crate::{
    decisions::audit::AuditInfo,
    partition::{
        handle::Command,
        testing::{Keeping, Payload},
    },
    simulation::agenda::Happening,
};
use std::{sync::Arc, time::Duration};
use talaria_bus::Incoming;
use talaria_core::config::{self, Config, Role, Settings};
use talaria_proto::time::to_proto;
use talaria_proto::v1::{CarriedDelivery, EventCarried, Pause, PauseChanged, Record, record::What};
use tokio::sync::oneshot;

impl World {
    pub(super) fn pause(&mut self, what: Happening, lane: &RouteName, paused: bool) {
        let Some(owner) = self.owner() else { return self.soon(Duration::from_secs(9), what) };
        let now = self.wall();
        let (tenant, route) = lane.clone();
        if !paused {
            let holds = |relay: &RelayRun| relay.machine.state().pauses().is_paused(&tenant, &route);
            if !self.relays[owner].as_ref().is_some_and(holds) {
                return;
            }
            // The operator repeats it: the record is lost with an owner that was overtaken.
            self.soon(Duration::from_secs(120), what);
        }
        let pause = Pause { tenant, route, since: Some(to_proto(now)), ..Pause::default() };
        let what = What::PauseChanged(PauseChanged { pause: Some(pause), paused });
        let record = Record { at: Some(to_proto(now)), event_seq: 0, what: Some(what) };
        let Some(relay) = &mut self.relays[owner] else { return };
        // It counts once it is answered: it may be lost with its owner.
        relay.machine.command(Command::Append(vec![record]), oneshot::channel().0, now);
        if !paused {
            self.paused.remove(lane);
        }
        self.pump(owner);
    }

    pub(super) fn probe(&mut self, (tenant, route): RouteName) {
        let (Some(owner), now) = (self.owner(), self.wall()) else { return };
        let Some(relay) = &mut self.relays[owner] else { return };
        let audit = AuditInfo { by: "ana".into(), ..AuditInfo::default() };
        // Usually the route is not shut.
        relay.machine.command(Command::Probe { tenant, route, audit }, oneshot::channel().0, now);
        self.pump(owner);
    }

    pub(super) fn reload(&mut self, (config, settings): &(Arc<Config>, Settings)) {
        let differences = settings.since(&self.settings);
        let read = Config::clone(config);
        let reloaded = config::reload(Role::Both, &self.config, read, &differences).unwrap();
        (self.config, self.settings) = (Arc::new(reloaded.config), settings.clone());
        for relay in self.relays.iter_mut().flatten() {
            relay.machine.configure(Arc::clone(&self.config));
        }
        self.owner().into_iter().for_each(|relay| self.pump(relay));
    }

    pub(super) fn keep(&mut self) {
        let wall = self.wall();
        let Some(owner) = self.owner() else { return };
        let Some(relay) = &mut self.relays[owner] else { return };
        let Keeping { renew, carry, remove } = relay.machine.keep(wall, 16);
        relay.machine.files_removed(remove.into_iter().map(|forgotten| forgotten.job).collect(), wall);
        if renew {
            relay.machine.renew(relay.machine.planned_through(), wall);
        }
        for seq in carry {
            let event = match relay.machine.payload(seq) {
                Payload::Event(seq) => {
                    let index = self.events.binary_search_by_key(&seq, |stored| stored.seq).unwrap();
                    let Incoming::Event(event) = &self.events[index].what else { panic!() };
                    (**event).clone()
                }
                Payload::Carried(at) => {
                    let (.., commit) = self.journal.commits.iter().find(|(known, ..)| *known == at).unwrap();
                    let carried = commit.records.iter().find_map(|record| match &record.what {
                        Some(What::EventCarried(carried)) if record.event_seq == seq => carried.event.clone(),
                        _ => None,
                    });
                    carried.unwrap()
                }
            };
            let waiting = relay.machine.tasks_of(seq).into_iter();
            let waiting =
                waiting.map(|task| CarriedDelivery { task: Some(task), ..CarriedDelivery::default() });
            let carried = EventCarried { event: Some(event), waiting: waiting.collect(), done: Vec::new() };
            relay.machine.carry(seq, carried, wall);
        }
        // After the append, the next call trims.
        if !relay.machine.has_records() && relay.appending.is_none() {
            let floors = relay.machine.floors();
            self.journal.trim(floors.journal);
            while self.events.front().is_some_and(|stored| stored.seq < floors.events) {
                self.events.pop_front();
            }
        }
        self.pump(owner);
    }
}
