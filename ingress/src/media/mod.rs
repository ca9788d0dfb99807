//! Files of completed jobs, `GET /media/{token}`, for every client with the link: the kept file where there is one, else fetched from
//! OpenRouter with the tenant's key.
//!
//! A link that gives nothing is answered the same 404 for every reason, and counts as refused: clients that guess are limited by
//! their address. Nothing of OpenRouter's answer goes out but the file, its type and its length. Links are in no log.
//!
//! - [`links`]: the links of an event. [`turns`]: how many files may be under way.
//! - [`file`]: the body of an answer, with its account. [`source`]: where its bytes come from.

mod file;
mod links;
mod source;
mod turns;

pub(crate) use links::links;

use crate::{address, callback::State, connections::Permit, problem::Problem};
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use file::{Account, File, HeadOnly, Outcome};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, request};
use http_range_header::{EndPosition, StartPosition, parse_range_header};
use hyper::body::Incoming;
use jiff::Timestamp;
use secrecy::SecretString;
use source::Source;
use std::{
    net::IpAddr,
    ops::RangeInclusive,
    sync::{Arc, LazyLock},
    time::Duration,
};
use talaria_bus::{Files, Publisher};
use talaria_core::{
    config::{Api, Config, Media as Settings},
    media::{self, Claims},
};
use talaria_openrouter::{Client, ContentError};
use talaria_telemetry::LogLimiter;
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
    publisher: Publisher,
    turns: Arc<Turns>,
}

impl Media {
    pub(crate) fn new(client: Client, publisher: Publisher) -> Self {
        Self { client, publisher, turns: Arc::default() }
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
        let files = settings.keep.is_some().then(|| self.publisher.files(config.retention));
        let found = match &files {
            Some(files) => kept(files, &claims, &head).await,
            None => Ok(None),
        };
        let found = match found {
            Ok(Some(found)) => Ok(found),
            // A file that cannot be read is fetched, as one that is not kept.
            Ok(None) => self.fetched(api, &claims, settings).await,
            Err(because) => {
                static FAILED: LogLimiter = LogLimiter::new();
                if let Some(left_out) = FAILED.admit() {
                    tracing::warn!(because, left_out, "a kept file cannot be read, and is fetched again");
                }
                self.fetched(api, &claims, settings).await
            }
        };
        match found {
            Ok(found) => answer(&head.method, &claims, found, account),
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

    async fn fetched(&self, api: &Api, claims: &Claims, settings: &Settings) -> Result<Found, ContentError> {
        let content = self.client.content(api, &claims.job_id, claims.index, settings.max_bytes).await?;
        Ok(Found {
            media_type: content.media_type.clone(),
            size: content.length,
            ranges: Ranges::None,
            source: Some(Source::Fetched(Box::new(content))),
        })
    }
}

/// A file to answer with.
struct Found {
    media_type: String,
    /// The length of the whole file, if it is known.
    size: Option<u64>,
    ranges: Ranges,
    /// `None` if no byte of it is asked for.
    source: Option<Source>,
}

/// Which part of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Ranges {
    /// The file is not kept, so it has no parts.
    None,
    Whole,
    One(RangeInclusive<u64>),
    /// Beyond its end.
    Unsatisfiable,
}

impl Ranges {
    /// The part of a file of this size that a request asks for. Several parts are answered with the whole file, as any server may.
    fn read(headers: &HeaderMap, size: u64) -> Self {
        let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        // There are no validators that If-Range could name.
        let text = text.filter(|_| !headers.contains_key(header::IF_RANGE));
        let Some(Ok(parsed)) = text.map(parse_range_header) else { return Self::Whole };
        let [range] = parsed.ranges.as_slice() else { return Self::Whole };
        let last = size.saturating_sub(1);
        let end = match range.end {
            EndPosition::Index(end) => end.min(last),
            EndPosition::LastByte => last,
        };
        let start = match range.start {
            StartPosition::Index(start) => start,
            StartPosition::FromLast(0) => size,
            StartPosition::FromLast(count) => size.saturating_sub(count),
        };
        if start >= size {
            Self::Unsatisfiable
        } else if start > end {
            Self::Whole
        } else {
            Self::One(start..=end)
        }
    }
}

/// `None` if the file is not kept.
async fn kept(files: &Files, claims: &Claims, head: &request::Parts) -> Result<Option<Found>, String> {
    let Some(kept) = source::find(files, claims).await? else { return Ok(None) };
    // Only GET has ranges.
    let is_get = head.method == Method::GET;
    let ranges = if is_get { Ranges::read(&head.headers, kept.size) } else { Ranges::Whole };
    let source = match &ranges {
        Ranges::Unsatisfiable => None,
        Ranges::One(range) => kept.read(files, Some(range)).await?,
        Ranges::None | Ranges::Whole => kept.read(files, None).await?,
    };
    if source.is_none() && ranges != Ranges::Unsatisfiable {
        // It was removed meanwhile.
        return Ok(None);
    }
    Ok(Some(Found { media_type: kept.media_type.to_owned(), size: Some(kept.size), ranges, source }))
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

fn answer(method: &Method, claims: &Claims, found: Found, mut account: Account) -> Response {
    let Found { media_type, size, ranges, source } = found;
    let mut response = Response::new(Body::empty());
    let disposition = HeaderValue::from_str(&disposition(claims, &media_type));
    let (status, length, content_range) = match &ranges {
        Ranges::None | Ranges::Whole => (StatusCode::OK, size, None),
        Ranges::One(range) => {
            let (start, end) = (range.start(), range.end());
            let content_range = format!("bytes {start}-{end}/{}", size.unwrap_or_default());
            (StatusCode::PARTIAL_CONTENT, Some(source::length(range)), Some(content_range))
        }
        Ranges::Unsatisfiable => {
            let content_range = format!("bytes */{}", size.unwrap_or_default());
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(0), Some(content_range))
        }
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let units = if ranges == Ranges::None { "none" } else { "bytes" };
    headers.extend([
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private")),
        (header::ACCEPT_RANGES, HeaderValue::from_static(units)),
    ]);
    headers.extend(HeaderValue::from_str(&media_type).ok().map(|value| (header::CONTENT_TYPE, value)));
    headers.extend(disposition.ok().map(|value| (header::CONTENT_DISPOSITION, value)));
    headers.extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
    let content_range = content_range.and_then(|text| HeaderValue::from_str(&text).ok());
    headers.extend(content_range.map(|value| (header::CONTENT_RANGE, value)));
    *response.body_mut() = match source {
        None => {
            account.ended(Outcome::Ok);
            Body::empty()
        }
        Some(_) if *method == Method::HEAD => {
            account.ended(Outcome::Ok);
            Body::new(HeadOnly)
        }
        Some(source) => Body::new(File::new(source, length, account)),
    };
    response
}

/// A name for the file, of characters that are safe in every file system.
fn disposition(claims: &Claims, media_type: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let job: String = claims.job_id.chars().map(safe).collect();
    format!("attachment; filename=\"{job}-{}.{}\"", claims.index, media::extension(media_type))
}

#[cfg(test)]
mod tests;
