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
    ClusterMethod, ControlAction, Delivery, Event, ListControlActionsRequest, ListDeliveriesRequest,
    ListEventsRequest, ListQuarantinedRequest, ListReplayJobsRequest, ListUnmatchedRequest,
    QuarantinedCallback, ReplayJob, UnmatchedEvent,
};

/// The request of a list that spans relays.
pub(in crate::services) trait List: Message + Default + Clone + 'static {
    /// The method by which other relays are asked.
    const METHOD: ClusterMethod;
    /// The kind of its page tokens.
    const KIND: &'static str;
    type Item: Message + Default;
    type Position: Position;

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

    /// Joins an entry that two relays have at the same position: while a partition moves, both may show it.
    fn join(_known: &mut Self::Item, _other: Self::Item) {}

    /// This relay's part of a page.
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

    fn token(position: &Self::Position) -> String {
        page_token::write(Self::KIND, position)
    }

    /// The position in a page token; the highest one for an empty token.
    fn position(token: &str) -> Result<Self::Position, Error> {
        Ok(page_token::read(Self::KIND, token)?.unwrap_or(Self::Position::TOP))
    }
}

macro_rules! lists {
    ($($request:ident: $method:ident, $kind:literal, $position:ty, $item:ty, $read:ident { $($rest:tt)* })*) => {$(
        impl List for $request {
            const METHOD: ClusterMethod = ClusterMethod::$method;
            const KIND: &'static str = $kind;
            type Item = $item;
            type Position = $position;

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
    ListEventsRequest: ListEvents, "e", i64, Event, events {
        fn tenant(&self) -> &str {
            &self.tenant
        }
    }
    ListUnmatchedRequest: ListUnmatched, "u", i64, UnmatchedEvent, unmatched {
        fn tenant(&self) -> &str {
            &self.tenant
        }
    }
    ListDeliveriesRequest: ListDeliveries, "d", DeliveryPosition, Delivery, deliveries {
        fn tenant(&self) -> &str {
            self.filter.as_ref().map_or("", |filter| &filter.tenant)
        }
    }
    ListQuarantinedRequest: ListQuarantined, "q", (i64, String), QuarantinedCallback, quarantined {
        fn tenant(&self) -> &str {
            &self.tenant
        }
    }
    // The parts of a job began at the same time, so they have the same position.
    ListReplayJobsRequest: ListReplayJobs, "j", (i64, String), ReplayJob, jobs {
        fn tenant(&self) -> &'static str {
            ""
        }

        fn join(known: &mut ReplayJob, other: ReplayJob) {
            *known = merged(std::mem::take(known), other);
        }
    }
    ListControlActionsRequest: ListControlActions, "a", i64, ControlAction, actions {
        fn tenant(&self) -> &str {
            &self.tenant
        }
    }
}
