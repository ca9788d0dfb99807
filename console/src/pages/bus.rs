//! Whether the bus answers. Without it, pages show what the relay has read before.

use super::visitor::Visitor;
use maud::{Markup, html};
use std::{sync::Arc, time::Duration};
use talaria_relay::Api;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// For how long an answer counts, so that many open pages ask no more than one does.
const FRESH: Duration = Duration::from_secs(3);

const TIMEOUT: Duration = Duration::from_secs(1);

/// The last answer. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Bus(Arc<Mutex<Option<Checked>>>);

struct Checked {
    at: Instant,
    fault: Option<String>,
}

impl Bus {
    /// Why the bus cannot be used.
    pub(super) async fn fault(&self, api: &Api) -> Option<String> {
        let mut last = self.0.lock().await;
        if let Some(checked) = last.as_ref().filter(|checked| checked.at.elapsed() < FRESH) {
            return checked.fault.clone();
        }
        let checked = timeout(TIMEOUT, api.check_bus()).await;
        let fault = checked.unwrap_or_else(|_| Err("it does not answer".to_owned())).err();
        *last = Some(Checked { at: Instant::now(), fault: fault.clone() });
        fault
    }
}

/// What every page says at its top while the bus cannot be used.
pub(super) async fn warning(visitor: &Visitor) -> Markup {
    let fault = visitor.bus_fault().await;
    html! {
        div data-live id="bus" {
            @if let Some(fault) = fault {
                p.fault role="status" {
                    "The bus cannot be used. This page shows how things were before; callbacks are not taken. "
                    @if visitor.sees_all() { (super::parts::text(&fault)) }
                }
            }
        }
    }
}
