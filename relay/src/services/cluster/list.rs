//! The lists that span relays: what is asked, and in which order the entries stand.

use super::merge::Page;
use crate::{
    services::{access::Caller, error::Error, local::Local, status::request},
    view::{control::merged, query::Place},
};
use prost::Message;
use talaria_proto::v1::{
    ClusterMethod, ControlAction, Delivery, Event, ListControlActionsRequest, ListDeliveriesRequest,
    ListEventsRequest, ListQuarantinedRequest, ListReplayJobsRequest, ListUnmatchedRequest,
    QuarantinedCallback, ReplayJob, UnmatchedEvent,
};
use tonic::Status;

/// A list that spans relays.
pub(in crate::services) trait List: 'static {
    /// How other relays are asked for their part.
    const METHOD: ClusterMethod;
    /// What a client asks.
    type Request: Message + Default + Clone;
    /// What is listed.
    type Item: Message + Default;
    /// Where it stands: lists run from the highest position down.
    type Position: Ord + Clone + Send;

    /// A position as page tokens have it.
    fn token(position: &Self::Position) -> String;
    /// The position in a page token; the highest one for an empty token.
    fn position(token: &str) -> Result<Self::Position, Status>;
    /// The tenant that is named.
    fn tenant(request: &Self::Request) -> &str;
    /// How many entries are asked for.
    fn page_size(request: &Self::Request) -> u32;
    /// Asks for what comes below a position.
    fn go_on(request: &mut Self::Request, below: &Self::Position);
    /// This relay's part of a page.
    fn page(
        local: &Local,
        caller: &Caller,
        request: Self::Request,
    ) -> impl Future<Output = Result<Page<Self::Position, Self::Item>, Error>> + Send;
    /// What to do with an entry that two relays have at the same position: while a partition goes from one to the other both
    /// may show it.
    fn join(_known: &mut Self::Item, _other: Self::Item) {}
}

/// What all lists have in common.
macro_rules! paged {
    ($request:ty) => {
        type Request = $request;

        fn page_size(request: &Self::Request) -> u32 {
            request.page_size
        }

        fn go_on(request: &mut Self::Request, below: &Self::Position) {
            request.page_token = Self::token(below);
        }
    };
}

/// Events, newest first.
pub(in crate::services) struct Events;

impl List for Events {
    paged!(ListEventsRequest);
    const METHOD: ClusterMethod = ClusterMethod::ListEvents;
    type Item = Event;
    type Position = i64;

    fn token(position: &i64) -> String {
        request::event_token(*position)
    }

    fn position(token: &str) -> Result<i64, Status> {
        request::event_page(token)
    }

    fn tenant(request: &ListEventsRequest) -> &str {
        &request.tenant
    }

    async fn page(
        local: &Local,
        caller: &Caller,
        request: ListEventsRequest,
    ) -> Result<Page<i64, Event>, Error> {
        local.events(caller, request).await
    }
}

/// Events that no route took, newest first.
pub(in crate::services) struct Unmatched;

impl List for Unmatched {
    paged!(ListUnmatchedRequest);
    const METHOD: ClusterMethod = ClusterMethod::ListUnmatched;
    type Item = UnmatchedEvent;
    type Position = i64;

    fn token(position: &i64) -> String {
        request::unmatched_token(*position)
    }

    fn position(token: &str) -> Result<i64, Status> {
        request::unmatched_page(token)
    }

    fn tenant(request: &ListUnmatchedRequest) -> &str {
        &request.tenant
    }

    async fn page(
        local: &Local,
        caller: &Caller,
        request: ListUnmatchedRequest,
    ) -> Result<Page<i64, UnmatchedEvent>, Error> {
        local.unmatched(caller, request).await
    }
}

/// Deliveries, newest first.
pub(in crate::services) struct Deliveries;

impl List for Deliveries {
    paged!(ListDeliveriesRequest);
    const METHOD: ClusterMethod = ClusterMethod::ListDeliveries;
    type Item = Delivery;
    type Position = Place;

    fn token(position: &Place) -> String {
        request::delivery_token(*position)
    }

    fn position(token: &str) -> Result<Place, Status> {
        request::delivery_page(token)
    }

    fn tenant(request: &ListDeliveriesRequest) -> &str {
        request.filter.as_ref().map_or("", |filter| &filter.tenant)
    }

    async fn page(
        local: &Local,
        caller: &Caller,
        request: ListDeliveriesRequest,
    ) -> Result<Page<Place, Delivery>, Error> {
        local.deliveries(caller, request).await
    }
}

/// Quarantined callbacks, newest first.
pub(in crate::services) struct Quarantined;

impl List for Quarantined {
    paged!(ListQuarantinedRequest);
    const METHOD: ClusterMethod = ClusterMethod::ListQuarantined;
    type Item = QuarantinedCallback;
    type Position = (i64, String);

    fn token(position: &(i64, String)) -> String {
        request::quarantine_token(position)
    }

    fn position(token: &str) -> Result<(i64, String), Status> {
        request::quarantine_page(token)
    }

    fn tenant(request: &ListQuarantinedRequest) -> &str {
        &request.tenant
    }

    async fn page(
        local: &Local,
        caller: &Caller,
        request: ListQuarantinedRequest,
    ) -> Result<Page<(i64, String), QuarantinedCallback>, Error> {
        local.quarantined(caller, request).await
    }
}

/// Replay jobs, newest first. Their parts began at the same time, so that they stand at the same position.
pub(in crate::services) struct Jobs;

impl List for Jobs {
    paged!(ListReplayJobsRequest);
    const METHOD: ClusterMethod = ClusterMethod::ListReplayJobs;
    type Item = ReplayJob;
    type Position = (i64, String);

    fn token(position: &(i64, String)) -> String {
        request::job_token(position)
    }

    fn position(token: &str) -> Result<(i64, String), Status> {
        request::job_page(token)
    }

    fn tenant(_request: &ListReplayJobsRequest) -> &'static str {
        ""
    }

    async fn page(
        local: &Local,
        caller: &Caller,
        request: ListReplayJobsRequest,
    ) -> Result<Page<(i64, String), ReplayJob>, Error> {
        local.jobs(caller, request).await
    }

    fn join(known: &mut ReplayJob, other: ReplayJob) {
        *known = merged(std::mem::take(known), other);
    }
}

/// What operators did, newest first.
pub(in crate::services) struct Actions;

impl List for Actions {
    paged!(ListControlActionsRequest);
    const METHOD: ClusterMethod = ClusterMethod::ListControlActions;
    type Item = ControlAction;
    type Position = i64;

    fn token(position: &i64) -> String {
        request::action_token(*position)
    }

    fn position(token: &str) -> Result<i64, Status> {
        request::action_page(token)
    }

    fn tenant(request: &ListControlActionsRequest) -> &str {
        &request.tenant
    }

    async fn page(
        local: &Local,
        caller: &Caller,
        request: ListControlActionsRequest,
    ) -> Result<Page<i64, ControlAction>, Error> {
        local.actions(caller, request).await
    }
}
