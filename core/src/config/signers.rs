//! The signers and the origins of their secrets, which need not exist yet.

use super::{raw, secret::Origin};
use std::path::Path;

/// All signers with the origins of their secrets, the newest first: tenants, for OpenRouter, by name, and routes as TENANT/ROUTE.
/// And whether it is a webhook, whose secrets have a form of their own.
pub type Signers = Vec<(String, Vec<Origin>, bool)>;

pub(super) fn signers(raw: &raw::Config, base: &Path) -> Signers {
    let below = |origins: &[serde_saphyr::Spanned<Origin>]| {
        origins.iter().map(|origin| origin.value.below(base)).collect::<Vec<_>>()
    };
    let mut signers = Signers::new();
    for (name, tenant) in &raw.tenants.0 {
        signers.push((name.value.clone(), below(&tenant.openrouter.value.secrets), false));
        for (route, written) in &tenant.routes.0 {
            let origins = match &written.secret.value {
                raw::Secrets::One(origin) => vec![origin.below(base)],
                raw::Secrets::Several(origins) => below(origins),
            };
            let is_webhook = written.kind.as_ref().is_some_and(|kind| kind.value == "webhook");
            signers.push((format!("{}/{}", name.value, route.value), origins, is_webhook));
        }
    }
    signers
}
