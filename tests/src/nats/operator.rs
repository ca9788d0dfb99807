//! Operator mode: an operator signs accounts, an account signs users, and a user presents a JWT and proves its key by a
//! signature. Like `nsc`, without a further program.
//!
//! The claims are those of <https://github.com/nats-io/jwt>, version 2.

use super::Builder;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The trust anchor of a server.
#[derive(Debug)]
pub struct Operator {
    key: KeyPair,
    system: Account,
}

/// A space of subjects and streams, with its users.
#[derive(Debug)]
pub struct Account(KeyPair);

/// A user of an account.
#[derive(Debug)]
pub struct User<'a> {
    account: &'a Account,
    key: KeyPair,
    permissions: Value,
}

impl Operator {
    /// A new one, with the system account that JetStream asks for.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        Self { key: KeyPair::new_operator(), system: Account::new() }
    }

    /// A server that trusts this operator alone, and knows this account.
    #[must_use]
    pub fn server(&self, server: Builder, account: &Account) -> Builder {
        // For two streams. Consumers have no limit, and use no memory that is counted.
        let jetstream = json!({"streams": 2, "consumer": -1, "disk_storage": 1 << 30, "mem_storage": 0});
        let (system, ours) = (&self.system, account);
        server
            .with(&format!("operator: {}", self.jwt()))
            .with(&format!("system_account: {}", system.0.public_key()))
            .with("resolver: MEMORY")
            .with(&format!(
                "resolver_preload {{{}: {}, {}: {}}}",
                system.0.public_key(),
                self.account_jwt(system, json!({})),
                ours.0.public_key(),
                self.account_jwt(ours, jetstream)
            ))
    }

    fn jwt(&self) -> String {
        signed(&self.key, &self.key, None, &json!({"type": "operator", "version": 2}))
    }

    fn account_jwt(&self, account: &Account, jetstream: Value) -> String {
        let mut limits = json!({
            "conn": -1, "leaf": -1, "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true
        });
        let Value::Object(jetstream) = jetstream else { panic!("limits are an object") };
        limits.as_object_mut().unwrap().extend(jetstream);
        signed(&self.key, &account.0, None, &json!({"type": "account", "version": 2, "limits": limits}))
    }
}

impl Account {
    /// One that no server knows yet.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        Self(KeyPair::new_account())
    }

    /// A user who may publish and subscribe to this, and to nothing else.
    pub fn user(&self, publish: &[String], subscribe: &[String]) -> User<'_> {
        let permissions = json!({"pub": {"allow": publish}, "sub": {"allow": subscribe}});
        User { account: self, key: KeyPair::new_user(), permissions }
    }
}

impl User<'_> {
    /// A credentials file that is good for ever, as short as one may be: it ends with the seed, without a line break.
    pub fn creds(&self) -> String {
        self.file(None)
    }

    /// One that is good for this long, in whole seconds.
    pub fn creds_for(&self, time: Duration) -> String {
        self.file(Some(now() + time.as_secs()))
    }

    /// One that was good once.
    pub fn expired_creds(&self) -> String {
        self.file(Some(now() - 1))
    }

    fn file(&self, expires: Option<u64>) -> String {
        let mut claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        claims.as_object_mut().unwrap().extend(self.permissions.as_object().unwrap().clone());
        let jwt = signed(&self.account.0, &self.key, expires, &claims);
        let seed = self.key.seed().unwrap();
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------"
        )
    }
}

/// A JWT by an issuer about a subject.
fn signed(by: &KeyPair, about: &KeyPair, expires: Option<u64>, nats: &Value) -> String {
    let mut claims = json!({
        "jti": format!("{:032x}", rand::random::<u128>()),
        "iat": now(),
        "iss": by.public_key(),
        "sub": about.public_key(),
        "name": about.public_key(),
        "nats": nats,
    });
    if let Some(expires) = expires {
        claims["exp"] = expires.into();
    }
    let [header, claims] = [json!({"typ": "JWT", "alg": "ed25519-nkey"}), claims]
        .map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let signature = by.sign(format!("{header}.{claims}").as_bytes()).unwrap();
    format!("{header}.{claims}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// In seconds since 1970.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}
