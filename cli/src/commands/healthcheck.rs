//! `talaria healthcheck`: is the process here ready?

use crate::{Failure, args::Healthcheck, client};
use anyhow::{Context as _, anyhow};
use serde_json::json;
use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

/// Shorter than the deadlines of Docker and Kubernetes, so that the reason is still shown.
const DEADLINE: Duration = Duration::from_secs(4);

/// What a process answers.
pub(crate) struct Answer {
    pub url: String,
    pub status: reqwest::StatusCode,
    pub is_ready: bool,
    pub said: String,
}

pub(crate) async fn run(config: &Path, args: &Healthcheck) -> Result<(), Failure> {
    let Answer { url, status, is_ready, said } = ask(config, args).await?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", json!({"ready": is_ready, "status": status.as_u16(), "said": said}))?;
    } else if is_ready {
        writeln!(out, "{said}")?;
    }
    if is_ready { Ok(()) } else { Err(anyhow!("{url} answered {status}: {said}").into()) }
}

/// Asks whether it is ready.
pub(crate) async fn ask(config: &Path, args: &Healthcheck) -> Result<Answer, Failure> {
    let admin = match &args.url {
        Some(url) => url.to_string(),
        None => format!("http://{}", client::from_here(client::addresses(config)?.admin)),
    };
    let url = format!("{}/readyz", admin.trim_end_matches('/'));
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build();
    let client = client.context("cannot set up the HTTP client")?;
    let unreachable = |error: reqwest::Error| {
        let error = anyhow::Error::from(error.without_url());
        let cause = error.root_cause();
        Failure::Unreachable(format!(
            "nobody answers at {url}: {cause}\n  help: is Talaria running there? Its address is admin.listen, \
             http://127.0.0.1:9090 by default"
        ))
    };
    let response = client.get(&url).send().await.map_err(unreachable)?;
    let status = response.status();
    let said = response.text().await.map_err(unreachable)?;
    Ok(Answer { url, status, is_ready: status.is_success(), said: said.trim().to_owned() })
}
