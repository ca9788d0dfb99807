//! `standard`: Standard Webhooks, with which a [webhook](crate::config::RouteKind::Webhook) is signed. It is `svix` under other
//! names, and its secrets always have `whsec_`.
//!
//! Hermes 0.19 does not know it, so it is not among [`Scheme::ALL`].

use super::{Scheme, svix};
use secrecy::ExposeSecret as _;

/// The prefix of secrets.
const PREFIX: &str = "whsec_";

/// The least bytes of a key, as the specification says.
const SHORTEST_KEY: usize = 24;

pub(super) const SCHEME: Scheme = Scheme {
    name: "standard",
    header_names: &["webhook-id", "webhook-signature", "webhook-timestamp"],
    family: "webhook-",
    rank: 4,
    takes_all_secrets: true,
    sends_secret: false,
    check: |secret| {
        let is_long = svix::key(secret).is_some_and(|key| key.len() >= SHORTEST_KEY);
        if secret.expose_secret().starts_with(PREFIX) && is_long {
            return Ok(());
        }
        let fault =
            "the secret in {} is not whsec_ and the base64 of at least 24 bytes, as Standard Webhooks says";
        Err((
            fault,
            "copy the receiver's secret whole, or write a new one: echo whsec_$(openssl rand -base64 32)",
        ))
    },
    sign: svix::SCHEME.sign,
    accepts: |secret, received| {
        svix::accepts(["webhook-id", "webhook-signature", "webhook-timestamp"], secret, received)
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hermes::signature::Request;
    use jiff::Timestamp;
    use secrecy::SecretString;

    /// The example of the specification's repository, which its libraries test.
    #[test]
    fn signs_as_the_specification_shows() {
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let now = Timestamp::from_second(1_614_265_330).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let values = (SCHEME.sign)(&[secret], &Request { id, now, body });
        assert_eq!(values, [id, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "1614265330"]);
    }

    #[test]
    fn a_secret_is_whsec_and_at_least_24_bytes() {
        for (secret, is_valid) in [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLQ==", false),
            ("whsec_no base64", false),
            ("", false),
        ] {
            assert_eq!((SCHEME.check)(&secret.into()).is_ok(), is_valid, "{secret}");
        }
    }
}
