//! Asks the admin port of a process on this machine.

use super::{addresses, from_here, without_credentials};
use crate::{Failure, reload::Published};
use anyhow::{Context as _, anyhow};
use reqwest::redirect::Policy;
use std::{path::Path, time::Duration};
use talaria_core::config::Role;
use url::Url;

/// Shorter than the deadlines of Docker and Kubernetes, so that `talaria healthcheck` still prints its reason.
const READY_TIMEOUT: Duration = Duration::from_secs(4);

const CONFIG_TIMEOUT: Duration = Duration::from_secs(10);

/// The response of `/readyz`.
pub(crate) struct Readiness {
    /// The URL, without credentials.
    pub url: Url,
    pub status: reqwest::StatusCode,
    pub text: String,
}

/// Asks whether the process is ready.
pub(crate) async fn ready(config: &Path, admin: Option<&Url>) -> Result<Readiness, Failure> {
    let url = endpoint(config, admin, "readyz")?;
    let shown = without_credentials(&url);
    let unreachable = |error: reqwest::Error| {
        Failure::Unreachable(format!(
            "no answer at {shown}: {}\n  help: is Talaria running there? Its address is admin.listen, \
             http://127.0.0.1:9090 by default",
            cause(error)
        ))
    };
    let response = client(READY_TIMEOUT, Policy::default())?.get(url).send().await.map_err(unreachable)?;
    let status = response.status();
    let text = response.text().await.map_err(unreachable)?.trim().to_owned();
    Ok(Readiness { url: shown, status, text })
}

/// The role of the process and its configuration. Fails if `role` is another one.
pub(crate) async fn config(
    path: &Path,
    admin: Option<&Url>,
    role: Option<Role>,
) -> Result<(Role, Published), Failure> {
    let url = endpoint(path, admin, "config")?;
    let shown = without_credentials(&url);
    let unreachable = |why: String| {
        Failure::Unreachable(format!(
            "cannot ask the process at {shown}: {why}\n  help: is it running, and is that its admin.listen? --admin names \
             another"
        ))
    };
    let failed = |error: reqwest::Error| unreachable(cause(error));
    let response = client(CONFIG_TIMEOUT, Policy::none())?.get(url).send().await.map_err(failed)?;
    let status = response.status();
    let body = response.bytes().await.map_err(failed)?;
    let no_talaria = || unreachable(format!("it answers {status}, and not as Talaria does"));
    let published: Published = serde_json::from_slice(&body).map_err(|_| no_talaria())?;
    let actual = published.role().ok_or_else(no_talaria)?;
    match role.filter(|role| *role != actual) {
        None => Ok((actual, published)),
        Some(_) => Err(Failure::Usage(format!(
            "the process at {shown} is `talaria {}`: leave --role out",
            published.role
        ))),
    }
}

fn endpoint(config: &Path, admin: Option<&Url>, page: &str) -> Result<Url, Failure> {
    let mut url = match admin {
        Some(url) => url.clone(),
        None => {
            let address = from_here(addresses(config)?.admin);
            Url::parse(&format!("http://{address}")).context("admin.listen")?
        }
    };
    // Also below a path, which a proxy may need.
    url.set_path(&format!("{}/{page}", url.path().trim_end_matches('/')));
    Ok(url)
}

fn client(timeout: Duration, redirects: Policy) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().no_proxy().redirect(redirects);
    builder.timeout(timeout).build().context("cannot set up the HTTP client")
}

fn cause(error: reqwest::Error) -> String {
    anyhow!(error.without_url()).root_cause().to_string()
}
