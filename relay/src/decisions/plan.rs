//! The plan: the routes that an event goes to.

use jiff::Timestamp;
use talaria_core::{
    config::{Route, Tenant},
    json::{Value, parse},
};
use talaria_proto::{
    time::to_proto,
    v1::{Event, EventPlanned, Record, record::What},
};

/// The longest text of an event in the journal, in bytes.
const LONGEST_TEXT: usize = 16 * 1024;

/// Matches an event with its tenant's routes, or with the one route that its job names. A tenant that is not configured has
/// none.
pub(crate) fn plan(
    event_seq: u64,
    event: &Event,
    tenant: Option<&Tenant>,
    only: Option<&str>,
    now: Timestamp,
) -> Record {
    let mut routes: Vec<String> = tenant.map_or(Vec::new(), |tenant| matching(event, tenant));
    routes.retain(|route| only.is_none_or(|only| only == route));
    let planned = EventPlanned { event: Some(for_the_journal(event)), routes };
    Record { at: Some(to_proto(now)), event_seq, what: Some(What::EventPlanned(planned)) }
}

/// The event without its payload and its media links, and with long texts shortened. The stored event is complete.
fn for_the_journal(event: &Event) -> Event {
    let mut event = Event { payload: bytes::Bytes::new(), media_urls: Vec::new(), ..event.clone() };
    for text in [&mut event.r#type, &mut event.job_id, &mut event.status] {
        shorten(text);
    }
    for text in [&mut event.error, &mut event.created_at, &mut event.generation_id, &mut event.model] {
        text.iter_mut().for_each(shorten);
    }
    event.idempotency_key.iter_mut().for_each(shorten);
    if event.unsigned_urls.iter().map(String::len).sum::<usize>() > LONGEST_TEXT {
        event.unsigned_urls.clear();
    }
    event
}

fn shorten(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

pub(crate) fn wants(route: &Route, event: &Event) -> bool {
    let payload = route.filter.is_some().then(|| parse(&event.payload).ok()).flatten();
    let root = payload.as_ref().map_or(&Value::Null, |document| document.root());
    route.wants(&event.r#type, root)
}

fn matching(event: &Event, tenant: &Tenant) -> Vec<String> {
    // Most tenants have no filters, and then the payload need not be parsed.
    let payload =
        tenant.routes.values().any(|route| route.filter.is_some()).then(|| parse(&event.payload).ok());
    let payload = payload.flatten();
    let root = payload.as_ref().map_or(&Value::Null, |document| document.root());
    tenant
        .routes
        .values()
        .filter(|route| route.wants(&event.r#type, root))
        .map(|route| route.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_config;
    use talaria_core::id::EventId;

    fn routes_of(keys: &str, payload: &'static str) -> Vec<String> {
        let config = test_config::config(keys);
        let event = Event {
            id: EventId::new("acme", "j", "video.generation.failed").to_string(),
            tenant: "acme".into(),
            r#type: "video.generation.failed".into(),
            payload: payload.into(),
            ..Event::default()
        };
        let record =
            plan(9, &event, config.tenants.get("acme").map(AsRef::as_ref), None, Timestamp::UNIX_EPOCH);
        let Some(What::EventPlanned(planned)) = record.what else { panic!() };
        assert_eq!(record.event_seq, 9);
        assert!(planned.event.unwrap().payload.is_empty(), "the journal does not repeat payloads");
        let routes = planned.routes;
        let wanted = wants(config.route("acme", "video").unwrap(), &event);
        assert_eq!(wanted, routes.contains(&"video".to_owned()), "one route is matched as all are");
        routes
    }

    #[test]
    fn an_event_goes_to_the_routes_that_want_it() {
        let keys = "events: ['video.generation.*']\nfilters: {field: data.status, equals: failed}";
        assert_eq!(routes_of(keys, r#"{"data":{"status":"failed"}}"#), ["video"]);
    }

    #[test]
    fn the_journal_repeats_no_text_that_is_longer_than_any_status_shows() {
        let long = "ü".repeat(300_000);
        let event = Event {
            r#type: long.clone(),
            status: long.clone(),
            job_id: "j".into(),
            error: Some(long.clone()),
            unsigned_urls: vec![long],
            payload: "{}".into(),
            media_urls: vec!["https://h/media/AQ".into()],
            ..Event::default()
        };
        let kept = for_the_journal(&event);
        assert!(prost::Message::encoded_len(&kept) < 100_000);
        assert!(kept.r#type.ends_with("ü…") && kept.job_id == "j" && kept.unsigned_urls.is_empty());
        assert!(kept.payload.is_empty() && kept.media_urls.is_empty());
    }

    #[test]
    fn an_event_without_a_route_is_planned_all_the_same() {
        for keys in ["events: ['image.*']", "filters: {field: data.status, equals: completed}"] {
            assert!(routes_of(keys, r#"{"data":{"status":"failed"}}"#).is_empty(), "{keys}");
        }
        let record = plan(1, &Event::default(), None, None, Timestamp::UNIX_EPOCH);
        assert!(matches!(record.what, Some(What::EventPlanned(planned)) if planned.routes.is_empty()));
    }
}
