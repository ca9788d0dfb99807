//! Which events are to be planned, and planning them: one relay at a time, and in case of doubt the first.

use super::{
    Relay,
    append::{NotAppended, Pending},
    cloudevent, events,
    follow::Following,
};
use crate::{Error, Plan, Stored, partition::Partition};
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use talaria_core::id::EventId;
use talaria_proto::v1::{
    Commit, Event, EventConflict, Fact, Operation, Planned, fact::What as FactKind, operation::What,
};

/// The pause before a commit is sent again.
const PAUSE: Duration = Duration::from_millis(200);

/// Events that were read and not planned yet.
#[derive(Default)]
pub(super) struct Feed {
    following: Option<Following>,
    events: VecDeque<Stored>,
}

impl Relay {
    /// Waits until the planning is ours and there is an event to plan.
    pub(crate) async fn unplanned(&self, max: usize) -> Result<Vec<Stored>, Error> {
        self.work();
        let mut feed = self.feed.lock().await;
        loop {
            self.until_planning_is_ours().await;
            let planned = *self.replica.planned().borrow();
            while feed.events.front().is_some_and(|stored| stored.seq <= planned) {
                feed.events.pop_front();
            }
            if feed.events.len() < max {
                self.read_ahead(&mut feed, planned, max).await?;
            }
            if feed.events.is_empty() {
                continue;
            }
            let fresh = self.fresh(&feed.events, max).await?;
            if !fresh.is_empty() {
                return Ok(fresh);
            }
            if let Some(repeat) = feed.events.front() {
                let plan = self.repeated(repeat).await?;
                self.plan(vec![plan]).await?;
            }
        }
    }

    async fn until_planning_is_ours(&self) {
        let run = self.replica.me().run;
        let ours = |in_force: &Arc<super::membership::InForce>| {
            in_force.owned_by(run).contains(&Partition::PLANNING)
        };
        // The sender lives as long as the replica.
        let _ = self.replica.membership().wait_for(ours).await;
    }

    /// Reads what has come; waits for it if there is nothing yet.
    async fn read_ahead(&self, feed: &mut Feed, planned: u64, max: usize) -> Result<(), Error> {
        let names = &self.connection.names;
        let following = match &mut feed.following {
            Some(following) if following.position() >= planned => following,
            outdated => outdated.insert(Following::new(&self.connection, names.events(), planned)),
        };
        // Somebody else may plan meanwhile, and then this is not ours to wait for.
        let mut membership = self.replica.membership();
        membership.mark_unchanged();
        let messages = if feed.events.is_empty() {
            tokio::select! {
                messages = following.next(max) => messages?,
                _ = membership.changed() => return Ok(()),
            }
        } else {
            following.waiting(max)?
        };
        for (seq, message) in messages {
            let size = message.payload.len();
            let event = cloudevent::decode(message.message.payload).unwrap_or_else(|error| {
                // Somebody else's: planned as nobody's, so that it stands in nobody's way.
                tracing::error!(%error, seq, "a message in the events stream is not an event");
                Event::default()
            });
            let event = Arc::new(event);
            self.newest_events.extend([(seq, Arc::clone(&event), size)], seq);
            feed.events.push_back(Stored { seq, event });
        }
        Ok(())
    }

    /// The first events of which none is a repeat of a planned one or of another.
    async fn fresh(&self, events: &VecDeque<Stored>, max: usize) -> Result<Vec<Stored>, Error> {
        let events: Vec<Stored> = events.iter().take(max).cloned().collect();
        let ids: Vec<Option<EventId>> = events.iter().map(|stored| stored.event.id.parse().ok()).collect();
        let known = self.replica.read(move |connection| {
            let mut select = connection.prepare_cached("SELECT 1 FROM planned WHERE id = ?")?;
            let mut seen = HashSet::new();
            let mut fresh = 0;
            for id in ids {
                if let Some(id) = id
                    && (!seen.insert(id) || select.exists([id.as_bytes()])?)
                {
                    break;
                }
                fresh += 1;
            }
            Ok(fresh)
        });
        let fresh = known.await?;
        Ok(events.into_iter().take(fresh).collect())
    }

    /// The plan of an event that was stored again after the server had forgotten its id: nothing is delivered, and if
    /// it says something else than the first one, that is journalled.
    async fn repeated(&self, repeat: &Stored) -> Result<Plan, Error> {
        let event = &repeat.event;
        let id: EventId = event.id.parse().map_err(Error::new)?;
        let first = self.replica.read(move |connection| {
            let mut select = connection.prepare_cached("SELECT min(seq) FROM planned WHERE id = ?")?;
            select.query_row([id.as_bytes()], |row| row.get::<_, Option<u64>>(0))
        });
        let mut plan = Plan { seq: repeat.seq, facts: Vec::new(), deliveries: Vec::new() };
        let Some(seq) = first.await? else { return Ok(plan) };
        let first = events::read(&self.connection, seq).await?;
        if first.is_some_and(|first| first.payload_sha256 != event.payload_sha256) {
            let conflict = EventConflict {
                event_id: event.id.clone(),
                received_at: event.received_at,
                payload_sha256: event.payload_sha256.clone(),
                payload: event.payload.clone(),
            };
            let what = Some(FactKind::EventConflict(conflict));
            plan.facts.push(Fact { at: event.received_at, event_seq: seq, what });
        }
        Ok(plan)
    }

    /// Plans events, or finds that another relay did; then they are not given out again.
    pub(crate) async fn plan(&self, plans: Vec<Plan>) -> Result<(), Error> {
        let limit = self.connection.largest_data() / 2;
        let planned = *self.replica.planned().borrow();
        let mut plans = plans.into_iter().filter(|plan| plan.seq > planned).peekable();
        let mut left_over = None;
        while plans.peek().is_some() || left_over.is_some() {
            let (mut operations, mut size) = (Vec::new(), 0);
            if let Some(operation) = left_over.take() {
                size += prost::Message::encoded_len(&operation);
                operations.push(operation);
            }
            for plan in plans.by_ref() {
                let operation = self.operation(plan).await?;
                size += prost::Message::encoded_len(&operation);
                if size > limit && !operations.is_empty() {
                    left_over = Some(operation);
                    break;
                }
                operations.push(operation);
            }
            self.append_plans(operations).await?;
        }
        Ok(())
    }

    async fn operation(&self, plan: Plan) -> Result<Operation, Error> {
        let event = match self.newest_events.get(plan.seq) {
            Some(event) => event,
            None => Arc::new(events::read(&self.connection, plan.seq).await?.unwrap_or_else(Event::default)),
        };
        let planned = Planned {
            event_seq: plan.seq,
            event_id: event.id.clone(),
            received_at: event.received_at,
            facts: plan.facts,
            deliveries: plan.deliveries,
        };
        Ok(Operation { what: Some(What::Planned(planned)) })
    }

    async fn append_plans(&self, operations: Vec<Operation>) -> Result<(), Error> {
        let subject = self.connection.names.journal_planning();
        let position = *self.replica.position().borrow();
        let after = self.replica.planning().await?;
        let commit = Pending::new(&Commit { operations });
        loop {
            match commit.send(&self.connection, &subject, Some(after)).await {
                Ok(seq) => return self.applied(seq, position).await,
                Err(NotAppended::Overtaken) => {
                    // Whoever was first has time to be read; should nobody have been, this does not spin.
                    tokio::time::sleep(PAUSE).await;
                    return self.barrier().await;
                }
                Err(NotAppended::Failed(error)) => {
                    tracing::warn!(%error, "cannot journal plans; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
