//! `talaria send`: a callback as OpenRouter would send it, and with `--wait` what became of it.

use super::status::{Relay, show_delivery};
use crate::{
    Failure,
    args::Send,
    client::{self, from_here},
    print,
};
use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};
use talaria_core::{
    config::{self, Role, Tenant},
    id::EventId,
    json as exact,
    openrouter::{IDEMPOTENCY_KEY_HEADER, documented, event::Envelope, signature},
};
use talaria_proto::v1::{
    Delivery, DeliveryState, GetDeliveryRequest, GetDeliveryResponse, GetEventRequest, GetEventResponse,
};
use tokio::time::{Instant, sleep};
use tonic::Code;
use url::Url;

/// The time in OpenRouter's documented example, 2026-04-24T12:00:00Z.
const DOCUMENTED_TIME: Timestamp = Timestamp::constant(1_777_032_000, 0);

/// How often the relay is asked what became of an event.
const ASK_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn run(path: &Path, args: &Send) -> Result<(), Failure> {
    if args.list {
        return list(args.ask.json);
    }
    let config = config::load_for(path, Role::Sender)?;
    let tenant = super::tenant(&config, args.tenant.as_deref())?;
    let body = match &args.payload {
        Some(payload) => super::read_input(payload)?,
        None => {
            // A job that is named twice is the same callback twice, to the byte.
            let (job, time) = match &args.job {
                Some(job) => (job.clone(), DOCUMENTED_TIME),
                None => (format!("test-{:08x}", rand::random::<u32>()), Timestamp::now()),
            };
            payload(&args.event_type, &job, time)
        }
    };
    let secret = tenant.secrets.first().ok_or_else(|| anyhow!("the tenant has no secret"))?;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("http://{}/callbacks/{}", from_here(config.ingress.listen), tenant.name))
            .context("the configured ingress has no URL")?,
    };
    let event = Envelope::read(&body).ok();
    let id =
        event.as_ref().map(|event| EventId::new(&tenant.name, &event.job_id, &event.event_type).to_string());
    // Asked before: afterwards it is known in any case.
    let (mut relay, mut known) = (None, false);
    if args.wait.is_some() {
        let mut asked = client::connect(&args.ask, path).await?;
        if let Some(id) = &id {
            known = find(&mut asked, id).await?.is_some();
        }
        relay = Some(asked);
    }
    let answer = post(&url, secret, &body).await?;
    let mut document = json!({"status": answer.status, "body": answer.body, "eventId": id});
    let (Some(event), Some(id), true) = (&event, &id, answer.accepted()) else {
        if args.ask.json {
            writeln!(io::stdout(), "{document:#}")?;
        }
        return Err(refused(&url, &answer, tenant).into());
    };
    let takers = takers(tenant, &event.event_type, &body);
    if !args.ask.json {
        let known = if known { ", known already: nothing is sent again" } else { "" };
        let mut out = io::stdout().lock();
        writeln!(out, "{} accepted: {id}{known}", answer.status)?;
        if takers.is_empty() && relay.is_none() {
            writeln!(out, "{}", unmatched(tenant, id))?;
        }
    }
    let (Some(mut relay), Some(wait)) = (relay, args.wait) else {
        if args.ask.json {
            print::merge(&mut document, json!({ "routes": takers }));
            writeln!(io::stdout(), "{document:#}")?;
        }
        return Ok(());
    };
    let became = wait_for(&mut relay, id, wait).await?;
    if args.ask.json {
        let deliveries = became.deliveries.iter().map(print::json).collect::<Result<Vec<_>, _>>()?;
        let more = json!({"known": known, "became": became.word(), "deliveries": deliveries});
        print::merge(&mut document, more);
        writeln!(io::stdout(), "{document:#}")?;
    } else {
        became.deliveries.iter().try_for_each(show_delivery)?;
        if became.is_planned && became.deliveries.is_empty() {
            writeln!(io::stdout(), "{}", unmatched(tenant, id))?;
        }
    }
    became.verdict(id, wait)
}

/// The types that OpenRouter documents, a line each. Any other is sent as it is written.
fn list(json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{:#}", json!({ "types": documented::TYPES }))?);
    }
    for event_type in documented::TYPES {
        writeln!(out, "{event_type}")?;
    }
    Ok(())
}

/// The names of the routes that take it, by the configuration that is read here.
fn takers<'a>(tenant: &'a Tenant, event_type: &str, body: &[u8]) -> Vec<&'a str> {
    let document = exact::parse(body).ok();
    let payload = document.as_ref().map_or(&exact::Value::Null, |document| document.root());
    let takes = tenant.routes.values().filter(|route| route.wants(event_type, payload));
    takes.map(|route| route.name.as_str()).collect()
}

fn unmatched(tenant: &Tenant, id: &str) -> String {
    format!(
        "no route of {} takes it, and nothing is sent for it; `talaria explain {id}` says why",
        tenant.name
    )
}

/// What became of an event.
struct Became {
    /// Whether it was matched against routes.
    is_planned: bool,
    /// Each with its attempts.
    deliveries: Vec<GetDeliveryResponse>,
}

impl Became {
    fn states(&self) -> impl Iterator<Item = DeliveryState> {
        self.deliveries
            .iter()
            .map(|it| it.delivery.as_ref().map_or(DeliveryState::Unspecified, Delivery::state))
    }

    /// In one word.
    fn word(&self) -> &'static str {
        if !self.is_planned || self.states().any(|state| state == DeliveryState::Waiting) {
            "waiting"
        } else if self.deliveries.is_empty() {
            "unmatched"
        } else if self.states().all(|state| state == DeliveryState::Delivered) {
            "delivered"
        } else {
            "not_delivered"
        }
    }

    /// 0 where all of it was delivered, 5 where it was not known in time, otherwise 1.
    fn verdict(&self, id: &str, wait: Duration) -> Result<(), Failure> {
        match self.word() {
            "delivered" => Ok(()),
            "waiting" => Err(Failure::Unreachable(format!(
                "{id} waits after {}; `talaria explain {id}` says for what",
                print::duration(wait)
            ))),
            "unmatched" => Err(anyhow!("no route takes {id}").into()),
            _ => Err(anyhow!(
                "{id} was not delivered to every route that takes it; `talaria explain {id}` says why"
            )
            .into()),
        }
    }
}

/// Asks the relay until all deliveries of an event have come to their end, or the time is over.
async fn wait_for(relay: &mut Relay, id: &str, wait: Duration) -> Result<Became, Failure> {
    let end = Instant::now() + wait;
    loop {
        let found = find(relay, id).await?;
        let is_planned = found.is_some();
        let deliveries = found.unwrap_or_default().deliveries;
        let waits = !is_planned || deliveries.iter().any(|it| it.state() == DeliveryState::Waiting);
        if !waits || Instant::now() >= end {
            let mut histories = Vec::new();
            for delivery in deliveries {
                let request = GetDeliveryRequest { delivery_id: delivery.id };
                histories.push(relay.get_delivery(request).await?.into_inner());
            }
            return Ok(Became { is_planned, deliveries: histories });
        }
        sleep(ASK_EVERY).await;
    }
}

/// An event as the relay knows it. None that waits to be planned, or whose partition has no owner at the moment.
async fn find(relay: &mut Relay, id: &str) -> Result<Option<GetEventResponse>, Failure> {
    let request = GetEventRequest { event_id: id.to_owned(), include_payload: false };
    match relay.get_event(request).await {
        Ok(found) => Ok(Some(found.into_inner())),
        // What the relay says itself has no source; a relay that is gone is not asked again.
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) if status.code() == Code::Unavailable && std::error::Error::source(&status).is_none() => {
            Ok(None)
        }
        Err(status) => Err(status.into()),
    }
}

/// What the answer to a callback that was not accepted means, and what to do.
fn refused(url: &Url, answer: &Answer, tenant: &Tenant) -> anyhow::Error {
    let problem: Option<Value> = serde_json::from_str(&answer.body).ok();
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    let name = &tenant.name;
    let (what, help) = match answer.status {
        // Only an ingress says why it does not take something.
        _ if detail.is_none() => (
            "that is no answer of Talaria's".to_owned(),
            "look at --url, and at what stands between here and the ingress".to_owned(),
        ),
        401 => (
            format!("the ingress has another OpenRouter secret for {name}, or no such tenant"),
            format!(
                "it was signed with the secret in {}: run this with the ingress' configuration; `talaria status --refused` says \
                 more",
                tenant.secret_origin
            ),
        ),
        404 | 405 => (
            "that is no callback's path".to_owned(),
            format!(
                "callbacks of {name} go to POST /callbacks/{name}: look at --url, and at what rewrites paths before the ingress"
            ),
        ),
        408 => {
            ("the body took too long".to_owned(), "ingress.body_timeout is how long it may take".to_owned())
        }
        413 => (
            "it is longer than the ingress takes".to_owned(),
            "ingress.max_body_bytes is the limit; over NATS, also the server's max_payload".to_owned(),
        ),
        422 => (
            "it is signed rightly, and is no event".to_owned(),
            "`talaria status --quarantined` shows it with the reason; an event has `type` and `data.id`"
                .to_owned(),
        ),
        429 => (
            "a limit of the ingress was reached".to_owned(),
            "send it again later; `talaria status --refused` says which key of ingress.limits it was"
                .to_owned(),
        ),
        503 => (
            "the ingress cannot verify or store it now".to_owned(),
            "`talaria status --refused`, the ingress' log and its /readyz say why; send it again then"
                .to_owned(),
        ),
        _ => ("it was not taken".to_owned(), "look at the ingress' log".to_owned()),
    };
    let said = detail.map_or_else(String::new, |detail| format!(": {}", print::one_line(detail)));
    anyhow!("{url} answered {}{said}\n  {what}\n  help: {help}", answer.status)
}

/// What an ingress answered.
pub(crate) struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// An ingress answers 204 and nothing else: what says 200 is something in front of it.
    pub(crate) fn accepted(&self) -> bool {
        self.status == 204
    }
}

/// A payload in OpenRouter's documented form. The type's last word is the status.
pub(crate) fn payload(event_type: &str, job: &str, now: Timestamp) -> Vec<u8> {
    let status = event_type.rsplit('.').next().unwrap_or_default();
    let mut data = json!({"id": job, "status": status, "generation_id": format!("gen-{job}"), "model": "google/veo-3.1"});
    let outcome = if status == "completed" {
        let url = format!("https://openrouter.ai/api/v1/videos/{job}/content?index=0");
        json!({"unsigned_urls": [url], "usage": {"cost": 0.5, "is_byok": false}})
    } else {
        json!({"error": format!("a test of {status}")})
    };
    if let (Some(data), Value::Object(outcome)) = (data.as_object_mut(), outcome) {
        data.extend(outcome);
    }
    let created_at = now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    json!({"type": event_type, "created_at": created_at, "data": data}).to_string().into_bytes()
}

/// POSTs a body, signed now.
pub(crate) async fn post(url: &Url, secret: &secrecy::SecretString, body: &[u8]) -> Result<Answer, Failure> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .context("cannot set up the HTTP client")?;
    let mut request = client
        .post(url.clone())
        .header("Content-Type", "application/json")
        .header(signature::HEADER, signature::sign(secret, Timestamp::now(), body))
        .body(body.to_vec());
    // A job's id may be no header's value; the key is not signed and may be missing.
    let key = Envelope::read(body).ok().map(|event| event.idempotency_key().into_bytes());
    if let Some(key) = key.and_then(|key| HeaderValue::from_bytes(&key).ok()) {
        request = request.header(IDEMPOTENCY_KEY_HEADER, key);
    }
    let unreachable = |error: reqwest::Error| {
        let error = anyhow::Error::from(error.without_url());
        let cause = error.root_cause();
        Failure::Unreachable(format!(
            "cannot reach the ingress at {url}: {cause}\n  help: is `talaria up` or `talaria ingress` running there?"
        ))
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.text().await.map_err(unreachable)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn became(is_planned: bool, states: &[DeliveryState]) -> Became {
        let delivery = |state: &DeliveryState| GetDeliveryResponse {
            delivery: Some(Delivery { state: (*state).into(), ..Delivery::default() }),
            ..GetDeliveryResponse::default()
        };
        Became { is_planned, deliveries: states.iter().map(delivery).collect() }
    }

    #[test]
    fn the_exit_code_says_what_became_of_it() {
        use DeliveryState::{Ambiguous, Delivered, Ignored, Parked, Waiting};
        let code =
            |became: Became| became.verdict("evt_x", Duration::from_secs(60)).err().map(|it| it.code());
        assert_eq!(code(became(true, &[Delivered, Delivered])), None);
        for end in [Parked, Ignored, Ambiguous] {
            assert_eq!(code(became(true, &[Delivered, end])), Some(1), "{end:?}");
        }
        assert_eq!(code(became(true, &[])), Some(1), "no route takes it");
        assert_eq!(code(became(true, &[Parked, Waiting])), Some(5));
        assert_eq!(code(became(false, &[])), Some(5), "it waits to be planned");
    }

    #[test]
    fn an_answer_is_told_in_words_with_what_to_do() {
        let text = "tenants: {acme: {openrouter: {secrets: [{file: secret}]}}}";
        let config = config::testing::config(text, "s3cret-of-a-test");
        let url = Url::parse("http://127.0.0.1:8080/callbacks/acme").unwrap();
        let told = |status: u16, body: &str| {
            refused(&url, &Answer { status, body: body.to_owned() }, &config.tenants["acme"]).to_string()
        };
        let problem = r#"{"detail": "Because\nso."}"#;
        for (status, expected) in [
            (401, "another OpenRouter secret for acme, or no such tenant"),
            (404, "go to POST /callbacks/acme"),
            (413, "ingress.max_body_bytes"),
            (422, "talaria status --quarantined"),
            (429, "ingress.limits"),
            (503, "/readyz"),
        ] {
            let told = told(status, problem);
            assert!(told.contains(expected), "{told}");
            assert!(told.contains(&format!("answered {status}: Because\\nso.\n  ")), "{told}");
            assert!(told.contains("\n  help: ") && !told.contains("s3cret-of-a-test"), "{told}");
        }
        for status in [200, 301, 401, 502] {
            assert!(told(status, "<html>").contains("that is no answer of Talaria's"), "{status}");
        }
    }
}
