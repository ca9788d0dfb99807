//! Notices: how many went out lately, and those that are not published yet.

use crate::decisions::notice::is_over;
use jiff::Timestamp;
use std::collections::BTreeMap;
use talaria_core::{id::EventId, notice::NoticeKind};
use talaria_proto::v1::{Event, NoticesTold};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Notices {
    /// By tenant and type, without events.
    told: BTreeMap<(String, String), NoticesTold>,
    unpublished: BTreeMap<EventId, Event>,
}

impl Notices {
    /// The notices of a kind to a tenant within the hour of the last one.
    pub(crate) fn told(&self, tenant: &str, kind: NoticeKind) -> Option<&NoticesTold> {
        self.told.get(&(tenant.to_owned(), kind.event_type().to_owned()))
    }

    /// Those of which some were left out, and whose hour is over.
    pub(crate) fn to_close(&self, now: Timestamp) -> Vec<NoticesTold> {
        self.told.values().filter(|told| told.left_out > 0 && is_over(told, now)).cloned().collect()
    }

    /// The notices that did not come back as events yet.
    pub(crate) fn unpublished(&self) -> &BTreeMap<EventId, Event> {
        &self.unpublished
    }

    /// `is_kept` says whether the notice came back as an event.
    pub(super) fn change(&mut self, told: &NoticesTold, is_kept: impl Fn(EventId) -> bool) {
        let key = (told.tenant.clone(), told.r#type.clone());
        self.told.insert(key, NoticesTold { event: None, ..told.clone() });
        if let Some(event) = &told.event
            && let Ok(id) = event.id.parse()
            && !is_kept(id)
        {
            self.unpublished.insert(id, event.clone());
        }
    }

    pub(super) fn published(&mut self, id: EventId) {
        self.unpublished.remove(&id);
    }

    /// Those of some tenants, in lines.
    #[cfg(test)]
    pub(super) fn share(&self, of: impl Fn(&str) -> bool) -> Vec<String> {
        let told = self.told.values().filter(|told| of(&told.tenant)).map(|told| format!("{told:?}"));
        let unpublished = self.unpublished.values().filter(|event| of(&event.tenant));
        told.chain(unpublished.map(|event| format!("{event:?}"))).collect()
    }

    /// For `Opened`.
    pub(super) fn repeated(&self, now: Timestamp) -> Vec<NoticesTold> {
        let counted = |told: &&NoticesTold| told.left_out > 0 || !is_over(told, now);
        let told = self.told.values().filter(counted).cloned();
        let unpublished = self.unpublished.values().filter_map(|event| {
            let told = self.told.get(&(event.tenant.clone(), event.r#type.clone()))?;
            Some(NoticesTold { event: Some(event.clone()), ..told.clone() })
        });
        told.chain(unpublished).collect()
    }
}
