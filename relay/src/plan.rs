//! Which routes an event goes to.

use jiff::Timestamp;
use std::time::Duration;
use talaria_bus::{
    Plan, Stored,
    time::{before, to_proto},
};
use talaria_core::{config::Tenant, id::DeliveryId, id::EventId, json::Value, json::parse};
use talaria_proto::v1::{DeliveryTask, Event, EventPlanned, Fact, fact::What};

/// How far the clocks of two relays may be apart. What one of them plans is due at once on the other's clock too.
pub(crate) const SKEW: Duration = Duration::from_secs(300);

/// The longest text of an event that the journal repeats, in bytes.
const LONGEST_TEXT: usize = 16 * 1024;

/// Matches an event against its tenant's routes. A tenant that is configured no more has none.
pub fn plan(stored: &Stored, tenant: Option<&Tenant>, now: Timestamp) -> Plan {
    let event = &stored.event;
    let routes: Vec<String> = tenant.map_or(Vec::new(), |tenant| matching(event, tenant));
    let deliveries = match event.id.parse::<EventId>() {
        Ok(id) => routes.iter().map(|route| task(stored, id, route, now)).collect(),
        // Ingress made the id; this cannot be reached.
        Err(_) => Vec::new(),
    };
    let planned = EventPlanned { event: Some(for_the_journal(event)), routes };
    let fact =
        Fact { at: Some(to_proto(now)), event_seq: stored.seq, what: Some(What::EventPlanned(planned)) };
    Plan { seq: stored.seq, facts: vec![fact], deliveries }
}

/// The event without its payload, and without texts that no status can show. The stored event has them whole.
fn for_the_journal(event: &Event) -> Event {
    let mut event = Event { payload: bytes::Bytes::new(), ..event.clone() };
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

fn matching(event: &Event, tenant: &Tenant) -> Vec<String> {
    // Most tenants have no filters, and then nobody needs to read the payload.
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

fn task(stored: &Stored, id: EventId, route: &str, now: Timestamp) -> DeliveryTask {
    DeliveryTask {
        delivery_id: DeliveryId::new(id, route).to_string(),
        event_seq: stored.seq,
        tenant: stored.event.tenant.clone(),
        route: route.to_owned(),
        due_at: Some(to_proto(before(now, SKEW))),
        received_at: stored.event.received_at,
        generation: 1,
        ..DeliveryTask::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn plan_for(keys: &str, payload: &'static str) -> Plan {
        let config = testing::config(keys);
        let event = Event {
            id: EventId::new("acme", "j", "video.generation.failed").to_string(),
            tenant: "acme".into(),
            r#type: "video.generation.failed".into(),
            payload: payload.into(),
            ..Event::default()
        };
        plan(
            &Stored { seq: 9, event: event.into() },
            config.tenants.get("acme").map(AsRef::as_ref),
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn an_event_goes_to_the_routes_that_want_it() {
        let plan = plan_for(
            "events: ['video.generation.*']\nfilters: {field: data.status, equals: failed}",
            r#"{"data":{"status":"failed"}}"#,
        );
        assert_eq!(plan.deliveries.len(), 1);
        assert_eq!(plan.deliveries[0].event_seq, 9);
        let Some(What::EventPlanned(planned)) = &plan.facts[0].what else { panic!() };
        assert_eq!(planned.routes, ["video"]);
        assert!(planned.event.as_ref().unwrap().payload.is_empty(), "the journal does not repeat payloads");
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
            ..Event::default()
        };
        let kept = for_the_journal(&event);
        assert!(prost::Message::encoded_len(&kept) < 100_000);
        assert!(kept.r#type.ends_with("ü…") && kept.job_id == "j" && kept.unsigned_urls.is_empty());
    }

    #[test]
    fn an_event_that_nobody_wants_is_planned_all_the_same() {
        for keys in ["events: ['image.*']", "filters: {field: data.status, equals: completed}"] {
            let plan = plan_for(keys, r#"{"data":{"status":"failed"}}"#);
            assert!(plan.deliveries.is_empty() && plan.facts.len() == 1, "{keys}");
        }
        let event = Event { id: EventId::new("gone", "j", "t").to_string(), ..Event::default() };
        assert_eq!(plan(&Stored { seq: 1, event: event.into() }, None, Timestamp::UNIX_EPOCH).facts.len(), 1);
    }
}
