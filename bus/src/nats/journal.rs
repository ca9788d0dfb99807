//! Reading the journal: the newest facts out of memory, older ones from the stream.

use super::{
    Relay,
    follow::Following,
    place::{self, commit_of, end_of, facts_of, start_of},
};
use crate::{Bounds, Error, Facts};

/// Commits that are read from the stream in one go.
const COMMITS: usize = 256;

/// Whoever reads what is not in memory any more, kept for his next question.
#[derive(Default)]
pub(super) struct Reader(Option<Following>);

impl Relay {
    pub(crate) async fn journal(&self, after: u64, max: usize) -> Result<Facts, Error> {
        // The sender lives as long as the replica.
        let _ = self.replica.position().wait_for(|position| end_of(*position) > after).await;
        if let Some((facts, through)) = self.replica.newest_facts().after(after, max) {
            return Ok(Facts { facts, through });
        }
        self.older(after, max).await
    }

    async fn older(&self, after: u64, max: usize) -> Result<Facts, Error> {
        let mut reader = self.reader.lock().await;
        // The commit that the place is in may have more facts behind it.
        let inside = after != end_of(commit_of(after));
        let behind = if inside { commit_of(after).saturating_sub(1) } else { commit_of(after) };
        let following = match &mut reader.0 {
            Some(following) if following.position() == behind => following,
            other => other.insert(Following::new(&self.connection, self.connection.names.journal(), behind)),
        };
        let messages = following.next(COMMITS).await?;
        if messages.first().is_some_and(|(seq, _)| *seq > behind + 1) && behind > 0 {
            let (oldest, ..) = self.connection.extent(&self.connection.names.journal()).await?;
            if oldest > behind + 1 {
                return Err(Error::new(
                    "the journal does not reach back to where this was; restart, and the status is made anew",
                ));
            }
        }
        let (mut facts, mut through) = (Vec::new(), after);
        for (seq, message) in messages {
            if facts.len() >= max {
                // Read again next time.
                reader.0 = None;
                break;
            }
            let mut commit =
                place::read(&self.connection.names, seq, &message.subject, message.payload.clone());
            let placed = facts_of(seq, &mut commit).into_iter();
            facts.extend(placed.map(|(place, fact, _)| (place, fact)).filter(|(place, _)| *place > after));
            through = end_of(seq);
        }
        Ok(Facts { facts, through })
    }

    pub(crate) async fn journal_bounds(&self) -> Result<Bounds, Error> {
        let (oldest, newest, source) = self.connection.extent(&self.connection.names.journal()).await?;
        Ok(Bounds { source, oldest: start_of(oldest), newest: end_of(newest) })
    }
}
