//! The supervisor: opens and closes owners as [`super::assignment`] decides, and announces them to the other relays.

use super::{
    assignment::{Assignment, Hearing, News},
    handle::{Owners, Ownership},
    handover::{Giving, Preparations},
    health::Health,
    housekeeping::{self, Lost, Progress},
    owner::{Ended, Needs, TakeOverError, Tools, take_over},
};
use crate::{backoff::Backoff, view::Fed};
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
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// The interval while the other relays are not known yet: each answers with its partitions.
const FIRST_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(150);

/// The most takeovers at once: each reads a journal.
const TAKEOVERS: usize = 16;

/// The first and the longest pause after a failed takeover.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// A partition in this relay: it is being taken over, owned, or given up.
struct Slot {
    stop: CancellationToken,
    needs: Option<watch::Receiver<Needs>>,
}

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
    preparations: Preparations,
    giving: Giving,
    tasks: JoinSet<(Partition, Option<Ended>)>,
    faults: BTreeMap<Partition, String>,
    takeovers: Arc<Semaphore>,
    reports: mpsc::UnboundedSender<Report>,
    /// For takeovers.
    heard: watch::Sender<Hearing>,
    progress: watch::Sender<Progress>,
    number: u64,
    is_alone: bool,
    is_displaced: bool,
}

/// The streams with which this relay began are gone. With the reason.
#[derive(Debug)]
pub(crate) struct StreamsGone(pub String);

/// Runs until `stop`, and then gives each partition up in order. Ends early if only a restart helps.
pub(crate) async fn run(
    tools: Tools,
    owners: Owners,
    ownership: watch::Sender<Arc<Ownership>>,
    health: watch::Sender<Health>,
    stop: CancellationToken,
) -> Result<(), StreamsGone> {
    let identity = tools.bus.identity().clone();
    let (reports, mut reported) = mpsc::unbounded_channel();
    let (progress, progress_now) = watch::channel(Progress::default());
    let (losing, mut lost) = mpsc::unbounded_channel();
    let housekeeping = housekeeping::run(tools.bus.clone(), tools.config.clone(), progress_now, losing);
    tokio::pin!(housekeeping);
    let hearing = Hearing::new(identity, tools.bus.partitions());
    let heard = watch::Sender::new(hearing.clone());
    let preparations = Preparations::new(tools.bus.clone());
    let mut supervisor = Supervisor {
        hearing,
        tools,
        owners,
        ownership,
        health,
        slots: BTreeMap::new(),
        preparations,
        giving: Giving::default(),
        tasks: JoinSet::new(),
        faults: BTreeMap::new(),
        takeovers: Arc::new(Semaphore::new(TAKEOVERS)),
        reports,
        heard,
        progress,
        number: 0,
        is_alone: false,
        is_displaced: false,
    };
    let mut announcements = supervisor.listen().await;
    let mut beats = interval(ANNOUNCE_INTERVAL);
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
                    beats.reset_after(FIRST_ANNOUNCE_INTERVAL);
                }
            }
            heard = next(&mut announcements) => match heard {
                Some((relay, announced)) => supervisor.hear(&relay, &announced, is_leaving).await,
                None => announcements = supervisor.listen().await,
            },
            Some(ended) = supervisor.tasks.join_next() => supervisor.ended(ended.ok(), is_leaving).await,
            () = supervisor.preparations.read() => supervisor.announce(is_leaving).await,
            Some(report) = reported.recv() => supervisor.reported(report, is_leaving).await,
            // The takeover fails and logs the fault. Until it is mended, new events would pass for planned ones.
            Some(lost) = lost.recv() => match lost {
                Lost::Events => supervisor.slots.values().for_each(|slot| slot.stop.cancel()),
                // No record can be appended any more, so no partition is given up in order.
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
                        tracing::warn!(%error, left_out, "announcement subscription failed");
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
            // During the takeover everything is needed.
            let floors = floors.get(partition).copied().unwrap_or(Floors { events: 0, journal: 0 });
            OwnedPartition {
                partition: u32::from(partition.number()),
                events_floor: floors.events,
                journal_floor: floors.journal,
            }
        });
        let run = self.tools.bus.identity().run;
        let announcement = RelayAnnouncement {
            run,
            number: self.number,
            leaving,
            owned: owned.collect(),
            prepared: self.preparations.done().map(|partition| u32::from(partition.number())).collect(),
        };
        if let Err(error) = self.tools.bus.announce(announcement.encode_to_vec().into()).await {
            tracing::debug!(%error, "announcement failed");
        }
    }

    async fn hear(&mut self, relay: &str, announced: &RelayAnnouncement, is_leaving: bool) {
        match self.hearing.hear(relay, announced) {
            News::Nothing => {}
            News::Changed => self.publish_ownership(),
            News::Newcomer => {
                tracing::info!(relay, "relay joined");
                self.announce(is_leaving).await;
                self.publish_ownership();
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
        // Each of our beats may mean that a silent relay is gone.
        if relay == self.tools.bus.identity().relay {
            self.publish_ownership();
        }
    }

    fn publish_ownership(&self) {
        let ownership = Ownership { others: self.hearing.owned_by_others() };
        self.ownership.send_if_modified(|known| {
            let is_new = **known != ownership;
            if is_new {
                *known = Arc::new(ownership);
            }
            is_new
        });
    }

    /// Opens and closes owners by the assignment.
    fn assign(&mut self, is_leaving: bool) {
        if self.is_displaced {
            return;
        }
        self.heard.send_replace(self.hearing.clone());
        let owned = self.owned();
        let Assignment { take, prepare, give, mut ready, wanted } = if !self.is_alone {
            self.hearing.assign(&owned, is_leaving)
        } else if is_leaving {
            Assignment { give: owned.clone(), ready: owned, ..Assignment::default() }
        } else {
            let all: BTreeSet<Partition> = Partition::all(self.tools.bus.partitions()).collect();
            let take = all.difference(&owned).copied().collect();
            Assignment { take, wanted: all.len(), ..Assignment::default() }
        };
        // Nothing is lost when a takeover that is under way here is done elsewhere.
        let is_opening =
            |partition: &Partition| self.slots.get(partition).is_some_and(|it| it.needs.is_none());
        ready.extend(give.iter().copied().filter(is_opening));
        for partition in self.giving.due(&give, &ready, Instant::now()) {
            if let Some(slot) = self.slots.get(&partition) {
                slot.stop.cancel();
            }
        }
        for partition in take {
            self.open(partition);
        }
        self.preparations.prepare(prepare);
        let owned = self.slots.values().filter(|slot| slot.needs.is_some()).count();
        let wanted = (self.is_alone || self.hearing.has_listened()).then_some(wanted);
        let fault = self.faults.values().next().cloned();
        self.health.send_if_modified(|health| {
            let now = Health { wanted, owned, fault };
            std::mem::replace(health, now.clone()) != now
        });
        self.publish_progress();
    }

    fn publish_progress(&self) {
        let floors = self.floors();
        let trim_to = if self.is_alone { floors.into_values().next() } else { self.hearing.floors(&floors) };
        let planned = |slot: &Slot| Some(slot.needs.as_ref()?.borrow().planned_through);
        let planned_through = self.slots.values().filter_map(planned).max();
        self.progress.send_replace(Progress { trim_to, planned_through });
    }

    fn open(&mut self, partition: Partition) {
        let stop = CancellationToken::new();
        self.slots.insert(partition, Slot { stop: stop.clone(), needs: None });
        let (tools, owners) = (self.tools.clone(), self.owners.clone());
        let (takeovers, reports) = (Arc::clone(&self.takeovers), self.reports.clone());
        let heard = (!self.is_alone).then(|| self.heard.subscribe());
        let mut preparation = self.preparations.take(partition);
        self.tasks.spawn(async move {
            let mut backoff = Backoff::new(RETRY_DELAYS.0, RETRY_DELAYS.1);
            let (running, owner, needs) = loop {
                if stop.is_cancelled() {
                    return (partition, None);
                }
                let preparation = preparation.take();
                let takeover = async {
                    // Never closed.
                    let _turn = takeovers.acquire().await;
                    let prepared = match preparation {
                        Some(preparation) => preparation.finish().await,
                        None => None,
                    };
                    take_over(tools.clone(), partition, heard.clone(), prepared, &stop).await
                };
                match takeover.await {
                    Ok(owned) => break owned,
                    Err(
                        TakeOverError::Stopped
                        | TakeOverError::Claimed
                        | TakeOverError::Append(talaria_bus::AppendError::Overtaken),
                    ) => return (partition, None),
                    Err(error) => {
                        // All partitions fail at once.
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
                stop.run_until_cancelled(backoff.sleep()).await;
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

    /// A slot's task has ended: the partition is not owned here any more.
    async fn ended(&mut self, ended: Option<(Partition, Option<Ended>)>, is_leaving: bool) {
        let Some((partition, ended)) = ended else {
            // It panicked. The partition stays claimed, and the relay is not healthy.
            self.health
                .send_modify(|health| health.fault = Some("the owner of a partition ended".to_owned()));
            return;
        };
        self.slots.remove(&partition);
        self.faults.remove(&partition);
        if !is_leaving {
            // A relay that leaves keeps its rows for its next start.
            self.tools.feed.send(Fed::Lost { partition });
        }
        match ended {
            None | Some(Ended::Closed | Ended::GivenUp) => {}
            Some(Ended::Overtaken) => {
                tracing::warn!(%partition, "another relay has taken the partition over");
            }
            Some(Ended::Broken(error)) => {
                tracing::error!(%error, %partition, "partition lost");
            }
        }
        self.announce(is_leaving).await;
    }
}
