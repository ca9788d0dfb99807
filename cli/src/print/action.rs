//! An operator's action, in one line.

use super::one_line;
use talaria_proto::v1::{ControlAction, ControlKind};
use talaria_relay::who;

/// The verb of an action: "paused".
pub(crate) fn verb(kind: ControlKind) -> &'static str {
    match kind {
        ControlKind::Paused => "paused",
        ControlKind::Resumed => "resumed",
        ControlKind::Cancelled | ControlKind::ReplayJobCancelled => "cancelled",
        ControlKind::Replayed => "replayed",
        ControlKind::ReplayJobStarted => "began to replay",
        ControlKind::Probed => "probed",
        ControlKind::JobSubmitted => "submitted",
        ControlKind::JobTracked => "tracked",
        ControlKind::JobStopped => "stopped waiting for",
        ControlKind::Unspecified => "did",
    }
}

/// "replayed by ana (rpl_1): mended": an action on a delivery.
pub(crate) fn line(action: &ControlAction) -> String {
    let job =
        if action.replay_job_id.is_empty() { String::new() } else { format!(" ({})", action.replay_job_id) };
    let reason =
        if action.reason.is_empty() { String::new() } else { format!(": {}", one_line(&action.reason)) };
    let operator = one_line(&who(&action.requested_by, &action.token_name));
    format!("{} by {operator}{job}{reason}", verb(action.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_names_its_operator_its_job_and_its_reason() {
        let action = ControlAction {
            kind: ControlKind::Replayed.into(),
            requested_by: "ana".into(),
            reason: "mended".into(),
            replay_job_id: "rpl_1".into(),
            ..ControlAction::default()
        };
        assert_eq!(line(&action), "replayed by ana (rpl_1): mended");
        let verified = ControlAction { token_name: "ops".into(), replay_job_id: String::new(), ..action };
        assert_eq!(line(&verified), "replayed by ana with token ops: mended");
    }
}
