//! The decision about a callback: is it signed by the tenant's OpenRouter, and is it an event?

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, hint::black_box, sync::Arc, sync::LazyLock};
use talaria_bus::time::to_proto;
use talaria_core::{
    config::{DEFAULT_TOLERANCE, Tenant},
    id::{EventId, QuarantineId},
    openrouter::{
        event::Envelope,
        signature::{Rejected, Signature},
    },
};
use talaria_proto::v1::{Event, QuarantinedCallback};

/// A callback as it came in, whole.
#[derive(Debug)]
pub(crate) struct Callback<'a> {
    /// From the path.
    pub tenant: &'a str,
    /// The signature header, its lines joined by commas.
    pub signature: Option<&'a str>,
    /// OpenRouter's idempotency key. Not signed.
    pub idempotency_key: Option<&'a str>,
    /// The trace that it belongs to, if its sender says so and is right; not signed.
    pub traceparent: String,
    /// How the body is compressed, if it is.
    pub compressed: Option<&'static str>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// When it was whole.
    pub received_at: Timestamp,
}

/// What a callback is not.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// No tenant's secret matches.
    Stranger(Why),
    /// Signed with a secret of this tenant, and not sent to its path.
    Misdirected(String),
    /// Signed, but not an event.
    NotAnEvent(Box<QuarantinedCallback>),
}

/// Why a callback is not accepted as a tenant's; for logs and metrics, never for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    UnknownTenant,
    Signature(Rejected),
}

/// What an unknown tenant's callback is verified against, so that it takes as long as a known one's.
static NOBODY: LazyLock<[SecretString; 1]> = LazyLock::new(|| ["nobody's".into()]);

/// How many bytes are hashed, at most, to find out whose secret has signed what the named tenant's has not: a callback of a
/// kilobyte is tried with some four thousand secrets.
const SEARCHED: usize = 4 << 20;

/// What a hash costs whatever is hashed, as bytes of a body: four blocks of SHA-256.
const SEARCHED_AT_LEAST: usize = 256;

/// The event that a callback is, or what it is not. An unknown tenant's name, which may be empty, matches no tenant.
pub(crate) fn accept(
    tenants: &BTreeMap<String, Arc<Tenant>>,
    callback: Callback<'_>,
) -> Result<Event, Refusal> {
    let tenant = tenants.get(callback.tenant);
    let (secrets, tolerance) =
        tenant.map_or((NOBODY.as_slice(), DEFAULT_TOLERANCE), |tenant| (&tenant.secrets, tenant.tolerance));
    let verify = |signature: &Signature<'_>, secrets| {
        signature.verify(secrets, tolerance, callback.received_at, &callback.body)
    };
    let verified = match callback.signature.map(Signature::parse) {
        None => Err(Rejected::Missing),
        Some(Err(rejected)) => Err(rejected),
        Some(Ok(signature)) => verify(&signature, secrets).inspect_err(|_| {
            for _ in 0..more_to_try(tenants, secrets) {
                let _ = black_box(verify(&signature, NOBODY.as_slice()));
            }
        }),
    };
    let rejected = match (tenant, verified) {
        (Some(_), Ok(())) => return normalize(callback),
        (Some(_), Err(rejected)) => Why::Signature(rejected),
        (None, _) => Why::UnknownTenant,
    };
    // Whatever the tenant is called, so that the time does not tell whether there is one.
    match signer(tenants, &callback) {
        Some(signer) => Err(Refusal::Misdirected(signer.to_owned())),
        None => Err(Refusal::Stranger(rejected)),
    }
}

/// The tenant that has signed a callback, whichever it is sent to. All that fits into [`SEARCHED`] are tried, so that the
/// time does not tell which it was.
fn signer<'a>(tenants: &'a BTreeMap<String, Arc<Tenant>>, callback: &Callback<'_>) -> Option<&'a str> {
    let signature = Signature::parse(callback.signature?).ok()?;
    let cost = callback.body.len() + SEARCHED_AT_LEAST;
    let (mut left, mut found) = (SEARCHED, None);
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

/// How many secrets more some tenant has than were tried. Who is refused has to wait as if all were: a tenant whose secret
/// is being replaced has two, and a long body takes twice as long with them, which an unknown one's never would.
fn more_to_try(tenants: &BTreeMap<String, Arc<Tenant>>, tried: &[SecretString]) -> usize {
    let most = tenants.values().map(|tenant| tenant.secrets.len()).max();
    most.unwrap_or_default().saturating_sub(tried.len())
}

fn normalize(callback: Callback<'_>) -> Result<Event, Refusal> {
    let received_at = Some(to_proto(callback.received_at));
    let payload_size = callback.body.len() as u64;
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
            return Err(Refusal::NotAnEvent(Box::new(QuarantinedCallback {
                id: QuarantineId::new(callback.tenant, &callback.body).to_string(),
                tenant: callback.tenant.to_owned(),
                received_at,
                reason,
                payload_size,
                payload: callback.body,
            })));
        }
    };
    let expected_key = envelope.idempotency_key();
    Ok(Event {
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
        received_at,
        idempotency_key: callback.idempotency_key.map(str::to_owned),
        idempotency_key_matches: callback.idempotency_key == Some(&expected_key),
        payload_sha256: Bytes::copy_from_slice(&Sha256::digest(&callback.body)),
        payload_size,
        payload: callback.body,
        traceparent: callback.traceparent,
    })
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
            let secrets = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
            let tenant = Tenant {
                name: name.into(),
                secrets,
                unread: Vec::new(),
                secret_origin: SecretOrigin::Env("X".into()),
                tolerance: Duration::from_secs(60),
                routes: BTreeMap::new(),
            };
            (name.to_owned(), Arc::new(tenant))
        };
        [tenant("acme", &["old", "new"]), tenant("other", &["theirs"])].into()
    }

    fn decide(tenant: &str, secret: &str, body: &str, age: Duration) -> Result<Event, Refusal> {
        let signature = sign(&secret.into(), now() - age, body.as_bytes());
        let callback = Callback {
            tenant,
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
    }

    #[test]
    fn a_stranger_is_one_for_a_reason_that_we_know() {
        let why = |tenant, secret, age| match decide(tenant, secret, BODY, Duration::from_secs(age)) {
            Err(Refusal::Stranger(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why("nobody", "guessed", 0), Why::UnknownTenant);
        assert_eq!(why("nobody", "nobody's", 0), Why::UnknownTenant);
        assert_eq!(why("nobody", "old", 61), Why::UnknownTenant, "a stale signature proves nothing");
        assert_eq!(why("acme", "guessed", 0), Why::Signature(Rejected::Mismatch));
        assert_eq!(why("acme", "old", 61), Why::Signature(Rejected::Stale));
        let unsigned = Callback {
            tenant: "acme",
            signature: None,
            idempotency_key: None,
            traceparent: String::new(),
            compressed: None,
            body: Bytes::from_static(BODY.as_bytes()),
            received_at: now(),
        };
        assert_eq!(accept(&tenants(), unsigned), Err(Refusal::Stranger(Why::Signature(Rejected::Missing))));
    }

    #[test]
    fn what_is_signed_for_another_path_is_known_by_its_signer() {
        for (path, secret, signer) in [
            ("nobody", "old", "acme"),
            ("", "new", "acme"),
            ("acme", "theirs", "other"),
            ("acme/", "theirs", "other"),
        ] {
            let misdirected = decide(path, secret, BODY, Duration::ZERO);
            assert_eq!(misdirected, Err(Refusal::Misdirected(signer.into())), "{path}");
        }
        // The signer of a body that is too long to be searched for stays unknown.
        let long = "x".repeat(SEARCHED);
        assert_eq!(decide("", "old", &long, Duration::ZERO), Err(Refusal::Stranger(Why::UnknownTenant)));
    }

    #[test]
    fn a_compressed_body_is_named() {
        let body = b"\x1f\x8b compressed";
        let signature = sign(&"old".into(), now(), body);
        let callback = Callback {
            tenant: "acme",
            signature: Some(&signature),
            idempotency_key: None,
            traceparent: String::new(),
            compressed: Some("gzip"),
            body: Bytes::from_static(body),
            received_at: now(),
        };
        let Err(Refusal::NotAnEvent(quarantined)) = accept(&tenants(), callback) else { panic!() };
        assert!(quarantined.reason.starts_with("the body is compressed (gzip)"), "{quarantined:?}");
    }

    #[test]
    fn as_many_secrets_are_tried_for_every_tenant_and_for_none() {
        let tenants = tenants();
        let more = |name: &str| more_to_try(&tenants, &tenants[name].secrets);
        assert_eq!((more("acme"), more("other")), (0, 1));
        assert_eq!(more_to_try(&tenants, NOBODY.as_slice()), 1);
        // What they are tried with opens nothing.
        let refused = decide("other", "nobody's", BODY, Duration::ZERO);
        assert_eq!(refused, Err(Refusal::Stranger(Why::Signature(Rejected::Mismatch))));
    }

    #[test]
    fn what_is_signed_and_no_event_is_quarantined_whole() {
        let Err(Refusal::NotAnEvent(quarantined)) = decide("acme", "old", "[1]", Duration::ZERO) else {
            panic!()
        };
        assert_eq!(quarantined.reason, "the body is not a JSON object");
        assert_eq!(quarantined.payload, "[1]");
        let again = decide("acme", "new", "[1]", Duration::from_secs(5));
        assert!(matches!(again, Err(Refusal::NotAnEvent(again)) if again.id == quarantined.id));
    }
}
