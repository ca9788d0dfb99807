//! Notices: recorded in the commit of what they tell, and published after it. A notice that did not come back as an event is published
//! again by the next owner.
//!
//! No notice leads to another: none is made about a route that takes notices.

use super::{Action, Machine};
use crate::decisions::{
    notice::{self, Notice},
    plan::wants,
};
use jiff::Timestamp;
use metrics::counter;
use talaria_core::notice::NoticeKind;
use talaria_proto::{
    time::from_proto,
    v1::{
        DeliveryRef, DeliveryState, Event, Job, NoticesTold, QuarantinedCallback, Record, RouteChanged,
        record::What,
    },
};

/// The most notices that are not published yet. `Opened` repeats them.
const MOST_UNPUBLISHED: usize = 100;

impl Machine {
    /// The notices that an earlier owner recorded, and that did not come back as events.
    pub(crate) fn unpublished_notices(&self) -> Vec<Event> {
        self.state.notices().unpublished().values().cloned().collect()
    }

    /// The breaker shut the route, or opened it. `was_shut` is from before.
    pub(super) fn tell_of_route(&mut self, changed: &RouteChanged, was_shut: bool, now: Timestamp) {
        let is_shut = changed.held_until.is_some();
        let kind = if is_shut { NoticeKind::RouteShut } else { NoticeKind::RouteOpen };
        let (tenant, route) = (&changed.tenant, &changed.route);
        if is_shut != was_shut && self.is_told(kind, tenant, Some(route)) {
            let lane = self.state.lane_id(tenant, route);
            let waiting = lane.map_or(0, |lane| self.state.waiting(lane));
            self.tell(notice::route(changed, waiting, now), now);
        }
    }

    /// The notice of a record that parks a delivery.
    pub(super) fn notice_of_parked(&self, record: &Record) -> Option<Notice> {
        let (delivery, status) = match record.what.as_ref()? {
            What::AttemptFinished(finished) => (&finished.delivery, &finished.status),
            What::DeliveryMoved(moved) => (&moved.delivery, &moved.status),
            _ => return None,
        };
        let (delivery, status) = (delivery.as_ref()?, status.as_ref()?);
        let DeliveryRef { tenant, route, .. } = delivery;
        (status.state() == DeliveryState::Parked
            && self.is_told(NoticeKind::DeliveryParked, tenant, Some(route)))
        .then(|| notice::parked(delivery, status, from_proto(record.at.as_ref())))
    }

    pub(super) fn notice_of_overdue(&self, job: &Job, now: Timestamp) -> Option<Notice> {
        self.is_told(NoticeKind::JobOverdue, &job.tenant, None).then(|| notice::overdue(job, now))
    }

    pub(super) fn tell_of_quarantined(&mut self, callback: &QuarantinedCallback, now: Timestamp) {
        if self.is_told(NoticeKind::CallbackQuarantined, &callback.tenant, None) {
            self.tell(notice::quarantined(callback), now);
        }
    }

    /// Says how many notices were left out, where their hour is over.
    pub(super) fn close_notices(&mut self, now: Timestamp) {
        for told in self.state.notices().to_close(now) {
            self.close_notice(told, now);
        }
    }

    /// Whether a notice of another process goes to its routes.
    pub(super) fn admits_notice(&mut self, event: &Event, now: Timestamp) -> bool {
        let Some(kind) = NoticeKind::of(&event.r#type) else { return false };
        let is_own = |id| self.state.notices().unpublished().contains_key(&id);
        if event.id.parse().is_ok_and(is_own) {
            return true;
        }
        self.close_if_over(kind, &event.tenant, now);
        let (told, is_told) = notice::admit(self.state.notices().told(&event.tenant, kind), true, now);
        count(kind, is_told);
        self.push_told(NoticesTold { event: None, ..told }, kind, &event.tenant, now);
        is_told
    }

    /// Whether a route takes notices of the kind, and none of them is made about itself.
    fn is_told(&self, kind: NoticeKind, tenant: &str, route: Option<&str>) -> bool {
        let Some(tenant) = self.config.tenants.get(tenant) else { return false };
        let about = route.and_then(|route| tenant.routes.get(route));
        about.is_none_or(|route| !route.takes_notices())
            && tenant.routes.values().any(|route| route.takes_notice(kind))
    }

    pub(super) fn tell(&mut self, notice: Notice, now: Timestamp) {
        let kind = notice.kind;
        let event = notice.into_event(now);
        let Some(tenant) = self.config.tenants.get(&event.tenant) else { return };
        let is_wanted = tenant.routes.values().any(|route| wants(route, &event));
        let Ok(id) = event.id.parse() else { return };
        let unpublished = self.state.notices().unpublished();
        if !is_wanted || self.state.known(id).is_some() || unpublished.contains_key(&id) {
            return;
        }
        let has_room = unpublished.len() < MOST_UNPUBLISHED;
        self.close_if_over(kind, &event.tenant, now);
        let (told, is_told) = notice::admit(self.state.notices().told(&event.tenant, kind), has_room, now);
        count(kind, is_told);
        let tenant = event.tenant.clone();
        let event = is_told.then_some(event);
        self.actions.extend(event.clone().map(|event| Action::Publish(Box::new(event))));
        self.push_told(NoticesTold { event, ..told }, kind, &tenant, now);
    }

    fn close_if_over(&mut self, kind: NoticeKind, tenant: &str, now: Timestamp) {
        let told = self.state.notices().told(tenant, kind);
        if let Some(told) = told.filter(|told| told.left_out > 0 && notice::is_over(told, now)).cloned() {
            self.close_notice(told, now);
        }
    }

    /// The next hour begins with this notice.
    fn close_notice(&mut self, told: NoticesTold, now: Timestamp) {
        let Some(kind) = NoticeKind::of(&told.r#type) else { return };
        let (closing, tenant) = (notice::left_out(kind, &told), told.tenant);
        self.push_told(NoticesTold { since: told.since, ..NoticesTold::default() }, kind, &tenant, now);
        if self.is_told(kind, &tenant, None) {
            self.tell(closing, now);
        }
    }

    fn push_told(&mut self, told: NoticesTold, kind: NoticeKind, tenant: &str, now: Timestamp) {
        let told = NoticesTold { tenant: tenant.to_owned(), r#type: kind.event_type().to_owned(), ..told };
        self.push_what(now, 0, What::NoticesTold(told));
    }
}

fn count(kind: NoticeKind, is_told: bool) {
    let outcome = if is_told { "told" } else { "left_out" };
    counter!("talaria_notices_total", "type" => kind.event_type(), "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests;
