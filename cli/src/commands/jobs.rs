//! `talaria jobs`: lists jobs at OpenRouter.

use crate::{
    Failure,
    args::Jobs,
    client,
    print::{
        self, Cell, Column, DIM, Screen,
        job::{cost, state_cell},
    },
};
use std::{io::Write as _, path::Path};
use talaria_proto::v1::{Job, ListJobsRequest};
use talaria_relay::who;

/// The width of a time up to its minutes, with the sign that it is cut.
const MINUTES: usize = 17;

const COLUMNS: [Column; 9] = [
    Column::new("CREATED").rank(2).at_least(MINUTES),
    Column::new("STATE"),
    Column::new("TENANT").rank(3).whole(),
    Column::new("MODEL").rank(1).whole(),
    Column::new("COST"),
    Column::new("JOB").whole(),
    Column::new("AT OPENROUTER").rank(5).whole(),
    Column::new("BY").rank(6).at_least(6),
    Column::new("WHY").rank(4).at_least(10),
];

pub(crate) async fn run(config: &Path, args: Jobs) -> Result<(), Failure> {
    let mut relay = client::jobs(&args.ask, config).await?;
    let request = ListJobsRequest {
        tenant: args.tenant.unwrap_or_default(),
        states: args.state.iter().map(|state| (*state).into()).collect(),
        page_size: args.list.limit,
        page_token: args.list.page,
    };
    let answer = client::ask(relay.list_jobs(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    print::warn_if_incomplete(answer.incomplete)?;
    if answer.jobs.is_empty() {
        return Ok(writeln!(anstream::stdout(), "{DIM}No jobs.{DIM:#}")?);
    }
    let screen = Screen::stdout(args.list.wide);
    print::table(&COLUMNS, answer.jobs.iter().map(|job| row(job, screen)).collect(), screen)?;
    Ok(print::note_next_page(&answer.next_page_token)?)
}

fn row(job: &Job, screen: Screen) -> Vec<Cell> {
    vec![
        Cell::styled(print::time(job.created_at.as_ref()), DIM),
        state_cell(job.state()),
        Cell::from(&job.tenant),
        Cell::from(if job.model.is_empty() { "-" } else { &job.model }),
        Cell::from(cost(job)),
        Cell::from(screen.id(&job.id)),
        Cell::styled(if job.openrouter_id.is_empty() { "-" } else { &job.openrouter_id }, DIM),
        Cell::from(who(&job.requested_by, &job.token_name)),
        Cell::from(&job.reason),
    ]
}
