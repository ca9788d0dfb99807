//! The types of notices: what Talaria tells a tenant about its own work.

use std::fmt;

/// The prefix of the types of notices. No callback may have such a type.
pub const PREFIX: &str = "talaria.";

/// Whether an event of this type is a notice.
pub fn is_notice(event_type: &str) -> bool {
    event_type.starts_with(PREFIX)
}

/// The kind of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// The breaker shut a route.
    RouteShut,
    /// A route that was shut is open again.
    RouteOpen,
    /// A delivery was parked.
    DeliveryParked,
    /// A job was given up, or its callback did not come.
    JobOverdue,
    /// A signed callback was not an event.
    CallbackQuarantined,
    /// A changed configuration was refused.
    ConfigurationRefused,
}

impl NoticeKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::RouteShut,
        Self::RouteOpen,
        Self::DeliveryParked,
        Self::JobOverdue,
        Self::CallbackQuarantined,
        Self::ConfigurationRefused,
    ];

    /// The type of its events.
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::RouteShut => "talaria.route.shut",
            Self::RouteOpen => "talaria.route.open",
            Self::DeliveryParked => "talaria.delivery.parked",
            Self::JobOverdue => "talaria.job.overdue",
            Self::CallbackQuarantined => "talaria.callback.quarantined",
            Self::ConfigurationRefused => "talaria.configuration.refused",
        }
    }

    /// The kind of events of this type.
    pub fn of(event_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.event_type() == event_type)
    }
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.event_type())
    }
}
