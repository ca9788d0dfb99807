//! A job until its end. The job is looked at again and again: it changes a few times in minutes, and its partition may move.

use super::{LOOK_INTERVAL, own::for_clients};
use crate::{
    decisions::job::{files, is_open},
    services::{access::Pass, cluster::Cluster, error::Error},
};
use talaria_proto::v1::{GetJobRequest, Job, WatchJobRequest, WatchJobResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

type Message = Result<WatchJobResponse, Status>;

pub(super) async fn watch(
    cluster: Cluster,
    pass: Pass,
    request: WatchJobRequest,
    stop: CancellationToken,
) -> Result<ReceiverStream<Message>, Error> {
    let asked = GetJobRequest { job_id: request.job_id, tenant: request.tenant };
    let job = cluster.openrouter_job(pass.caller(), asked).await?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = follow(&cluster, &pass, job, &sender) => ended,
            () = pass.clone().revoked() => Err(Error::Revoked),
            () = stop.cancelled() => Err(Error::Stopping),
        };
        if let Err(error) = ended {
            // The reader may have gone.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Returns when the job has ended and its files are kept or given up, or the reader has gone.
async fn follow(
    cluster: &Cluster,
    pass: &Pass,
    mut job: Job,
    sender: &mpsc::Sender<Message>,
) -> Result<(), Error> {
    let asked = GetJobRequest { job_id: job.id.clone(), tenant: job.tenant.clone() };
    let mut shown = None;
    loop {
        let is_over = !is_open(&job) && files::due(&job).is_none();
        if shown.as_ref() != Some(&job) {
            let response = WatchJobResponse { job: Some(for_clients(job.clone())) };
            if sender.send(Ok(response)).await.is_err() {
                return Ok(());
            }
            shown = Some(job.clone());
        }
        if is_over {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = sender.closed() => return Ok(()),
        }
        match cluster.openrouter_job(pass.caller(), asked.clone()).await {
            Ok(now) => job = now,
            Err(error) if error.is_not_found() => return Err(error),
            // Its partition moves, or its owner does not answer at the moment.
            Err(_) => {}
        }
    }
}
