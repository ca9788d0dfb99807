//! `talaria submit`: submits a job to OpenRouter, and with `--wait` follows it to its end.
//!
//! - [`images`]: images in local files. [`wait`]: the wait for the end.
//! - [`options`]: errors in the words of the command line. [`estimate`]: why there is none.

mod estimate;
mod images;
pub(super) mod options;
mod wait;

use crate::{
    Failure,
    args::Submit,
    client,
    print::{
        self, DIM, Screen,
        job::{has_ended, show, state_line, state_name},
        one_line, wrapped,
    },
    select,
};
use anyhow::anyhow;
use images::Images;
use std::{collections::HashMap, error::Error as _, fs, io::Write as _, path::Path};
use talaria_core::{config::expand_home, money::dollars, time::parse_duration};
use talaria_proto::v1::{Job, JobState, Reference, SubmitJobRequest, VideoRequest};
use tonic::{Code, Status};

pub(crate) async fn run(config: &Path, args: &Submit) -> Result<(), Failure> {
    // A prompt that is a time was meant for --wait, and would be paid for.
    if let (Some(prompt), Some(_)) = (&args.prompt, args.wait)
        && parse_duration(prompt).is_some()
    {
        return Err(Failure::Usage(format!(
            "{prompt:?} is the prompt here, and looks like a time: write --wait={prompt}, and the prompt besides"
        )));
    }
    let (tenant, route) =
        select::tenant_and_route(config, args.of.tenant.as_deref(), args.of.route.as_deref())?;
    let request_id =
        args.request_id.clone().unwrap_or_else(|| format!("cli-{:032x}", rand::random::<u128>()));
    let request = SubmitJobRequest {
        tenant: tenant.clone(),
        request_id: request_id.clone(),
        video: Some(video(args)?),
        context: args.of.values()?,
        route,
        requested_by: client::user_name(args.of.name.as_deref())?,
        without_estimate: args.without_estimate,
    };
    let mut relay = client::submits(&args.ask, config).await?;
    // Before it is sent, so that it is known also after Ctrl-C.
    if args.request_id.is_none() {
        writeln!(anstream::stderr(), "{DIM}request id {request_id}{DIM:#}")?;
    }
    let mut answer = match relay.submit_job(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if estimate::is_missing(&status) => {
            let help = estimate::advice(&mut relay, &tenant, args).await;
            let help = help.map_or_else(String::new, |help| format!("\n  help: {help}"));
            return Err(anyhow!("{}{help}", failure(status, &request_id)).into());
        }
        Err(status) => return Err(failure(status, &request_id)),
    };
    let mut job = answer.job.take().unwrap_or_default();
    if !args.ask.json {
        submitted(&job, answer.known, args.size.is_some())?;
    }
    let mut in_time = true;
    if let (Some(limit), false) = (args.wait, has_ended(job.state())) {
        (job, in_time) = wait::until_end(&mut relay, job, limit, args.ask.json).await?;
    }
    let result = match args.wait {
        None => outcome(&job),
        Some(_) => verdict(&job, in_time),
    };
    if args.ask.json {
        answer.job = Some(job);
        print::json_document(&answer)?;
    } else if args.wait.is_some() && has_ended(job.state()) {
        show(&mut anstream::stdout().lock(), &job, Screen::stdout(false))?;
    }
    result
}

fn video(args: &Submit) -> Result<VideoRequest, Failure> {
    let mut images = Images::default();
    let mut image = |option: &str, location: Option<&str>| match location {
        Some(location) => images.url(option, location),
        None => Ok(String::new()),
    };
    let first_frame = image("--first-frame", args.first_frame.as_deref())?;
    let last_frame = image("--last-frame", args.last_frame.as_deref())?;
    let references = args
        .reference
        .iter()
        .map(|it| Ok(Reference { kind: it.kind.into(), url: images.reference(it)? }))
        .collect::<Result<_, Failure>>()?;
    Ok(VideoRequest {
        model: args.model.clone(),
        prompt: prompt(args)?,
        duration: args.duration,
        resolution: args.resolution.clone().unwrap_or_default(),
        aspect_ratio: args.aspect_ratio.clone().unwrap_or_default(),
        size: args.size.clone().unwrap_or_default(),
        first_frame,
        last_frame,
        references,
        generate_audio: (args.audio || args.no_audio).then_some(args.audio),
        seed: args.seed,
        provider_options: provider_options(args.provider_options.as_deref())?,
        upscale_factor: args.upscale_factor,
        creativity: args.creativity,
    })
}

/// The prompt; empty where none was given.
fn prompt(args: &Submit) -> Result<String, Failure> {
    let (from, bytes) = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) if prompt != "-" => return Ok(prompt.clone()),
        (Some(_), _) => ("standard input".to_owned(), select::read_input(Path::new("-"))?),
        (None, Some(file)) => (file.display().to_string(), select::read_input(file)?),
        (None, None) => return Ok(String::new()),
    };
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::Usage(format!("the prompt in {from} is not UTF-8")))?;
    Ok(text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).to_owned())
}

/// The text of a JSON object; empty where none was given.
fn provider_options(written: Option<&str>) -> Result<String, Failure> {
    let text = match written {
        None => return Ok(String::new()),
        Some(written) => match written.strip_prefix('@') {
            Some(file) => {
                let path = expand_home(file);
                fs::read_to_string(&path).map_err(|error| {
                    Failure::Usage(format!("--provider-options: cannot read {}: {error}", path.display()))
                })?
            }
            None => written.to_owned(),
        },
    };
    #[expect(
        clippy::zero_sized_map_values,
        reason = "an object of any values, also of numbers that are too large"
    )]
    let read = serde_json::from_str::<HashMap<String, serde::de::IgnoredAny>>(&text);
    match read {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(error) => Err(Failure::Usage(format!(
            "--provider-options is not a JSON object: {error}\n  help: write the provider's name and its options, as in \
             '{{\"google-vertex\": {{\"negativePrompt\": \"rain\"}}}}'"
        ))),
    }
}

fn submitted(job: &Job, known: bool, has_size: bool) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let known = if known { ", known by its request id: nothing was sent" } else { "" };
    let line = format!("{}  {}{known}", job.id, state_line(job));
    writeln!(out, "{}", wrapped(&line, Screen::stdout(false)))?;
    if !job.openrouter_id.is_empty() {
        writeln!(out, "  {} at OpenRouter", one_line(&job.openrouter_id))?;
    }
    let estimate = match job.estimate_micros {
        Some(estimate) => format!("estimate {}", dollars(estimate)),
        None if has_size => "no estimate: OpenRouter's prices do not say what it costs".to_owned(),
        None => "no estimate: OpenRouter's prices do not say what it costs. Where they go by the size, --size gives one"
            .to_owned(),
    };
    writeln!(out, "{}", wrapped(&format!("  {estimate}"), Screen::stdout(false)))?;
    Ok(out.flush()?)
}

/// Without `--wait`: whether OpenRouter has the job.
fn outcome(job: &Job) -> Result<(), Failure> {
    let id = &job.id;
    match job.state() {
        JobState::Refused => Err(anyhow!("no job was made: {}", one_line(&job.reason)).into()),
        JobState::Unknown => Err(Failure::Unreachable(format!(
            "OpenRouter may have made the job: its answer was lost. It is never submitted again, and a callback claims it; \
             `talaria status {id}` shows what is known"
        ))),
        JobState::Submitting => Err(Failure::Unreachable(format!(
            "OpenRouter has not answered yet; `talaria status {id}` shows what became of it"
        ))),
        _ => Ok(()),
    }
}

/// With `--wait`: 0 for a completed job, 5 where its end is not known in time, otherwise 1.
fn verdict(job: &Job, in_time: bool) -> Result<(), Failure> {
    let (id, state) = (&job.id, state_name(job.state()));
    match job.state() {
        JobState::Completed => Ok(()),
        _ if !in_time => Err(Failure::Unreachable(format!(
            "{id} is {state}, and its end is not known in time; `talaria status {id}` shows more"
        ))),
        JobState::Refused => Err(anyhow!("no job was made: {}", one_line(&job.reason)).into()),
        _ if job.reason.is_empty() => Err(anyhow!("{id} is {state}").into()),
        _ => Err(anyhow!("{id} is {state}: {}", one_line(&job.reason)).into()),
    }
}

/// Says whether a job may have been made, and how to ask again.
fn failure(status: Status, request_id: &str) -> Failure {
    // A status that the relay sent has no source.
    let is_from_relay = status.source().is_none();
    let code = status.code();
    let failure = Failure::from(options::translated(status));
    let again = format!("--request-id {request_id} asks again, and is never a second job");
    match (code, failure) {
        (Code::AlreadyExists, failure) => Failure::Other(anyhow!(
            "{failure}\n  help: repeat the first request as it was, or take another --request-id for another job"
        )),
        (Code::Unavailable, Failure::Unreachable(why))
            if is_from_relay && says_that_nothing_was_made(&why) =>
        {
            Failure::Unreachable(format!("{why}\n  help: {again}"))
        }
        (Code::DeadlineExceeded, failure) => {
            Failure::Unreachable(format!("a job may have been made: {failure}\n  help: {again}"))
        }
        // The text may end with advice.
        (_, Failure::Unreachable(why)) => {
            Failure::Unreachable(format!("a job may have been made; {again}: {why}"))
        }
        (_, failure) => failure,
    }
}

/// Whether a relay is certain of it. Where the owner of a partition did not answer, it is not.
pub(super) fn says_that_nothing_was_made(why: &str) -> bool {
    ["no job was made", "nothing was done", "cannot be asked"].iter().any(|sure| why.contains(sure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_options_are_an_object() {
        assert_eq!(provider_options(None).unwrap(), "");
        assert_eq!(provider_options(Some(" {\"a\": {\"b\": 1e400}} ")).unwrap(), "{\"a\": {\"b\": 1e400}}");
        for wrong in ["", "[1]", "3", "{", "a=b", "@nowhere"] {
            let failure = provider_options(Some(wrong)).unwrap_err();
            assert_eq!(failure.code(), 2, "{wrong}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{\"x\": {}}\n").unwrap();
        let named = format!("@{}", file.path().display());
        assert_eq!(provider_options(Some(&named)).unwrap(), "{\"x\": {}}");
    }

    #[test]
    fn the_exit_code_depends_on_the_state() {
        let job = |state: JobState| Job { id: "job_x".into(), state: state.into(), ..Job::default() };
        let code = |result: Result<(), Failure>| result.err().map_or(0, |failure| failure.code());
        for (state, without, with) in [
            (JobState::Running, 0, 1),
            (JobState::Completed, 0, 0),
            (JobState::Failed, 0, 1),
            (JobState::Refused, 1, 1),
            (JobState::Unknown, 5, 1),
            (JobState::Submitting, 5, 1),
        ] {
            assert_eq!(code(outcome(&job(state))), without, "{state:?}");
            assert_eq!(code(verdict(&job(state), true)), with, "{state:?}");
        }
        assert_eq!(code(verdict(&job(JobState::Running), false)), 5);
        assert_eq!(code(verdict(&job(JobState::Completed), false)), 0, "it ended at the last moment");
    }

    #[test]
    fn a_failure_says_whether_a_job_may_have_been_made() {
        let said = |status: Status| {
            let failure = failure(status, "r-1");
            (failure.code(), failure.to_string())
        };
        let (code, text) = said(Status::unavailable("no ingress answers, and no job was made"));
        assert!(
            code == 5 && !text.contains("may have been made") && text.contains("--request-id r-1"),
            "{text}"
        );
        let (code, text) = said(Status::unavailable("the owner did not answer, and it may still be done"));
        assert!(
            code == 5 && text.contains("a job may have been made") && text.contains("--request-id r-1"),
            "{text}"
        );
        let (code, text) = said(Status::deadline_exceeded("too late"));
        assert!(code == 5 && text.contains("a job may have been made"), "{text}");
        let (code, text) = said(Status::already_exists("another request"));
        assert!(code == 1 && text.contains("another --request-id"), "{text}");
        let (code, text) = said(Status::invalid_argument("duration is 5, and m takes 4, 6, 8"));
        assert_eq!((code, text.as_str()), (2, "--duration is 5, and m takes 4, 6, 8"));
    }
}
