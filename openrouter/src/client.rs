//! The exchanges with OpenRouter.
//!
//! Every URL is the tenant's `base_url` with a path of this file appended, never one that an answer named, and no redirect is
//! followed. So the key goes to that server and to those paths alone. It is in no error: a message quotes OpenRouter's text only
//! without the key.

mod content;

pub use content::{Content, ContentError, known_type};

use crate::{
    answer::said,
    models::{self, VideoModel},
    poll::{self, Job, Polling, Reading},
    quote::{Hidden, quote},
    request,
    submit::{self, Again, Try},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use std::{sync::Arc, time::Duration};
use talaria_core::config::Api;
use talaria_outbound::{Clients, CutShort, Exchange, Limits, MAX_AGE, Peer, Policy, Resolver};
use talaria_proto::v1::{Submitted, VideoRequest};
use thiserror::Error;
use tokio::time::{Instant, sleep};

/// From the start to the end of the answer. A submit takes 3 seconds, and the providers behind it are slower at times.
pub(crate) const SUBMIT_TIMEOUT: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(20);

/// In bytes.
const LARGEST_CATALOGUE: usize = 4 << 20;
const LARGEST_ANSWER: usize = 1 << 20;

/// In bytes. OpenRouter's ids have up to 40.
const LONGEST_JOB_ID: usize = 200;

/// Talks to OpenRouter. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    clients: Arc<Clients>,
}

/// Why the models could not be read, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CallError {
    /// The reason.
    pub message: String,
    /// Ask no earlier than this from now, if OpenRouter says so.
    pub retry_after: Option<Duration>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// By the system's names.
    pub fn new() -> Self {
        Self::with(Resolver::system())
    }

    /// By the names of this resolver.
    pub fn with(resolver: Arc<Resolver>) -> Self {
        Self { clients: Arc::new(Clients::new(resolver, MAX_AGE)) }
    }

    /// Drops connections that none of these may use; exchanges under way go on.
    pub fn keep_only<'a>(&self, apis: impl Iterator<Item = &'a Api>) {
        let needed: Vec<Policy> = apis.map(policy).collect();
        self.clients.keep_only(|policy| needed.contains(policy));
    }

    /// The models that make videos.
    pub async fn models(&self, api: &Api) -> Result<Vec<VideoModel>, CallError> {
        let call = Call { timeout: TIMEOUT, largest: LARGEST_CATALOGUE, ..Call::get("videos/models") };
        let failed = |message: String| CallError { message, retry_after: None };
        match self.exchange(api, call).await {
            Exchange::NotAllowed(why) | Exchange::NotSent(why) => {
                Err(failed(format!("OpenRouter cannot be asked for its models: {why}")))
            }
            Exchange::Lost(why) => Err(failed(format!("OpenRouter's list of models was lost: {why}"))),
            Exchange::Answered(answer) if answer.status != 200 => Err(CallError {
                message: format!("OpenRouter gives no list of models{}", said(&answer, &of_key(api))),
                retry_after: crate::answer::retry_after(&answer),
            }),
            Exchange::Answered(answer) => match &answer.cut_short {
                None => models::read(&answer.body).map_err(failed),
                Some(CutShort::TooLong(bytes)) => {
                    Err(failed(format!("OpenRouter's list of models is longer than {bytes} bytes")))
                }
                Some(cut) => Err(failed(format!("OpenRouter's list of models is not whole: {cut}"))),
            },
        }
    }

    /// Submits a job, once, until the deadline. Repeats only a request of which certainly no job was made.
    pub async fn submit(
        &self,
        api: &Api,
        video: &VideoRequest,
        callback_url: Option<&str>,
        deadline: Instant,
    ) -> Submitted {
        let body = match request::body(video, callback_url) {
            Ok(body) => Bytes::from(body),
            Err(why) => return submit::outcome(Try::Refused { why, again: Again::Never }, 1),
        };
        let hidden = of_request(api, video, callback_url);
        let start = Instant::now();
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut tries = 0;
        loop {
            tries += 1;
            let timeout = SUBMIT_TIMEOUT.min(left());
            let call = Call { timeout, ..Call::post("videos", body.clone()) };
            let last = submit::read(&self.exchange(api, call).await, &hidden);
            let pause = match &last {
                Try::Refused { again, .. } => submit::pause(tries, start.elapsed(), left(), *again),
                Try::Made { .. } | Try::Unknown { .. } => None,
            };
            match pause {
                Some(pause) => sleep(pause).await,
                None => return submit::outcome(last, tries),
            }
        }
    }

    /// Asks for a job's status. The payload of its end has this model; empty where it is not known.
    pub async fn poll(&self, api: &Api, openrouter_id: &str, model: &str) -> Polling {
        if !is_job_id(openrouter_id) {
            let message = format!("OpenRouter cannot know the job: \"{}\" is no id", quote(openrouter_id));
            return Polling { reading: Reading::NotFound { message }, retry_after: None };
        }
        let path = format!("videos/{}", encoded(openrouter_id));
        let exchange = self.exchange(api, Call::get(&path)).await;
        let job = Job { id: openrouter_id, model };
        poll::read(job, &exchange, Timestamp::now(), &of_key(api))
    }

    async fn exchange(&self, api: &Api, call: Call) -> Exchange {
        let limits = Limits { timeout: call.timeout, jitter: Duration::ZERO, answer: call.largest };
        match call.request(api) {
            Ok(request) => self.clients.exchange(&policy(api), request, limits).await.0,
            Err(why) => Exchange::NotSent(why.into()),
        }
    }
}

/// The texts that no message about a submit repeats.
fn of_request<'a>(api: &'a Api, video: &'a VideoRequest, callback_url: Option<&'a str>) -> Hidden<'a> {
    let references = video.references.iter().map(|reference| reference.url.as_str());
    let texts = [api.key.expose_secret(), &video.first_frame, &video.last_frame]
        .into_iter()
        .chain(references)
        .chain(callback_url)
        .collect();
    Hidden { texts, prompt: &video.prompt }
}

/// The text that no other message repeats.
fn of_key(api: &Api) -> Hidden<'_> {
    Hidden { texts: vec![api.key.expose_secret()], prompt: "" }
}

fn policy(api: &Api) -> Policy {
    Policy {
        peer: Peer::OpenRouter,
        networks: api.networks.clone(),
        is_https: api.base_url.scheme() == "https",
        tls: None,
    }
}

/// A request, but for the base URL and the key.
struct Call {
    method: Method,
    /// After the base URL, with the query. Ids in it are encoded.
    path: String,
    body: Option<Bytes>,
    timeout: Duration,
    largest: usize,
}

impl Call {
    fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, timeout: TIMEOUT, largest: LARGEST_ANSWER }
    }

    fn post(path: &str, body: Bytes) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    fn request(self, api: &Api) -> Result<Request<Full<Bytes>>, &'static str> {
        let mut key = HeaderValue::try_from(format!("Bearer {}", api.key.expose_secret()))
            .map_err(|_| "openrouter.api_key has a character that no header may have")?;
        key.set_sensitive(true);
        let base = api.base_url.as_str().trim_end_matches('/');
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("{base}/{}", self.path))
            .header(header::AUTHORIZATION, key)
            // Some answers have another type than the documented one.
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, concat!("talaria/", env!("CARGO_PKG_VERSION")));
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(self.body.unwrap_or_default());
        request.body(body).map_err(|_| "openrouter.base_url cannot be the URL of a request")
    }
}

/// Whether a text can be a job's id at OpenRouter. The forms of ids have changed, so only what cannot stand in a path is
/// excluded.
pub fn is_job_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_JOB_ID
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.bytes().all(|byte| byte == b'.')
}

/// As one segment of a path.
fn encoded(id: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    id.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests;
