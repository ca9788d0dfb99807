//! Tenants.

use super::{
    Jobs, Media, Problem, Route, compile::Compiler, media, openrouter, outbound, problem::Problems, raw,
    route, secret, secret::Origin,
};
use crate::time::{DAY, SECOND};
use secrecy::SecretString;
use serde_saphyr::Spanned;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// The age at which a signature is stale, as OpenRouter documents it.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// One tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name, as in `/callbacks/{name}`.
    pub name: String,
    /// The secrets that OpenRouter may sign with; empty in a relay, in an ingress if the tenant is down, and if it only polls.
    pub secrets: Vec<SecretString>,
    /// Why others of them, or the API key, could not be read. Only in a running process, which works with the readable ones.
    pub unread: Vec<Problem>,
    /// The origin of the first secret, for messages to the operator; `None` for a tenant that only polls.
    pub secret_origin: Option<Origin>,
    /// The largest difference between a signature's time and now.
    pub tolerance: Duration,
    /// The settings of its jobs at OpenRouter. Missing without `openrouter.api_key`.
    pub jobs: Option<Arc<Jobs>>,
    /// Its links to the files of completed jobs, if it gives any, and whether it keeps the files.
    pub media: Option<Media>,
    /// Its routes, by name.
    pub routes: BTreeMap<String, Arc<Route>>,
}

impl Tenant {
    /// Why no callback of this tenant can be verified, if no secret could be read. A tenant that only polls takes none.
    pub fn down(&self) -> Option<&Problem> {
        self.unread.first().filter(|_| self.secrets.is_empty() && !self.only_polls())
    }

    /// Whether it has an API key and no secrets: its jobs end by polls alone, and it takes no callbacks.
    pub fn only_polls(&self) -> bool {
        self.secret_origin.is_none()
    }
}

pub(super) fn compile(c: &mut Compiler<'_>, name: &str, raw: raw::Tenant) -> Tenant {
    let openrouter = &raw.openrouter.value;
    if openrouter.secrets.is_empty() && openrouter.api_key.is_none() {
        let what = format!("tenant {name} has no OpenRouter secret, and no openrouter.api_key to poll with");
        let help = "name a secret, as in secrets: [{file: PATH}], by which callbacks are verified, or an api_key, with which jobs \
                    are submitted and polled";
        c.problems.add(&raw.openrouter, what, help);
    }
    let (secrets, mut unread) = openrouter_secrets(c, name, &openrouter.secrets);
    let networks = outbound::networks(&mut c.problems, &raw.networks);
    let (jobs, unread_key) = openrouter::compile(c, name, openrouter, networks.as_ref());
    unread.extend(unread_key);
    let media = media::compile(c, name, raw.media.as_ref(), openrouter.api_key.is_some());
    let secret_origin = openrouter.secrets.first().map(|origin| origin.value.below(c.base));
    let tolerance = openrouter.tolerance.as_ref();
    let tolerance = c.problems.duration(tolerance, "tolerance", DEFAULT_TOLERANCE, SECOND..=DAY);
    let mut routes = BTreeMap::new();
    let mut keys = HashMap::new();
    for (route_name, raw) in raw.routes.0 {
        c.check_name(&route_name, "route");
        let written = route::Written {
            tenant: name,
            name: &route_name,
            raw: &raw,
            networks: networks.as_ref(),
            media_tokens: media::tokens(media.as_ref()),
        };
        let route = route::compile(c, written);
        if let Some(other) = keys.insert(route.key, route_name.value.clone()) {
            let what = format!("the route names {other} and {} come to the same key", route_name.value);
            c.problems.add(&route_name, what, "rename one of them");
        }
        routes.insert(route_name.value, Arc::new(route));
    }
    Tenant { name: name.to_owned(), secrets, unread, secret_origin, tolerance, jobs, media, routes }
}

/// The readable secrets, and why others could not be read. Empty for a relay. Never an empty secret: every client could sign with
/// it.
fn openrouter_secrets(
    c: &mut Compiler<'_>,
    tenant: &str,
    origins: &[Spanned<Origin>],
) -> (Vec<SecretString>, Vec<Problem>) {
    let (mut secrets, mut unread) = (Vec::new(), Problems::default());
    let read = if c.role.has_ingress() { origins } else { &[] };
    for origin in read {
        match secret::read(c, origin) {
            Ok(secret) => secrets.push(secret),
            Err(problem) => unread.0.push(problem),
        }
    }
    let consequence =
        if secrets.is_empty() { "its callbacks are answered 503" } else { "its other ones are used" };
    let unread = c.unread(&format_args!("tenant {tenant}"), unread, consequence);
    (secrets, unread)
}
