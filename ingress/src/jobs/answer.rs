//! The answer to one question: what is asked of OpenRouter, and what the relay learns of it.

use super::{Jobs, STORE_DEADLINE};
use crate::{accept, callback, media};
use bytes::Bytes;
use jiff::Timestamp;
use metrics::counter;
use std::sync::Arc;
use talaria_core::{
    config::{Config, Tenant},
    openrouter::path,
};
use talaria_openrouter::{Reading, Terminal, VideoModel, check, find, fit};
use talaria_proto::{
    time::to_proto,
    v1::{
        AskPoll, AskSubmit, Checked, Ended, Event, Model, Models, NotAsked, NotAskedKind, OpenRouterAnswer,
        OpenRouterQuestion, Polled, Submitted, VideoRequest, open_router_answer::Answer,
        open_router_question::Ask, polled, submitted,
    },
};
use talaria_telemetry::{
    LogLimiter,
    trace::{self, Kind},
};
use tokio::time::{Instant, timeout};

/// An API that a tenant may ask.
type Api<'a> = &'a talaria_core::config::Api;

impl Jobs {
    /// Carries a question out, and answers it.
    pub(super) async fn answer(&self, question: OpenRouterQuestion, deadline: Instant) -> OpenRouterAnswer {
        let config = Arc::clone(&self.config.borrow());
        let answer = match (api(&config, &question.tenant), question.ask) {
            (Err(not_asked), _) => Err(not_asked),
            (Ok((tenant, api)), Some(ask)) => match ask {
                Ask::Models(_) => self.models(api).await.map(Answer::Models),
                Ask::Check(video) => self.check(api, &video).await.map(Answer::Checked),
                Ask::Submit(ask) => {
                    let public_url = config.ingress.public_url.as_deref();
                    self.submit(tenant, api, public_url, ask, deadline).await.map(Answer::Submitted)
                }
                Ask::Poll(ask) => Ok(Answer::Polled(self.poll(&config, tenant, api, &ask).await)),
                Ask::Keep(ask) => match tenant.media.as_ref().filter(|media| media.keep.is_some()) {
                    Some(media) => {
                        let files = self.publisher.files(config.retention);
                        let kept = self.keeper.keep(files, &tenant.name, api, media.max_bytes, ask).await;
                        Ok(Answer::Kept(kept))
                    }
                    None => Err(not_asked(
                        NotAskedKind::NotConfigured,
                        format!(
                            "tenant {} has no media.mode: keep in the ingress' configuration: give ingresses and relays the \
                             same file",
                            tenant.name
                        ),
                    )),
                },
            },
            (Ok(_), None) => Err(unknown_question()),
        };
        OpenRouterAnswer { answer: Some(answer.unwrap_or_else(Answer::NotAsked)) }
    }

    async fn models(&self, api: Api<'_>) -> Result<Models, NotAsked> {
        let listing = self.listing(api).await?;
        Ok(Models {
            models: listing.models.iter().map(Model::from).collect(),
            fetched_at: Some(to_proto(listing.fetched_at)),
            stale_because: listing.stale_because,
        })
    }

    async fn check(&self, api: Api<'_>, video: &VideoRequest) -> Result<Checked, NotAsked> {
        let listing = self.listing(api).await?;
        let fits = |models: &[VideoModel]| check(find(models, &video.model)?, video);
        let estimate_micros = fits(&listing.models).map_err(|why| not_asked(NotAskedKind::Invalid, why))?;
        Ok(Checked { estimate_micros })
    }

    async fn listing(&self, api: Api<'_>) -> Result<super::catalogue::Listing, NotAsked> {
        let fetch = async {
            let fetched = self.client.models(api).await;
            count("models", if fetched.is_ok() { "ok" } else { "failed" });
            fetched.inspect_err(|error| {
                static FAILED: LogLimiter = LogLimiter::new();
                if let Some(left_out) = FAILED.admit() {
                    tracing::warn!(%error, left_out, "models of OpenRouter not read");
                }
            })
        };
        let listing = self.catalogue.listing(api, fetch).await;
        listing.map_err(|why| not_asked(NotAskedKind::Unavailable, why))
    }

    async fn submit(
        &self,
        tenant: &Tenant,
        api: Api<'_>,
        public_url: Option<&str>,
        ask: AskSubmit,
        deadline: Instant,
    ) -> Result<Submitted, NotAsked> {
        let callback_url = callback_url(public_url, tenant, &ask.callback_token)?;
        let Some(video) = ask.video else { return Err(unknown_question()) };
        let listing = self.listing(api).await?;
        let invalid = |why| not_asked(NotAskedKind::Invalid, why);
        let video = fit(find(&listing.models, &video.model).map_err(invalid)?, &video);
        let start = Instant::now();
        let submitted = self.client.submit(api, &video, callback_url.as_deref(), deadline).await;
        let missing = || submitted::Outcome::Unknown("the outcome is missing".into());
        let outcome = submitted.outcome.unwrap_or_else(missing);
        let (label, job) = match &outcome {
            submitted::Outcome::Made(made) => ("ok", made.openrouter_id.as_str()),
            submitted::Outcome::Refused(_) | submitted::Outcome::NotSent(_) => ("refused", ""),
            submitted::Outcome::Unknown(_) => ("unknown", ""),
        };
        count("submit", label);
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // OpenRouter's own words may repeat the prompt, and go to the asker alone.
        tracing::info!(tenant = tenant.name, model = video.model, outcome = label, job, ms, "job submitted");
        Ok(Submitted { outcome: Some(outcome) })
    }

    async fn poll(&self, config: &Config, tenant: &Tenant, api: Api<'_>, ask: &AskPoll) -> Polled {
        let polling = self.client.poll(api, &ask.openrouter_id, &ask.model).await;
        let (label, outcome) = match polling.reading {
            Reading::Running { status } => ("ok", polled::Outcome::Running(status)),
            Reading::Ended(terminal) => ("ok", self.end(config, tenant, ask, terminal).await),
            Reading::NotFound { message } => ("not_found", polled::Outcome::NotFound(message)),
            Reading::Denied { message } => ("denied", polled::Outcome::Denied(message)),
            Reading::Failed { message } => ("failed", polled::Outcome::Failed(message)),
        };
        count("poll", label);
        if label != "ok" {
            static FAILED: LogLimiter = LogLimiter::new();
            if let Some(left_out) = FAILED.admit() {
                let job = &ask.openrouter_id;
                tracing::warn!(tenant = tenant.name, job, outcome = label, left_out, "job not polled");
            }
        }
        let pause = polling.retry_after.unwrap_or_default();
        Polled {
            retry_after_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            outcome: Some(outcome),
        }
    }

    /// Publishes the event of a job's end.
    async fn end(
        &self,
        config: &Config,
        tenant: &Tenant,
        ask: &AskPoll,
        terminal: Terminal,
    ) -> polled::Outcome {
        let payload = Bytes::from(terminal.payload);
        let mut event = match accept::polled(&tenant.name, &ask.callback_token, payload, Timestamp::now()) {
            Ok(event) => event,
            Err(why) => return polled::Outcome::Failed(format!("OpenRouter's answer makes no event: {why}")),
        };
        event.media_urls = media::links(config, &event);
        let event_id = event.id.clone();
        match self.publish(event).await {
            Ok(traceparent) => {
                let (status, job) = (&terminal.status, &ask.openrouter_id);
                let trace = trace::trace_id(&traceparent);
                tracing::info!(
                    event = event_id,
                    tenant = tenant.name,
                    job,
                    status,
                    trace,
                    "end of a job polled"
                );
                polled::Outcome::Ended(Ended { status: terminal.status, event_id })
            }
            Err(why) => polled::Outcome::Failed(format!("the event of its end was not stored: {why}")),
        }
    }

    /// Returns the trace context that the event got.
    async fn publish(&self, mut event: Event) -> Result<String, String> {
        let mut span = self.tracer.span("publish", Kind::Producer, "", Timestamp::now().into());
        event.traceparent = span.traceparent().unwrap_or_else(|| {
            let (trace, parent) = rand::random();
            trace::unsampled(trace, parent)
        });
        let traceparent = event.traceparent.clone();
        span.set_attributes(|| callback::publish_attributes(&event));
        let stored = match timeout(STORE_DEADLINE, self.publisher.publish(event)).await {
            Ok(stored) => stored.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the bus took longer than {STORE_DEADLINE:?}")),
        };
        if stored.is_err() {
            span.fail("unavailable");
        }
        stored.map(|()| traceparent)
    }
}

/// The tenant and its API.
fn api<'a>(config: &'a Config, name: &str) -> Result<(&'a Tenant, Api<'a>), NotAsked> {
    let refuse = |message: String| not_asked(NotAskedKind::NotConfigured, message);
    let tenant = config.tenants.get(name).ok_or_else(|| {
        refuse(format!(
            "tenant {name} is not in the ingress' configuration: give ingresses and relays the same file"
        ))
    })?;
    let jobs = tenant.jobs.as_ref().ok_or_else(|| {
        refuse(format!(
            "tenant {name} has no openrouter.api_key in the ingress' configuration: give ingresses and relays the same file"
        ))
    })?;
    let api = jobs.api.as_ref().ok_or_else(|| {
        refuse(format!(
            "the ingress cannot read the openrouter.api_key of tenant {name}, and its log says why; see \
             docs/errors/secret-missing.md"
        ))
    })?;
    Ok((tenant, api))
}

/// The URL for the callback of one job. `None` without a public URL, and for a tenant that only polls: its jobs have no token.
fn callback_url(public_url: Option<&str>, tenant: &Tenant, token: &str) -> Result<Option<String>, NotAsked> {
    if tenant.only_polls() || token.is_empty() {
        return Ok(None);
    }
    let Some(path) = path::of_job(&tenant.name, token) else {
        return Err(not_asked(
            NotAskedKind::Invalid,
            "the callback token is not 1 to 64 characters of a-z and 0-9",
        ));
    };
    Ok(public_url.map(|url| format!("{url}{path}")))
}

pub(super) fn unknown_question() -> NotAsked {
    not_asked(
        NotAskedKind::Invalid,
        "the ingress does not know this question: update ingresses and relays to one version",
    )
}

pub(super) fn not_asked(kind: NotAskedKind, message: impl Into<String>) -> NotAsked {
    NotAsked { kind: kind.into(), message: message.into() }
}

fn count(call: &'static str, outcome: &'static str) {
    counter!("talaria_openrouter_requests_total", "call" => call, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::config::testing::config;

    #[test]
    fn the_callback_url_has_the_token_and_needs_a_public_url_and_a_secret() {
        let config = config(
            "tenants:\n  acme: {openrouter: {secrets: [{file: secret}]}}\n  polls: {openrouter: {api_key: {file: secret}}}\n",
            "s3cret",
        );
        let (acme, polls) = (&config.tenants["acme"], &config.tenants["polls"]);
        let url = callback_url(Some("https://hooks.example.com/talaria"), acme, "abc234").unwrap();
        assert_eq!(url.as_deref(), Some("https://hooks.example.com/talaria/callbacks/acme/abc234"));
        assert_eq!(callback_url(None, acme, "abc234"), Ok(None));
        for (tenant, token) in [(acme, ""), (polls, ""), (polls, "abc234")] {
            assert_eq!(callback_url(Some("https://h"), tenant, token), Ok(None), "{token}");
        }
        let refused = callback_url(Some("https://h"), acme, "Abc").unwrap_err();
        assert_eq!(refused.kind(), NotAskedKind::Invalid);
    }
}
