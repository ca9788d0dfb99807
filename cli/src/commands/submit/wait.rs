//! Follows a job until it has ended, also over restarts of the relay.

use crate::{
    Failure,
    client::{
        JobClient,
        outage::{Outage, is_temporary},
    },
    print::{
        self, DIM, Screen,
        job::{has_ended, state_line},
        wrapped,
    },
};
use jiff::Timestamp;
use std::{io::Write as _, time::Duration};
use talaria_proto::v1::{Job, WatchJobRequest};
use tokio::time::{sleep, timeout};

/// Delay before a lost watch is begun again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The job at its end, or as it was last seen when the time was over, and whether it ended in time. Each change is a line, unless
/// it is silent.
pub(super) async fn until_end(
    relay: &mut JobClient,
    mut job: Job,
    limit: Duration,
    is_silent: bool,
) -> Result<(Job, bool), Failure> {
    let in_time = match timeout(limit, follow(relay, &mut job, is_silent)).await {
        Ok(ended) => ended.map(|()| true)?,
        Err(_) => false,
    };
    Ok((job, in_time))
}

async fn follow(relay: &mut JobClient, job: &mut Job, is_silent: bool) -> Result<(), Failure> {
    let mut outage = Outage::default();
    let mut shown = state_line(job);
    loop {
        let request = WatchJobRequest { job_id: job.id.clone(), tenant: job.tenant.clone() };
        let lost = match relay.watch_job(request).await {
            Ok(messages) => {
                outage.ends()?;
                let mut messages = messages.into_inner();
                loop {
                    match messages.message().await {
                        Ok(Some(message)) => *job = message.job.unwrap_or_default(),
                        Ok(None) => break tonic::Status::unavailable("it hung up"),
                        Err(status) => break status,
                    }
                    let line = state_line(job);
                    if !is_silent && line != shown {
                        let at = print::moment(Timestamp::now());
                        let row = format!("  {DIM}{at}{DIM:#}  {line}");
                        let mut out = anstream::stdout().lock();
                        writeln!(out, "{}", wrapped(&row, Screen::stdout(false)))?;
                        out.flush()?;
                    }
                    shown = line;
                    if has_ended(job.state()) {
                        return Ok(());
                    }
                }
            }
            Err(status) => status,
        };
        if !is_temporary(&lost) {
            return Err(lost.into());
        }
        outage.begins(&lost)?;
        sleep(RETRY_DELAY).await;
    }
}
