//! `talaria send`: sends a callback, and with `--wait` shows its deliveries.

use crate::{
    Failure,
    args::Send,
    callback::{Answer, payload, post},
    client::{self, StatusClient, ask, from_here, without_credentials},
    print::{self, delivery::show_delivery},
    select,
};
use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
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
    openrouter::{documented, event::Envelope},
};
use talaria_proto::v1::{
    Delivery, DeliveryState, GetDeliveryRequest, GetDeliveryResponse, GetEventRequest, GetEventResponse,
};
use tokio::time::{Instant, sleep};
use tonic::Code;
use url::Url;

/// The time in OpenRouter's documented example, 2026-04-24T12:00:00Z.
const DOCUMENTED_TIME: Timestamp = Timestamp::constant(1_777_032_000, 0);

/// Interval at which `--wait` asks for the deliveries.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) async fn run(path: &Path, args: &Send) -> Result<(), Failure> {
    if args.list {
        return list(args.ask.json);
    }
    let config = config::load_for(path, Role::Sender)?;
    let tenant = select::tenant(&config, args.tenant.as_deref())?;
    let body = match &args.payload {
        Some(payload) => select::read_input(payload)?,
        None => {
            // The same job gives the same bytes each time.
            let (job, time) = match &args.job {
                Some(job) => (job.clone(), DOCUMENTED_TIME),
                None => (format!("test-{:08x}", rand::random::<u32>()), Timestamp::now()),
            };
            payload(&args.event_type, &job, time)
        }
    };
    let name = &tenant.name;
    let only_polls =
        || anyhow!("the tenant {name} only polls: without openrouter.secrets it takes no callbacks");
    let secret = tenant.secrets.first().ok_or_else(only_polls)?;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("http://{}/callbacks/{}", from_here(config.ingress.listen), tenant.name))
            .context("the configured ingress has no URL")?,
    };
    let event = Envelope::read(&body).ok();
    let id =
        event.as_ref().map(|event| EventId::new(&tenant.name, &event.job_id, &event.event_type).to_string());
    // Before the callback is sent, which makes the event known.
    let (mut relay, mut known) = (None, false);
    if args.wait.is_some() {
        let mut client = client::status(&args.ask, path).await?;
        if let Some(id) = &id {
            known = find(&mut client, id).await?.is_some();
        }
        relay = Some(client);
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
    let result = wait_for(&mut relay, id, wait).await?;
    if args.ask.json {
        let deliveries = result.deliveries.iter().map(print::json).collect::<Result<Vec<_>, _>>()?;
        let more = json!({"known": known, "became": result.word(), "deliveries": deliveries});
        print::merge(&mut document, more);
        writeln!(io::stdout(), "{document:#}")?;
    } else {
        result.deliveries.iter().try_for_each(show_delivery)?;
        if result.is_planned && result.deliveries.is_empty() {
            writeln!(io::stdout(), "{}", unmatched(tenant, id))?;
        }
    }
    result.verdict(id, wait)
}

/// The types that OpenRouter documents, a line each.
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

/// The routes that take the event, by the configuration here.
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

/// The deliveries of an event.
struct Deliveries {
    /// Whether it was matched against routes.
    is_planned: bool,
    /// With their attempts.
    deliveries: Vec<GetDeliveryResponse>,
}

impl Deliveries {
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
                "{id} waits after {}; `talaria explain {id}` says why",
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

/// Asks the relay until no delivery of the event waits or the time is over.
async fn wait_for(relay: &mut StatusClient, id: &str, wait: Duration) -> Result<Deliveries, Failure> {
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
                histories.push(ask(relay.get_delivery(request)).await?);
            }
            return Ok(Deliveries { is_planned, deliveries: histories });
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// An event in the relay; `None` before it is planned, or while its partition has no owner.
async fn find(relay: &mut StatusClient, id: &str) -> Result<Option<GetEventResponse>, Failure> {
    let request = GetEventRequest { event_id: id.to_owned(), include_payload: false };
    match relay.get_event(request).await {
        Ok(found) => Ok(Some(found.into_inner())),
        // A status that the relay sent has no source.
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) if status.code() == Code::Unavailable && std::error::Error::source(&status).is_none() => {
            Ok(None)
        }
        Err(status) => Err(status.into()),
    }
}

/// Explains an answer to a callback that was not accepted.
fn refused(url: &Url, answer: &Answer, tenant: &Tenant) -> anyhow::Error {
    let problem: Option<Value> = serde_json::from_str(&answer.body).ok();
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    let name = &tenant.name;
    let (meaning, help) = match answer.status {
        // Only an ingress gives a detail.
        _ if detail.is_none() => (
            "that is no answer of Talaria's".to_owned(),
            "check --url, and any proxy in front of the ingress".to_owned(),
        ),
        401 => (
            format!("the ingress has another OpenRouter secret for {name}, or no such tenant"),
            format!(
                "it was signed with the secret in {}: run this with the ingress' configuration; `talaria status --refused` says \
                 more",
                tenant.secret_origin.as_ref().map(ToString::to_string).unwrap_or_default()
            ),
        ),
        404 | 405 => (
            "that is no callback's path".to_owned(),
            format!(
                "callbacks of {name} go to POST /callbacks/{name}: check --url, and any proxy that rewrites paths"
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
    let detail = detail.map_or_else(String::new, |detail| format!(": {}", print::one_line(detail)));
    anyhow!("{} answered {}{detail}\n  {meaning}\n  help: {help}", without_credentials(url), answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries(is_planned: bool, states: &[DeliveryState]) -> Deliveries {
        let delivery = |state: &DeliveryState| GetDeliveryResponse {
            delivery: Some(Delivery { state: (*state).into(), ..Delivery::default() }),
            ..GetDeliveryResponse::default()
        };
        Deliveries { is_planned, deliveries: states.iter().map(delivery).collect() }
    }

    #[test]
    fn the_exit_code_depends_on_the_deliveries() {
        use DeliveryState::{Ambiguous, Delivered, Ignored, Parked, Waiting};
        let code =
            |found: Deliveries| found.verdict("evt_x", Duration::from_secs(60)).err().map(|it| it.code());
        assert_eq!(code(deliveries(true, &[Delivered, Delivered])), None);
        for end in [Parked, Ignored, Ambiguous] {
            assert_eq!(code(deliveries(true, &[Delivered, end])), Some(1), "{end:?}");
        }
        assert_eq!(code(deliveries(true, &[])), Some(1), "no route takes it");
        assert_eq!(code(deliveries(true, &[Parked, Waiting])), Some(5));
        assert_eq!(code(deliveries(false, &[])), Some(5), "it waits to be planned");
    }

    #[test]
    fn a_refusal_is_explained_without_credentials() {
        let text = "tenants: {acme: {openrouter: {secrets: [{file: secret}]}}}";
        let config = config::testing::config(text, "s3cret-of-a-test");
        let url = Url::parse("http://user:hunter2@127.0.0.1:8080/callbacks/acme").unwrap();
        let explain = |status: u16, body: &str| {
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
            let text = explain(status, problem);
            assert!(text.contains(expected), "{text}");
            assert!(text.contains(&format!("answered {status}: Because\\nso.\n  ")), "{text}");
            assert!(text.contains("\n  help: ") && !text.contains("s3cret-of-a-test"), "{text}");
            assert!(!text.contains("hunter2") && !text.contains("user@"), "{text}");
        }
        for status in [200, 301, 401, 502] {
            assert!(explain(status, "<html>").contains("that is no answer of Talaria's"), "{status}");
        }
    }
}
