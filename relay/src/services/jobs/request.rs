//! Checks of requests about jobs.

use super::job_id;
use crate::{
    decisions::job::{self, TRACKED},
    services::{access::Caller, control, error::Error},
};
use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use talaria_core::config::{Config, Tenant};
use talaria_proto::v1::{Job, StartJob, SubmitJobRequest, TrackJobRequest};

/// The longest id of a request, and the longest id at OpenRouter, in bytes.
const LONGEST_ID: usize = 128;

/// Bounds of a context: it is in each record of its job, and in each request to Hermes.
const MOST_ENTRIES: usize = 16;
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 1024;

/// The tenant, if it is configured and the caller may see it, and has an API key.
pub(super) fn configured<'a>(caller: &Caller, tenant: &str, config: &'a Config) -> Result<&'a Tenant, Error> {
    let named = self::tenant(caller, tenant)?;
    let found =
        config.tenants.get(&named).ok_or_else(|| Error::NoSuchTenant(no_such(&named, caller, config)))?;
    if found.jobs.is_none() {
        return Err(Error::NoApiKey(format!(
            "the tenant {named} has no openrouter.api_key, with which jobs are submitted and polled"
        )));
    }
    Ok(found)
}

fn no_such(tenant: &str, caller: &Caller, config: &Config) -> String {
    let names = config.tenants.keys().filter(|name| caller.sees(name));
    let names: Vec<&str> = names.take(20).map(String::as_str).collect();
    format!("there is no tenant {tenant}; there are {}", names.join(", "))
}

/// The tenant that a request names, or the caller's only one.
pub(super) fn tenant(caller: &Caller, named: &str) -> Result<String, Error> {
    caller.narrow(named)?.ok_or_else(|| Error::Invalid("name the tenant".to_owned()))
}

pub(super) fn request_id(id: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(allowed) {
        return Err(Error::Invalid(format!(
            "request_id has 1 to {LONGEST_ID} characters of a-z, A-Z, 0-9, \"-\", \"_\", \".\" and \":\""
        )));
    }
    if id.starts_with(TRACKED) {
        return Err(Error::Invalid(format!(
            "request ids that begin with {TRACKED} are those of tracked jobs"
        )));
    }
    Ok(())
}

/// The job and the request to OpenRouter.
pub(super) fn submit(caller: &Caller, request: SubmitJobRequest, config: &Config) -> Result<StartJob, Error> {
    let request_sha256 = digest(&request);
    let SubmitJobRequest { tenant, request_id, video, context, route, requested_by, without_estimate } =
        request;
    control::request::audit(caller, &requested_by, "")?;
    let tenant = configured(caller, &tenant, config)?;
    self::request_id(&request_id)?;
    let video =
        video.ok_or_else(|| Error::Invalid("`video` says what to make, and is missing".to_owned()))?;
    checked(&context, &route, tenant)?;
    let job = Job {
        id: job_id(&tenant.name, &request_id),
        tenant: tenant.name.clone(),
        request_sha256,
        request_id,
        model: video.model.clone(),
        context,
        route,
        requested_by,
        token_name: caller.token.clone(),
        callback_token: if tenant.only_polls() { String::new() } else { callback_token() },
        ..Job::default()
    };
    Ok(StartJob { job: Some(job), video: Some(video), without_estimate })
}

/// A job that is only followed.
pub(super) fn track(caller: &Caller, request: TrackJobRequest, config: &Config) -> Result<StartJob, Error> {
    let TrackJobRequest { tenant, openrouter_id, context, route, requested_by } = request;
    control::request::audit(caller, &requested_by, "")?;
    let tenant = configured(caller, &tenant, config)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if openrouter_id.is_empty() || openrouter_id.len() > LONGEST_ID || !openrouter_id.bytes().all(allowed) {
        return Err(Error::Invalid(format!(
            "openrouter_id is the job's id at OpenRouter: 1 to {LONGEST_ID} characters of a-z, A-Z, 0-9, \"-\" and \"_\""
        )));
    }
    checked(&context, &route, tenant)?;
    let job = Job {
        context,
        route,
        requested_by,
        token_name: caller.token.clone(),
        ..job::of_others(&tenant.name, &openrouter_id)
    };
    Ok(StartJob { job: Some(job), video: None, without_estimate: false })
}

fn checked(context: &HashMap<String, String>, route: &str, tenant: &Tenant) -> Result<(), Error> {
    if context.len() > MOST_ENTRIES {
        return Err(Error::Invalid(format!(
            "context has {} entries, and may have {MOST_ENTRIES}",
            context.len()
        )));
    }
    let is_key = |key: &str| {
        (1..=LONGEST_KEY).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !context.keys().all(|key| is_key(key)) {
        return Err(Error::Invalid(format!(
            "a key of context has 1 to {LONGEST_KEY} characters of a-z, A-Z, 0-9 and \"_\", so that templates can name it"
        )));
    }
    if let Some((key, value)) = context.iter().find(|(_, value)| value.len() > LONGEST_VALUE) {
        return Err(Error::Invalid(format!(
            "context.{key} has {} bytes, and may have {LONGEST_VALUE}",
            value.len()
        )));
    }
    if !route.is_empty() && !tenant.routes.contains_key(route) {
        let names: Vec<&str> = tenant.routes.keys().take(20).map(String::as_str).collect();
        return Err(Error::NoSuchRoute(format!(
            "the tenant {} has no route {route}; it has {}",
            tenant.name,
            names.join(", ")
        )));
    }
    Ok(())
}

/// By which another request under the same id is found out.
pub(super) fn digest(request: &SubmitJobRequest) -> bytes::Bytes {
    let video = request.video.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
    let mut hasher = Sha256::new_with_prefix("talaria.v1/job");
    let context: BTreeMap<&String, &String> = request.context.iter().collect();
    let texts = context.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
    for part in [video.as_slice(), request.route.as_bytes()].into_iter().chain(texts) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_vec().into()
}

/// The last part of the path of a job's callback. It cannot be guessed, so a callback there is the job's.
fn callback_token() -> String {
    BASE32_NOPAD.encode(&rand::random::<[u8; 16]>()).to_ascii_lowercase()
}
