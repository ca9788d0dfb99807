//! `gitlab`: `X-Gitlab-Token` has the secret itself.

use super::{Scheme, is_same};
use secrecy::ExposeSecret as _;

const TOKEN: &str = "X-Gitlab-Token";

pub(super) const SCHEME: Scheme = Scheme {
    name: "gitlab",
    header_names: &[TOKEN],
    family: "x-gitlab-",
    rank: 2,
    takes_all_secrets: false,
    sends_secret: true,
    check: |secret| {
        let secret = secret.expose_secret();
        let fault = (
            "the secret in {} has blanks around it, which a header loses",
            "use a secret without them, or another signing",
        );
        if secret.trim() == secret { Ok(()) } else { Err(fault) }
    },
    sign: |secrets, _| secrets.iter().take(1).map(|secret| secret.expose_secret().to_owned()).collect(),
    accepts: |secret, received| Some(is_same(received.value(TOKEN)?, secret.expose_secret())),
};
