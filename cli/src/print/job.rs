//! A job at OpenRouter: its state, its line, and its ledger.

use super::{ALERT, BOLD, Cell, DIM, Screen, UNDER_TIME, one_line, time, write_wrapped};
use anstyle::{AnsiColor, Style};
use std::io::{self, Write};
use talaria_core::money::dollars;
use talaria_proto::v1::{FilesState, Job, JobFiles, JobSource, JobState};
use talaria_relay::who;

/// "RUNNING".
pub(crate) fn state_name(state: JobState) -> &'static str {
    state.as_str_name().trim_start_matches("JOB_STATE_")
}

pub(crate) fn state_style(state: JobState) -> Style {
    let colour = match state {
        JobState::Completed => AnsiColor::Green,
        JobState::Submitting | JobState::Running => AnsiColor::Yellow,
        JobState::Unknown
        | JobState::Failed
        | JobState::Expired
        | JobState::Refused
        | JobState::Abandoned => AnsiColor::Red,
        JobState::Cancelled | JobState::Stopped | JobState::Unspecified => return DIM,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// Whether nothing more is expected. A late callback can still end a job that was abandoned or stopped.
pub(crate) fn has_ended(state: JobState) -> bool {
    !matches!(state, JobState::Unspecified | JobState::Submitting | JobState::Running | JobState::Unknown)
}

/// The state, as a cell of a table.
pub(crate) fn state_cell(state: JobState) -> Cell {
    Cell::styled(state_name(state), state_style(state))
}

/// "$0.40", or the estimate: "~$0.40". "-" where neither is known.
pub(crate) fn cost(job: &Job) -> String {
    match (job.cost_micros, job.estimate_micros) {
        (Some(cost), _) => dollars(cost),
        (None, Some(estimate)) => format!("~{}", dollars(estimate)),
        (None, None) => "-".to_owned(),
    }
}

/// "RUNNING (in_progress)": the state, with OpenRouter's own word where it says more.
pub(crate) fn state_line(job: &Job) -> String {
    let (state, style) = (state_name(job.state()), state_style(job.state()));
    let said = one_line(&job.openrouter_status);
    let repeats = said.is_empty() || said.eq_ignore_ascii_case(state);
    let said = if repeats { String::new() } else { format!(" ({said})") };
    let reason = if job.reason.is_empty() { String::new() } else { format!(": {}", one_line(&job.reason)) };
    format!("{style}{state}{style:#}{said}{reason}")
}

/// The job's values, and what happened to it, by time.
pub(crate) fn show(out: &mut impl Write, job: &Job, screen: Screen) -> io::Result<()> {
    write_wrapped(out, screen, |text| lines(text, job))
}

fn lines(out: &mut impl Write, job: &Job) -> io::Result<()> {
    head(out, job)?;
    for (at, what) in ledger(job) {
        writeln!(out, "  {DIM}{}{DIM:#}  {what}", time(Some(&at)))?;
    }
    if job.callback_missing {
        let help = "no callback came: do OpenRouter's key and signing secret belong to one workspace, and does the public URL \
                    lead here? talaria status --refused, talaria doctor";
        writeln!(out, "{UNDER_TIME}{ALERT}{help}{ALERT:#}")?;
    }
    let next = [("asks OpenRouter next at", &job.next_poll_at), ("gives it up at", &job.give_up_at)];
    for (what, at) in next {
        if let Some(at) = at.as_ref().filter(|_| !has_ended(job.state())) {
            writeln!(out, "{UNDER_TIME}{what} {}", time(Some(at)))?;
        }
    }
    if let Some(files) = job.files.as_ref().filter(|files| files.state() == FilesState::Fetching) {
        let why =
            if files.reason.is_empty() { String::new() } else { format!(": {}", one_line(&files.reason)) };
        writeln!(out, "{UNDER_TIME}fetches its files{why}")?;
        let next = [
            ("tries again at", files.next_try_at.as_ref().filter(|_| files.tries > 0)),
            ("deliveries wait for them until", files.wait_until.as_ref()),
        ];
        for (what, at) in next {
            if let Some(at) = at {
                writeln!(out, "{UNDER_TIME}{what} {}", time(Some(at)))?;
            }
        }
    }
    for file in job.files.iter().flat_map(|files| &files.kept).filter(|file| !file.path.is_empty()) {
        writeln!(out, "{UNDER_TIME}{}", one_line(&file.path))?;
    }
    Ok(())
}

/// Where nothing is known of the event that ended the job.
pub(crate) fn note_missing_event(out: &mut impl Write, job: &Job) -> io::Result<()> {
    if job.event_id.is_empty() {
        return Ok(());
    }
    writeln!(out, "  its event waits to be planned, or is not kept any more")
}

/// What the job waits for, and what an operator can do about it. Nothing for a job whose end is known: that is its event's matter.
pub(crate) fn show_next(out: &mut impl Write, job: &Job, screen: Screen) -> io::Result<()> {
    let Some((next, change)) = next(job) else { return Ok(()) };
    write_wrapped(out, screen, |text| {
        writeln!(text, "  {BOLD}next{BOLD:#}: {next}")?;
        writeln!(text, "  {BOLD}to change it{BOLD:#}: {change}")
    })
}

fn next(job: &Job) -> Option<(&'static str, String)> {
    let id = &job.id;
    let stop = || {
        format!("talaria stop-job {id} ends the waiting; OpenRouter cannot cancel a job, and its cost stays")
    };
    Some(match job.state() {
        JobState::Submitting => (
            "OpenRouter's answer to the submit; if it is lost, the job is UNKNOWN and is never submitted again",
            "nothing: a job that is being submitted cannot be stopped".to_owned(),
        ),
        JobState::Running => {
            ("its callback, or a poll that finds its end; without either it becomes ABANDONED", stop())
        }
        JobState::Unknown => {
            ("a callback on its own path claims it; without one it becomes ABANDONED", stop())
        }
        JobState::Refused => (
            "nothing: OpenRouter made no job",
            format!("talaria submit with --request-id {} sends the request again", one_line(&job.request_id)),
        ),
        JobState::Abandoned | JobState::Stopped => (
            "nothing; a late callback still ends it, and is delivered",
            "OpenRouter's list of activity shows whether there is such a job, and how it ended".to_owned(),
        ),
        JobState::Unspecified
        | JobState::Completed
        | JobState::Failed
        | JobState::Cancelled
        | JobState::Expired => return None,
    })
}

fn head(out: &mut impl Write, job: &Job) -> io::Result<()> {
    writeln!(out, "{BOLD}{}{BOLD:#}  {}", job.id, state_line(job))?;
    let model =
        if job.model.is_empty() { String::new() } else { format!(", model {}", one_line(&job.model)) };
    let openrouter = match job.openrouter_id.as_str() {
        "" => ", without an id of OpenRouter's yet".to_owned(),
        id => format!(", {} at OpenRouter", one_line(id)),
    };
    writeln!(out, "  tenant {}{model}{openrouter}", one_line(&job.tenant))?;
    if job.tracked && job.requested_by.is_empty() {
        writeln!(out, "  of another program, known since its end")?;
    } else {
        let verb = if job.tracked { "tracked" } else { "submitted" };
        let by = one_line(&who(&job.requested_by, &job.token_name));
        writeln!(out, "  {verb} by {by}, request id {}", one_line(&job.request_id))?;
    }
    let amounts = [("estimate", job.estimate_micros), ("cost", job.cost_micros)];
    let amounts: Vec<_> =
        amounts.iter().filter_map(|(name, micros)| Some(format!("{name} {}", dollars((*micros)?)))).collect();
    if !amounts.is_empty() {
        writeln!(out, "  {}", amounts.join(", "))?;
    }
    if !job.route.is_empty() {
        writeln!(out, "  for the route {} alone", one_line(&job.route))?;
    }
    let mut context: Vec<_> = job.context.iter().collect();
    context.sort();
    for (key, value) in context {
        writeln!(out, "  context {}={}", one_line(key), one_line(value))?;
    }
    Ok(())
}

/// What happened, by time.
fn ledger(job: &Job) -> Vec<(prost_types::Timestamp, String)> {
    let mut lines = Vec::new();
    let mut add = |at: Option<prost_types::Timestamp>, what: String| {
        lines.extend(at.map(|at| (at, what)));
    };
    let intended = match (job.tracked, job.requested_by.is_empty()) {
        (false, _) => "intent recorded",
        (true, false) => "recorded, to be followed",
        (true, true) => "recorded at its end",
    };
    add(job.created_at, intended.to_owned());
    if job.state() != JobState::Refused {
        add(job.submitted_at, "OpenRouter has it".to_owned());
    }
    add(job.polled_at, format!("poll {}, the latest", job.polls));
    add(job.callback_at, "callback came".to_owned());
    let known = match job.source() {
        JobSource::Callback => " by a callback",
        JobSource::Poll => " by polling",
        JobSource::Unspecified => "",
    };
    let event = if job.event_id.is_empty() { String::new() } else { format!(": {}", job.event_id) };
    add(job.ended_at, format!("{}{known}{event}", state_name(job.state())));
    if let Some(files) = &job.files {
        add(files.ended_at, files_line(files));
    }
    lines.sort_by_key(|(at, _)| (at.seconds, at.nanos));
    lines
}

/// "1 file kept (26 bytes)".
fn files_line(files: &JobFiles) -> String {
    if files.state() != FilesState::Kept {
        let plural = if files.tries == 1 { "try" } else { "tries" };
        return format!("files not kept after {} {plural}: {}", files.tries, one_line(&files.reason));
    }
    let size: u64 = files.kept.iter().map(|file| file.size).sum();
    let plural = if files.kept.len() == 1 { "" } else { "s" };
    format!("{} file{plural} kept ({size} bytes)", files.kept.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "times in messages are optional")]
    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn shown(job: &Job) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        show(&mut out, job, Screen { width: None }).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn a_cost_or_else_the_estimate_is_shown() {
        let job = Job { estimate_micros: Some(3_200_000), ..Job::default() };
        assert_eq!(cost(&job), "~$3.20");
        assert_eq!(cost(&Job { cost_micros: Some(81_700), ..job }), "$0.0817");
        assert_eq!(cost(&Job::default()), "-");
    }

    #[test]
    fn the_ledger_has_everything_in_the_order_in_which_it_happened() {
        let job = Job {
            id: "job_a".into(),
            tenant: "acme".into(),
            request_id: "r-1".into(),
            state: JobState::Completed.into(),
            model: "google/veo-3.1".into(),
            openrouter_id: "gen-vid-1".into(),
            openrouter_status: "completed".into(),
            context: [("thread", "7"), ("chat", "1\u{1b}[2J")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            route: "video".into(),
            estimate_micros: Some(3_200_000),
            cost_micros: Some(3_000_000),
            requested_by: "ana".into(),
            token_name: "agent".into(),
            created_at: at(0),
            submitted_at: at(3),
            // The callback came before the submit was answered.
            callback_at: at(2),
            ended_at: at(2),
            source: JobSource::Callback.into(),
            event_id: "evt_a".into(),
            ..Job::default()
        };
        assert_eq!(
            shown(&job),
            "job_a  COMPLETED\n  \
             tenant acme, model google/veo-3.1, gen-vid-1 at OpenRouter\n  \
             submitted by ana with token agent, request id r-1\n  \
             estimate $3.20, cost $3.00\n  \
             for the route video alone\n  \
             context chat=1\\u{1b}[2J\n  \
             context thread=7\n  \
             1970-01-01 00:00:00Z  intent recorded\n  \
             1970-01-01 00:00:02Z  callback came\n  \
             1970-01-01 00:00:02Z  COMPLETED by a callback: evt_a\n  \
             1970-01-01 00:00:03Z  OpenRouter has it\n"
        );
    }

    #[test]
    fn a_running_job_says_what_comes_next() {
        let job = Job {
            id: "job_a".into(),
            state: JobState::Running.into(),
            openrouter_status: "in_progress".into(),
            polls: 1,
            polled_at: at(90),
            next_poll_at: at(120),
            give_up_at: at(10_800),
            tracked: true,
            requested_by: "ana".into(),
            created_at: at(0),
            ..Job::default()
        };
        let text = shown(&job);
        assert!(text.starts_with("job_a  RUNNING (in_progress)\n"), "{text}");
        assert!(text.contains("recorded, to be followed\n"), "{text}");
        assert!(text.contains("  poll 1, the latest\n"), "{text}");
        assert!(text.contains("asks OpenRouter next at 1970-01-01 00:02:00Z\n"), "{text}");
        assert!(text.contains("gives it up at 1970-01-01 03:00:00Z\n"), "{text}");
        let ended = Job { state: JobState::Failed.into(), reason: "moderated\n".into(), ..job };
        let text = shown(&ended);
        assert!(text.starts_with("job_a  FAILED (in_progress): moderated\\n\n"), "{text}");
        assert!(!text.contains("asks OpenRouter"), "{text}");
    }

    #[test]
    fn a_job_without_an_end_says_what_changes_it() {
        let text = |state: JobState| {
            let job = Job {
                id: "job_a".into(),
                request_id: "r-1\u{1b}".into(),
                state: state.into(),
                ..Job::default()
            };
            let mut out = anstream::StripStream::new(Vec::new());
            show_next(&mut out, &job, Screen { width: None }).unwrap();
            String::from_utf8(out.into_inner()).unwrap()
        };
        for (state, says) in [
            (JobState::Submitting, "cannot be stopped"),
            (JobState::Running, "to change it: talaria stop-job job_a ends the waiting"),
            (JobState::Unknown, "next: a callback on its own path claims it"),
            (JobState::Refused, "--request-id r-1\\u{1b} sends"),
            (JobState::Abandoned, "a late callback still ends it"),
            (JobState::Stopped, "a late callback still ends it"),
        ] {
            let text = text(state);
            assert!(text.contains(says) && text.lines().count() == 2, "{text}");
        }
        let ended = JobState::ALL.into_iter().filter(|state| text(*state).is_empty()).count();
        assert_eq!(ended, 4, "completed, failed, cancelled, expired");
    }
}
