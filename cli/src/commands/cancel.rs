//! `talaria cancel`: cancels a waiting delivery.

use crate::{
    Failure,
    args::Cancel,
    client::{self, ids},
    print::{self, delivery::delivery_line},
};
use std::{io::Write as _, path::Path};
use talaria_proto::v1::CancelDeliveryRequest;

pub(crate) async fn run(config: &Path, args: Cancel) -> Result<(), Failure> {
    // The relay refuses ids of other kinds.
    let delivery_id = match args.id {
        id if id.starts_with("dlv_") => ids::complete_at(&args.ask, config, &id).await?,
        id => id,
    };
    let request = CancelDeliveryRequest {
        delivery_id,
        requested_by: client::user_name(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = client::change(relay.cancel_delivery(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    Ok(writeln!(anstream::stdout(), "{}", delivery_line(&answer.delivery.unwrap_or_default()))?)
}
