//! `talaria watch`: shows changes of deliveries as they happen.

use crate::{
    Failure,
    args::{Filter, LastAttempt, Watch},
    client::{
        self, ids,
        outage::{Outage, is_temporary},
    },
    print::{self, Screen, changes::Changes, one_line},
};
use jiff::Timestamp;
use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};
use talaria_proto::v1::{DeliveryFilter, WatchDeliveriesRequest, WatchDeliveriesResponse, WatchKind};

/// Delay before a lost watch is resumed.
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(crate) async fn run(config: &Path, mut args: Watch) -> Result<(), Failure> {
    args.filter = args.filter.with_tenant_of_route()?;
    let mut relay = client::status(&args.ask, config).await?;
    client::check_tenant(&mut relay, args.filter.tenant.as_deref()).await?;
    ids::restrict_to_job(&mut relay, &args.ask, config, &mut args.filter).await?;
    let mut request = WatchDeliveriesRequest {
        filter: Some(DeliveryFilter::from(&args.filter)),
        resume_token: String::new(),
        changes_only: !args.snapshot,
    };
    let mut lines = if args.ask.json { None } else { Some(Changes::new(Screen::stdout(args.wide))) };
    let mut outage = Outage::default();
    let mut is_first = true;
    loop {
        let mut hung_up = tonic::Status::unavailable("it hung up");
        match relay.watch_deliveries(request.clone()).await {
            Ok(messages) => {
                outage.ends()?;
                if let Some(changes) = lines.as_ref().filter(|_| is_first) {
                    let mut out = anstream::stdout().lock();
                    writeln!(out, "{}\n{}", title(&args.filter, args.snapshot), changes.heads())?;
                    out.flush()?;
                }
                is_first = false;
                let mut messages = messages.into_inner();
                loop {
                    match messages.message().await {
                        Ok(Some(message)) => {
                            if !message.token.is_empty() {
                                request.resume_token.clone_from(&message.token);
                            }
                            match &mut lines {
                                Some(changes) => show(changes, &message)?,
                                None => print::json_line(&message)?,
                            }
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
        if request.resume_token.is_empty() || !is_temporary(&hung_up) {
            return Err(hung_up.into());
        }
        // Resumes behind the last change that was shown.
        outage.begins(&hung_up)?;
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// "Watching deliveries of tenant acme in state parked: the present ones and every change. Ctrl-C ends it."
fn title(filter: &Filter, snapshot: bool) -> String {
    let Filter { tenant, route, job, state, since, until, event_type, model, last } = filter;
    let LastAttempt { outcome, http, why, run } = last;
    let mut words = vec!["Watching deliveries".to_owned()];
    for (kind, name) in [
        ("of tenant", tenant),
        ("to route", route),
        ("of job", job),
        ("of type", event_type),
        ("of model", model),
    ] {
        words.extend(name.as_ref().map(|name| format!("{kind} {}", one_line(name))));
    }
    let states: Vec<&str> = state.iter().map(|state| state.name()).collect();
    if !states.is_empty() {
        words.push(format!("in state {}", states.join(" or ")));
    }
    let outcomes: Vec<&str> = outcome.iter().map(|outcome| outcome.name()).collect();
    if !outcomes.is_empty() {
        words.push(format!("with the outcome {}", outcomes.join(" or ")));
    }
    if !http.is_empty() {
        words.push(format!("answered {}", one_line(&http.join(" or "))));
    }
    words.extend(why.as_ref().map(|why| format!("with the reason {:?}", one_line(why))));
    let runs: Vec<&str> = run.iter().map(|outcome| outcome.name()).collect();
    if !runs.is_empty() {
        words.push(format!("with the run {}", runs.join(" or ")));
    }
    for (bound, time) in [("since", since), ("before", until)] {
        words.extend(time.map(|time| format!("received {bound} {}", print::moment(time))));
    }
    let from = if snapshot { "the present ones and every change" } else { "every change from now on" };
    format!("{}: {from}. Ctrl-C ends it.", words.join(" "))
}

fn show(changes: &mut Changes, message: &WatchDeliveriesResponse) -> Result<(), Failure> {
    if message.kind() == WatchKind::SnapshotDone {
        return Ok(print::warn_if_incomplete(message.incomplete)?);
    }
    if let Some(event) = message.event.as_ref().filter(|_| message.kind() == WatchKind::Unmatched) {
        writeln!(anstream::stdout().lock(), "{}", changes.unmatched(event))?;
        io::stdout().flush()?;
    }
    if let Some(delivery) = &message.delivery {
        let line = changes.line(delivery, message.attempt.as_ref(), Timestamp::now());
        writeln!(anstream::stdout().lock(), "{line}")?;
        io::stdout().flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::{AttemptOutcome, DeliveryState, RunOutcome};

    #[test]
    fn the_first_line_names_the_filter() {
        assert_eq!(
            title(&Filter::default(), false),
            "Watching deliveries: every change from now on. Ctrl-C ends it."
        );
        let filter = Filter {
            event_type: Some("video.*".into()),
            last: LastAttempt {
                outcome: vec![AttemptOutcome::Failed],
                http: vec!["503".into(), "4xx".into()],
                why: Some("no \"x\"".into()),
                run: vec![RunOutcome::Failed],
            },
            ..Filter::default()
        };
        assert_eq!(
            title(&filter, false),
            "Watching deliveries of type video.* with the outcome failed answered 503 or 4xx with the reason \"no \\\"x\\\"\" \
             with the run failed: every change from now on. Ctrl-C ends it."
        );
        let filter = Filter {
            tenant: Some("acme".into()),
            route: Some("video".into()),
            state: vec![DeliveryState::Parked, DeliveryState::Ambiguous],
            since: Some(Timestamp::UNIX_EPOCH),
            ..Filter::default()
        };
        assert_eq!(
            title(&filter, true),
            "Watching deliveries of tenant acme to route video in state parked or ambiguous received since 1970-01-01 \
             00:00:00Z: the present ones and every change. Ctrl-C ends it."
        );
    }
}
