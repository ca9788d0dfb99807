//! `svix`: `svix-signature: v1,<base64 HMAC-SHA256 of ID.TIME.BODY>`, once for each secret.

use super::{Received, Scheme, is_same};
use crate::mac::hmac_sha256_raw;
use data_encoding::BASE64;
use hmac::Mac as _;
use secrecy::{ExposeSecret as _, SecretString};

const ID: &str = "svix-id";
const SIGNATURE: &str = "svix-signature";
const TIMESTAMP: &str = "svix-timestamp";

pub(super) const SCHEME: Scheme = Scheme {
    name: "svix",
    header_names: &[ID, SIGNATURE, TIMESTAMP],
    family: "svix-",
    rank: 0,
    takes_all_secrets: true,
    sends_secret: false,
    check: |secret| {
        let fault =
            ("what stands behind whsec_ in {} is not base64", "copy the secret whole, as Svix shows it");
        key(secret).map(drop).ok_or(fault)
    },
    sign: |secrets, request| {
        let time = request.now.as_second().to_string();
        let signed = |secret| signature(secret, request.id, &time, request.body);
        let signatures: Vec<_> = secrets.iter().filter_map(signed).collect();
        vec![request.id.to_owned(), signatures.join(" "), time]
    },
    accepts: |secret, received| accepts([ID, SIGNATURE, TIMESTAMP], secret, received),
};

pub(super) fn accepts(names: [&str; 3], secret: &SecretString, received: &Received<'_, '_>) -> Option<bool> {
    let [id, signatures, time] = names.map(|name| received.value(name));
    id.or(signatures).or(time)?;
    let (Some(id), Some(signatures), Some(time)) = (id, signatures, time) else { return Some(false) };
    let is_signed = signature(secret, id, time, received.body)
        .is_some_and(|expected| signatures.split_whitespace().any(|found| is_same(found, &expected)));
    Some(received.is_recent(time) && is_signed)
}

/// `None` if the secret has no base64 behind `whsec_`.
fn signature(secret: &SecretString, id: &str, time: &str, body: &[u8]) -> Option<String> {
    let mac = hmac_sha256_raw(&key(secret)?).chain_update(format!("{id}.{time}.")).chain_update(body);
    Some(format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())))
}

/// The key of a secret: base64 behind `whsec_`, or the text itself.
pub(super) fn key(secret: &SecretString) -> Option<Vec<u8>> {
    let text = secret.expose_secret();
    match text.strip_prefix("whsec_") {
        Some(encoded) => BASE64.decode(encoded.as_bytes()).ok(),
        None => Some(text.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Svix' documentation ("Verifying webhooks manually").
    #[test]
    fn signs_as_svix_documents() {
        let secret = SecretString::from("whsec_plJ3nmyCDGBKInavdOK15jsl");
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        let signed = signature(&secret, "msg_loFOjxBNrRLzqYUf", "1731705121", body).unwrap();
        assert_eq!(signed, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
        assert!(signature(&"whsec_no base64".into(), "i", "1", body).is_none());
    }
}
