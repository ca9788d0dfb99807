//! Credentials files for servers in operator mode.

use crate::Error;
use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;
use secrecy::ExposeSecret as _;
use std::future::ready;
use talaria_core::config::{Credentials, SecretOrigin};

/// Options that read the credentials for every connection: short-lived credentials are renewed in the same file.
pub(super) fn options(creds: SecretOrigin) -> Result<ConnectOptions, Error> {
    // Reports a fault of the credentials before async-nats does.
    answer(&creds, b"").map_err(Error::new)?;
    // Reading a few hundred bytes does not block the connection for long.
    let answer = move |nonce: Vec<u8>| ready(answer(&creds, &nonce).map_err(AuthError::new));
    Ok(ConnectOptions::with_auth_callback(answer))
}

/// The answer to the server's challenge: the JWT, and its nonce signed.
fn answer(creds: &SecretOrigin, nonce: &[u8]) -> Result<Auth, String> {
    let Credentials { jwt, seed } =
        Credentials::read(creds).map_err(|(what, help)| format!("{what} (bus.nats.creds): {help}"))?;
    // The error's own text may hold a part of the seed.
    let signature = KeyPair::from_seed(seed.expose_secret()).and_then(|key| key.sign(nonce)).map_err(|_| {
        format!(
            "the seed in {creds} (bus.nats.creds) is not whole: write the file anew with `nsc generate creds`"
        )
    })?;
    let mut auth = Auth::new();
    auth.jwt = Some(jwt.expose_secret().to_owned());
    auth.signature = Some(signature);
    Ok(auth)
}
