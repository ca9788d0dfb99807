//! `talaria healthcheck`: whether the process on this machine is ready.

use crate::{
    Failure,
    args::Healthcheck,
    client::admin::{self, Readiness},
};
use anyhow::anyhow;
use serde_json::json;
use std::{
    io::{self, Write as _},
    path::Path,
};

pub(crate) async fn run(config: &Path, args: &Healthcheck) -> Result<(), Failure> {
    let Readiness { url, status, text } = admin::ready(config, args.url.as_ref()).await?;
    let is_ready = status.is_success();
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", json!({"ready": is_ready, "status": status.as_u16(), "said": text}))?;
    } else if is_ready {
        writeln!(out, "{text}")?;
    }
    if is_ready { Ok(()) } else { Err(anyhow!("{url} answered {status}: {text}").into()) }
}
