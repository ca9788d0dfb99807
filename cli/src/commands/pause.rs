//! `talaria pause`: stops a route or a tenant.

use crate::{
    Failure,
    args::Pause,
    client,
    print::{self, route::paused},
};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_proto::v1::PauseRequest;

pub(crate) async fn run(config: &Path, args: Pause) -> Result<(), Failure> {
    let request = PauseRequest {
        tenant: args.target.tenant.clone(),
        route: args.target.route.clone(),
        requested_by: client::user_name(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
        // The relay refuses a duration that does not fit the message, as it refuses every one that is too long.
        duration: args.duration.map(|duration| {
            let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
            duration.try_into().unwrap_or(longest)
        }),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = client::change(relay.pause(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let paused = paused(&answer.pause.unwrap_or_default());
    let before = if args.duration.is_some() { " before that" } else { "" };
    Ok(writeln!(io::stdout(), "{0} is {paused}.\ntalaria resume {0} lets it go on{before}.", args.target)?)
}
