//! `talaria actions`: lists operators' actions.

use crate::{
    Failure,
    args::Actions,
    client,
    print::{self, Cell, Column, DIM, Screen, action::verb},
};
use std::{io::Write as _, path::Path};
use talaria_proto::time::to_proto;
use talaria_proto::v1::{ControlAction, ListControlActionsRequest};
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
        let mut status = client::status(&args.ask, config).await?;
        client::check_tenant(&mut status, args.tenant.as_deref()).await?;
    }
    let request = ListControlActionsRequest {
        tenant: args.tenant.unwrap_or_default(),
        since: args.since.map(to_proto),
        page_size: args.list.limit,
        page_token: args.list.page,
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = client::ask(relay.list_control_actions(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    print::warn_if_incomplete(answer.incomplete)?;
    if answer.actions.is_empty() {
        return Ok(writeln!(anstream::stdout(), "{DIM}No actions.{DIM:#}")?);
    }
    let screen = Screen::stdout(args.list.wide);
    let row = |action: &ControlAction| {
        vec![
            Cell::styled(print::time(action.at.as_ref()), DIM),
            Cell::from(who(&action.requested_by, &action.token_name)),
            Cell::from(verb(action.kind())),
            Cell::from(object(action, screen)),
            Cell::from(&action.reason),
        ]
    };
    print::table(&COLUMNS, answer.actions.iter().map(row).collect(), screen)?;
    Ok(print::note_next_page(&answer.next_page_token)?)
}

fn object(action: &ControlAction, screen: Screen) -> String {
    let ControlAction { tenant, route, delivery_id, replay_job_id, job_id, .. } = action;
    let target = match (tenant.as_str(), route.as_str()) {
        ("", "") => String::new(),
        ("", route) => format!("*/{route}"),
        (tenant, "") => tenant.to_owned(),
        (tenant, route) => format!("{tenant}/{route}"),
    };
    let named = [delivery_id, job_id, replay_job_id].into_iter().find(|id| !id.is_empty());
    let named = named.map(|id| screen.id(id)).unwrap_or_default();
    [target.as_str(), &named].join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::ControlKind;

    #[test]
    fn an_action_names_its_object() {
        let action = |tenant: &str, route: &str, delivery: &str, job: &str| ControlAction {
            kind: ControlKind::Replayed.into(),
            requested_by: "ana".into(),
            reason: "mended".into(),
            tenant: tenant.into(),
            route: route.into(),
            delivery_id: delivery.into(),
            replay_job_id: job.into(),
            ..ControlAction::default()
        };
        let whole = |action: &ControlAction| object(action, Screen { width: None });
        assert_eq!(whole(&action("acme", "a", "dlv_x", "rpl_1")), "acme/a dlv_x");
        assert_eq!(whole(&action("", "", "", "rpl_1")), "rpl_1");
        assert_eq!(whole(&action("acme", "", "", "")), "acme");
        let one = action("acme", "a", "dlv_25m74olgq62heqt2gyhnio2unzditsxszovlkmaj", "");
        assert_eq!(object(&one, Screen { width: Some(80) }), "acme/a dlv_25m74olgq62h-zovl");
        let job = ControlAction { job_id: "job_x".into(), ..action("acme", "", "", "") };
        assert_eq!(whole(&job), "acme job_x");
    }
}
