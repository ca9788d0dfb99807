//! Credentials files, for servers in operator mode.

use crate::Error;
use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;
use secrecy::ExposeSecret as _;
use std::future::ready;
use talaria_core::config::{Credentials, SecretOrigin};

/// Options that read the credentials for every connection: those that end after an hour are renewed in the same file,
/// and the service outlives them.
pub(super) fn options(creds: SecretOrigin) -> Result<ConnectOptions, Error> {
    // What is wrong with them already is said before async-nats meets it.
    answer(&creds, b"").map_err(Error::new)?;
    // Reading a few hundred bytes does not block the connection for long.
    let answer = move |nonce: Vec<u8>| ready(answer(&creds, &nonce).map_err(AuthError::new));
    Ok(ConnectOptions::with_auth_callback(answer))
}

/// What the server asks for: the JWT, and its nonce signed.
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
