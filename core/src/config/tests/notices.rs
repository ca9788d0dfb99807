//! Webhooks, and routes that take notices.

use super::*;
use crate::{hermes::signature::Scheme, notice::NoticeKind};

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Loads route acme/video as a webhook with these further keys.
fn webhook(keys: &str, secret: &str) -> Result<Config, String> {
    let text = with_route(&format!("kind: webhook\n        {keys}")).replace("secrets/acme-hermes", "whsec");
    load_with(&text, Role::Both, &[("whsec", secret, 0o600)])
}

#[test]
fn a_webhook_gets_raw_bytes_that_are_signed_as_standard_webhooks_say() {
    let config = webhook("events: [talaria.*]", WHSEC).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let route = config.route("acme", "video").unwrap();
    assert_eq!((route.kind, route.body, route.pace), (RouteKind::Webhook, BodyMode::Raw, None));
    assert_eq!((route.signing.name, route.hermes_name()), (Scheme::STANDARD.name, None));
}

#[test]
fn a_webhook_has_no_keys_of_hermes_and_a_secret_of_its_own_form() {
    for key in ["signing: hub", "prompt: p", "body: raw", "extra: {a: b}", "deliver_only: true"] {
        let error = webhook(key, WHSEC).unwrap_err();
        let name = key.split(':').next().unwrap();
        assert!(error.contains(&format!("a webhook has no {name}")), "{key}: {error}");
    }
    let error = webhook("", "short").unwrap_err();
    assert!(error.contains("is not whsec_ and the base64") && error.contains("openssl rand"), "{error}");
    let error = load_text(&with_route("kind: email")).unwrap_err();
    assert!(error.contains("unknown kind") && error.contains("kind: webhook"), "{error}");
}

#[test]
fn a_route_takes_notices_only_where_its_events_name_them() {
    let wants = |events: &str| {
        let config = load_text(&with_route(events)).unwrap();
        let route = config.route("acme", "video").unwrap();
        let taken = NoticeKind::ALL.map(|kind| route.wants(kind.event_type(), &Value::Null));
        assert_eq!(taken, NoticeKind::ALL.map(|kind| route.takes_notice(kind)));
        assert_eq!(route.takes_notices(), taken.contains(&true));
        let explained = route.explain("talaria.route.shut", None);
        assert_eq!(matches!(explained, Wanted::Yes(_)), taken[0], "{explained:?}");
        taken.into_iter().filter(|taken| *taken).count()
    };
    for (events, taken) in [
        ("", 0),
        ("events: ['*']", 0),
        ("events: [video.generation.*]", 0),
        ("events: [talaria.*]", 6),
        ("events: [talaria.route.*]", 2),
        ("events: [talaria.delivery.parked]", 1),
    ] {
        assert_eq!(wants(events), taken, "{events}");
    }
}

#[test]
fn a_type_that_no_notice_has_and_a_mixed_route_are_warned_of() {
    let warned = |events: &str| {
        let warnings = load_text(&with_route(events)).unwrap().warnings;
        warnings.into_iter().map(|warning| warning.what).collect::<Vec<_>>()
    };
    assert_eq!(warned("events: [talaria.rout.shut]"), ["talaria.rout.shut is none of the types of notices"]);
    assert_eq!(
        warned("events: [talaria.*, image.*]"),
        ["route acme/video takes notices and other events, and no notice is made about it"]
    );
}
