//! `talaria watch`: changes of deliveries as they happen.

use super::{
    changes::Changes,
    outage::{Outage, may_come_back},
    status::request_filter,
};
use crate::{
    Failure,
    args::{Filter, State, Watch},
    client,
    print::{self, Screen, one_line},
};
use clap::ValueEnum as _;
use jiff::Timestamp;
use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};
use talaria_proto::v1::{WatchDeliveriesRequest, WatchDeliveriesResponse, WatchKind};

/// How long to wait before asking a relay again that hung up.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(config: &Path, mut args: Watch) -> Result<(), Failure> {
    args.filter = args.filter.with_tenant_of_route()?;
    let mut relay = client::connect(&args.ask, config).await?;
    client::knows_tenant(&mut relay, args.filter.tenant.as_deref()).await?;
    let mut request = WatchDeliveriesRequest {
        filter: Some(request_filter(&args.filter)),
        resume_token: String::new(),
        changes_only: !args.snapshot,
    };
    let mut shown = if args.ask.json { None } else { Some(Changes::new(Screen::stdout(args.wide))) };
    let mut outage = Outage::default();
    let mut is_first = true;
    loop {
        let mut hung_up = tonic::Status::unavailable("it hung up");
        match relay.watch_deliveries(request.clone()).await {
            Ok(messages) => {
                outage.ends()?;
                if let Some(changes) = shown.as_ref().filter(|_| is_first) {
                    let mut out = anstream::stdout().lock();
                    writeln!(out, "{}\n{}", watched(&args.filter, args.snapshot), changes.heads())?;
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
                            match &mut shown {
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
        if request.resume_token.is_empty() || !may_come_back(&hung_up) {
            return Err(hung_up.into());
        }
        // Go on behind the last change that was seen.
        outage.begins(&hung_up)?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// "Watching deliveries of tenant acme in state parked, what is now and every change; Ctrl-C ends it."
fn watched(filter: &Filter, snapshot: bool) -> String {
    let Filter { tenant, route, job, state, since, until } = filter;
    let mut words = vec!["Watching deliveries".to_owned()];
    for (what, name) in [("of tenant", tenant), ("to route", route), ("of job", job)] {
        words.extend(name.as_ref().map(|name| format!("{what} {}", one_line(name))));
    }
    let name = |state: &State| state.to_possible_value().map(|value| value.get_name().to_owned());
    let states: Vec<String> = state.iter().filter_map(name).collect();
    if !states.is_empty() {
        words.push(format!("in state {}", states.join(" or ")));
    }
    for (what, time) in [("since", since), ("before", until)] {
        words.extend(time.map(|time| format!("received {what} {}", print::moment(time))));
    }
    let from = if snapshot { "what is now and every change" } else { "every change from now on" };
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

    #[test]
    fn the_first_line_says_what_is_watched() {
        assert_eq!(
            watched(&Filter::default(), false),
            "Watching deliveries: every change from now on. Ctrl-C ends it."
        );
        let filter = Filter {
            tenant: Some("acme".into()),
            route: Some("video".into()),
            state: vec![State::Parked, State::Ambiguous],
            since: Some(Timestamp::UNIX_EPOCH),
            ..Filter::default()
        };
        assert_eq!(
            watched(&filter, true),
            "Watching deliveries of tenant acme to route video in state parked or ambiguous received since 1970-01-01 \
             00:00:00Z: what is now and every change. Ctrl-C ends it."
        );
    }
}
