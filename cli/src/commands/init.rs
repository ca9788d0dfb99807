//! `talaria init`: writes a configuration with fresh secrets, and prints the next steps.

use crate::{
    Failure, args::Init, client::without_credentials, hermes::subscribe_command,
    secret_file::create_if_missing, select,
};
use anyhow::{Context as _, anyhow};
use secrecy::ExposeSecret as _;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use talaria_core::{
    config::{self, SecretOrigin},
    network::{Networks, to_allow},
};
use url::Url;

pub(crate) fn run(path: &Path, args: &Init) -> Result<(), Failure> {
    if path.exists() && !args.force {
        return Err(anyhow!(
            "{} is there already; --force replaces it, and keeps its secrets",
            path.display()
        )
        .into());
    }
    // Wrong arguments change no file.
    check(args)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let tenant = &args.tenant;
    let openrouter = PathBuf::from(format!("secrets/{tenant}-openrouter"));
    let hermes = PathBuf::from(format!("secrets/{tenant}-hermes"));
    let text = configuration(args, &openrouter, &hermes);
    fs::create_dir_all(directory.join("secrets"))
        .with_context(|| format!("cannot write in {}", directory.display()))?;
    let for_openrouter = secret(&directory.join(&openrouter))?;
    secret(&directory.join(&hermes))?;
    fs::write(directory.join("secrets/.gitignore"), "*\n")?;
    let cannot_write = || format!("cannot write {}", path.display());
    let mut fresh = tempfile::Builder::new()
        .prefix(".talaria.yaml.")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(if directory == Path::new("") { Path::new(".") } else { directory })
        .with_context(cannot_write)?;
    fresh.write_all(text.as_bytes()).with_context(cannot_write)?;
    let loaded = config::load(fresh.path())?;
    fresh.persist(path).with_context(cannot_write)?;

    let callback = match &loaded.ingress.public_url {
        Some(url) => format!("{url}/callbacks/{tenant}"),
        None => format!("https://YOUR-PUBLIC-NAME/callbacks/{tenant}"),
    };
    let (tenant, route) = select::route(&loaded, None)?;
    let subscribe = subscribe_command(tenant, route, None);
    let mut out = io::stdout().lock();
    writeln!(out, "Wrote {} and the secrets beside it.\n", path.display())?;
    let name = args.public_url.as_ref().map_or("a public name".to_owned(), Url::to_string);
    let listen = loaded.ingress.listen;
    writeln!(out, "1. OpenRouter calls over HTTPS, so lead {name} to http://{listen},")?;
    writeln!(
        out,
        "   with a reverse proxy, or by `talaria up --tunnel`, which says its name. The callback URL is then\n"
    )?;
    writeln!(out, "     {callback}\n")?;
    writeln!(out, "2. Give OpenRouter this signing secret, in the settings of your workspace:\n")?;
    writeln!(out, "     {for_openrouter}\n")?;
    writeln!(out, "3. Subscribe the route at Hermes, whose gateway has to have webhooks enabled:\n")?;
    writeln!(out, "     {subscribe}\n")?;
    writeln!(out, "4. Start, and try it from another terminal:\n")?;
    let elsewhere = if path == Path::new("./talaria.yaml") {
        String::new()
    } else {
        format!(" --config {}", path.display())
    };
    writeln!(
        out,
        "     talaria up{elsewhere}\n     talaria send{elsewhere}\n     talaria status{elsewhere}"
    )?;
    Ok(())
}

fn check(args: &Init) -> Result<(), Failure> {
    if !config::is_name(&args.tenant) {
        let what = format!("--tenant {:?} is no name: use {}", args.tenant, config::NAMES);
        return Err(Failure::Usage(what));
    }
    let hermes = &without_credentials(&args.hermes);
    if hermes.query().is_some() || hermes.fragment().is_some() {
        return Err(Failure::Usage(format!("--hermes {hermes} must end before ? and #")));
    }
    if let Some((path, _)) = hermes.path().split_once("/webhooks") {
        let mut gateway = hermes.clone();
        gateway.set_path(path);
        let what = format!(
            "--hermes {hermes} names a route: write --hermes {gateway}, and change the route's url in the file"
        );
        return Err(Failure::Usage(what));
    }
    if let Some(url) = &args.public_url
        && let Err((what, help)) = config::public_url(url.as_str())
    {
        let url = without_credentials(url);
        return Err(Failure::Usage(format!("--public-url {url}: {what}\n  help: {help}")));
    }
    Ok(())
}

/// The secret in this file, which is created if it is missing.
fn secret(path: &Path) -> Result<String, Failure> {
    create_if_missing(path, false)?;
    let secret = SecretOrigin::File(path.to_owned()).read();
    let secret = secret.map_err(|(what, help)| anyhow!("{what}\n  help: {help}"))?;
    Ok(secret.expose_secret().to_owned())
}

fn configuration(args: &Init, openrouter: &Path, hermes: &Path) -> String {
    let tenant = &args.tenant;
    let public_url = match &args.public_url {
        Some(url) => format!("  public_url: {}", url.as_str().trim_end_matches('/')),
        None => "  # public_url: https://hooks.example.com".into(),
    };
    // Addresses that are not public have to be allowed.
    let networks = match Networks::default().refused_host(&args.hermes) {
        Some((address, class)) => format!("    networks: [{}]", to_allow(address, class)),
        None => "    # networks: [private]".into(),
    };
    let gateway = args.hermes.as_str().trim_end_matches('/');
    let (openrouter, hermes) = (openrouter.display(), hermes.display());
    let api_key = format!("secrets/{tenant}-api-key");
    format!(
        r#"# Talaria's configuration. `talaria check` says whether it is valid. Relative paths start at this file's directory.

ingress:
  listen: 127.0.0.1:8080       # OpenRouter's callbacks come to POST /callbacks/{{tenant}}
{public_url}   # what OpenRouter reaches that by

relay:
  grpc: 127.0.0.1:50051        # `talaria status` and `talaria watch` ask here

console:
  listen: 127.0.0.1:8090       # pages for the browser, and JSON for programs

admin:
  listen: 127.0.0.1:9090       # /healthz, /readyz and /metrics

bus: embedded                  # SQLite in data_dir
data_dir: ./talaria-data
retention: 7d                  # how long events and finished deliveries are kept

tenants:
  {tenant}:
    openrouter:
      # What OpenRouter signs with. Name several while you rotate one.
      secrets: [{{file: {openrouter}}}]
      tolerance: 5m
      # OpenRouter's API key: with it, `talaria submit` submits jobs, and those whose callback is lost are polled.
      # api_key: {{file: {api_key}}}
      # US dollars: a job that would cost more, or that is over the day's sum, is not submitted.
      # budget: {{per_job: 2.50, per_day: 20}}
    # Links to the files of completed jobs, which need no key: {{talaria.media.url}} in prompts, and `talaria fetch`.
    # media: {{mode: link}}
{networks}       # where requests may go beside public addresses
    routes:
      video:
        url: {gateway}/webhooks/openrouter-video
        secret: {{file: {hermes}}}
        events: ["video.generation.*"]
        # Hermes' template language. At Hermes the route's own prompt is just "{{prompt}}".
        prompt: |
          The video job {{data.id}} is {{data.status}}. This is what OpenRouter says of it:
          {{data}}
        body: prompt
        pace: 30/min             # Hermes' own limit for each route
        timeout: 30s
"#
    )
}
