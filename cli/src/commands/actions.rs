//! `talaria actions`: what operators did.

use crate::{
    Failure,
    args::Actions,
    client,
    print::{self, Cell, Column, DIM, Screen, one_line},
};
use std::{io::Write as _, path::Path};
use talaria_proto::{
    time::to_proto,
    v1::{ControlAction, ControlKind, ListControlActionsRequest},
};
use talaria_relay::who;

const COLUMNS: [Column; 5] = [
    Column::new("WHEN"),
    Column::new("WHO").at_least(6),
    Column::new("DID"),
    Column::new("WHAT").rank(1).at_least(20).keeps_end(),
    Column::new("WHY").rank(2).at_least(8),
];

pub(crate) async fn run(config: &Path, args: Actions) -> Result<(), Failure> {
    if args.tenant.is_some() {
        let mut status = client::connect(&args.ask, config).await?;
        client::knows_tenant(&mut status, args.tenant.as_deref()).await?;
    }
    let request = ListControlActionsRequest {
        tenant: args.tenant.unwrap_or_default(),
        since: args.since.map(to_proto),
        page_size: args.limit,
        page_token: String::new(),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = relay.list_control_actions(request).await?.into_inner();
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    print::warn_if_incomplete(answer.incomplete)?;
    if answer.actions.is_empty() {
        return Ok(writeln!(anstream::stdout(), "{DIM}Nobody did anything.{DIM:#}")?);
    }
    let screen = Screen::stdout(args.wide);
    let row = |action: &ControlAction| {
        vec![
            Cell::styled(print::time(action.at.as_ref()), DIM),
            Cell::from(who(&action.requested_by, &action.token_name)),
            Cell::from(verb(action.kind())),
            Cell::from(object(action, screen)),
            Cell::from(&action.reason),
        ]
    };
    Ok(print::table(&COLUMNS, answer.actions.iter().map(row).collect(), screen)?)
}

fn verb(kind: ControlKind) -> &'static str {
    match kind {
        ControlKind::Paused => "paused",
        ControlKind::Resumed => "resumed",
        ControlKind::Cancelled | ControlKind::ReplayJobCancelled => "cancelled",
        ControlKind::Replayed => "replayed",
        ControlKind::ReplayJobStarted => "began to replay",
        ControlKind::Probed => "probed",
        ControlKind::Unspecified => "did",
    }
}

fn object(action: &ControlAction, screen: Screen) -> String {
    let ControlAction { tenant, route, delivery_id, replay_job_id, .. } = action;
    let place = match (tenant.as_str(), route.as_str()) {
        ("", "") => String::new(),
        ("", route) => format!("*/{route}"),
        (tenant, "") => tenant.to_owned(),
        (tenant, route) => format!("{tenant}/{route}"),
    };
    let named = if delivery_id.is_empty() { replay_job_id } else { delivery_id };
    [place.as_str(), &screen.id(named)].join(" ").trim().to_owned()
}

/// What was done to a delivery, in one line.
pub(crate) fn line(action: &ControlAction) -> String {
    let job =
        if action.replay_job_id.is_empty() { String::new() } else { format!(" ({})", action.replay_job_id) };
    let reason =
        if action.reason.is_empty() { String::new() } else { format!(": {}", one_line(&action.reason)) };
    format!(
        "{} by {}{job}{reason}",
        verb(action.kind()),
        one_line(&who(&action.requested_by, &action.token_name))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_says_what_it_was_about() {
        let action = |tenant: &str, route: &str, delivery: &str, job: &str| ControlAction {
            kind: ControlKind::Replayed.into(),
            requested_by: "ana".into(),
            reason: "mended".into(),
            tenant: tenant.into(),
            route: route.into(),
            delivery_id: delivery.into(),
            replay_job_id: job.into(),
            token_name: String::new(),
            at: None,
        };
        let whole = |action: &ControlAction| object(action, Screen { width: None });
        assert_eq!(whole(&action("acme", "a", "dlv_x", "rpl_1")), "acme/a dlv_x");
        assert_eq!(whole(&action("", "", "", "rpl_1")), "rpl_1");
        assert_eq!(whole(&action("acme", "", "", "")), "acme");
        let one = action("acme", "a", "dlv_25m74olgq62heqt2gyhnio2unzditsxszovlkmaj", "");
        assert_eq!(object(&one, Screen { width: Some(80) }), "acme/a dlv_25m74olgq62h-zovl");
        assert_eq!(line(&action("acme", "a", "dlv_x", "rpl_1")), "replayed by ana (rpl_1): mended");
        let verified = ControlAction { token_name: "ops".into(), ..action("acme", "a", "dlv_x", "") };
        assert_eq!(line(&verified), "replayed by ana with token ops: mended");
    }
}
