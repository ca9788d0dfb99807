//! An operator has a shut route probed now, instead of when its pause is over.

use crate::decisions::{
    conclude::{Conclusion, put_off},
    replay::{Wish, record},
};
use talaria_proto::v1::{ControlKind, DeliveryTask, Record, record::What};
use thiserror::Error;

/// Why a route is not probed. Reads on behind the route's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoProbe {
    #[error("is not shut: it is open for deliveries already")]
    Open,
    #[error("is not configured any more, so nothing can be sent to it")]
    NotConfigured,
    #[error("is shut, and paused too: resume it first, and probe it then")]
    Paused,
    #[error(
        "is shut, and nothing waits that could probe it: the next delivery does, or `talaria replay` sends one again"
    )]
    NothingWaits,
    #[error("is being probed already")]
    UnderWay,
}

/// What is journalled of who asked for a probe.
pub(crate) fn acted(wish: Wish<'_>, tenant: &str, route: &str) -> Record {
    record(wish.now, What::Acted(wish.action(ControlKind::Probed, tenant, route)))
}

/// The delivery that probes, where none is due: due now, with the id that it has.
pub(crate) fn made_due(task: &DeliveryTask, wish: Wish<'_>) -> Conclusion {
    put_off(task, wish.now, wish.now, wish.told("probes the shut route, asked"), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use talaria_proto::time::to_proto;

    #[test]
    fn the_delivery_that_probes_keeps_its_id_and_is_due_now() {
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let task = DeliveryTask {
            delivery_id: "dlv_x".into(),
            generation: 2,
            counted_attempts: 3,
            slot_reserved: true,
            step: 4,
            ..DeliveryTask::default()
        };
        let wish = Wish { now, by: "ana", token: "", reason: "mended", job: "" };
        let made = made_due(&task, wish);
        let next = made.task().cloned().unwrap();
        assert_eq!((next.generation, next.counted_attempts, next.step), (2, 3, 5));
        assert_eq!((next.due_at, next.slot_reserved), (Some(to_proto(now)), false));
        assert_eq!(made.status().unwrap().reason, "probes the shut route, asked by ana: mended");
    }
}
