//! How a connection proves its user: credentials files for servers in operator mode, and keys for servers that list their users.

use crate::Error;
use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;
use secrecy::ExposeSecret as _;
use std::future::ready;
use talaria_core::config::{Credentials, Nats as Config, SecretOrigin, UserKey};

/// The origin of a user's proof.
enum Proof {
    Creds(SecretOrigin),
    Key(SecretOrigin),
}

/// Options that read the proof for every connection: short-lived credentials are renewed in the same file, and so may a key be.
pub(super) fn options(config: &Config) -> Result<ConnectOptions, Error> {
    let proof = match (&config.creds, &config.nkey) {
        (Some(creds), _) => Proof::Creds(creds.clone()),
        (None, Some(key)) => Proof::Key(key.clone()),
        (None, None) => return Ok(ConnectOptions::new()),
    };
    // Reports a fault of the file before async-nats does.
    answer(&proof, b"").map_err(Error::new)?;
    // Reading a few hundred bytes does not block the connection for long.
    let answer = move |nonce: Vec<u8>| ready(answer(&proof, &nonce).map_err(AuthError::new));
    Ok(ConnectOptions::with_auth_callback(answer))
}

/// The answer to the server's challenge: its nonce signed, and the user, as a JWT or a public key.
fn answer(proof: &Proof, nonce: &[u8]) -> Result<Auth, String> {
    let mut auth = Auth::new();
    match proof {
        Proof::Creds(creds) => {
            let Credentials { jwt, seed } = Credentials::read(creds)
                .map_err(|(what, help)| format!("{what} (bus.nats.creds): {help}"))?;
            // The error's own text may hold a part of the seed.
            let signature = KeyPair::from_seed(seed.expose_secret()).and_then(|key| key.sign(nonce)).map_err(|_| {
                format!(
                    "the seed in {creds} (bus.nats.creds) is not whole: write the file anew with `nsc generate creds`"
                )
            })?;
            auth.jwt = Some(jwt.expose_secret().to_owned());
            auth.signature = Some(signature);
        }
        Proof::Key(origin) => {
            let UserKey { seed } =
                UserKey::read(origin).map_err(|(what, help)| format!("{what} (bus.nats.nkey): {help}"))?;
            let (user, signature) = KeyPair::from_seed(seed.expose_secret())
                .and_then(|key| Ok((key.public_key(), key.sign(nonce)?)))
                .map_err(|_| format!("the key in {origin} (bus.nats.nkey) cannot sign"))?;
            auth.nkey = Some(user);
            auth.signature = Some(signature);
        }
    }
    Ok(auth)
}
