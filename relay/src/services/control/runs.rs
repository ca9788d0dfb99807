//! Reports about the agent's runs: the relay that gets one verifies it, and the owner of the tenant's partition records it.

use super::operator::{Operator, TRIES, before_next, finished, key};
use crate::{
    decisions::{mask::Mask, run},
    partition::handle::Command,
    services::{
        access::{Caller, Connection},
        cluster::Cluster,
        error::Error,
    },
    view::query::{self, History},
};
use std::time::Duration;
use talaria_core::{id::DeliveryId, report::Signed};
use talaria_proto::v1::{ClusterMethod, DeliveryRef, ReportRun, ReportedRun};
use tonic::Code;

/// For a report to be recorded. After it, the client is told to send it again, which does no harm.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why a report is not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRecorded {
    /// It is not signed with a secret of the route, or not in time, or there is no such route.
    NotSigned,
    /// It is signed, and it is no report.
    Invalid(String),
    /// The route has no such delivery, or it was not sent under this generation.
    NotKnown,
    /// It may be recorded later.
    Unavailable(String),
}

impl From<Error> for NotRecorded {
    fn from(error: Error) -> Self {
        match error.code() {
            Code::NotFound => Self::NotKnown,
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl Cluster {
    /// Records the run of a report once it is verified. Returns when that is durable.
    pub(in crate::services) async fn record_run(
        &self,
        (tenant, route): (&str, &str),
        signed: &Signed<'_>,
        body: &[u8],
        connection: Option<&Connection>,
    ) -> Result<(), NotRecorded> {
        let (config, now) = (self.local().config(), self.local().clock.now());
        let configured = config.route(tenant, route).map(AsRef::as_ref);
        let is_genuine = run::is_genuine(&config, configured, signed, body, now);
        let configured = configured.filter(|_| is_genuine).ok_or(NotRecorded::NotSigned)?;
        // Its client keeps the connection, as one with a token does.
        if let Some(connection) = connection {
            connection.keep();
        }
        let (id, run) =
            run::read(signed.id, body, &Mask::of(configured), now).map_err(NotRecorded::Invalid)?;
        if id.route != configured.key {
            return Err(NotRecorded::NotKnown);
        }
        let delivery = DeliveryRef { id: id.to_string(), tenant: tenant.to_owned(), route: route.to_owned() };
        let request = ReportRun { delivery: Some(delivery), run: Some(run) };
        let (cluster, tenant) = (self.clone(), tenant.to_owned());
        let work = async move {
            let own = cluster.operator.report_run(request.clone());
            // The relay itself asks.
            let caller = Caller { tenant: Some(tenant.clone()), ..Caller::unrestricted() };
            let reported: Result<ReportedRun, Error> =
                cluster.command(&caller, &tenant, ClusterMethod::ReportRun, &request, own).await;
            reported.map(drop).map_err(NotRecorded::from)
        };
        // To its end, also if the client leaves.
        match tokio::time::timeout(DEADLINE, tokio::spawn(work)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(NotRecorded::Unavailable("the work broke off".to_owned())),
            Err(_) => Err(NotRecorded::Unavailable("the bus takes long".to_owned())),
        }
    }
}

impl Operator {
    /// Records a verified run, if it is news.
    pub(in crate::services) async fn report_run(&self, request: ReportRun) -> Result<ReportedRun, Error> {
        let (DeliveryRef { id, tenant, route }, run) =
            (request.delivery.unwrap_or_default(), request.run.unwrap_or_default());
        let id: DeliveryId = id.parse().map_err(|_| Error::NotUnderstood)?;
        let owner = self.local.owner_of(&tenant)?;
        for count in 0..TRIES {
            let turn = self.turn(&owner).await?;
            let known = self.local.read(move |connection| query::history(connection, id)).await?;
            let known =
                known.filter(|(_, known)| known.delivery.tenant == tenant && known.delivery.route == route);
            let not_known =
                || Error::NotKnown { what: format!("delivery {id}"), behind: self.local.behind() };
            let (event_seq, History { delivery, attempts, under_way, step }) = known.ok_or_else(not_known)?;
            if !run::was_sent(&delivery, &attempts, under_way.is_some(), run.generation) {
                return Err(Error::NotSent(id));
            }
            if !run::replaces(delivery.run.as_ref(), &run) {
                return Ok(ReportedRun { recorded: false });
            }
            let record = run::reported(&delivery, event_seq, step, run.clone(), self.local.clock.now());
            let done = owner.command(Command::ReportRun(key(event_seq, id), Box::new(record))).await;
            drop(turn);
            if let Some(seq) = finished(&done)? {
                let (outcome, error) = (run.outcome().name(), (!run.error.is_empty()).then_some(&run.error));
                tracing::info!(delivery = %id, tenant, route, outcome, error, "run reported");
                self.wait_for_view(&owner, seq).await;
                return Ok(ReportedRun { recorded: true });
            }
            before_next(count).await;
        }
        Err(Error::UnderWay(id))
    }
}
