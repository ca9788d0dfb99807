//! The decision about a callback: its signature, and its event.

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, hint::black_box, sync::Arc, sync::LazyLock};
use talaria_core::{
    config::{DEFAULT_TOLERANCE, Tenant},
    id::{EventId, QuarantineId},
    openrouter::{
        event::{Envelope, NotAnEvent},
        signature::{Signature, SignatureFault},
    },
};
use talaria_proto::{
    time::to_proto,
    v1::{Event, EventSource, QuarantinedCallback},
};

/// A received callback.
#[derive(Debug)]
pub(crate) struct Callback<'a> {
    /// The tenant in the path.
    pub tenant: &'a str,
    /// The callback token in the path; empty where it has none.
    pub token: &'a str,
    /// The signature header, its lines joined by commas.
    pub signature: Option<&'a str>,
    /// OpenRouter's idempotency key. Not signed.
    pub idempotency_key: Option<&'a str>,
    /// The client's trace context. Not signed, and possibly not valid.
    pub traceparent: String,
    /// The compression of the body, if any.
    pub compressed: Option<&'static str>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// When the body was complete.
    pub received_at: Timestamp,
}

/// Why a callback is not accepted.
#[derive(Debug, PartialEq)]
pub(crate) enum NotAccepted {
    /// No tenant's secret matches.
    Unauthorized(Why),
    /// Signed with a secret of this tenant, and sent to another path.
    Misdirected(String),
    /// Signed, but not an event.
    NotAnEvent(Box<QuarantinedCallback>),
}

/// Why the signature is not accepted; for logs and metrics, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    UnknownTenant,
    /// The tenant has no secrets. Its callbacks are handled as those of an unknown one.
    OnlyPolls,
    Signature(SignatureFault),
}

/// The secrets that stand for those of an unknown tenant, so that its callback takes as long as a known one's.
static DUMMY: LazyLock<[SecretString; 1]> = LazyLock::new(|| ["nobody's".into()]);

/// The most bytes that are hashed to find the signer of a callback to another tenant's path: a callback of a kilobyte is tried
/// with some four thousand secrets.
const SEARCH_BYTES: usize = 4 << 20;

/// The fixed cost of a hash, in bytes of a body: four blocks of SHA-256.
const SEARCH_OVERHEAD: usize = 256;

/// The event of a callback, or why it is refused. An unknown tenant's name, which may be empty, matches no tenant.
pub(crate) fn accept(
    tenants: &BTreeMap<String, Arc<Tenant>>,
    callback: Callback<'_>,
) -> Result<Event, NotAccepted> {
    let named = tenants.get(callback.tenant);
    let tenant = named.filter(|tenant| !tenant.only_polls());
    let (secrets, tolerance) =
        tenant.map_or((DUMMY.as_slice(), DEFAULT_TOLERANCE), |tenant| (&tenant.secrets, tenant.tolerance));
    let verify = |signature: &Signature<'_>, secrets| {
        signature.verify(secrets, tolerance, callback.received_at, &callback.body)
    };
    let verified = match callback.signature.map(Signature::parse) {
        None => Err(SignatureFault::Missing),
        Some(Err(fault)) => Err(fault),
        Some(Ok(signature)) => verify(&signature, secrets).inspect_err(|_| {
            for _ in 0..missing_secrets(tenants, secrets) {
                let _ = black_box(verify(&signature, DUMMY.as_slice()));
            }
        }),
    };
    let why = match (tenant, verified) {
        (Some(_), Ok(())) => return normalize(callback),
        (Some(_), Err(fault)) => Why::Signature(fault),
        (None, _) if named.is_some() => Why::OnlyPolls,
        (None, _) => Why::UnknownTenant,
    };
    // For known and unknown tenants, so that the time does not reveal which one it is.
    match signer(tenants, &callback) {
        Some(signer) => Err(NotAccepted::Misdirected(signer.to_owned())),
        None => Err(NotAccepted::Unauthorized(why)),
    }
}

/// The tenant whose secret signed a callback, whatever its path is. Tries all secrets that fit into [`SEARCH_BYTES`], so that
/// the time does not reveal the tenant.
fn signer<'a>(tenants: &'a BTreeMap<String, Arc<Tenant>>, callback: &Callback<'_>) -> Option<&'a str> {
    let signature = Signature::parse(callback.signature?).ok()?;
    let cost = callback.body.len() + SEARCH_OVERHEAD;
    let (mut left, mut found) = (SEARCH_BYTES, None);
    for tenant in tenants.values() {
        let Some(rest) = left.checked_sub(cost * tenant.secrets.len()) else { break };
        left = rest;
        let verified =
            signature.verify(&tenant.secrets, tenant.tolerance, callback.received_at, &callback.body);
        if verified.is_ok() && found.is_none() {
            found = Some(tenant.name.as_str());
        }
    }
    found
}

/// The difference between the tried secrets and the most that a tenant has. A refusal takes as long as that many: a tenant whose
/// secret is being rotated has two, with which a long body takes twice as long, and an unknown tenant has none.
fn missing_secrets(tenants: &BTreeMap<String, Arc<Tenant>>, tried: &[SecretString]) -> usize {
    let most = tenants.values().map(|tenant| tenant.secrets.len()).max();
    most.unwrap_or_default().saturating_sub(tried.len())
}

fn normalize(callback: Callback<'_>) -> Result<Event, NotAccepted> {
    let envelope = match Envelope::read(&callback.body) {
        Ok(envelope) => envelope,
        Err(reason) => {
            let reason = match callback.compressed {
                Some(coding) => format!(
                    "the body is compressed ({coding}), and an event is plain JSON: have it sent without \
                     Content-Encoding"
                ),
                None => reason.to_string(),
            };
            return Err(NotAccepted::NotAnEvent(Box::new(QuarantinedCallback {
                id: QuarantineId::new(callback.tenant, &callback.body).to_string(),
                tenant: callback.tenant.to_owned(),
                received_at: Some(to_proto(callback.received_at)),
                reason,
                payload_size: callback.body.len() as u64,
                payload: callback.body,
            })));
        }
    };
    Ok(event(callback, envelope, EventSource::Unspecified))
}

/// The event of a payload that an ingress made from OpenRouter's answer to a poll: the one of the callback that says the same.
pub(crate) fn polled(
    tenant: &str,
    token: &str,
    payload: Bytes,
    received_at: Timestamp,
) -> Result<Event, NotAnEvent> {
    let envelope = Envelope::read(&payload)?;
    let callback = Callback {
        tenant,
        token,
        signature: None,
        idempotency_key: None,
        traceparent: String::new(),
        compressed: None,
        body: payload,
        received_at,
    };
    Ok(event(callback, envelope, EventSource::Poll))
}

fn event(callback: Callback<'_>, envelope: Envelope, source: EventSource) -> Event {
    let expected_key = envelope.idempotency_key();
    Event {
        id: EventId::new(callback.tenant, &envelope.job_id, &envelope.event_type).to_string(),
        tenant: callback.tenant.to_owned(),
        r#type: envelope.event_type,
        job_id: envelope.job_id,
        status: envelope.status,
        generation_id: envelope.generation_id,
        model: envelope.model,
        created_at: envelope.created_at,
        unsigned_urls: envelope.unsigned_urls,
        error: envelope.error,
        received_at: Some(to_proto(callback.received_at)),
        idempotency_key: callback.idempotency_key.map(str::to_owned),
        idempotency_key_matches: callback.idempotency_key == Some(&expected_key),
        payload_sha256: Bytes::copy_from_slice(&Sha256::digest(&callback.body)),
        payload_size: callback.body.len() as u64,
        payload: callback.body,
        traceparent: callback.traceparent,
        source: source.into(),
        callback_token: callback.token.to_owned(),
        cost_micros: envelope.cost_micros,
        media_urls: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use talaria_core::{config::SecretOrigin, openrouter::signature::sign};

    const BODY: &str = r#"{"type":"video.generation.completed","data":{"id":"j1","status":"completed"}}"#;

    fn now() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn tenants() -> BTreeMap<String, Arc<Tenant>> {
        let tenant = |name: &str, secrets: &[&str]| {
            let tenant = Tenant {
                name: name.into(),
                secrets: secrets.iter().map(|secret| SecretString::from(*secret)).collect(),
                unread: Vec::new(),
                secret_origin: secrets.first().map(|_| SecretOrigin::Env("X".into())),
                tolerance: Duration::from_secs(60),
                jobs: None,
                media: None,
                routes: BTreeMap::new(),
            };
            (name.to_owned(), Arc::new(tenant))
        };
        [tenant("acme", &["old", "new"]), tenant("other", &["theirs"]), tenant("polls", &[])].into()
    }

    fn decide(tenant: &str, secret: &str, body: &str, age: Duration) -> Result<Event, NotAccepted> {
        let signature = sign(&secret.into(), now() - age, body.as_bytes());
        let callback = Callback {
            tenant,
            token: "t0ken",
            signature: Some(&signature),
            idempotency_key: Some("j1-completed"),
            traceparent: String::new(),
            compressed: None,
            body: Bytes::copy_from_slice(body.as_bytes()),
            received_at: now(),
        };
        accept(&tenants(), callback)
    }

    #[test]
    fn an_event_is_known_by_its_signed_body() {
        let event = decide("acme", "new", BODY, Duration::ZERO).unwrap();
        assert_eq!(event.id, EventId::new("acme", "j1", "video.generation.completed").to_string());
        assert_eq!(event.payload, BODY);
        assert!(event.idempotency_key_matches);
        assert_eq!(event.payload_sha256.len(), 32);
        let other = decide("other", "theirs", BODY, Duration::ZERO).unwrap();
        assert_ne!(event.id, other.id, "tenants do not share events");
        assert_eq!((event.callback_token.as_str(), event.cost_micros), ("t0ken", None));
    }

    #[test]
    fn a_polled_event_is_the_one_of_the_callback() {
        let body = BODY.replace(r#""completed"}"#, r#""completed","usage":{"cost":0.25}}"#);
        let called = decide("acme", "new", &body, Duration::ZERO).unwrap();
        let polled = polled("acme", "t0ken", body.into(), now()).unwrap();
        assert_eq!((polled.id.as_str(), polled.cost_micros), (called.id.as_str(), Some(250_000)));
        assert_eq!((polled.source(), called.source()), (EventSource::Poll, EventSource::Unspecified));
        assert_eq!((polled.idempotency_key.as_ref(), polled.idempotency_key_matches), (None, false));
        let of_callback = Event {
            source: EventSource::Unspecified.into(),
            idempotency_key: called.idempotency_key.clone(),
            idempotency_key_matches: true,
            ..polled
        };
        assert_eq!(of_callback, called, "all else is the same");
        assert!(super::polled("acme", "", "[]".into(), now()).is_err());
    }

    #[test]
    fn a_stranger_is_refused_for_a_known_reason() {
        let why = |tenant, secret, age| match decide(tenant, secret, BODY, Duration::from_secs(age)) {
            Err(NotAccepted::Unauthorized(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why("nobody", "guessed", 0), Why::UnknownTenant);
        assert_eq!(why("nobody", "nobody's", 0), Why::UnknownTenant);
        assert_eq!(why("nobody", "old", 61), Why::UnknownTenant, "a stale signature proves nothing");
        assert_eq!(why("acme", "guessed", 0), Why::Signature(SignatureFault::Mismatch));
        assert_eq!(why("acme", "old", 61), Why::Signature(SignatureFault::Stale));
        for secret in ["guessed", "nobody's", ""] {
            assert_eq!(why("polls", secret, 0), Why::OnlyPolls, "nothing verifies a callback of it");
        }
        let unsigned = Callback {
            tenant: "acme",
            token: "",
            signature: None,
            idempotency_key: None,
            traceparent: String::new(),
            compressed: None,
            body: Bytes::from_static(BODY.as_bytes()),
            received_at: now(),
        };
        assert_eq!(
            accept(&tenants(), unsigned),
            Err(NotAccepted::Unauthorized(Why::Signature(SignatureFault::Missing)))
        );
    }

    #[test]
    fn a_callback_on_another_path_is_known_by_its_signer() {
        for (path, secret, signer) in [
            ("nobody", "old", "acme"),
            ("", "new", "acme"),
            ("acme", "theirs", "other"),
            ("acme/", "theirs", "other"),
        ] {
            let misdirected = decide(path, secret, BODY, Duration::ZERO);
            assert_eq!(misdirected, Err(NotAccepted::Misdirected(signer.into())), "{path}");
        }
        // The signer of a body that is too long for the search stays unknown.
        let long = "x".repeat(SEARCH_BYTES);
        assert_eq!(
            decide("", "old", &long, Duration::ZERO),
            Err(NotAccepted::Unauthorized(Why::UnknownTenant))
        );
    }

    #[test]
    fn a_compressed_body_is_named() {
        let body = b"\x1f\x8b compressed";
        let signature = sign(&"old".into(), now(), body);
        let callback = Callback {
            tenant: "acme",
            token: "",
            signature: Some(&signature),
            idempotency_key: None,
            traceparent: String::new(),
            compressed: Some("gzip"),
            body: Bytes::from_static(body),
            received_at: now(),
        };
        let Err(NotAccepted::NotAnEvent(quarantined)) = accept(&tenants(), callback) else { panic!() };
        assert!(quarantined.reason.starts_with("the body is compressed (gzip)"), "{quarantined:?}");
    }

    #[test]
    fn every_refusal_tries_the_same_number_of_secrets() {
        let tenants = tenants();
        let missing = |name: &str| missing_secrets(&tenants, &tenants[name].secrets);
        assert_eq!((missing("acme"), missing("other")), (0, 1));
        assert_eq!(missing_secrets(&tenants, DUMMY.as_slice()), 1);
        // The dummy secret is no tenant's.
        let refused = decide("other", "nobody's", BODY, Duration::ZERO);
        assert_eq!(refused, Err(NotAccepted::Unauthorized(Why::Signature(SignatureFault::Mismatch))));
    }

    #[test]
    fn a_signed_body_that_is_no_event_is_quarantined_whole() {
        let Err(NotAccepted::NotAnEvent(quarantined)) = decide("acme", "old", "[1]", Duration::ZERO) else {
            panic!()
        };
        assert_eq!(quarantined.reason, "the body is not a JSON object");
        assert_eq!(quarantined.payload, "[1]");
        let again = decide("acme", "new", "[1]", Duration::from_secs(5));
        assert!(matches!(again, Err(NotAccepted::NotAnEvent(again)) if again.id == quarantined.id));
    }
}
