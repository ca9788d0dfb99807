//! The configuration in force, and the problems of a file that is not.

use super::{
    frame::Page,
    parts::{self, badge},
    visitor::Visitor,
};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_core::{
    config::{BusKind, Config},
    time::in_one_unit,
};
use talaria_proto::v1::{Configuration, ConfigurationProblem, GetSummaryRequest};

pub(super) async fn page(visitor: &Visitor) -> Result<Page, Fault> {
    let summary = visitor.status().get_summary(GetSummaryRequest::default()).await?.into_inner();
    // A token for one tenant is told nothing of the process.
    let status = summary.configuration;
    let config = &visitor.config;
    let main = html! {
        h1 { "Configuration" }
        div data-live id="configuration" {
            @if let Some(status) = &status { (state(status, visitor)) }
            @for warning in config.warnings.iter().filter(|_| visitor.sees_all()) {
                p.warning { (parts::text(&warning.what)) " " (parts::text(&warning.help)) }
            }
            p.hint { code { "talaria check --running" } " shows what another file would change." }
            (tenants(visitor))
        }
    };
    Ok(Page::new("Configuration", "/configuration", main))
}

/// Whether the file is in force, since when, and what needs a restart.
fn state(status: &Configuration, visitor: &Visitor) -> Markup {
    html! {
        @if let Some(fault) = &status.fault {
            section.fault {
                h2 { (badge("bad", "REFUSED")) " The file of " (parts::time(fault.at.as_ref())) " is not in force" }
                p { "The last valid one still is. Mend the file, and it is read again by itself." }
                ul { @for problem in &fault.problems { li { (shown(problem)) } } }
            }
        } @else {
            p.headline { (badge("good", "IN FORCE")) " What is in the file is in force: a change of it is read by itself." }
        }
        @if !status.needs_restart.is_empty() {
            p.warning {
                "A restart brings into force: "
                @for (at, key) in status.needs_restart.iter().enumerate() { @if at > 0 { ", " } code { (key) } }
            }
        }
        dl.pairs {
            dt { "Read" } dd { (parts::time(status.loaded_at.as_ref())) }
            dt { "Generation" } dd { (status.generation) " (1 at the start, and one more with each change)" }
            @if visitor.sees_all() { (process(&visitor.config)) }
        }
    }
}

/// Settings of the process, and of no tenant.
fn process(config: &Config) -> Markup {
    let bus = match &config.bus {
        BusKind::Embedded => "embedded, in data_dir",
        BusKind::Nats(_) => "NATS JetStream",
    };
    html! {
        dt { "Bus" } dd { (bus) }
        dt { "Data" } dd { code { (config.data_dir.display()) } }
        dt { "Retention" } dd { (in_one_unit(config.retention)) }
        dt { "Tokens" }
        dd {
            @if config.relay.tokens.is_empty() { "none" }
            @for (at, token) in config.relay.tokens.iter().enumerate() {
                @if at > 0 { ", " }
                (token.name) " (" (token.scope.name()) @if let Some(tenant) = &token.tenant { ", " (tenant) } ")"
            }
        }
        dt { "TLS" } dd { @if config.relay.tls.is_some() { "on" } @else { "off" } }
    }
}

fn tenants(visitor: &Visitor) -> Markup {
    let seen = visitor.config.tenants.values().filter(|tenant| visitor.sees(&tenant.name));
    let rows: Vec<Markup> = seen
        .map(|tenant| {
            let callbacks = if tenant.only_polls() { "none: its jobs are polled" } else { "verified" };
            html! {
                th scope="row" { (tenant.name) }
                td { (callbacks) }
                td { @if tenant.jobs.is_some() { "yes" } @else { "no" } }
                td { @if tenant.media.is_some() { "yes" } @else { "no" } }
                td {
                    @for (at, route) in tenant.routes.keys().enumerate() {
                        @if at > 0 { ", " } a href={ "/routes/" (tenant.name) "/" (route) } { (route) }
                    }
                }
            }
        })
        .collect();
    html! {
        h2 { "Tenants" }
        (parts::table("Tenants", &["Tenant", "Callbacks", "Jobs", "Media links", "Routes"], &rows, "There is no tenant."))
    }
}

fn shown(problem: &ConfigurationProblem) -> Markup {
    html! {
        @if problem.line > 0 { "line " (problem.line) ", column " (problem.column) ": " }
        (parts::text(&problem.what))
        @if !problem.help.is_empty() { p.hint { (parts::sentence(&problem.help)) } }
    }
}
