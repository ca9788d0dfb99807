//! `talaria watch`: changes of deliveries as they happen.

use super::{
    status::{line, request_filter},
    unmatched,
};
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
    let mut relay = client::connect(&args.ask, config).await?;
    client::knows_tenant(&mut relay, args.filter.tenant.as_deref()).await?;
    let mut request = WatchDeliveriesRequest {
        filter: Some(request_filter(&args.filter)),
        resume_token: String::new(),
        changes_only: !args.snapshot,
    };
    loop {
        let mut hung_up = tonic::Status::unavailable("the relay hung up");
        match relay.watch_deliveries(request.clone()).await {
            Ok(messages) => {
                let mut messages = messages.into_inner();
                loop {
                    match messages.message().await {
                        Ok(Some(message)) => {
                            if !message.token.is_empty() {
                                request.resume_token.clone_from(&message.token);
                            }
                            show(&message, args.ask.json)?;
                        }
                        Ok(None) => break,
                        Err(status) => {
                            hung_up = status;
                            break;
                        }
                    }
                }
            }
            Err(status) => hung_up = status,
        }
        if request.resume_token.is_empty() || !may_come_back(&hung_up) {
            return Err(hung_up.into());
        }
        // Go on behind the last change that was seen.
        tracing::warn!(reason = hung_up.message(), "the relay hung up; asking again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether it stopped or was killed, and not refused: a connection that breaks is `Unknown` or `Internal`.
pub(crate) fn may_come_back(status: &tonic::Status) -> bool {
    use tonic::Code::{Cancelled, Internal, Unavailable, Unknown};
    matches!(status.code(), Cancelled | Internal | Unavailable | Unknown)
}

fn show(message: &WatchDeliveriesResponse, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print::json_line(message)?);
    }
    if message.kind() == WatchKind::SnapshotDone {
        return Ok(print::warn_if_incomplete(message.incomplete)?);
    }
    if let Some(event) = message.event.as_ref().filter(|_| message.kind() == WatchKind::Unmatched) {
        writeln!(anstream::stdout().lock(), "{}", unmatched::line(event))?;
    }
    if let Some(delivery) = &message.delivery {
        writeln!(anstream::stdout().lock(), "{}", line(delivery, message.attempt.as_ref()))?;
        io::stdout().flush()?;
    }
    Ok(())
}
