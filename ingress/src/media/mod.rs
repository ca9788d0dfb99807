//! Files of completed jobs, `GET /media/{token}`: fetched from OpenRouter with the tenant's key, for every client with the link.
//!
//! A link that gives nothing is answered the same 404 for every reason, and counts as refused: clients that guess are limited by
//! their address. Nothing of OpenRouter's answer goes out but the file, its type and its length. Links are in no log.
//!
//! - [`links`]: the links of an event. [`turns`]: how many files may be under way.
//! - [`file`]: the body of an answer, with its account.

mod file;
mod links;
mod turns;

pub(crate) use links::links;

use crate::{address, callback::State, connections::Permit, problem::Problem};
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use file::{Account, File, HeadOnly, Outcome};
use http::{HeaderValue, Method, Request, header, request};
use hyper::body::Incoming;
use jiff::Timestamp;
use secrecy::SecretString;
use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};
use talaria_core::{
    config::{Api, Config, Media as Settings},
    media::{self, Claims},
};
use talaria_openrouter::{Client, Content, ContentError};
use tokio::time::Instant;
use turns::Turns;

/// What the path of a link begins with.
pub(crate) const PREFIX: &str = "/media/";

/// When a client may ask again if there are too many files under way.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The key that stands for an unknown tenant's.
static DUMMY: LazyLock<SecretString> = LazyLock::new(|| "no tenant's".into());

/// Answers requests for files.
pub(crate) struct Media {
    client: Client,
    turns: Arc<Turns>,
}

impl Media {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, turns: Arc::default() }
    }

    /// Answers a request whose path begins with [`PREFIX`], over the connection with this permit.
    pub(crate) async fn answer(
        &self,
        state: &State,
        peer: IpAddr,
        permit: &Permit,
        request: Request<Incoming>,
    ) -> Response {
        let (head, body) = request.into_parts();
        if !body_is_empty(&body) {
            crate::body::linger(Body::new(body));
        }
        let config = Arc::clone(&state.config.borrow());
        let client = address::client(peer, &head.headers, &config.ingress);
        let limits = &config.ingress.limits;
        if let Err((_, wait)) = state.limits.admit(client, || false, Instant::now(), limits) {
            Outcome::Limited.count();
            return Problem::too_many(wait).unread().into_response();
        }
        permit.works();
        let (settings, api, claims) = match granted(&config, &head, Timestamp::now()) {
            Ok(granted) => granted,
            Err(problem) => {
                Outcome::Refused.count();
                state.limits.refused(client, Instant::now(), limits);
                return problem.into_response();
            }
        };
        let Some(turn) = self.turns.take(&claims.tenant) else {
            Outcome::Limited.count();
            return Problem::too_many(RETRY_AFTER).into_response();
        };
        let mut account = Account::new(&claims, client.address, turn);
        match self.client.content(api, &claims.job_id, claims.index, settings.max_bytes).await {
            Ok(content) => answer(&head.method, &claims, content, account),
            Err(error) => {
                let problem = match &error {
                    ContentError::NotFound(_) => Problem::no_such_file(),
                    ContentError::TooLong(_) | ContentError::Failed(_) => Problem::file_unavailable(),
                };
                account.failed(&error);
                problem.into_response()
            }
        }
    }
}

fn body_is_empty(body: &Incoming) -> bool {
    hyper::body::Body::is_end_stream(body)
}

/// The file that a request may have, with the settings and the API of its tenant.
fn granted<'a>(
    config: &'a Config,
    head: &request::Parts,
    now: Timestamp,
) -> Result<(&'a Settings, &'a Api, Claims), Problem> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Problem::file_method_not_allowed());
    }
    let token = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let unverified = media::read(token).ok_or_else(Problem::no_such_file)?;
    let tenant = config.tenants.get(unverified.tenant());
    let settings = tenant.and_then(|tenant| tenant.media.as_ref());
    let api = tenant.and_then(|tenant| tenant.jobs.as_ref()?.api.as_ref());
    // For unknown tenants, too, so that the time does not reveal which ones there are.
    let claims = unverified.verify(api.map_or(&*DUMMY, |api| &api.key), now);
    match (settings, api, claims) {
        (Some(settings), Some(api), Some(claims)) => Ok((settings, api, claims)),
        _ => Err(Problem::no_such_file()),
    }
}

fn answer(method: &Method, claims: &Claims, content: Content, mut account: Account) -> Response {
    let mut response = Response::new(Body::empty());
    let media_type = HeaderValue::from_str(&content.media_type);
    let disposition = HeaderValue::from_str(&disposition(claims, &content.media_type));
    let headers = response.headers_mut();
    headers.extend([
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("none")),
    ]);
    headers.extend(media_type.ok().map(|value| (header::CONTENT_TYPE, value)));
    headers.extend(disposition.ok().map(|value| (header::CONTENT_DISPOSITION, value)));
    headers.extend(content.length.map(|length| (header::CONTENT_LENGTH, length.into())));
    *response.body_mut() = if *method == Method::HEAD {
        account.ended(Outcome::Ok);
        Body::new(HeadOnly)
    } else {
        Body::new(File::new(content, account))
    };
    response
}

/// A name for the file, of characters that are safe in every file system.
fn disposition(claims: &Claims, media_type: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let job: String = claims.job_id.chars().map(safe).collect();
    let extension = match media_type {
        "video/webm" => "webm",
        "video/quicktime" => "mov",
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "audio/mpeg" => "mp3",
        "audio/wav" => "wav",
        other if other.starts_with("image/") || other.starts_with("audio/") => "bin",
        _ => "mp4",
    };
    format!("attachment; filename=\"{job}-{}.{extension}\"", claims.index)
}

#[cfg(test)]
mod tests;
