//! `talaria stop-job`: stops waiting for a job.

use crate::{
    Failure,
    args::StopJob,
    client::{self, ids},
    print::{self, Screen, job::show},
};
use std::{io::Write as _, path::Path};
use talaria_proto::v1::StopJobRequest;

pub(crate) async fn run(config: &Path, args: StopJob) -> Result<(), Failure> {
    let job_id = ids::submitted_job_at(&args.ask, config, &args.id, args.tenant.as_deref()).await?;
    let mut relay = client::jobs(&args.ask, config).await?;
    let request = StopJobRequest {
        job_id,
        tenant: args.tenant.unwrap_or_default(),
        requested_by: client::user_name(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
    };
    let if_lost = "it may still be done, and `talaria status JOB` shows whether it was";
    let answer = client::change_or(relay.stop_job(request), if_lost).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let mut out = anstream::stdout().lock();
    show(&mut out, &answer.job.unwrap_or_default(), Screen::stdout(false))?;
    Ok(writeln!(out, "OpenRouter cannot cancel a job: it goes on there, and its cost stays.")?)
}
