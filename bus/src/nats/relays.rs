//! Keeping the membership: announces this relay, hears the others, and writes down who joined and who is gone.
//!
//! Announcements only tell who is alive. Who belongs, and who owns what, is decided by the journal's membership
//! commits alone, so a relay that is wrong about another one's death interrupts its work and harms nothing.

use super::{
    Relay,
    append::{NotAppended, Pending},
    membership::{self, Hearing},
};
use crate::Error;
use futures_util::StreamExt as _;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use talaria_proto::v1::{Commit, Member, Operation, operation::What};
use tokio::{sync::watch, time::MissedTickBehavior};

/// How often a relay announces itself.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a relay believes, after an announcement of its own came back, that nobody has taken its work over. The
/// others wait for five intervals at least.
const BELIEF: Duration = Duration::from_secs(3);

/// What is wrong when two processes have the same name.
pub(super) const COPIED: &str = "another relay runs on a copy of this one's data directory: stop it, and give it a directory of its own; see \
     docs/errors/relay-copied.md";

/// So many announcements of another run under this relay's name are no leftovers of the run before. Of the two, the one
/// with the higher number goes on, so that they do not take each other's work for ever.
const DOUBLES: u32 = 3;

/// How this relay wants to stand among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing yet: whoever opened the bus may find that it cannot work.
    Waiting,
    /// With a share of the work.
    Working,
    /// Without one, finishing what it holds.
    Leaving,
    /// Not at all.
    Gone,
    /// Not at all, and without a word: another process has the same name, and goes on.
    Displaced,
}

/// When our announcements were sent and came back.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// The newest announcement: its number, and when it was sent.
    sent: Mutex<(u64, Option<Instant>)>,
    /// When the newest one of those that came back had been sent.
    heard: watch::Sender<Option<Instant>>,
}

impl Pulse {
    fn beat(&self) -> u64 {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        *sent = (sent.0 + 1, Some(Instant::now()));
        sent.0
    }

    fn came_back(&self, number: u64) {
        let (newest, at) = *self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        // Of an older one it is not known any more when it was sent: perhaps before this process stood still.
        if number == newest {
            self.heard.send_replace(at);
        }
    }

    fn is_fresh(heard: Option<Instant>) -> bool {
        heard.is_some_and(|at| at.elapsed() < BELIEF)
    }

    /// Whether others must believe that we are there.
    pub(super) fn beats(&self) -> bool {
        Self::is_fresh(*self.heard.borrow())
    }

    /// Returns once they must.
    pub(super) async fn until_it_beats(&self) {
        // The sender is in self.
        let _ = self.heard.subscribe().wait_for(|heard| Self::is_fresh(*heard)).await;
    }
}

/// Announces this relay until it is dropped.
pub(super) async fn announce(relay: Arc<Relay>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (me, mut wish) = (relay.replica.me().clone(), relay.wish.subscribe());
    loop {
        tokio::select! { _ = interval.tick() => {}, _ = wish.changed() => {} }
        match *relay.wish.borrow() {
            Wish::Waiting => continue,
            Wish::Working | Wish::Leaving => {}
            Wish::Gone | Wish::Displaced => return,
        }
        if relay.connection.is_connected().is_err() {
            continue;
        }
        let text = format!("{} {}", me.run, relay.pulse.beat());
        let subject = relay.connection.names.announcement(&me.name);
        if let Err(error) = relay.connection.client.publish(subject, text.into()).await {
            tracing::warn!(%error, "cannot announce this relay");
        }
    }
}

/// Listens to announcements, and keeps the membership, until it is dropped.
pub(super) async fn keep(relay: Arc<Relay>) {
    let mut hearing = Hearing::default();
    loop {
        if let Err(error) = listen(&relay, &mut hearing).await {
            tracing::warn!(%error, "cannot listen to the other relays; trying again");
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

async fn listen(relay: &Relay, hearing: &mut Hearing) -> Result<(), Error> {
    let subject = relay.connection.names.announcements();
    let mut announcements = relay.connection.client.subscribe(subject).await.map_err(Error::new)?;
    let (mut membership, mut wish) = (relay.replica.membership(), relay.wish.subscribe());
    let me = relay.replica.me();
    let mut others = 0;
    loop {
        mend(relay, hearing).await?;
        tokio::select! {
            announcement = announcements.next() => {
                let announcement = announcement.ok_or_else(|| Error::new("the subscription ended"))?;
                let Some((name, run, number)) = read(&announcement.subject, &announcement.payload) else { continue };
                if name == me.name {
                    if run == me.run {
                        relay.pulse.came_back(number);
                        hearing.own();
                    } else {
                        others += 1;
                        if others >= DOUBLES && run > me.run {
                            tracing::error!("{COPIED}; this one stops working");
                            relay.wish.send_replace(Wish::Displaced);
                        }
                    }
                } else {
                    hearing.other(name, run);
                }
            }
            _ = membership.changed() => {}
            _ = wish.changed() => {}
        }
    }
}

/// The name, the run and the number of an announcement.
fn read<'a>(subject: &'a str, payload: &[u8]) -> Option<(&'a str, u32, u64)> {
    let (_, name) = subject.rsplit_once('.')?;
    let (run, number) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
    Some((name, run.parse().ok()?, number.parse().ok()?))
}

/// Writes the membership down if it is not as it should be.
async fn mend(relay: &Relay, hearing: &Hearing) -> Result<(), Error> {
    let current = relay.replica.membership().borrow().clone();
    let wish = *relay.wish.borrow();
    let me = relay.replica.me();
    let me = match wish {
        Wish::Working => Some(me.clone()),
        Wish::Leaving => Some(Member { leaving: true, ..me.clone() }),
        Wish::Waiting | Wish::Displaced => return Ok(()),
        Wish::Gone => None,
    };
    let name = &relay.replica.me().name;
    let Some(members) = membership::next(&current.membership.members, hearing, name, me.as_ref()) else {
        return Ok(());
    };
    // Only whoever knows everything may write, and only what follows what it knows.
    relay.barrier().await?;
    if *relay.replica.membership().borrow() != current {
        return Ok(());
    }
    match write(relay, current.seq, members.clone()).await {
        Ok(()) => {
            let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
            tracing::info!(?names, "the relays that share the work have changed");
            Ok(())
        }
        Err(NotAppended::Overtaken) => relay.barrier().await,
        Err(NotAppended::Failed(error)) => Err(error),
    }
}

/// Writes a membership that follows the one at `after`.
pub(super) async fn write(relay: &Relay, after: u64, members: Vec<Member>) -> Result<(), NotAppended> {
    let routes = relay.replica.routes().await.map_err(|error| NotAppended::Failed(error.into()))?;
    let what = What::Membership(membership::membership(members, &routes));
    let commit = Pending::new(&Commit { operations: vec![Operation { what: Some(what) }] });
    let subject = relay.connection.names.journal_membership();
    let seq = commit.send(&relay.connection, &subject, Some(after)).await?;
    relay.replica.caught_up(seq).await;
    Ok(())
}
