//! `talaria demo`: shows callbacks on their way to a stand-in Hermes, and [`jobs`] at a stand-in OpenRouter.

mod jobs;

use crate::{
    Failure,
    args::Demo,
    callback::{payload, post},
    client::ask,
    metrics,
    print::{BOLD, DIM, Screen, changes::Changes, delivery::show_delivery},
    reload::{Reloader, Source},
    stack::Stack,
    standin::{
        hermes::{Received, StandIn},
        openrouter,
    },
};
use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use std::{collections::BTreeMap, fs, io::Write as _, net::Ipv4Addr, time::Duration};
use talaria_core::config::Role;
use talaria_proto::v1::{
    Delivery, DeliveryState, GetDeliveryRequest, WatchDeliveriesRequest, WatchKind,
    job_service_client::JobServiceClient, status_service_client::StatusServiceClient,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use url::Url;

/// The terminal states of a job at OpenRouter.
const STATUSES: [&str; 4] = ["completed", "failed", "cancelled", "expired"];

pub(crate) async fn run(args: &Demo) -> Result<(), Failure> {
    let limit = Duration::from_secs(args.timeout);
    match tokio::time::timeout(limit, demo()).await {
        Ok(done) => done,
        Err(_) => Err(anyhow!("not everything was delivered within {limit:?}").into()),
    }
}

async fn demo() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let secret = |name: &str| -> Result<SecretString, Failure> {
        let text = format!("{name}-{:016x}", rand::random::<u64>());
        fs::write(directory.path().join(name), &text)?;
        Ok(text.into())
    };
    let (for_openrouter, for_hermes) = (secret("openrouter")?, secret("hermes")?);
    let openrouter = openrouter::StandIn::start(secret("key")?.expose_secret()).await?;
    let (hermes, received) = StandIn::start((Ipv4Addr::LOCALHOST, 0).into(), for_hermes).await?;
    let path = directory.path().join("talaria.yaml");
    fs::write(&path, configuration(&format!("http://{}", hermes.address), &openrouter.base_url()))?;
    // This configuration is never reloaded.
    let (_, live) = Reloader::start(Source::new(&path, Role::Both))?;
    let stack = Stack::bind(live, metrics::start()?).await?;
    let (Some(callbacks), Some(grpc)) = (stack.addresses.ingress, stack.addresses.grpc) else {
        return Err(anyhow!("both roles were asked for").into());
    };
    print_line(format_args!(
        "{BOLD}Talaria{BOLD:#} takes callbacks on http://{callbacks}/callbacks/demo, answers gRPC on {grpc},\nand forwards to a \
         stand-in Hermes on http://{}.\n",
        hermes.address
    ))?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(stack.run(stop.clone()));
    let relay = StatusServiceClient::connect(format!("http://{grpc}")).await;
    let relay = relay.context("the status service")?;
    let ingress =
        Url::parse(&format!("http://{callbacks}/callbacks/demo")).context("the ingress' address")?;
    let jobs = JobServiceClient::connect(format!("http://{grpc}")).await.context("the job service")?;
    let delivered = async {
        show(relay, &ingress, &for_openrouter, received).await?;
        jobs::jobs(jobs, &openrouter, &ingress, &for_openrouter).await?;
        print_line(format_args!("Next: `talaria init` writes a configuration for your own Hermes."))
    };
    let delivered = delivered.await;
    stop.cancel();
    running.await.context("the services")??;
    delivered
}

async fn show(
    mut relay: StatusServiceClient<Channel>,
    ingress: &Url,
    secret: &SecretString,
    mut received: UnboundedReceiver<Received>,
) -> Result<(), Failure> {
    let watch = WatchDeliveriesRequest { changes_only: true, ..WatchDeliveriesRequest::default() };
    let mut changes = ask(relay.watch_deliveries(watch)).await?;
    for status in STATUSES {
        let event_type = format!("video.generation.{status}");
        let body = payload(&event_type, &format!("demo-{status}"), Timestamp::now());
        let answer = post(ingress, secret, &body).await?;
        print_line(format_args!("signed callback {event_type}: answered {}", answer.status))?;
        if !answer.accepted() {
            return Err(anyhow!("the ingress answered {}: {}", answer.status, answer.body).into());
        }
    }
    print_line(format_args!("\n{DIM}as WatchDeliveries reports it:{DIM:#}"))?;
    let mut lines = Changes::new(Screen::stdout(false));
    print_line(format_args!("{}", lines.heads()))?;
    let mut finished: Vec<Delivery> = Vec::new();
    while finished.len() < STATUSES.len() {
        let message = changes.message().await?.ok_or_else(|| anyhow!("the status service hung up"))?;
        let Some(delivery) = message.delivery.filter(|_| message.kind == i32::from(WatchKind::Change)) else {
            continue;
        };
        let line = lines.line(&delivery, message.attempt.as_ref(), Timestamp::now());
        print_line(format_args!("{line}"))?;
        if delivery.state() != DeliveryState::Waiting {
            finished.push(delivery);
        }
    }
    let mut prompts: BTreeMap<String, Received> = BTreeMap::new();
    while let Ok(received) = received.try_recv() {
        prompts.insert(received.id.clone(), received);
    }
    for delivery in &finished {
        print_line(format_args!(""))?;
        let request = GetDeliveryRequest { delivery_id: delivery.id.clone() };
        show_delivery(&ask(relay.get_delivery(request)).await?)?;
        let key = format!("{}.{}", delivery.id, delivery.generation);
        let prompt = prompts.get(&key).and_then(|received| received.body.get("prompt")?.as_str());
        let prompt = prompt.ok_or_else(|| anyhow!("Hermes did not receive {key}"))?;
        print_line(format_args!("  {DIM}Hermes received, with a valid signature, the prompt:{DIM:#}"))?;
        for line in prompt.lines() {
            print_line(format_args!("    {line}"))?;
        }
    }
    let delivered = finished.iter().filter(|delivery| delivery.state() == DeliveryState::Delivered).count();
    print_line(format_args!("\n{BOLD}{delivered} of {} delivered.{BOLD:#}", STATUSES.len()))?;
    if delivered < STATUSES.len() {
        return Err(anyhow!("not all were delivered").into());
    }
    Ok(())
}

fn print_line(text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    Ok(writeln!(anstream::stdout().lock(), "{text}")?)
}

fn configuration(hermes: &str, openrouter: &str) -> String {
    format!(
        r#"
ingress: {{listen: 127.0.0.1:0, public_url: https://hooks.example.com}}
relay: {{grpc: 127.0.0.1:0}}
console: {{listen: 127.0.0.1:0}}
admin: {{listen: 127.0.0.1:0}}
tenants:
  demo:
    networks: [loopback]
    openrouter:
      secrets: [{{file: openrouter}}]
      api_key: {{file: key}}
      base_url: {openrouter}
      poll: {{first: 500ms, every: 500ms}}
    media: {{mode: keep}}
    routes:
      good-news:
        url: {hermes}/webhooks/openrouter-good-news
        secret: {{file: hermes}}
        events: ["video.generation.completed"]
        prompt: |
          Video {{data.id}} by {{data.model}} is ready: {{data.unsigned_urls}}
          It cost {{data.usage.cost}} dollars. Fetch it and tell me what it shows.
      bad-news:
        url: {hermes}/webhooks/openrouter-bad-news
        secret: {{file: hermes}}
        filters: {{field: data.status, in: [failed, cancelled, expired]}}
        prompt: "Video {{data.id}} {{data.status}}: {{data.error}}. Decide whether to try again."
"#
    )
}
