//! Follows the journal with the view.

use crate::view::View;
use std::time::Duration;
use talaria_bus::{Bus, Clock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many facts are folded in one go.
const BATCH: usize = 1000;

/// So many facts at once mean that more are coming.
const MANY: usize = 16;

/// How long more facts are waited for when there were many. Neighbours change the same pages of the view, and a page
/// that is written once for all of them is cheaper. Whoever looks at the status sees it so much later.
const GATHERING: Duration = Duration::from_millis(20);

/// How long to wait for a bus or a disk that does not work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Works until it is told to stop.
pub(crate) async fn run(bus: Bus, view: View, clock: Clock, stop: CancellationToken) {
    let mut position = *view.position().borrow();
    let work = async {
        loop {
            let folded = match bus.journal(position, BATCH).await {
                Ok(facts) => {
                    let (count, through) = (facts.facts.len(), facts.through);
                    view.apply(facts).await.map(|()| (count, through)).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match folded {
                Ok((count, through)) => {
                    position = through;
                    // A full batch means that we are behind.
                    if (MANY..BATCH).contains(&count) {
                        tokio::time::sleep(GATHERING).await;
                    }
                }
                Err(error) => {
                    tracing::error!(error, "the status view cannot follow the journal");
                    clock.sleep(PATIENCE).await;
                }
            }
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}

/// Returns once the view has come to this place.
pub(crate) async fn caught_up(mut position: watch::Receiver<u64>, place: u64) {
    // The view outlives whoever waits for it.
    let _ = position.wait_for(|position| *position >= place).await;
}
