//! Checks of operators' requests.

use crate::{
    decisions::audit::AuditInfo,
    services::{
        access::Caller,
        error::Error,
        status::request::{checked, id, period},
    },
    view::filter::DeliveryFilter,
};
use jiff::Timestamp;
use std::{ops::RangeInclusive, time::Duration};
use talaria_core::id::DeliveryId;
use talaria_proto::v1::{self, DeliveryState};

/// In replays a minute.
const DEFAULT_RATE: u32 = 600;

/// In replays a minute.
const LARGEST_RATE: u32 = 60_000;

/// The longest `requested_by` and the longest reason, in characters.
const LONGEST_NAME: usize = 100;
const LONGEST_REASON: usize = 500;

const PAUSE_DURATIONS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 60 * 60);

/// Checks who makes a request, and why.
pub(in crate::services) fn audit(caller: &Caller, by: &str, reason: &str) -> Result<AuditInfo, Error> {
    if by.trim().is_empty() {
        return Err(Error::Invalid("requested_by says who asks, and is empty".into()));
    }
    for (name, text, longest) in [("requested_by", by, LONGEST_NAME), ("reason", reason, LONGEST_REASON)] {
        if text.chars().count() > longest || text.contains(char::is_control) {
            return Err(Error::Invalid(format!("{name} is one line of at most {longest} characters")));
        }
    }
    Ok(AuditInfo {
        by: by.to_owned(),
        token: caller.token.clone(),
        reason: reason.to_owned(),
        job: String::new(),
    })
}

/// The duration of a pause; `None` for a pause without an end.
pub(super) fn pause_duration(asked: Option<&prost_types::Duration>) -> Result<Option<Duration>, Error> {
    let Some(asked) = asked else { return Ok(None) };
    Duration::try_from(*asked)
        .ok()
        .filter(|duration| PAUSE_DURATIONS.contains(duration))
        .map(Some)
        .ok_or_else(|| {
            Error::Invalid(
                "a pause lasts from a second to 366 days; without a duration, until it is resumed".into(),
            )
        })
}

/// The delivery to replay; and its route's name, if it may have to be planned.
pub(super) fn replayed(request: &v1::ReplayDeliveryRequest) -> Result<(DeliveryId, Option<&str>), Error> {
    match (request.delivery_id.as_str(), request.event_id.as_str(), request.route.as_str()) {
        (delivery, "", "") => Ok((id(delivery)?, None)),
        ("", event, route) if !event.is_empty() && !route.is_empty() => {
            Ok((DeliveryId::new(id(event)?, route), Some(route)))
        }
        _ => Err(Error::Invalid("what is replayed is a delivery (delivery_id), or an event's delivery to a route (event_id and route)".into())),
    }
}

fn rate(asked: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(DEFAULT_RATE),
        1..=LARGEST_RATE => Ok(asked),
        _ => Err(Error::Invalid(format!("rate_per_minute is {asked}, and at most {LARGEST_RATE} (1000/s)"))),
    }
}

/// The filter as it is recorded: with its states, and each value of a list once.
fn recorded(mut filter: v1::ReplayFilter) -> v1::ReplayFilter {
    if filter.states.is_empty() {
        // Whether the agent ran says more about a delivery with a run than its state.
        let by_run = !filter.runs.is_empty();
        let is_meant =
            |state: &DeliveryState| if by_run { state.is_final() } else { *state == DeliveryState::Parked };
        filter.states = DeliveryState::ALL.into_iter().filter(is_meant).map(Into::into).collect();
    }
    filter.runs.sort_unstable();
    filter.runs.dedup();
    filter.states.sort_unstable();
    filter.states.dedup();
    filter.outcomes.sort_unstable();
    filter.outcomes.dedup();
    filter.http_statuses.sort_unstable();
    filter.http_statuses.dedup();
    filter
}

pub(super) fn replay_filter(filter: &v1::ReplayFilter) -> Result<DeliveryFilter, Error> {
    let v1::ReplayFilter {
        tenant,
        route,
        job_id,
        event_type,
        states,
        since,
        until,
        model,
        outcomes,
        http_statuses,
        reason,
        runs,
    } = recorded(filter.clone());
    if states.contains(&DeliveryState::Waiting.into()) {
        return Err(Error::Invalid(
            "what waits is sent by itself; to send one at once, replay it by its id".into(),
        ));
    }
    checked(v1::DeliveryFilter {
        tenant,
        route,
        job_id,
        states,
        since,
        until,
        event_type,
        model,
        outcomes,
        http_statuses,
        reason,
        runs,
    })
}

/// The filter as it is recorded, and the rate.
pub(super) fn replay(
    asked: &v1::ReplayDeliveriesRequest,
    caller: &Caller,
) -> Result<(v1::ReplayFilter, u32), Error> {
    let rate = rate(asked.rate_per_minute)?;
    let mut filter = recorded(asked.filter.clone().unwrap_or_default());
    replay_filter(&filter)?;
    if is_everything(&filter) && !asked.all {
        return Err(Error::Invalid(
            "this would replay everything there is: restrict it, or ask for all".into(),
        ));
    }
    filter.tenant = caller.narrow(&filter.tenant)?.unwrap_or_default();
    Ok((filter, rate))
}

/// Whether a filter restricts nothing but the state.
fn is_everything(filter: &v1::ReplayFilter) -> bool {
    let of_states = v1::ReplayFilter { states: filter.states.clone(), ..v1::ReplayFilter::default() };
    *filter == of_states
}

pub(super) fn since(time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Error> {
    Ok(period(time, None)?.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::RunOutcome;

    #[test]
    fn an_operator_has_a_name() {
        let audit = |by: &str, reason: &str| audit(&Caller::unrestricted(), by, reason);
        assert_eq!(audit("ana", "").unwrap().by, "ana");
        for (by, reason) in
            [("", ""), ("  ", ""), ("a\nb", ""), (&"x".repeat(101), ""), ("ana", &"x".repeat(501))]
        {
            assert_eq!(audit(by, reason).unwrap_err().code(), tonic::Code::InvalidArgument, "{by} {reason}");
        }
    }

    #[test]
    fn a_filter_without_states_means_parked_deliveries() {
        let filter = replay_filter(&v1::ReplayFilter::default()).unwrap();
        assert_eq!(filter.states, [DeliveryState::Parked]);
        let states = |state: DeliveryState| v1::ReplayFilter {
            states: vec![state.into()],
            ..v1::ReplayFilter::default()
        };
        assert!(replay_filter(&states(DeliveryState::Delivered)).is_ok());
        let [parked, ignored] = [DeliveryState::Parked, DeliveryState::Ignored];
        let by_run = v1::ReplayFilter { runs: vec![RunOutcome::Failed.into()], ..Default::default() };
        assert_eq!(replay_filter(&by_run).unwrap().states.len(), 5, "every final state");
        let twice = [parked, ignored, parked].map(Into::into).to_vec();
        let twice = replay_filter(&v1::ReplayFilter { states: twice, ..Default::default() }).unwrap();
        assert_eq!(twice.states.len(), 2, "a repeated state counts once");
        assert!(replay_filter(&states(DeliveryState::Waiting)).is_err());
        assert!(replay_filter(&states(DeliveryState::Unspecified)).is_err());
        let of_type =
            |text: &str| replay_filter(&v1::ReplayFilter { event_type: text.into(), ..Default::default() });
        assert!(of_type("video.*").unwrap().event_type.unwrap().matches("video.x.y"));
        assert!(!of_type("video.x").unwrap().event_type.unwrap().matches("video.x.y"));
        for wrong in ["video*", "*.x", "v.*.x", "a.*.*"] {
            assert!(of_type(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_filter_by_state_alone_selects_everything() {
        assert!(is_everything(&recorded(v1::ReplayFilter::default())));
        assert!(!is_everything(&v1::ReplayFilter { tenant: "acme".into(), ..Default::default() }));
        assert!(!is_everything(&v1::ReplayFilter {
            since: Some(prost_types::Timestamp::default()),
            ..Default::default()
        }));
        assert_eq!((rate(0).unwrap(), rate(5).unwrap(), rate(60_001).is_err()), (600, 5, true));
    }
}
