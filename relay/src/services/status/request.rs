//! Checks of a request's ids, filters and page sizes.

use crate::{
    services::{access::Caller, error::Error},
    view::query::{DeliveryFilter, EventFilter, Period, Selection},
};
use jiff::Timestamp;
use std::{collections::BTreeSet, fmt::Display, str::FromStr};
use talaria_proto::v1::{self, DeliveryState, ListEventsRequest, ListUnmatchedRequest};

const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 1000;

/// More than any id has, in characters.
pub(crate) const LONGEST_ID: usize = 100;

pub(crate) fn id<T: FromStr<Err: Display>>(text: &str) -> Result<T, Error> {
    let refuse = |error: T::Err| {
        // A status is sent in a header, which must not be long.
        let shown: String = text.chars().take(LONGEST_ID).collect();
        Error::Invalid(format!("{shown:?} is {error}"))
    };
    text.parse().map_err(refuse)
}

/// Empty fields do not restrict.
pub(crate) fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(crate) fn page_size(asked: u32) -> Result<usize, Error> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) if size <= LARGEST_PAGE => Ok(size),
        _ => Err(Error::Invalid(format!("page_size is {asked}, and at most {LARGEST_PAGE}"))),
    }
}

pub(crate) fn period(
    since: Option<prost_types::Timestamp>,
    until: Option<prost_types::Timestamp>,
) -> Result<Period, Error> {
    let read = |time: Option<prost_types::Timestamp>, name: &str| {
        let read = |time: prost_types::Timestamp| Timestamp::new(time.seconds, time.nanos);
        time.map(read).transpose().map_err(|error| Error::Invalid(format!("{name}: {error}")))
    };
    Ok(Period { since: read(since, "since")?, until: read(until, "until")? })
}

pub(crate) fn event_filter(request: ListEventsRequest, caller: &Caller) -> Result<EventFilter, Error> {
    Ok(EventFilter {
        tenant: caller.narrow(&request.tenant)?,
        selection: given(request.job_id).map_or(Selection::All, Selection::OfJob),
        period: period(request.since, request.until)?,
    })
}

pub(crate) fn unmatched_filter(
    request: &ListUnmatchedRequest,
    caller: &Caller,
) -> Result<EventFilter, Error> {
    Ok(EventFilter {
        tenant: caller.narrow(&request.tenant)?,
        selection: Selection::Unmatched,
        period: period(request.since, request.until)?,
    })
}

pub(crate) fn delivery_filter(filter: v1::DeliveryFilter, caller: &Caller) -> Result<DeliveryFilter, Error> {
    let states = filter.states.iter().map(|state| match DeliveryState::try_from(*state) {
        Ok(state) if state != DeliveryState::Unspecified => Ok(state),
        _ => Err(Error::Invalid(format!("{state} is not a state that a delivery can be in"))),
    });
    // Each once: a request has room for millions, and every one would be looked for.
    let states: BTreeSet<_> = states.collect::<Result<_, _>>()?;
    Ok(DeliveryFilter {
        states: states.into_iter().collect(),
        tenant: caller.narrow(&filter.tenant)?,
        route: given(filter.route),
        job_id: given(filter.job_id),
        period: period(filter.since, filter.until)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::id::EventId;

    #[test]
    fn an_invalid_request_is_refused_with_the_reason() {
        assert_eq!(page_size(0).unwrap(), 50);
        assert!(page_size(1001).unwrap_err().to_string().contains("at most 1000"));
        assert!(id::<EventId>("evt_no").unwrap_err().to_string().contains("not an event id: evt_ and 32"));
        let states = v1::DeliveryFilter { states: vec![99], ..v1::DeliveryFilter::default() };
        let caller = Caller::unrestricted();
        assert!(delivery_filter(states, &caller).unwrap_err().to_string().contains("99 is not a state"));
        let often = v1::DeliveryFilter { states: [3, 1].repeat(1000), ..v1::DeliveryFilter::default() };
        assert_eq!(delivery_filter(often, &caller).unwrap().states.len(), 2, "each once");
        let since = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
        let time = v1::DeliveryFilter { since, ..v1::DeliveryFilter::default() };
        assert!(delivery_filter(time, &caller).unwrap_err().to_string().starts_with("since"));
    }
}
