//! `talaria watch`: changes of deliveries as they happen.

use super::status::{line, request_filter};
use crate::{Failure, args::Watch, client, print};
use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};
use talaria_proto::v1::{WatchDeliveriesRequest, WatchDeliveriesResponse, WatchKind};

/// How long to wait before asking a relay again that hung up.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(config: &Path, args: Watch) -> Result<(), Failure> {
    let mut relay = client::connect(args.ask.relay.as_ref(), config).await?;
    let mut request = WatchDeliveriesRequest {
        filter: Some(request_filter(&args.filter)),
        resume_token: String::new(),
        changes_only: !args.snapshot,
    };
    loop {
        let watched = async {
            let mut messages = relay.watch_deliveries(request.clone()).await?.into_inner();
            while let Some(message) = messages.message().await? {
                if !message.token.is_empty() {
                    request.resume_token.clone_from(&message.token);
                }
                show(&message, args.ask.json)?;
            }
            Ok::<_, Failure>(())
        };
        match watched.await {
            // It stopped, or is being restarted: go on behind the last change that was seen.
            Ok(()) | Err(Failure::Unreachable(_)) if !request.resume_token.is_empty() => {
                tracing::warn!("the relay hung up; asking again");
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

fn show(message: &WatchDeliveriesResponse, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print::json_line(message)?);
    }
    if message.kind() == WatchKind::SnapshotDone {
        return Ok(());
    }
    if let Some(delivery) = &message.delivery {
        writeln!(anstream::stdout().lock(), "{}", line(delivery, message.attempt.as_ref()))?;
        io::stdout().flush()?;
    }
    Ok(())
}
