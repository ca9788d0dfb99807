//! What was asked for, checked.

use crate::{
    decisions::replay::Wish,
    services::{
        access::Caller,
        status::request::{given, id, period},
    },
    view::{query::DeliveryFilter, replayable::ReplayFilter},
};
use jiff::Timestamp;
use std::{ops::RangeInclusive, time::Duration};
use talaria_core::{
    config::{EventPattern, NotAPattern},
    id::DeliveryId,
};
use talaria_proto::v1::{self, DeliveryState};
use tonic::Status;

/// The default rate of replays, in a minute: ten a second.
const DEFAULT_RATE: u32 = 600;

/// The most replays a minute.
const LARGEST_RATE: u32 = 60_000;

/// The longest `requested_by` and the longest reason, in characters.
const LONGEST_NAME: usize = 100;
const LONGEST_REASON: usize = 500;

/// How long a pause may last.
const PAUSE_DURATIONS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 60 * 60);

/// Who asks, and why.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// As we know them.
    pub caller: Caller,
    /// As they call themselves.
    pub by: String,
    pub reason: String,
}

impl Asker {
    pub(super) fn read(caller: Caller, by: String, reason: String) -> Result<Self, Status> {
        let refuse = |name: &str, longest: usize| {
            Status::invalid_argument(format!("{name} is one line of at most {longest} characters"))
        };
        if by.trim().is_empty() {
            return Err(Status::invalid_argument("requested_by says who asks, and is empty"));
        }
        let fits = |text: &str, longest| text.chars().count() <= longest && !text.contains(char::is_control);
        if !fits(&by, LONGEST_NAME) {
            return Err(refuse("requested_by", LONGEST_NAME));
        }
        if !fits(&reason, LONGEST_REASON) {
            return Err(refuse("reason", LONGEST_REASON));
        }
        Ok(Self { caller, by, reason })
    }

    pub(super) fn token_name(&self) -> &str {
        &self.caller.token
    }

    /// As what they ask for is journalled.
    pub(super) fn wish<'a>(&'a self, now: Timestamp, job: &'a str) -> Wish<'a> {
        Wish { now, by: &self.by, token: self.token_name(), reason: &self.reason, job }
    }
}

/// How long a pause lasts; `None` for one that has no end of its own.
pub(super) fn pause_duration(asked: Option<&prost_types::Duration>) -> Result<Option<Duration>, Status> {
    let Some(asked) = asked else { return Ok(None) };
    Duration::try_from(*asked)
        .ok()
        .filter(|duration| PAUSE_DURATIONS.contains(duration))
        .map(Some)
        .ok_or_else(|| {
            Status::invalid_argument(
                "a pause lasts from a second to 366 days; without a duration, until it is resumed",
            )
        })
}

/// The delivery that is to be sent again; and its route's name, where it may have to be planned.
pub(super) fn replayed(request: &v1::ReplayDeliveryRequest) -> Result<(DeliveryId, Option<&str>), Status> {
    match (request.delivery_id.as_str(), request.event_id.as_str(), request.route.as_str()) {
        (delivery, "", "") => Ok((id(delivery)?, None)),
        ("", event, route) if !event.is_empty() && !route.is_empty() => {
            Ok((DeliveryId::new(id(event)?, route), Some(route)))
        }
        _ => Err(Status::invalid_argument(
            "what is replayed is a delivery (delivery_id), or an event's delivery to a route (event_id and route)",
        )),
    }
}

fn rate(asked: u32) -> Result<u32, Status> {
    match asked {
        0 => Ok(DEFAULT_RATE),
        1..=LARGEST_RATE => Ok(asked),
        _ => Err(Status::invalid_argument(format!(
            "rate_per_minute is {asked}, and at most {LARGEST_RATE} (1000/s)"
        ))),
    }
}

/// What is journalled of a filter: with the states that it means, each once.
fn with_states(mut filter: v1::ReplayFilter) -> v1::ReplayFilter {
    if filter.states.is_empty() {
        filter.states.push(DeliveryState::Parked.into());
    }
    filter.states.sort_unstable();
    filter.states.dedup();
    filter
}

pub(super) fn replay_filter(filter: &v1::ReplayFilter) -> Result<ReplayFilter, Status> {
    let filter = with_states(filter.clone());
    let state = |state: &i32| match DeliveryState::try_from(*state) {
        Ok(DeliveryState::Waiting) => Err(Status::invalid_argument(
            "what waits is sent by itself; to send one at once, replay it by its id",
        )),
        Ok(state) if state != DeliveryState::Unspecified => Ok(state),
        _ => Err(Status::invalid_argument(format!("{state} is not a state that a delivery can be in"))),
    };
    let deliveries = DeliveryFilter {
        states: filter.states.iter().map(state).collect::<Result<_, _>>()?,
        tenant: given(filter.tenant),
        route: given(filter.route),
        job_id: given(filter.job_id),
        period: period(filter.since, filter.until)?,
    };
    Ok(ReplayFilter { deliveries, event_type: event_type(&filter.event_type)? })
}

/// As routes write them under `events`.
fn event_type(text: &str) -> Result<Option<EventPattern>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let what = "event_type is a type, or all that go on behind a dot: video.generation.*";
    text.parse().map(Some).map_err(|_: NotAPattern| Status::invalid_argument(what))
}

/// What a request for a replay means, checked: the filter as it is journalled, and the rate.
pub(super) fn replay(
    asked: &v1::ReplayDeliveriesRequest,
    caller: &Caller,
) -> Result<(v1::ReplayFilter, u32), Status> {
    let rate = rate(asked.rate_per_minute)?;
    let mut filter = with_states(asked.filter.clone().unwrap_or_default());
    replay_filter(&filter)?;
    if is_everything(&filter) && !asked.all {
        return Err(Status::invalid_argument(
            "this would replay everything there is: restrict it, or ask for all",
        ));
    }
    filter.tenant = caller.narrow(&filter.tenant)?.unwrap_or_default();
    Ok((filter, rate))
}

/// Whether a filter restricts nothing but the state.
fn is_everything(filter: &v1::ReplayFilter) -> bool {
    let v1::ReplayFilter { tenant, route, job_id, event_type, states: _, since, until } = filter;
    let names = [tenant, route, job_id, event_type];
    names.into_iter().all(String::is_empty) && since.is_none() && until.is_none()
}

/// A time that may be missing.
pub(super) fn since(time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Status> {
    Ok(period(time, None)?.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_has_a_name() {
        let read = |by: &str, reason: &str| Asker::read(Caller::anybody(), by.into(), reason.into());
        assert_eq!(read("ana", "").unwrap().by, "ana");
        for (by, reason) in
            [("", ""), ("  ", ""), ("a\nb", ""), (&"x".repeat(101), ""), ("ana", &"x".repeat(501))]
        {
            assert_eq!(read(by, reason).unwrap_err().code(), tonic::Code::InvalidArgument, "{by} {reason}");
        }
    }

    #[test]
    fn a_filter_means_what_is_parked_unless_it_says_otherwise() {
        let filter = replay_filter(&v1::ReplayFilter::default()).unwrap();
        assert_eq!(filter.deliveries.states, [DeliveryState::Parked]);
        let states = |state: DeliveryState| v1::ReplayFilter {
            states: vec![state.into()],
            ..v1::ReplayFilter::default()
        };
        assert!(replay_filter(&states(DeliveryState::Delivered)).is_ok());
        let [parked, ignored] = [DeliveryState::Parked, DeliveryState::Ignored];
        let twice = [parked, ignored, parked].map(Into::into).to_vec();
        let twice = replay_filter(&v1::ReplayFilter { states: twice, ..Default::default() }).unwrap();
        assert_eq!(twice.deliveries.states.len(), 2, "what is named twice is counted once");
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
    fn everything_is_what_nothing_but_the_state_restricts() {
        assert!(is_everything(&with_states(v1::ReplayFilter::default())));
        assert!(!is_everything(&v1::ReplayFilter { tenant: "acme".into(), ..Default::default() }));
        assert!(!is_everything(&v1::ReplayFilter {
            since: Some(prost_types::Timestamp::default()),
            ..Default::default()
        }));
        assert_eq!((rate(0).unwrap(), rate(5).unwrap(), rate(60_001).is_err()), (600, 5, true));
    }
}
