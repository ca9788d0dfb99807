//! Whether Hermes serves a route with the secret that is here, asked without running anything.
//!
//! Two requests with a body that no Hermes can read, because it is not UTF-8. Hermes looks at a request in this order: its
//! route, the signature, the rate, the body, and only then the event, the prompt and the id. So with a wrong signature it answers
//! 401, and with a right one it ends where it cannot read the body: 0.19.0 with 500, newer ones with 400. Nothing is run, no id is
//! recorded, and no version gets as far as a prompt. The request with the right signature counts for the route's rate limit.
//!
//! An event that the subscription does not name would be no such question: a subscription without `events` takes them all,
//! and runs its agent.

use super::classify::{Answer, Context, Exchange, classify};
use talaria_core::json::parse;

/// What is sent. Python decodes JSON before it reads it, and a form too.
pub(crate) const BODY: &[u8] = b"\x80 Talaria asks whether the signature is right; this is not to be run";

/// The event that it is said to be, which no subscription names.
pub(crate) const EVENT: &str = "talaria.doctor";

/// What Hermes makes of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It serves the route, and has the secret of this index; 0 is the newest.
    Agrees {
        /// The index among the route's secrets.
        secret: usize,
    },
    /// It serves the route, and has none of the route's secrets.
    Disagrees,
    /// It takes requests that are wrongly signed.
    Unverified,
    /// It does not serve the route, cannot be reached, or is not Hermes: why, in one sentence.
    Fault(String),
}

/// What a request with a wrong signature came to, if that is enough to tell.
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

/// What a request came to that was signed with the secret of this index; nothing where the next secret is to be tried.
pub(crate) fn of_signed(exchange: &Exchange, secret: usize) -> Option<Handshake> {
    match exchange {
        Exchange::Answered(answer) if is_refused(answer) => None,
        // The rate is looked at behind the signature.
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

/// Whether Hermes, or aiohttp below it, says that it could not read the body.
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

/// In the words in which a delivery's attempt would be told.
fn detail(exchange: &Exchange) -> String {
    let context = Context {
        deliver_only: false,
        idempotency_key: "",
        lost_attempt: None,
        other_secret: false,
        // Nothing secret was sent but signatures, of a body that is known.
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
        assert_eq!(of_forged(&answer(REFUSED.0, REFUSED.1)), None, "it verifies: the next request tells");
        assert_eq!(of_signed(&answer(REFUSED.0, REFUSED.1), 0), None, "the next secret is tried");
        for (status, body) in UNREADABLE {
            assert_eq!(of_forged(&answer(status, body)), Some(Handshake::Unverified));
            assert_eq!(of_signed(&answer(status, body), 1), Some(Handshake::Agrees { secret: 1 }));
        }
        let fast = answer(429, r#"{"error": "Rate limit exceeded"}"#);
        assert_eq!(of_signed(&fast, 0), Some(Handshake::Agrees { secret: 0 }));
    }

    #[test]
    fn what_is_not_hermes_or_does_not_serve_the_route_is_told_in_a_sentence() {
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
        // What json.loads takes for another encoding than UTF-8: a mark in front, or a NUL among the first bytes.
        assert!(![&b"\xff\xfe"[..], b"\xfe\xff", b"\xef\xbb\xbf"].iter().any(|mark| BODY.starts_with(mark)));
        assert!(!BODY.contains(&0));
    }
}
