//! The handshake: finds out whether Hermes has a route's secret, by requests that run nothing.
//!
//! It sends two requests with a body that no Hermes can read, because it is not UTF-8. Hermes checks the route, the signature,
//! the rate and the body in this order, and only then the event, the prompt and the id. So it answers a wrong signature with
//! 401, and a right one with its error for an unreadable body: 0.19.0 with 500, newer versions with 400. Nothing is run and no
//! id is recorded. The request with the right signature counts for the route's rate limit.
//!
//! A readable event that no subscription names is no alternative: a subscription without `events` takes every event, and runs
//! its agent.

use super::{
    classify::{Context, classify},
    exchange::{Answer, Exchange},
};
use talaria_core::json::parse;

/// Python decodes the bytes before it parses JSON or a form.
pub(crate) const BODY: &[u8] = b"\x80 Talaria asks whether the signature is right; this is not to be run";

/// The event's name, which no subscription has.
pub(crate) const EVENT: &str = "talaria.doctor";

/// The result of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Hermes serves the route and has one of its secrets.
    Agrees {
        /// The index among the route's secrets; 0 is the newest.
        secret: usize,
    },
    /// Hermes serves the route and has none of its secrets.
    Disagrees,
    /// Hermes accepts a wrong signature.
    Unverified,
    /// Hermes does not serve the route, cannot be reached, or something else answers. The reason in one sentence.
    Fault(String),
}

/// The result of a request with a wrong signature; `None` if Hermes verifies signatures.
pub(crate) fn of_forged(exchange: &Exchange) -> Option<Handshake> {
    match exchange {
        Exchange::Answered(answer) if is_refused(answer) => None,
        Exchange::Answered(answer) if answer.status == 401 => Some(Handshake::Fault(
            "401, but not as Hermes says it: something in front of it asks for credentials of its own".into(),
        )),
        Exchange::Answered(answer) if is_unreadable(answer) => Some(Handshake::Unverified),
        exchange => Some(Handshake::Fault(detail(exchange))),
    }
}

/// The result of a request that was signed with the secret of this index; `None` if the next secret is to be tried.
pub(crate) fn of_signed(exchange: &Exchange, secret: usize) -> Option<Handshake> {
    match exchange {
        Exchange::Answered(answer) if is_refused(answer) => None,
        // Hermes checks the rate after the signature.
        Exchange::Answered(answer) if is_unreadable(answer) || answer.status == 429 => {
            Some(Handshake::Agrees { secret })
        }
        exchange => Some(Handshake::Fault(detail(exchange))),
    }
}

/// Whether Hermes refused the signature.
fn is_refused(answer: &Answer) -> bool {
    answer.status == 401 && error(answer).as_deref() == Some("Invalid signature")
}

/// Whether Hermes, or aiohttp below it, could not read the body.
fn is_unreadable(answer: &Answer) -> bool {
    match answer.status {
        400 => error(answer).as_deref() == Some("Cannot parse body"),
        500 => String::from_utf8_lossy(&answer.body).starts_with("500 Internal Server Error"),
        _ => false,
    }
}

fn error(answer: &Answer) -> Option<String> {
    let document = parse(&answer.body).ok()?;
    Some(document.root().get("error")?.as_text()?.to_str_lossy().into_owned())
}

/// The same text as for a delivery's attempt.
fn detail(exchange: &Exchange) -> String {
    let context = Context {
        is_webhook: false,
        deliver_only: false,
        idempotency_key: "",
        lost_attempt: None,
        other_secret: false,
        // Only signatures of a public body were sent.
        secrets: &[],
    };
    match exchange {
        Exchange::Answered(answer) if (200..300).contains(&answer.status) => format!(
            "{}, but what answers is not Hermes, which takes nothing that is wrongly signed or cannot be read; compare the \
             route's url",
            answer.status
        ),
        exchange => classify(exchange, context).detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Exchange {
        Exchange::Answered(Answer { status, body: body.into(), ..Answer::default() })
    }

    const REFUSED: (u16, &str) = (401, r#"{"error": "Invalid signature"}"#);
    const UNREADABLE: [(u16, &str); 2] = [
        (500, "500 Internal Server Error\n\nServer got itself in trouble"),
        (400, r#"{"error": "Cannot parse body"}"#),
    ];

    #[test]
    fn a_hermes_that_has_the_secret_refuses_the_wrong_signature_and_cannot_read_the_body() {
        assert_eq!(of_forged(&answer(REFUSED.0, REFUSED.1)), None, "it verifies signatures");
        assert_eq!(of_signed(&answer(REFUSED.0, REFUSED.1), 0), None, "the next secret is tried");
        for (status, body) in UNREADABLE {
            assert_eq!(of_forged(&answer(status, body)), Some(Handshake::Unverified));
            assert_eq!(of_signed(&answer(status, body), 1), Some(Handshake::Agrees { secret: 1 }));
        }
        let fast = answer(429, r#"{"error": "Rate limit exceeded"}"#);
        assert_eq!(of_signed(&fast, 0), Some(Handshake::Agrees { secret: 0 }));
    }

    #[test]
    fn a_fault_is_described_in_a_sentence() {
        let not_sent = Exchange::NotSent("connection refused".into());
        for (exchange, says) in [
            (answer(404, r#"{"error": "Unknown route: x"}"#), "404: Hermes does not serve this route"),
            (answer(403, r#"{"error": "Route disabled: x"}"#), "disabled there"),
            (answer(200, "<html>"), "what answers is not Hermes"),
            (answer(202, r#"{"status": "accepted"}"#), "what answers is not Hermes"),
            (answer(500, "<html>"), "500"),
            (answer(502, "bad gateway"), "502 from a gateway"),
            (answer(401, "who are you?"), "credentials of its own"),
            (not_sent, "not sent: connection refused"),
        ] {
            let Some(Handshake::Fault(why)) = of_forged(&exchange) else { panic!("{exchange:?}") };
            assert!(why.contains(says), "{why}");
        }
        assert!(matches!(of_signed(&answer(502, ""), 0), Some(Handshake::Fault(_))));
    }

    #[test]
    fn no_python_can_decode_the_body() {
        assert!(String::from_utf8(BODY.to_vec()).is_err());
        // json.loads detects other encodings than UTF-8 by a mark at the start or a NUL among the first bytes.
        assert!(![&b"\xff\xfe"[..], b"\xfe\xff", b"\xef\xbb\xbf"].iter().any(|mark| BODY.starts_with(mark)));
        assert!(!BODY.contains(&0));
    }
}
