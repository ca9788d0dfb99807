//! An operator's probe of a shut route.

use crate::decisions::{
    audit::{AuditInfo, record},
    conclude::{Conclusion, reschedule},
};
use jiff::Timestamp;
use talaria_proto::v1::{ControlKind, DeliveryTask, Record, record::What};
use thiserror::Error;

/// Why a route is not probed. The texts continue a sentence that begins with the route's name.
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

/// The record of the operator's action.
pub(crate) fn acted(audit: &AuditInfo, now: Timestamp, tenant: &str, route: &str) -> Record {
    record(now, What::Acted(audit.action(now, ControlKind::Probed, tenant, route)))
}

/// Makes a waiting delivery due now, so that it probes.
pub(crate) fn made_due(task: &DeliveryTask, audit: &AuditInfo, now: Timestamp) -> Conclusion {
    reschedule(task, now, now, audit.describe("probes the shut route, asked"), false)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let audit = AuditInfo { by: "ana".into(), reason: "mended".into(), ..AuditInfo::default() };
        let made = made_due(&task, &audit, now);
        let next = made.task.unwrap();
        assert_eq!((next.generation, next.counted_attempts, next.step), (2, 3, 5));
        assert_eq!((next.due_at, next.slot_reserved), (Some(to_proto(now)), false));
        assert_eq!(made.status.reason, "probes the shut route, asked by ana: mended");
    }
}
