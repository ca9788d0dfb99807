//! `talaria replays`: lists and cancels replay jobs.

use crate::{
    Failure,
    args::Replays,
    client::{
        self, ControlClient, ids,
        outage::{Outage, is_temporary},
    },
    print::{self, Cell, Column, DIM, Screen},
};
use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::Duration,
};
use talaria_proto::v1::{
    CancelReplayJobRequest, DeliveryState, GetReplayJobRequest, ListReplayJobsRequest, ReplayFilter,
    ReplayJob, ReplayJobState,
};
use talaria_relay::who;

/// Interval at which [`wait`] asks for the job.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

const COLUMNS: [Column; 8] = [
    Column::new("BEGAN"),
    Column::new("JOB"),
    Column::new("STATE"),
    Column::new("PROGRESS"),
    Column::new("ENDED").rank(4),
    Column::new("BY").rank(2).at_least(6),
    Column::new("WHICH").rank(1).at_least(12),
    Column::new("WHY").rank(3).at_least(8),
];

pub(crate) async fn run(config: &Path, args: Replays) -> Result<(), Failure> {
    let mut relay = client::control(&args.ask, config).await?;
    let screen = Screen::stdout(args.list.wide);
    let job_id = match args.id {
        Some(id) if id.starts_with("rpl_") => Some(ids::complete_at(&args.ask, config, &id).await?),
        // The relay refuses ids of other kinds.
        other => other,
    };
    match job_id {
        Some(job_id) if args.cancel => {
            let requested_by = client::user_name(args.who.name.as_deref())?;
            let reason = args.who.reason.unwrap_or_default();
            let request = CancelReplayJobRequest { job_id, requested_by, reason };
            let answer = client::change(relay.cancel_replay_job(request)).await?;
            if args.ask.json {
                return Ok(print::json_document(&answer)?);
            }
            table(answer.job.as_slice(), answer.incomplete, screen)
        }
        Some(job_id) => {
            let answer = client::ask(relay.get_replay_job(GetReplayJobRequest { job_id })).await?;
            if args.ask.json {
                return Ok(print::json_document(&answer)?);
            }
            table(answer.job.as_slice(), answer.incomplete, screen)
        }
        None => {
            let request = ListReplayJobsRequest { page_size: args.list.limit, page_token: args.list.page };
            let answer = client::ask(relay.list_replay_jobs(request)).await?;
            if args.ask.json {
                return Ok(print::json_document(&answer)?);
            }
            table(&answer.jobs, answer.incomplete, screen)?;
            Ok(print::note_next_page(&answer.next_page_token)?)
        }
    }
}

/// Waits until a job has ended, and shows its progress on a terminal.
pub(crate) async fn wait(
    relay: &mut ControlClient,
    mut job: ReplayJob,
    is_silent: bool,
) -> Result<ReplayJob, Failure> {
    let has_progress = !is_silent && io::stderr().is_terminal();
    let mut outage = Outage::default();
    while job.state() == ReplayJobState::Running {
        tokio::time::sleep(POLL_INTERVAL).await;
        match relay.get_replay_job(GetReplayJobRequest { job_id: job.id.clone() }).await {
            Ok(answer) => {
                outage.ends()?;
                let answer = answer.into_inner();
                // A missing partition may be the one in which the job still runs.
                if !answer.incomplete {
                    job = answer.job.unwrap_or(job);
                }
            }
            Err(status) if is_temporary(&status) => outage.begins(&status)?,
            Err(status) => return Err(status.into()),
        }
        if has_progress {
            // Replaces the previous line.
            write!(io::stderr(), "\r\x1b[2K{}", progress(&job))?;
        }
    }
    if has_progress {
        writeln!(io::stderr())?;
    }
    if !is_silent {
        writeln!(io::stdout(), "{}: {}", state(&job), progress(&job))?;
    }
    Ok(job)
}

fn progress(job: &ReplayJob) -> String {
    let skipped = if job.skipped > 0 { format!(", {} passed over", job.skipped) } else { String::new() };
    format!("{} of {} replayed{skipped}", job.replayed, job.matched)
}

fn state(job: &ReplayJob) -> &'static str {
    job.state().as_str_name().trim_start_matches("REPLAY_JOB_STATE_")
}

fn table(jobs: &[ReplayJob], incomplete: bool, screen: Screen) -> Result<(), Failure> {
    print::warn_if_incomplete(incomplete)?;
    if jobs.is_empty() {
        return Ok(writeln!(anstream::stdout(), "{DIM}No replay jobs.{DIM:#}")?);
    }
    let row = |job: &ReplayJob| {
        let ended = job.ended_at.as_ref().map_or("-".to_owned(), |at| print::time(Some(at)));
        vec![
            Cell::styled(print::time(job.started_at.as_ref()), DIM),
            Cell::from(screen.id(&job.id)),
            Cell::from(state(job)),
            Cell::from(progress(job)),
            Cell::styled(ended, DIM),
            Cell::from(who(&job.requested_by, &job.token_name)),
            Cell::from(filter_options(&job.filter.clone().unwrap_or_default())),
            Cell::from(&job.reason),
        ]
    };
    Ok(print::table(&COLUMNS, jobs.iter().map(row).collect(), screen)?)
}

/// A filter as command-line options.
fn filter_options(filter: &ReplayFilter) -> String {
    let mut words = Vec::new();
    for (name, value) in [
        ("tenant", &filter.tenant),
        ("route", &filter.route),
        ("job", &filter.job_id),
        ("type", &filter.event_type),
        ("model", &filter.model),
        ("why", &filter.reason),
    ] {
        if value.contains(' ') {
            words.push(format!("--{name} '{value}'"));
        } else if !value.is_empty() {
            words.push(format!("--{name} {value}"));
        }
    }
    for state in &filter.states {
        let state = DeliveryState::try_from(*state).unwrap_or_default();
        words.push(format!("--state {}", print::state_name(state).to_lowercase()));
    }
    for outcome in filter.outcomes() {
        words.push(format!("--outcome {}", outcome.name()));
    }
    for status in &filter.http_statuses {
        words.push(format!("--http {status}"));
    }
    for outcome in filter.runs() {
        words.push(format!("--run {}", outcome.name()));
    }
    for (name, time) in [("since", &filter.since), ("until", &filter.until)] {
        if let Some(time) = time {
            words.push(format!("--{name} {}", talaria_proto::time::from_proto(Some(time))));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::{AttemptOutcome, RunOutcome};

    #[test]
    fn a_filter_is_shown_as_it_was_asked_for() {
        let filter = ReplayFilter {
            tenant: "acme".into(),
            states: vec![DeliveryState::Parked.into()],
            since: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..ReplayFilter::default()
        };
        assert_eq!(filter_options(&filter), "--tenant acme --state parked --since 1970-01-01T00:00:00Z");
        let filter = ReplayFilter {
            model: "veo".into(),
            reason: "timed out".into(),
            outcomes: vec![AttemptOutcome::AnswerLost.into()],
            http_statuses: vec!["5xx".into()],
            runs: vec![RunOutcome::Failed.into()],
            ..ReplayFilter::default()
        };
        assert_eq!(
            filter_options(&filter),
            "--model veo --why 'timed out' --outcome answer_lost --http 5xx --run failed"
        );
    }
}
