//! What was asked, checked: ids, filters, page sizes and tokens.
//!
//! Tokens are base64url of `<what for>:<place>`, so that one for a list is not taken for a place in another.
//! They hold no secret and no promise but to go on where a page ended.

use crate::{
    services::access::Caller,
    view::query::{DeliveryFilter, EventFilter, Period, Place, TOP},
};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use std::{collections::BTreeSet, fmt::Display, str::FromStr};
use talaria_proto::v1::{self, DeliveryState, ListEventsRequest, ListUnmatchedRequest};
use tonic::Status;

const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 1000;

/// More than any id has, in characters.
pub(crate) const LONGEST_ID: usize = 100;

/// What a page of quarantined callbacks that begins with the newest is below: later than all, and any id.
const NEWEST: (i64, String) = (i64::MAX, String::new());

pub(crate) fn id<T: FromStr<Err: Display>>(text: &str) -> Result<T, Status> {
    let refuse = |error: T::Err| {
        // Statuses travel in headers, which are not long.
        let shown: String = text.chars().take(LONGEST_ID).collect();
        Status::invalid_argument(format!("{shown:?} is {error}"))
    };
    text.parse().map_err(refuse)
}

/// Empty fields do not restrict.
pub(crate) fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(crate) fn page_size(asked: u32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) if size <= LARGEST_PAGE => Ok(size),
        _ => Err(Status::invalid_argument(format!("page_size is {asked}, and at most {LARGEST_PAGE}"))),
    }
}

pub(crate) fn period(
    since: Option<prost_types::Timestamp>,
    until: Option<prost_types::Timestamp>,
) -> Result<Period, Status> {
    let read = |time: Option<prost_types::Timestamp>, name: &str| {
        let read = |time: prost_types::Timestamp| Timestamp::new(time.seconds, time.nanos);
        time.map(read).transpose().map_err(|error| Status::invalid_argument(format!("{name}: {error}")))
    };
    Ok(Period { since: read(since, "since")?, until: read(until, "until")? })
}

pub(crate) fn event_filter(request: ListEventsRequest, caller: &Caller) -> Result<EventFilter, Status> {
    Ok(EventFilter {
        tenant: caller.narrow(&request.tenant)?,
        job_id: given(request.job_id),
        period: period(request.since, request.until)?,
        is_unmatched: false,
    })
}

pub(crate) fn unmatched_filter(
    request: &ListUnmatchedRequest,
    caller: &Caller,
) -> Result<EventFilter, Status> {
    Ok(EventFilter {
        tenant: caller.narrow(&request.tenant)?,
        job_id: None,
        period: period(request.since, request.until)?,
        is_unmatched: true,
    })
}

pub(crate) fn delivery_filter(filter: v1::DeliveryFilter, caller: &Caller) -> Result<DeliveryFilter, Status> {
    let states = filter.states.iter().map(|state| match DeliveryState::try_from(*state) {
        Ok(state) if state != DeliveryState::Unspecified => Ok(state),
        _ => Err(Status::invalid_argument(format!("{state} is not a state that a delivery can be in"))),
    });
    // Each once: every one that is named is looked for, and a request has room for millions.
    let states: BTreeSet<_> = states.collect::<Result<_, _>>()?;
    Ok(DeliveryFilter {
        states: states.into_iter().collect(),
        tenant: caller.narrow(&filter.tenant)?,
        route: given(filter.route),
        job_id: given(filter.job_id),
        period: period(filter.since, filter.until)?,
    })
}

fn token(kind: &str, place: impl Display) -> String {
    BASE64URL_NOPAD.encode(format!("{kind}:{place}").as_bytes())
}

/// The place in a token; `None` where there is no token.
fn place<T>(token: &str, kind: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let text = BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let place = text.as_deref().and_then(|text| text.strip_prefix(kind)?.strip_prefix(':')).and_then(read);
    match place {
        Some(place) => Ok(Some(place)),
        None => Err(Status::invalid_argument("the token is not one that was given out for this")),
    }
}

pub(crate) fn event_token(seq: i64) -> String {
    token("e", seq)
}

pub(crate) fn event_page(token: &str) -> Result<i64, Status> {
    Ok(place(token, "e", |text| text.parse().ok())?.unwrap_or(i64::MAX))
}

pub(crate) fn unmatched_token(seq: i64) -> String {
    token("u", seq)
}

pub(crate) fn unmatched_page(token: &str) -> Result<i64, Status> {
    Ok(place(token, "u", |text| text.parse().ok())?.unwrap_or(i64::MAX))
}

pub(crate) fn delivery_token((seq, route): Place) -> String {
    token("d", format_args!("{seq}.{route}"))
}

pub(crate) fn delivery_page(token: &str) -> Result<Place, Status> {
    let read = |text: &str| {
        let (seq, route) = text.split_once('.')?;
        Some((seq.parse().ok()?, route.parse().ok()?))
    };
    Ok(place(token, "d", read)?.unwrap_or(TOP))
}

pub(crate) fn quarantine_token((received_at, id): &(i64, String)) -> String {
    token("q", format_args!("{received_at}.{id}"))
}

pub(crate) fn quarantine_page(token: &str) -> Result<(i64, String), Status> {
    let read = |text: &str| {
        let (received_at, id) = text.split_once('.')?;
        Some((received_at.parse().ok()?, id.to_owned()))
    };
    Ok(place(token, "q", read)?.unwrap_or(NEWEST))
}

pub(crate) fn job_token((started_at, id): &(i64, String)) -> String {
    token("j", format_args!("{started_at}.{id}"))
}

pub(crate) fn job_page(token: &str) -> Result<(i64, String), Status> {
    let read = |text: &str| {
        let (started_at, id) = text.split_once('.')?;
        Some((started_at.parse().ok()?, id.to_owned()))
    };
    Ok(place(token, "j", read)?.unwrap_or(NEWEST))
}

pub(crate) fn action_token(seq: i64) -> String {
    token("a", seq)
}

pub(crate) fn action_page(token: &str) -> Result<i64, Status> {
    Ok(place(token, "a", |text| text.parse().ok())?.unwrap_or(i64::MAX))
}

pub(crate) fn watch_token(place: u64) -> String {
    token("w", place)
}

pub(super) fn watch_place(token: &str) -> Result<Option<u64>, Status> {
    place(token, "w", |text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::id::EventId;

    #[test]
    fn tokens_come_back_and_only_where_they_belong() {
        assert_eq!(event_page(&event_token(7)).unwrap(), 7);
        assert_eq!(delivery_page(&delivery_token((7, 9))).unwrap(), (7, 9));
        assert_eq!(quarantine_page(&quarantine_token(&(7, "qrt_x".into()))).unwrap(), (7, "qrt_x".into()));
        assert_eq!(watch_place(&watch_token(7)).unwrap(), Some(7));
        assert_eq!(
            (event_page("").unwrap(), delivery_page("").unwrap(), watch_place("").unwrap()),
            (i64::MAX, TOP, None)
        );
        for token in ["x", "!!", &event_token(7), &token("d", "7"), &token("d", "7.x"), &"A".repeat(10_000)] {
            let error = delivery_page(token).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{token}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        assert_eq!(page_size(0).unwrap(), 50);
        assert!(page_size(1001).unwrap_err().message().contains("at most 1000"));
        assert!(id::<EventId>("evt_no").unwrap_err().message().contains("not an event id: evt_ and 32"));
        let states = v1::DeliveryFilter { states: vec![99], ..v1::DeliveryFilter::default() };
        let caller = Caller::anybody();
        assert!(delivery_filter(states, &caller).unwrap_err().message().contains("99 is not a state"));
        let often = v1::DeliveryFilter { states: [3, 1].repeat(1000), ..v1::DeliveryFilter::default() };
        assert_eq!(delivery_filter(often, &caller).unwrap().states.len(), 2, "each is looked for once");
        let since = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
        let time = v1::DeliveryFilter { since, ..v1::DeliveryFilter::default() };
        assert!(delivery_filter(time, &caller).unwrap_err().message().starts_with("since"));
    }
}
