//! `webhook-v2`, Hermes' own scheme: `X-Webhook-Signature-V2: <hex HMAC-SHA256 of TIME.BODY>`.

use super::{Scheme, is_same};
use crate::mac::hmac_sha256;
use data_encoding::HEXLOWER;
use hmac::Mac as _;
use secrecy::SecretString;

const SIGNATURE: &str = "X-Webhook-Signature-V2";
const TIMESTAMP: &str = "X-Webhook-Timestamp";

pub(super) const SCHEME: Scheme = Scheme {
    name: "webhook-v2",
    header_names: &[SIGNATURE, TIMESTAMP],
    family: "x-webhook-",
    rank: 3,
    takes_all_secrets: false,
    sends_secret: false,
    check: |_| Ok(()),
    sign: |secrets, request| {
        let time = request.now.as_second().to_string();
        let signed = |secret| vec![signature(secret, &time, request.body), time.clone()];
        secrets.first().map(signed).unwrap_or_default()
    },
    accepts: |secret, received| {
        let (found, time) = (received.value(SIGNATURE)?, received.value(TIMESTAMP)?);
        Some(received.is_recent(time) && is_same(found, &signature(secret, time, received.body)))
    },
};

fn signature(secret: &SecretString, time: &str, body: &[u8]) -> String {
    let mac = hmac_sha256(secret).chain_update(time).chain_update(b".").chain_update(body);
    HEXLOWER.encode(&mac.finalize().into_bytes())
}
