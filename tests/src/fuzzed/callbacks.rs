//! The signature and the body of a callback.

use super::split_line;
use jiff::Timestamp;
use secrecy::SecretString;
use std::time::Duration;
use talaria_core::{
    id::EventId,
    json::{parse, print::dump_line},
    openrouter::{
        diagnosis::diagnose,
        event::Envelope,
        signature::{Signature, SignatureFault, sign},
    },
};

const TOLERANCE: Duration = Duration::from_secs(300);

/// No other text is signed with it than those of this file.
const SECRET: &str = "whsec_that-no-seed-is-signed-with";

/// Verifies and reads a callback: its first line is the signature header, and the rest the body.
pub fn callbacks(data: &[u8]) {
    let (header, body) = split_line(data);
    signature(&String::from_utf8_lossy(header), body);
    event(body);
}

fn verify(header: &str, secret: &str, body: &[u8]) -> Result<(), SignatureFault> {
    let now = Timestamp::constant(1_777_000_000, 0);
    Signature::parse(header)?.verify(&[secret.into()], TOLERANCE, now, body)
}

/// Without the secret there is no signature, also not with the help of a genuine one of another body.
fn signature(header: &str, body: &[u8]) {
    assert!(verify(header, SECRET, body).is_err(), "{header:?}");
    let genuine = sign(&SECRET.into(), Timestamp::constant(1_777_000_000, 0), body);
    assert_eq!(verify(&genuine, SECRET, body), Ok(()));
    assert_eq!(verify(&genuine, "whsec_another", body), Err(SignatureFault::Mismatch));
    let other = [body, b" "].concat();
    for mixed in [format!("{header},{genuine}"), format!("{genuine},{header}")] {
        assert!(verify(&mixed, SECRET, &other).is_err(), "{mixed:?}");
        // With a second time it is not known which one is signed.
        let verified = verify(&mixed, SECRET, body);
        assert!(matches!(verified, Ok(()) | Err(SignatureFault::Malformed)), "{mixed:?}: {verified:?}");
    }
    let secrets = [SecretString::from(SECRET)];
    for is_compressed in [false, true] {
        let hint = diagnose(Some(header), is_compressed, &secrets, body);
        assert!(hint.is_none_or(|hint| !hint.to_string().contains(SECRET)), "{header:?}");
    }
}

/// A body that is printed again is the same event.
fn event(body: &[u8]) {
    let Ok(document) = parse(body) else {
        assert!(Envelope::read(body).is_err());
        return;
    };
    let printed = dump_line(document.root());
    let again = parse(printed.as_bytes()).expect("JSON that was printed is JSON");
    assert_eq!(dump_line(again.root()), printed);
    let event = Envelope::read(body);
    assert_eq!(Envelope::from_document(&again), event);
    let Ok(event) = event else { return };
    assert!(!event.event_type.is_empty() && !event.job_id.is_empty(), "{event:?}");
    assert!(event.cost_micros.is_none_or(|micros| micros >= 0), "{event:?}");
    let id = EventId::new("me", &event.job_id, &event.event_type);
    assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
}
