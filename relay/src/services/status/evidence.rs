//! The evidence of a delivery's attempts, from all relays.

use super::request;
use crate::{
    decisions::evidence::Budget,
    services::{access::Caller, cluster::Cluster, error::Error, local::Local},
};
use std::collections::BTreeSet;
use talaria_core::id::DeliveryId;
use talaria_proto::time::from_proto;
use talaria_proto::v1::{
    AttemptEvidence, ClusterMethod, GetDeliveryRequest, GetDeliveryResponse, GetEvidenceRequest,
    GetEvidenceResponse,
};
use talaria_telemetry::LogLimiter;

impl Local {
    /// The evidence that this relay has.
    pub(in crate::services) async fn evidence_of(
        &self,
        caller: &Caller,
        request: GetEvidenceRequest,
    ) -> Result<GetEvidenceResponse, Error> {
        let id: DeliveryId = request::id(&request.delivery_id)?;
        let caller = caller.clone();
        let sees = move |tenant: &str| caller.sees(tenant);
        match self.evidence.read(&id.to_string(), request.attempt, sees).await {
            Ok(attempts) => Ok(GetEvidenceResponse { attempts, ..GetEvidenceResponse::default() }),
            Err(error) => {
                static FAILED: LogLimiter = LogLimiter::new();
                if let Some(left_out) = FAILED.admit() {
                    tracing::warn!(%error, left_out, "evidence read failed");
                }
                Err(Error::View)
            }
        }
    }
}

/// The evidence that all relays have. A delivery that is not known, or is another tenant's, is an error.
pub(super) async fn of_all(
    cluster: &Cluster,
    caller: &Caller,
    request: GetEvidenceRequest,
) -> Result<GetEvidenceResponse, Error> {
    let delivery = GetDeliveryRequest { delivery_id: request.delivery_id.clone() };
    let own = cluster.local().delivery(caller, delivery.clone());
    let known = cluster.find(caller, ClusterMethod::GetDelivery, &delivery, own).await?;
    let own = cluster.local().evidence_of(caller, request.clone());
    let (answers, incomplete) =
        cluster.ask_everywhere(caller, ClusterMethod::GetEvidence, &request, own).await;
    let found = answers.into_iter().flat_map(|answer| answer.attempts).collect();
    Ok(GetEvidenceResponse { incomplete, ..merged(&known, request.attempt, found) })
}

fn merged(
    known: &GetDeliveryResponse,
    attempt: u32,
    mut attempts: Vec<AttemptEvidence>,
) -> GetEvidenceResponse {
    attempts.sort_by_key(|evidence| (evidence.number, from_proto(evidence.started_at.as_ref())));
    let found: BTreeSet<u32> = attempts.iter().map(|evidence| evidence.number).collect();
    let asked: BTreeSet<u32> = match attempt {
        0 => known.attempts.iter().map(|attempt| attempt.number).collect(),
        one => [one].into(),
    };
    let mut budget = Budget::default();
    let mut attempts: Vec<_> = attempts.into_iter().rev().map(|evidence| budget.admit(evidence)).collect();
    attempts.reverse();
    GetEvidenceResponse { attempts, missing: asked.difference(&found).copied().collect(), incomplete: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::Attempt;

    fn evidence(number: u32, seconds: i64, body: usize) -> AttemptEvidence {
        AttemptEvidence {
            number,
            started_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            request_body: "x".repeat(body),
            ..AttemptEvidence::default()
        }
    }

    #[test]
    fn evidence_of_all_relays_is_in_order_and_the_missing_attempts_are_named() {
        let attempts = (1..=4).map(|number| Attempt { number, ..Attempt::default() }).collect();
        let known = GetDeliveryResponse { attempts, ..GetDeliveryResponse::default() };
        let found = vec![evidence(3, 30, 0), evidence(1, 10, 0), evidence(3, 29, 0)];
        let all = merged(&known, 0, found.clone());
        let order: Vec<_> =
            all.attempts.iter().map(|it| (it.number, it.started_at.unwrap().seconds)).collect();
        assert_eq!((order, all.missing), (vec![(1, 10), (3, 29), (3, 30)], vec![2, 4]));
        assert_eq!(merged(&known, 2, vec![]).missing, [2]);
        assert!(merged(&known, 3, found).missing.is_empty());
    }

    #[test]
    fn what_the_newest_leave_no_room_for_is_left_out() {
        let found = (1..=4).map(|number| evidence(number, 0, 1 << 20)).collect();
        let all = merged(&GetDeliveryResponse::default(), 0, found);
        let left_out: Vec<_> =
            all.attempts.iter().map(|it| (it.left_out, it.request_body.is_empty())).collect();
        assert_eq!(left_out, [(true, true), (true, true), (false, false), (false, false)]);
    }
}
