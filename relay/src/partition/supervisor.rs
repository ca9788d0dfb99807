//! Opens and closes the owners of partitions in this relay, as [`super::assignment`] decides, and tells the other relays.

use super::{
    assignment::{Hearing, News},
    handle::{Owners, Ownership},
    housekeeping::{self, Known, Lost},
    owner::{Ended, Needs, TakeOverError, Tools, take_over},
};
use crate::view::Fed;
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use talaria_bus::{Announcements, Floors, Partition};
use talaria_proto::v1::{OwnedPartition, RelayAnnouncement};
use talaria_telemetry::LogLimiter;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// How often a relay announces itself.
const ANNOUNCED: Duration = Duration::from_secs(1);

/// How soon a relay that has just started announces itself again, so that it hears soon what the others own.
const INTRODUCED: Duration = Duration::from_millis(150);

/// Partitions that are taken over at once: each reads its journal.
const TAKEOVERS: usize = 16;

/// The pause before a partition is taken over again that could not be, and the longest.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How this relay does with the partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// How many it should own; `None` while it does not know.
    pub wanted: Option<usize>,
    /// Those of them that it owns.
    pub owned: usize,
    /// Why it cannot own some, or work at all.
    pub fault: Option<String>,
}

impl Health {
    /// Why the relay does not work, in one sentence; `None` when it does.
    pub(crate) fn fault(&self) -> Option<String> {
        match (&self.fault, self.wanted) {
            (Some(fault), _) => Some(fault.clone()),
            (None, None) => Some("the other relays are not known yet".to_owned()),
            (None, Some(wanted)) if self.owned < wanted => {
                Some(format!("{} of {wanted} partitions are taken over", self.owned))
            }
            (None, Some(_)) => None,
        }
    }
}

/// A partition in this relay: it is being taken over, owned, or given up.
struct Slot {
    stop: CancellationToken,
    needs: Option<watch::Receiver<Needs>>,
}

/// What a slot's task reports.
enum Report {
    Owned(Partition, watch::Receiver<Needs>),
    Failed(Partition, String),
}

/// Opens and closes owners.
pub(crate) struct Supervisor {
    tools: Tools,
    owners: Owners,
    ownership: watch::Sender<Arc<Ownership>>,
    health: watch::Sender<Health>,
    hearing: Hearing,
    slots: BTreeMap<Partition, Slot>,
    tasks: JoinSet<(Partition, Option<Ended>)>,
    faults: BTreeMap<Partition, String>,
    takeovers: Arc<Semaphore>,
    reports: mpsc::UnboundedSender<Report>,
    /// What takeovers know of the other relays.
    heard: watch::Sender<Hearing>,
    known: watch::Sender<Known>,
    number: u64,
    is_alone: bool,
    is_displaced: bool,
}

/// The streams with which this relay began are not there any more, and why this is believed.
#[derive(Debug)]
pub(crate) struct StreamsGone(pub String);

/// Works until it is told to stop; then each partition is given up in order. Ends by itself where only a restart helps.
pub(crate) async fn run(
    tools: Tools,
    owners: Owners,
    ownership: watch::Sender<Arc<Ownership>>,
    health: watch::Sender<Health>,
    stop: CancellationToken,
) -> Result<(), StreamsGone> {
    let identity = tools.bus.identity().clone();
    let (reports, mut reported) = mpsc::unbounded_channel();
    let (known, known_now) = watch::channel(Known::default());
    let (losing, mut lost) = mpsc::unbounded_channel();
    let housekeeping = housekeeping::run(tools.bus.clone(), tools.config.clone(), known_now, losing);
    tokio::pin!(housekeeping);
    let hearing = Hearing::new(identity, tools.bus.partitions());
    let heard = watch::Sender::new(hearing.clone());
    let mut supervisor = Supervisor {
        hearing,
        tools,
        owners,
        ownership,
        health,
        slots: BTreeMap::new(),
        tasks: JoinSet::new(),
        faults: BTreeMap::new(),
        takeovers: Arc::new(Semaphore::new(TAKEOVERS)),
        reports,
        heard,
        known,
        number: 0,
        is_alone: false,
        is_displaced: false,
    };
    let mut announcements = supervisor.listen().await;
    let mut beats = interval(ANNOUNCED);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_leaving = stop.is_cancelled();
    supervisor.assign(is_leaving);
    loop {
        if is_leaving && supervisor.slots.is_empty() {
            break;
        }
        tokio::select! {
            _ = beats.tick() => {
                supervisor.number += 1;
                supervisor.announce(is_leaving).await;
                if !supervisor.hearing.has_listened() && !supervisor.is_alone {
                    beats.reset_after(INTRODUCED);
                }
            }
            heard = next(&mut announcements) => match heard {
                Some((relay, announced)) => supervisor.hear(&relay, &announced, is_leaving).await,
                None => announcements = supervisor.listen().await,
            },
            Some(ended) = supervisor.tasks.join_next() => supervisor.ended(ended.ok(), is_leaving).await,
            Some(report) = reported.recv() => supervisor.reported(report, is_leaving).await,
            // Taking the partitions over again says what to do. What came into the stream now would pass for planned.
            Some(lost) = lost.recv() => match lost {
                Lost::Events => supervisor.slots.values().for_each(|slot| slot.stop.cancel()),
                // Nothing can be recorded any more, so nothing is given up in order.
                Lost::Streams(why) => return Err(StreamsGone(why)),
            },
            () = &mut housekeeping => {}
            () = stop.cancelled(), if !is_leaving => {
                is_leaving = true;
                supervisor.announce(true).await;
            }
        }
        supervisor.assign(is_leaving);
    }
    supervisor.announce(true).await;
    Ok(())
}

/// The next announcement; `None` when the subscription ended.
async fn next(announcements: &mut Option<Announcements>) -> Option<(String, RelayAnnouncement)> {
    let Some(announcements) = announcements else { return std::future::pending().await };
    loop {
        let (relay, bytes) = announcements.next().await.ok()?;
        match RelayAnnouncement::decode(bytes) {
            Ok(announced) => return Some((relay, announced)),
            Err(error) => {
                static UNREADABLE: LogLimiter = LogLimiter::new();
                if let Some(left_out) = UNREADABLE.admit() {
                    tracing::warn!(%error, relay, left_out, "announcement cannot be read");
                }
            }
        }
    }
}

impl Supervisor {
    /// Listens to the other relays; there are none on a bus for one process.
    async fn listen(&mut self) -> Option<Announcements> {
        loop {
            match self.tools.bus.announcements().await {
                Ok(announcements) => {
                    self.is_alone = announcements.is_none();
                    return announcements;
                }
                Err(error) => {
                    static FAILED: LogLimiter = LogLimiter::new();
                    if let Some(left_out) = FAILED.admit() {
                        tracing::warn!(%error, left_out, "cannot listen to the other relays; trying again");
                    }
                }
            }
            tokio::time::sleep(RETRY_DELAYS.0).await;
        }
    }

    fn owned(&self) -> BTreeSet<Partition> {
        self.slots.keys().copied().collect()
    }

    fn floors(&self) -> BTreeMap<Partition, Floors> {
        let floors =
            |(partition, slot): (&Partition, &Slot)| Some((*partition, slot.needs.as_ref()?.borrow().floors));
        self.slots.iter().filter_map(floors).collect()
    }

    async fn announce(&mut self, leaving: bool) {
        if self.is_displaced {
            return;
        }
        let floors = self.floors();
        let owned = self.slots.keys().map(|partition| {
            // Until it is known what it needs, all of it is.
            let floors = floors.get(partition).copied().unwrap_or(Floors { events: 0, journal: 0 });
            OwnedPartition {
                partition: u32::from(partition.number()),
                events_floor: floors.events,
                journal_floor: floors.journal,
            }
        });
        let run = self.tools.bus.identity().run;
        let announcement = RelayAnnouncement { run, number: self.number, leaving, owned: owned.collect() };
        if let Err(error) = self.tools.bus.announce(announcement.encode_to_vec().into()).await {
            tracing::debug!(%error, "announcement failed");
        }
    }

    async fn hear(&mut self, relay: &str, announced: &RelayAnnouncement, is_leaving: bool) {
        match self.hearing.hear(relay, announced) {
            News::Nothing => {}
            News::Changed => self.tell_ownership(),
            News::Newcomer => {
                tracing::info!(relay, "another relay is there");
                self.announce(is_leaving).await;
                self.tell_ownership();
            }
            News::Displaced => {
                self.is_displaced = true;
                let fault = "another relay runs on a copy of this one's data directory: stop it, and give it a directory of \
                             its own; see docs/errors/relay-copied.md";
                tracing::error!("{fault}; this one stops working");
                self.slots.values().for_each(|slot| slot.stop.cancel());
                self.health.send_modify(|health| health.fault = Some(fault.to_owned()));
            }
        }
        // Who is silent for long is not there any more.
        if relay == self.tools.bus.identity().relay {
            self.tell_ownership();
        }
    }

    fn tell_ownership(&self) {
        let ownership = Ownership { others: self.hearing.owned_by_others() };
        self.ownership.send_if_modified(|known| {
            let is_new = **known != ownership;
            if is_new {
                *known = Arc::new(ownership);
            }
            is_new
        });
    }

    /// Takes and gives partitions as it should be.
    fn assign(&mut self, is_leaving: bool) {
        if self.is_displaced {
            return;
        }
        self.heard.send_replace(self.hearing.clone());
        let (take, give, wanted) = if self.is_alone {
            let all: BTreeSet<Partition> = Partition::all(self.tools.bus.partitions()).collect();
            let owned = self.owned();
            if is_leaving {
                (BTreeSet::new(), owned, 0)
            } else {
                (all.difference(&owned).copied().collect(), BTreeSet::new(), all.len())
            }
        } else {
            let assignment = self.hearing.assign(&self.owned(), is_leaving);
            (assignment.take, assignment.give, assignment.wanted)
        };
        for partition in give {
            if let Some(slot) = self.slots.get(&partition) {
                slot.stop.cancel();
            }
        }
        for partition in take {
            self.open(partition);
        }
        let owned = self.slots.values().filter(|slot| slot.needs.is_some()).count();
        let wanted = (self.is_alone || self.hearing.has_listened()).then_some(wanted);
        let fault = self.faults.values().next().cloned();
        self.health.send_if_modified(|health| {
            let now = Health { wanted, owned, fault };
            std::mem::replace(health, now.clone()) != now
        });
        self.tell_housekeeping();
    }

    fn tell_housekeeping(&self) {
        let floors = self.floors();
        let unneeded = if self.is_alone { floors.into_values().next() } else { self.hearing.floors(&floors) };
        let planned = |slot: &Slot| Some(slot.needs.as_ref()?.borrow().planned_through);
        let planned_through = self.slots.values().filter_map(planned).max();
        self.known.send_replace(Known { unneeded, planned_through });
    }

    fn open(&mut self, partition: Partition) {
        let stop = CancellationToken::new();
        self.slots.insert(partition, Slot { stop: stop.clone(), needs: None });
        let (tools, owners) = (self.tools.clone(), self.owners.clone());
        let (takeovers, reports) = (Arc::clone(&self.takeovers), self.reports.clone());
        let heard = (!self.is_alone).then(|| self.heard.subscribe());
        self.tasks.spawn(async move {
            let mut delay = RETRY_DELAYS.0;
            let (running, owner, needs) = loop {
                if stop.is_cancelled() {
                    return (partition, None);
                }
                let taken = async {
                    // Never closed.
                    let _turn = takeovers.acquire().await;
                    take_over(tools.clone(), partition, heard.clone(), &stop).await
                };
                match taken.await {
                    Ok(taken) => break taken,
                    Err(
                        TakeOverError::Stopped
                        | TakeOverError::Claimed
                        | TakeOverError::Append(talaria_bus::AppendError::Overtaken),
                    ) => return (partition, None),
                    Err(error) => {
                        // All partitions have the same trouble at once.
                        static FAILED: LogLimiter = LogLimiter::new();
                        if let Some(left_out) = FAILED.admit() {
                            tracing::error!(
                                %error, %partition, left_out,
                                "partition takeover failed; trying again"
                            );
                        }
                        // The supervisor ends after its tasks.
                        let _ = reports.send(Report::Failed(partition, error.to_string()));
                    }
                }
                tokio::select! { () = tokio::time::sleep(delay) => {}, () = stop.cancelled() => {} }
                delay = (2 * delay).min(RETRY_DELAYS.1);
            };
            let _ = reports.send(Report::Owned(partition, needs));
            owners.insert(owner);
            let ended = running.run(stop).await;
            owners.remove(partition);
            (partition, Some(ended))
        });
    }

    async fn reported(&mut self, report: Report, is_leaving: bool) {
        match report {
            Report::Owned(partition, needs) => {
                self.faults.remove(&partition);
                if let Some(slot) = self.slots.get_mut(&partition) {
                    slot.needs = Some(needs);
                }
                self.announce(is_leaving).await;
            }
            Report::Failed(partition, why) => drop(self.faults.insert(partition, why)),
        }
    }

    /// A slot's task has ended: the partition is not owned here.
    async fn ended(&mut self, ended: Option<(Partition, Option<Ended>)>, is_leaving: bool) {
        let Some((partition, ended)) = ended else {
            // Its panic is in the log; the partition stays claimed, and nothing pretends to work.
            self.health
                .send_modify(|health| health.fault = Some("the owner of a partition ended".to_owned()));
            return;
        };
        self.slots.remove(&partition);
        self.faults.remove(&partition);
        if !is_leaving {
            // After a restart the view goes on where it was.
            self.tools.feed.send(Fed::Lost { partition });
        }
        match ended {
            None | Some(Ended::Closed | Ended::GivenUp) => {}
            Some(Ended::Overtaken) => {
                tracing::warn!(%partition, "another relay has taken the partition over");
            }
            Some(Ended::Broken(error)) => {
                tracing::error!(%error, %partition, "partition lost; opening it again");
            }
        }
        self.announce(is_leaving).await;
    }
}
