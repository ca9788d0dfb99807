//! The lists that span relays.

use super::merge::Page;
use crate::{
    services::{
        access::Caller,
        error::Error,
        local::Local,
        page_token::{self, Position},
        status::request::page_size,
    },
    view::{control::merged, query::DeliveryPosition},
};
use prost::Message;
use talaria_proto::v1::{
    ClusterMethod, ControlAction, Delivery, Event, Job, ListControlActionsRequest, ListDeliveriesRequest,
    ListEventsRequest, ListJobsRequest, ListQuarantinedRequest, ListReplayJobsRequest, ListUnmatchedRequest,
    QuarantinedCallback, ReplayJob, UnmatchedEvent,
};

/// The request of a list that spans relays.
pub(in crate::services) trait ListRequest: Message + Default + Clone + 'static {
    /// The method in the question that is sent to other relays.
    const METHOD: ClusterMethod;
    /// Begins its page tokens, and prevents the use of another list's token.
    const KIND: &'static str;
    type Item: Message + Default;
    type Position: Position;

    /// The tenant whose partition is asked; empty for all partitions.
    fn tenant(&self) -> &str;
    fn page_size(&self) -> u32;
    fn page_token(&mut self) -> &mut String;

    /// This relay's entries below a position.
    fn read(
        self,
        local: &Local,
        caller: &Caller,
        below: Self::Position,
        size: usize,
    ) -> impl Future<Output = Result<Page<Self::Position, Self::Item>, Error>> + Send;

    /// Joins an entry that two relays have at the same position: while a partition moves, both may show it. Keeps the first one,
    /// unless a list's entries have parts.
    fn join(_known: &mut Self::Item, _other: Self::Item) {}

    /// This relay's part of a page: decodes the size and the page token, then calls `read`.
    fn page(
        mut self,
        local: &Local,
        caller: &Caller,
    ) -> impl Future<Output = Result<Page<Self::Position, Self::Item>, Error>> + Send {
        async move {
            let size = page_size(self.page_size())?;
            let below = Self::position(&std::mem::take(self.page_token()))?;
            self.read(local, caller, below, size).await
        }
    }

    /// The page token for the entries below a position.
    fn token(position: &Self::Position) -> String {
        page_token::write(Self::KIND, position)
    }

    /// The position in a page token; the highest one for an empty token.
    fn position(token: &str) -> Result<Self::Position, Error> {
        Ok(page_token::read(Self::KIND, token)?.unwrap_or(Self::Position::TOP))
    }
}

macro_rules! lists {
    ($($request:ident: $method:ident, $kind:literal, $position:ty, $item:ty, $read:ident, $tenant:expr; { $($rest:tt)* })*) => {$(
        impl ListRequest for $request {
            const METHOD: ClusterMethod = ClusterMethod::$method;
            const KIND: &'static str = $kind;
            type Item = $item;
            type Position = $position;

            fn tenant(&self) -> &str {
                let tenant: fn(&Self) -> &str = $tenant;
                tenant(self)
            }

            fn page_size(&self) -> u32 {
                self.page_size
            }

            fn page_token(&mut self) -> &mut String {
                &mut self.page_token
            }

            async fn read(
                self,
                local: &Local,
                caller: &Caller,
                below: $position,
                size: usize,
            ) -> Result<Page<$position, $item>, Error> {
                local.$read(caller, self, below, size).await
            }

            $($rest)*
        }
    )*};
}

// All run from the newest entry to the oldest.
lists! {
    ListEventsRequest: ListEvents, "e", i64, Event, events, |request| request.tenant.as_str(); {}
    ListUnmatchedRequest: ListUnmatched, "u", i64, UnmatchedEvent, unmatched, |request| request.tenant.as_str(); {}
    ListDeliveriesRequest: ListDeliveries, "d", DeliveryPosition, Delivery, deliveries,
        |request| request.filter.as_ref().map_or("", |filter| filter.tenant.as_str()); {}
    ListQuarantinedRequest: ListQuarantined, "q", (i64, String), QuarantinedCallback, quarantined,
        |request| request.tenant.as_str(); {}
    // A replay job may have a part in each partition. All parts began at the same time, so they have the same position.
    ListReplayJobsRequest: ListReplayJobs, "j", (i64, String), ReplayJob, jobs, |_| ""; {
        fn join(known: &mut ReplayJob, other: ReplayJob) {
            *known = merged(std::mem::take(known), other);
        }
    }
    ListJobsRequest: ListJobs, "o", (i64, String), Job, openrouter_jobs, |request| request.tenant.as_str(); {}
    ListControlActionsRequest: ListControlActions, "a", i64, ControlAction, actions, |request| request.tenant.as_str(); {}
}
