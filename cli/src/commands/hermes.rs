//! `talaria hermes`: prints how to subscribe a route at Hermes, or subscribes it and installs the extension.

mod extension;

use crate::{
    Failure,
    args::Hermes,
    hermes::{
        extension::record,
        file::{FILE, Installed, install},
        home::Home,
        quoted, subscribe_command,
        subscription::{Needs, against},
        subscription_name,
    },
    select,
};
use anyhow::anyhow;
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::{
    config::{Role, RouteKind},
    hermes::gateway::Finding,
    json::print::dump_line,
};

/// The targets that Hermes 0.19 has built in.
const TARGETS: [&str; 20] = [
    "log",
    "github_comment",
    "telegram",
    "discord",
    "slack",
    "signal",
    "sms",
    "whatsapp",
    "matrix",
    "mattermost",
    "homeassistant",
    "email",
    "dingtalk",
    "feishu",
    "wecom",
    "wecom_callback",
    "weixin",
    "bluebubbles",
    "qqbot",
    "yuanbao",
];

fn is_known_target(target: &str) -> bool {
    TARGETS.contains(&target)
}

pub(crate) fn run(path: &Path, args: &Hermes) -> Result<(), Failure> {
    let config = select::load_tolerant(path, Role::Both)?;
    let (tenant, route) = select::route(&config, args.route.as_deref())?;
    if route.kind == RouteKind::Webhook {
        let name = format!("{}/{}", tenant.name, route.name);
        return Err(anyhow!("route {name} is a webhook, and not one of Hermes").into());
    }
    let deliver = args.deliver.as_deref();
    let needs = Needs { tenant, route, deliver, force: args.force };
    if let Some(target) = deliver.filter(|target| !is_known_target(target)) {
        warn(&format!("Hermes 0.19 has no target {target} of its own, so a plugin of it has to bring one"))?;
    }
    if let Some(directory) = &args.uninstall {
        return extension::uninstall(directory, subscription_name(route)?);
    }
    let mut out = io::stdout().lock();
    let Some(directory) = &args.install else {
        writeln!(out, "{}", subscribe_command(tenant, route, deliver))?;
        if route.extra.get("thread_id").is_some() {
            writeln!(out, "# It cannot set the thread of the route: talaria hermes --install DIR does")?;
        }
        if let Some(profile) = route.hermes_profile() {
            writeln!(out, "# With Hermes 0.20 or newer, add: --route-profile {}", quoted(profile))?;
        }
        return Ok(());
    };
    if let Some(problem) = route.unread.first() {
        return Err(anyhow!("{}\n  help: {}", problem.what, problem.help).into());
    }
    let name = subscription_name(route)?;
    if !directory.is_dir() {
        let name = directory.display();
        return Err(anyhow!("{name} is no directory; name the Hermes home, such as ~/.hermes").into());
    }
    let home = Home::read(directory)?;
    let target = extension::Target { path, config: &config, directory, name };
    if let Some(written) = home.gateway.static_route(name) {
        static_route(&home, name, &dump_line(written), &needs)?;
        return extension::install(&target, &needs, args);
    }
    let Installed { verb, lines } =
        install(directory, name, &needs, |change| record(directory, name, change))?;
    writeln!(
        out,
        "{verb} the subscription {name} in {}{}",
        directory.join(FILE).display(),
        if lines.is_empty() { "." } else { ":" }
    )?;
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    for Finding { what, help } in home.gateway.findings(&route.url, route.hermes_profile()) {
        warn(&format!("{}: {what}\n  help: {help}", home.config.display()))?;
    }
    writeln!(
        out,
        "A running gateway with webhooks enabled takes the subscription up with its next request."
    )?;
    extension::install(&target, &needs, args)
}

fn warn(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "warning: {text}")
}

/// A route in Hermes' own configuration, which takes precedence over a subscription of the same name.
fn static_route(home: &Home, name: &str, written: &str, needs: &Needs<'_>) -> Result<(), Failure> {
    let lines = against(written, needs).map_err(anyhow::Error::from)?;
    if lines.is_empty() {
        let out = &mut io::stdout().lock();
        writeln!(
            out,
            "{name} is a route of {}, and is as {}/{} needs it.",
            home.config.display(),
            needs.tenant.name,
            needs.route.name
        )?;
        return Ok(());
    }
    let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
    Err(anyhow!(
        "{name} is a route of {} already, which wins over any subscription, and is not as {}/{} needs it:{lines}\n  help: \
         change it there so, or remove it there and install again; then restart the gateway",
        home.config.display(),
        needs.tenant.name,
        needs.route.name
    )
    .into())
}
