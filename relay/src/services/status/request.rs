//! Checks of a request's ids, filters and page sizes.

use crate::{
    services::{access::Caller, error::Error},
    view::filter::{DeliveryFilter, EventFilter, Period},
};
use jiff::Timestamp;
use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive, str::FromStr};
use talaria_core::config::{EventPattern, NotAPattern};
use talaria_proto::v1::{
    self, AttemptOutcome, DeliveryState, ListEventsRequest, ListUnmatchedRequest, RunOutcome,
};

const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 1000;

/// More than any id has, in characters.
pub(crate) const LONGEST_ID: usize = 100;

/// What an answer can have.
const STATUSES: RangeInclusive<u32> = 100..=599;

/// The longest text of a filter, in characters.
const LONGEST_TEXT: usize = 200;

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
        job_id: given(request.job_id),
        event_type: event_type(request.event_type)?,
        model: text("model", request.model)?,
        unmatched: request.unmatched,
        period: period(request.since, request.until)?,
    })
}

pub(crate) fn unmatched_filter(
    request: &ListUnmatchedRequest,
    caller: &Caller,
) -> Result<EventFilter, Error> {
    Ok(EventFilter {
        tenant: caller.narrow(&request.tenant)?,
        job_id: None,
        event_type: event_type(request.event_type.clone())?,
        model: text("model", request.model.clone())?,
        unmatched: true,
        period: period(request.since, request.until)?,
    })
}

pub(crate) fn delivery_filter(filter: v1::DeliveryFilter, caller: &Caller) -> Result<DeliveryFilter, Error> {
    let tenant = caller.narrow(&filter.tenant)?.unwrap_or_default();
    checked(v1::DeliveryFilter { tenant, ..filter })
}

/// A filter of deliveries of any tenant.
pub(crate) fn checked(filter: v1::DeliveryFilter) -> Result<DeliveryFilter, Error> {
    let states = filter.states.iter().map(|state| match DeliveryState::try_from(*state) {
        Ok(state) if state != DeliveryState::Unspecified => Ok(state),
        _ => Err(Error::Invalid(format!("{state} is not a state that a delivery can be in"))),
    });
    let outcomes = filter.outcomes.iter().map(|outcome| match AttemptOutcome::try_from(*outcome) {
        Ok(outcome) if outcome != AttemptOutcome::Unspecified => Ok(outcome),
        _ => Err(Error::Invalid(format!("{outcome} is not an outcome that an attempt can have"))),
    });
    let runs = filter.runs.iter().map(|outcome| match RunOutcome::try_from(*outcome) {
        Ok(outcome) if outcome != RunOutcome::Unspecified => Ok(outcome),
        _ => Err(Error::Invalid(format!("{outcome} is not an outcome that a run can have"))),
    });
    // Each once: a request has room for millions, and every one would be looked for.
    let states: BTreeSet<_> = states.collect::<Result<_, _>>()?;
    let outcomes: BTreeSet<_> = outcomes.collect::<Result<_, _>>()?;
    let runs: BTreeSet<_> = runs.collect::<Result<_, _>>()?;
    let http_statuses: BTreeSet<_> =
        filter.http_statuses.iter().map(|status| http_status(status)).collect::<Result<_, _>>()?;
    Ok(DeliveryFilter {
        tenant: given(filter.tenant),
        route: given(filter.route),
        job_id: given(filter.job_id),
        event_type: event_type(filter.event_type)?,
        model: text("model", filter.model)?,
        states: states.into_iter().collect(),
        outcomes: outcomes.into_iter().collect(),
        http_statuses: http_statuses.into_iter().map(|(first, last)| first..=last).collect(),
        reason: text("reason", filter.reason)?.map(|part| part.to_lowercase()),
        runs: runs.into_iter().collect(),
        period: period(filter.since, filter.until)?,
    })
}

/// In the notation of a route's `events`.
fn event_type(pattern: String) -> Result<Option<EventPattern>, Error> {
    let what = "event_type is a type, or all that go on behind a dot: video.generation.*";
    let read = |pattern: String| pattern.parse().map_err(|_: NotAPattern| Error::Invalid(what.into()));
    text("event_type", pattern)?.map(read).transpose()
}

/// A text that is not too long, if it is not empty.
fn text(name: &str, text: String) -> Result<Option<String>, Error> {
    if text.chars().count() > LONGEST_TEXT {
        return Err(Error::Invalid(format!("{name} has at most {LONGEST_TEXT} characters")));
    }
    Ok(given(text))
}

/// The first and the last of the HTTP statuses that are meant: "503", or "5xx" for a class of them.
fn http_status(text: &str) -> Result<(u32, u32), Error> {
    let class = text.strip_suffix("xx").and_then(|class| class.parse::<u32>().ok());
    let range = match class {
        Some(class @ 1..=5) => Some((class * 100, class * 100 + 99)),
        Some(_) => None,
        None => text.parse().ok().filter(|status| STATUSES.contains(status)).map(|status| (status, status)),
    };
    range.ok_or_else(|| {
        let shown: String = text.chars().take(LONGEST_ID).collect();
        Error::Invalid(format!(
            "{shown:?} is not an HTTP status from 100 to 599, such as 503, and not a class of them from 1xx to 5xx"
        ))
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

    #[test]
    fn a_filter_that_cannot_be_is_refused_with_what_is_expected() {
        let fault = |filter: v1::DeliveryFilter| checked(filter).unwrap_err().to_string();
        let answered = |status: &str| v1::DeliveryFilter {
            http_statuses: vec![status.into()],
            ..v1::DeliveryFilter::default()
        };
        for (status, range) in [("503", 503..=503), ("5xx", 500..=599), ("1xx", 100..=199)] {
            assert_eq!(checked(answered(status)).unwrap().http_statuses, [range]);
        }
        for wrong in ["9xx", "0xx", "xx", "5x", "99", "600", "", "-5xx", "none"] {
            assert!(fault(answered(wrong)).contains("such as 503, and not a class of them"), "{wrong}");
        }
        let outcomes = v1::DeliveryFilter { outcomes: vec![99], ..v1::DeliveryFilter::default() };
        assert!(fault(outcomes).contains("99 is not an outcome"));
        let runs = |runs: &[i32]| v1::DeliveryFilter { runs: runs.into(), ..v1::DeliveryFilter::default() };
        assert!(fault(runs(&[0])).contains("0 is not an outcome that a run can have"));
        assert_eq!(checked(runs(&[5, 2, 5])).unwrap().runs, [RunOutcome::Failed, RunOutcome::None]);
        let of_type =
            |kind: &str| v1::DeliveryFilter { event_type: kind.into(), ..v1::DeliveryFilter::default() };
        assert!(fault(of_type("video*")).contains("behind a dot"));
        assert!(checked(of_type("video.*")).unwrap().event_type.unwrap().matches("video.x.y"));
        let because = |text: String| v1::DeliveryFilter { reason: text, ..v1::DeliveryFilter::default() };
        assert_eq!(checked(because("Shut".into())).unwrap().reason.unwrap(), "shut");
        assert!(fault(because("x".repeat(201))).contains("reason has at most 200 characters"));
        assert!(checked(because("é".repeat(200))).is_ok());
    }
}
