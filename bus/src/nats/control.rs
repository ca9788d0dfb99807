//! What operators do: decisions, each published on the condition that it follows the one that was known, and deliveries
//! that are taken before they are due.

use super::{
    CHECK_DEADLINE, PAUSE, Relay,
    append::{NotAppended, Pending},
    place::end_of,
};
use crate::{Error, Leased, Turn, partition::Partition, queue::Key};
use prost::Message as _;
use std::collections::HashSet;
use talaria_proto::v1::{Commit, Decided, DeliveryTask, Fact, Operation, operation::What};

impl Relay {
    pub(crate) async fn turn(&self) -> Result<Turn, Error> {
        // Whatever the others did and told somebody is known here too.
        self.barrier().await?;
        let (control, position) = self.replica.decisions().await?;
        Ok(Turn { after: control, place: end_of(position) })
    }

    pub(crate) async fn decide(
        &self,
        turn: Turn,
        facts: Vec<Fact>,
        deliveries: Vec<DeliveryTask>,
    ) -> Result<bool, Error> {
        // One at a time, so that the last one that was applied tells what became of this one.
        let _turn = self.deciding.lock().await;
        let token = self.replica.next_decision();
        let decided = Decided { token, facts, deliveries };
        let commit = Commit { operations: vec![Operation { what: Some(What::Decided(decided)) }] };
        let (size, limit) = (commit.encoded_len(), self.connection.largest_data());
        if size > limit {
            return Err(Error::too_large(size, limit));
        }
        let commit = Pending::new(&commit);
        let subject = self.connection.names.journal_control();
        let position = *self.replica.position().borrow();
        loop {
            match commit.send(&self.connection, &subject, Some(turn.after)).await {
                Ok(seq) => {
                    self.applied(seq, position).await?;
                    return Ok(true);
                }
                Err(NotAppended::Overtaken) => {
                    // Perhaps by itself: it was there, and the answer was lost.
                    self.barrier().await?;
                    return Ok(self.replica.is_decided(token).await?);
                }
                Err(NotAppended::Failed(error)) => {
                    tracing::warn!(%error, "cannot journal a decision; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Decides nothing, where it stays: the next decision has to follow one that is there. Needed only when the last one
    /// is before `commit`.
    pub(super) async fn keep_last_decision(&self, commit: u64) -> Result<(), Error> {
        let (control, _) = self.replica.decisions().await?;
        if control == 0 || control >= commit {
            return Ok(());
        }
        // Somebody else's decision serves as well.
        self.decide(Turn { after: control, place: 0 }, Vec::new(), Vec::new()).await.map(drop)
    }

    pub(crate) async fn claim(&self, key: Key) -> Result<Option<Leased>, Error> {
        self.work();
        // What is held by a relay that is none of them counts as interrupted as soon as they change.
        let run = self.replica.me().run;
        let mut membership = self.replica.membership();
        let joined = membership.wait_for(|in_force| in_force.has(run));
        let alone = |_| Error::new("this relay does not work with the others yet");
        drop(tokio::time::timeout(CHECK_DEADLINE, joined).await.map_err(alone)?);
        let taken = self.replica.claim(self.clock.now(), key).await?;
        let Some(claim) = taken.leases.first().copied() else { return Ok(None) };
        self.commit(What::Taken(taken)).await?;
        Ok(self.replica.claimed(claim).await?)
    }

    /// Events go from the oldest on, so that the first one that is there tells it of all.
    pub(crate) async fn kept(&self, events: HashSet<u64>) -> Result<HashSet<u64>, Error> {
        let (oldest, ..) = self.connection.extent(&self.connection.names.events()).await?;
        Ok(events.into_iter().filter(|seq| *seq >= oldest).collect())
    }

    /// Whether the planning is this relay's.
    pub(crate) fn leads(&self) -> bool {
        let in_force = self.replica.membership().borrow().clone();
        in_force.owned_by(self.replica.me().run).contains(&Partition::PLANNING)
    }
}
