//! `talaria status --refused`: requests that ingresses refused in the last hour.

use crate::{
    Failure,
    client::{StatusClient, ask},
    print::{self, ALERT, DIM, one_line},
};
use std::io::{self, Write as _};
use talaria_proto::v1::{ListRefusalsRequest, ListRefusalsResponse, Refusal};

pub(super) async fn list(relay: &mut StatusClient, tenant: &str) -> Result<ListRefusalsResponse, Failure> {
    let request = ListRefusalsRequest { tenant: tenant.to_owned() };
    ask(relay.list_refusals(request)).await
}

pub(super) async fn show(relay: &mut StatusClient, tenant: Option<&str>, json: bool) -> Result<(), Failure> {
    let list = list(relay, tenant.unwrap_or_default()).await?;
    if json {
        return Ok(print::json_document(&list)?);
    }
    let mut out = anstream::stdout().lock();
    if list.refusals.is_empty() {
        return Ok(writeln!(out, "{DIM}Nothing was refused in the last hour.{DIM:#}")?);
    }
    for refusal in &list.refusals {
        let style = if refusal.tenant.is_empty() { DIM } else { ALERT };
        writeln!(out, "{style}{}{style:#}", line(refusal))?;
        if refusal.count > 0 {
            writeln!(out, "  {}", latest(refusal))?;
        }
        if !refusal.hint.is_empty() {
            writeln!(out, "  help: {}", one_line(&refusal.hint))?;
        }
        writeln!(out, "  {DIM}{}{DIM:#}", page(refusal))?;
    }
    Ok(())
}

/// "the last from 192.0.2.7 to /callbacks/acme, answered 401".
fn latest(refusal: &Refusal) -> String {
    let answered = match refusal.answered {
        0 => "hung up on".to_owned(),
        status => format!("answered {status}"),
    };
    let path =
        if refusal.path.is_empty() { String::new() } else { format!(" to {}", one_line(&refusal.path)) };
    format!("the last from {}{path}, {answered}", one_line(&refusal.client))
}

/// The refusals of each tenant, for the overview. Those of no tenant are shown by `--refused` alone: every public name gets some.
pub(super) fn summary(refusals: &[Refusal]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let mut of_tenants = refusals.iter().filter(|refusal| !refusal.tenant.is_empty()).peekable();
    if of_tenants.peek().is_none() {
        return Ok(());
    }
    for refusal in of_tenants {
        writeln!(out, "{ALERT}{}{ALERT:#}", line(refusal))?;
    }
    writeln!(out, "  {DIM}talaria status --refused says more{DIM:#}\n")
}

/// "acme: 3 refused in the last hour, the last at 2026-11-28 12:00:01Z: the signature does not match (mismatch)".
fn line(refusal: &Refusal) -> String {
    let Refusal { tenant, count, text, reason, .. } = refusal;
    let owner = if tenant.is_empty() { "no tenant's" } else { tenant };
    if *count == 0 {
        return format!("{owner}: no callback is taken: {} ({})", one_line(text), one_line(reason));
    }
    let last = match count {
        1 => "at",
        _ => "the last at",
    };
    let at = print::time(refusal.last_at.as_ref());
    format!(
        "{owner}: {count} refused in the last hour, {last} {at}: {} ({})",
        one_line(text),
        one_line(reason)
    )
}

/// The page about the answer that the client got.
fn page(refusal: &Refusal) -> &'static str {
    match (refusal.reason.as_str(), refusal.answered) {
        ("no_secret", _) => "docs/errors/secret-missing.md",
        ("not_stored", _) => "docs/errors/callback-503.md",
        ("misdirected", _) | (_, 404 | 405) => "docs/errors/callback-404.md",
        (_, 401) => "docs/errors/callback-401.md",
        (_, 408) => "docs/errors/callback-408.md",
        (_, 413) => "docs/errors/callback-413.md",
        (_, 429) => "docs/errors/callback-429.md",
        (_, 503) => "docs/errors/callback-no-room.md",
        _ => "docs/errors/callback-400.md",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_tenant_count_and_reason_without_control_characters() {
        let refusal = Refusal {
            tenant: "acme".into(),
            reason: "mismatch".into(),
            text: "the signature\u{1b}[2J does not match".into(),
            count: 3,
            ..Refusal::default()
        };
        let said = line(&refusal);
        let begins = "acme: 3 refused in the last hour, the last at 1970-01-01 00:00:00Z: ";
        assert!(said.starts_with(begins), "{said}");
        assert!(said.ends_with(": the signature\\u{1b}[2J does not match (mismatch)"), "{said}");
        let once = Refusal { tenant: String::new(), count: 1, ..refusal };
        assert!(line(&once).starts_with("no tenant's: 1 refused in the last hour, at "));
    }
}
