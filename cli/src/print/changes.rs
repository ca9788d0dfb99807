//! Changes of deliveries, a line each.

use super::{
    ALERT, Cell, Column, DIM, Rows, Screen,
    delivery::{attempt_line, why},
    time,
};
use jiff::Timestamp;
use talaria_proto::{
    time::from_proto,
    v1::{Attempt, Delivery, Event},
};

const COLUMNS: [Column; 6] = [
    Column::new("CHANGED"),
    Column::new("STATE"),
    Column::new("ROUTE").at_least(10),
    Column::new("TYPE").rank(1).at_least(10).keeps_end(),
    Column::new("JOB").rank(2).at_least(8),
    Column::new("WHAT").at_least(20).grows_last(),
];

/// The first widths: a time, a state, a route, and OpenRouter's longest type.
const FIRST_WIDTHS: [usize; 6] = [20, 9, 10, 26, 12, 0];

/// Lines with common columns.
pub(crate) struct Changes(Rows<6>);

impl Changes {
    pub(crate) fn new(screen: Screen) -> Self {
        Self(Rows::new(COLUMNS, FIRST_WIDTHS, screen))
    }

    pub(crate) fn heads(&self) -> String {
        self.0.heads()
    }

    /// A delivery after a change, and the attempt that caused it.
    pub(crate) fn line(&mut self, delivery: &Delivery, attempt: Option<&Attempt>, now: Timestamp) -> String {
        let what = match attempt {
            Some(attempt) => format!("attempt {}: {}", attempt.number, attempt_line(attempt)),
            None => why(delivery),
        };
        let next = match &delivery.next_attempt_at {
            Some(next) if from_proto(Some(next)) > now => format!(", next at {}", time(Some(next))),
            _ => String::new(),
        };
        self.0.row([
            Cell::styled(time(delivery.updated_at.as_ref()), DIM),
            Cell::state(delivery.state()),
            Cell::from(format!("{}/{}", delivery.tenant, delivery.route)),
            Cell::from(&delivery.event_type),
            Cell::from(&delivery.job_id),
            Cell::from(format!("{what}{next}")),
        ])
    }

    /// An event that no route takes.
    pub(crate) fn unmatched(&mut self, event: &Event) -> String {
        self.0.row([
            Cell::styled(time(event.received_at.as_ref()), DIM),
            Cell::styled("UNMATCHED", ALERT),
            Cell::from(&event.tenant),
            Cell::from(&event.r#type),
            Cell::from(&event.job_id),
            Cell::from(format!("no route takes it ({})", event.id)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::{time::to_proto, v1::DeliveryState};

    #[test]
    fn changes_have_common_columns_that_fit_the_terminal() {
        let now = Timestamp::from_second(1_777_032_000).unwrap();
        let mut delivery = Delivery {
            tenant: "me".into(),
            route: "video".into(),
            event_type: "video.generation.completed".into(),
            job_id: "job\n7".into(),
            state: DeliveryState::Waiting.into(),
            updated_at: Some(to_proto(now)),
            next_attempt_at: Some(to_proto(now + jiff::SignedDuration::from_secs(5))),
            reason: "500: it has no room for anything at the moment".into(),
            ..Delivery::default()
        };
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        let mut changes = Changes::new(Screen { width: None });
        assert_eq!(
            plain(changes.heads()),
            "CHANGED               STATE      ROUTE       TYPE                        JOB           WHAT"
        );
        assert_eq!(
            plain(changes.line(&delivery, None, now)),
            "2026-04-24 12:00:00Z  WAITING    me/video    video.generation.completed  job\\n7        500: it has no room \
             for anything at the moment, next at 2026-04-24 12:00:05Z"
        );
        let mut narrow = Changes::new(Screen { width: Some(80) });
        assert_eq!(plain(narrow.heads()), "CHANGED               STATE      ROUTE       TYPE           WHAT");
        delivery.set_state(DeliveryState::Delivered);
        delivery.next_attempt_at = None;
        assert_eq!(
            plain(narrow.line(&delivery, None, now)),
            "2026-04-24 12:00:00Z  DELIVERED  me/video    …on.completed  500: it has no room…"
        );
        let mut narrower = Changes::new(Screen { width: Some(60) });
        assert_eq!(
            plain(narrower.line(&delivery, None, now)),
            "2026-04-24 12:00:00Z  DELIVERED  me/video    500: it has no…"
        );
    }

    #[test]
    fn an_unmatched_event_is_a_line_without_control_characters() {
        let event = Event {
            id: "evt_x".into(),
            tenant: "acme".into(),
            job_id: "job\u{1b}[2J".into(),
            r#type: "image.done".into(),
            received_at: Some(to_proto(Timestamp::from_second(1_777_032_000).unwrap())),
            ..Event::default()
        };
        let said = Changes::new(Screen { width: None }).unmatched(&event);
        let said = anstream::adapter::strip_str(&said).to_string();
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words[..5], ["2026-04-24", "12:00:00Z", "UNMATCHED", "acme", "image.done"]);
        assert_eq!(words[5..].join(" "), "job\\u{1b}[2J no route takes it (evt_x)");
    }
}
