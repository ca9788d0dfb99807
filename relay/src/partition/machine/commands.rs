//! Operators' requests.

use super::{Action, Machine, ROOM};
use crate::{
    decisions::{
        audit::AuditInfo,
        probe::{self, NoProbe},
        replay,
    },
    delivery_key::DeliveryKey,
    partition::{
        handle::{Command, Done, NotDone},
        state::route_changed,
    },
};
use jiff::Timestamp;
use prost::Message as _;
use std::sync::Arc;
use talaria_proto::{
    time::from_proto,
    v1::{DeliveryState, DeliveryTask, record::What},
};
use tokio::sync::oneshot;

impl Machine {
    /// Carries a command out; the answer is sent once that is durable.
    pub(crate) fn command(&mut self, command: Command, reply: oneshot::Sender<Done>, now: Timestamp) {
        let done = if self.is_draining { Err(NotDone::Lost) } else { self.carry_out(command, now) };
        match done {
            Ok(()) => {
                self.set_windows();
                self.actions.push(Action::Reply(reply));
            }
            // The caller may have gone.
            Err(why) => drop(reply.send(Err(why))),
        }
    }

    fn carry_out(&mut self, command: Command, now: Timestamp) -> Result<(), NotDone> {
        match command {
            Command::Append(records) => {
                let size: usize = records.iter().map(|record| record.encoded_len() + 8).sum();
                if size + ROOM > self.largest {
                    return Err(NotDone::TooLarge);
                }
                for record in records {
                    self.push(record);
                }
            }
            Command::Cancel(key, audit) => {
                let task = self.waiting(key)?;
                self.push(replay::cancelled(&task, &audit, now).into_record());
            }
            Command::Replay(key, audit) => {
                let task = self.waiting(key)?;
                self.push(replay::again(&task, &audit, now).into_record());
            }
            Command::ReportRun(key, record) => {
                // The record has the delivery's status, and an attempt may have ended that the view does not show yet.
                let of_view = record.what.as_ref().and_then(waiting_step);
                if self.state.task(key).map(|task| task.step) != of_view {
                    return Err(NotDone::NotWaiting);
                }
                self.push(*record);
            }
            Command::StartJob(start) => self.start_job(*start, now)?,
            Command::StopJob { id, audit } => self.stop_job(&id, &audit, now)?,
            Command::Probe { tenant, route, audit } => {
                self.probe(&tenant, &route, &audit, now).map_err(NotDone::NoProbe)?;
            }
        }
        Ok(())
    }

    /// Opens the gate of a shut route for one delivery. If none is due, the first one is made due.
    fn probe(&mut self, tenant: &str, route: &str, audit: &AuditInfo, now: Timestamp) -> Result<(), NoProbe> {
        let configured = self.config.route(tenant, route).map(Arc::clone).ok_or(NoProbe::NotConfigured)?;
        let lane = self.state.lane_id(tenant, route).filter(|lane| self.state.is_shut(*lane));
        let lane = lane.ok_or(NoProbe::Open)?;
        if self.state.pauses().is_paused(tenant, route) {
            return Err(NoProbe::Paused);
        }
        if self.state.under_way_in(lane) > 0 {
            return Err(NoProbe::UnderWay);
        }
        let first = self.state.due(lane, Timestamp::MAX).next().ok_or(NoProbe::NothingWaits)?;
        let (task, _) = self.task(first).ok_or(NoProbe::NothingWaits)?;
        let admission = self.admission(lane, &configured, now);
        let was_closed = admission.gate().0 > now;
        let shut = admission.probe_now(now).ok_or(NoProbe::UnderWay)?;
        let is_due = from_proto(task.due_at.as_ref()) <= now;
        if !was_closed && is_due {
            return Err(NoProbe::UnderWay);
        }
        self.push_what(now, 0, What::RouteChanged(route_changed(tenant, route, Some(&shut))));
        self.push(probe::acted(audit, now, tenant, route));
        if !is_due {
            self.push(probe::made_due(&task, audit, now).into_record());
        }
        self.update_gate(lane);
        Ok(())
    }

    fn waiting(&self, key: DeliveryKey) -> Result<DeliveryTask, NotDone> {
        let task = self.state.task(key).ok_or(NotDone::NotWaiting)?;
        if self.state.is_under_way(key) { Err(NotDone::UnderWay) } else { Ok(task) }
    }
}

/// The step of a delivery that waits by this record of its run.
fn waiting_step(what: &What) -> Option<u32> {
    let What::RunReported(reported) = what else { return None };
    let status = reported.status.as_ref()?;
    (status.state() == DeliveryState::Waiting).then_some(status.step)
}
