//! Complete ids by their beginnings, because people type a part of an id.
//!
//! A client asks for this before it uses an id: all owners have to be asked, because an id does not show its partition, and other
//! requests need complete ids only.

use super::request;
use crate::{
    services::{access::Caller, error::Error, local::Local},
    view::{
        filter::allows,
        ids::{Beginning, Visible, ids},
    },
};
use std::collections::BTreeMap;
use talaria_core::short_id::IdBeginning;
use talaria_proto::v1::{ListIdsRequest, ListIdsResponse, list_ids_request::BeginsWith};

/// The most ids in an answer: more do not help to choose.
const MOST: usize = 10;

fn beginning(request: &ListIdsRequest) -> Result<Beginning, Error> {
    let refuse = |text: &str, error| {
        let text: String = text.chars().take(request::LONGEST_ID).collect();
        Error::Invalid(format!("{text:?} is {error}"))
    };
    match &request.begins_with {
        Some(BeginsWith::EventId(text)) => {
            IdBeginning::of_event(text).map(Beginning::Event).map_err(|error| refuse(text, error))
        }
        Some(BeginsWith::DeliveryId(text)) => {
            IdBeginning::of_delivery(text).map(Beginning::Delivery).map_err(|error| refuse(text, error))
        }
        Some(BeginsWith::JobId(text)) if !text.is_empty() => Ok(Beginning::Job(text.clone())),
        Some(BeginsWith::SubmittedJobId(text)) if !text.is_empty() => {
            Ok(Beginning::SubmittedJob(text.clone()))
        }
        Some(BeginsWith::ReplayJobId(text)) if !text.is_empty() => Ok(Beginning::ReplayJob(text.clone())),
        _ => Err(Error::Invalid(
            "name what the ids begin with: event_id, delivery_id, job_id, submitted_job_id or replay_job_id"
                .to_owned(),
        )),
    }
}

impl Local {
    /// Matching ids of own partitions that the caller may see.
    pub(in crate::services) async fn ids(
        &self,
        caller: &Caller,
        request: ListIdsRequest,
    ) -> Result<ListIdsResponse, Error> {
        let beginning = beginning(&request)?;
        let tenant = caller.narrow(&request.tenant)?;
        self.wait_briefly().await;
        let (own, caller) = (self.own(), caller.clone());
        let (ids, more) = self
            .read(move |connection| {
                let is_listed = |of: &str| allows(tenant.as_deref(), of);
                let visible = Visible {
                    tenant: &|of| caller.sees(of) && is_listed(of) && own.has_tenant(of),
                    job: &|job| {
                        caller.sees_job(job)
                            && is_listed(job.filter.as_ref().map_or("", |filter| &filter.tenant))
                    },
                    partitions: &own,
                };
                ids(connection, &beginning, &visible, MOST)
            })
            .await?;
        Ok(ListIdsResponse { ids, more, incomplete: false })
    }
}

/// The merged answers of all relays. An id that two relays have, while a partition moves, is there once.
pub(super) fn merged(
    request: &ListIdsRequest,
    parts: impl IntoIterator<Item = ListIdsResponse>,
) -> ListIdsResponse {
    let (mut all, mut more) = (BTreeMap::new(), false);
    for part in parts {
        more |= part.more;
        all.extend(part.ids.into_iter().map(|known| (known.id.clone(), known)));
    }
    if let Some(BeginsWith::JobId(job)) = &request.begins_with
        && let Some(exactly) = all.remove(job)
    {
        return ListIdsResponse { ids: vec![exactly], ..ListIdsResponse::default() };
    }
    more |= all.len() > MOST;
    ListIdsResponse { ids: all.into_values().take(MOST).collect(), more, incomplete: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::KnownId;

    fn part(ids: &[&str], more: bool) -> ListIdsResponse {
        let known = |id: &&str| KnownId { id: (*id).to_owned(), ..KnownId::default() };
        ListIdsResponse { ids: ids.iter().map(known).collect(), more, incomplete: false }
    }

    fn all(request: BeginsWith, parts: &[ListIdsResponse]) -> (Vec<String>, bool) {
        let request = ListIdsRequest { begins_with: Some(request), tenant: String::new() };
        let all = merged(&request, parts.iter().cloned());
        (all.ids.into_iter().map(|known| known.id).collect(), all.more)
    }

    #[test]
    fn the_ids_of_all_relays_are_there_once_and_in_order() {
        let event = || BeginsWith::EventId("evt_".into());
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let parts = [part(&["evt_b", "evt_c"], false), part(&["evt_a", "evt_b"], false)];
        assert_eq!(all(event(), &parts), (ids(&["evt_a", "evt_b", "evt_c"]), false));
        assert_eq!(all(event(), &[part(&["evt_a"], true), part(&[], false)]), (ids(&["evt_a"]), true));
        let many: Vec<String> = (0..=MOST).map(|n| format!("evt_{n:02}")).collect();
        let parts: Vec<_> = many.iter().map(|id| part(&[id.as_str()], false)).collect();
        assert_eq!(all(event(), &parts), (many[..MOST].to_vec(), true));
    }

    #[test]
    fn a_job_with_exactly_this_id_is_preferred() {
        let job = BeginsWith::JobId("job_1".into());
        let parts = [part(&["job_10", "job_11"], true), part(&["job_1"], false)];
        assert_eq!(all(job, &parts), (vec!["job_1".to_owned()], false));
    }

    #[test]
    fn a_text_that_begins_no_id_is_refused() {
        use BeginsWith::{DeliveryId, EventId, JobId, ReplayJobId, SubmittedJobId};
        let of = |begins_with| beginning(&ListIdsRequest { begins_with, tenant: String::new() });
        for wrong in [
            EventId("evt_1".into()),
            DeliveryId("evt_a".into()),
            JobId(String::new()),
            SubmittedJobId(String::new()),
        ] {
            assert_eq!(of(Some(wrong)).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert!(of(None).unwrap_err().to_string().contains("delivery_id"));
        for right in [
            EventId("evt_a".into()),
            DeliveryId("dlv_a-b".into()),
            SubmittedJobId("job_a".into()),
            ReplayJobId("rpl_x".into()),
        ] {
            assert!(of(Some(right)).is_ok());
        }
    }
}
