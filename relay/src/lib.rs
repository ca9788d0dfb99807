//! The relay: matches events with their tenant's routes, sends each delivery to Hermes, and answers questions about it.
//!
//! ```text
//! [events of a partition] ─▶ its owner: plan ▶ begin an attempt ─▶ [journal of the partition] ─▶ POST ▶ classify ▶ conclude ─┐
//!                              ▲                                        │                                                  │
//!                              └────────────────────────────────────────┼──────────────────────────────────────────────────┘
//!                                                                       └▶ projector: fold ▶ view ▶ status (gRPC)
//! ```
//!
//! - [`services`]: the interfaces: gRPC, questions between relays, gauges.
//! - [`partition`]: the owners of partitions, their state and journals, and the assignment of partitions to relays.
//! - [`view`]: the status in SQLite, folded from the journals.
//! - [`delivery`]: HTTP exchanges with Hermes. [`evidence`]: what went out and what came back, for a while.
//! - [`decisions`]: pure functions.
//! - [`move_in`]: moving an embedded bus to NATS.
//! - [`notices`]: publishing notices.
//! - [`backoff`], [`clock`], [`delivery_key`], [`partition_set`]: small types that several modules use.
//!
//! Dependencies point one way: services → partition → view, delivery, evidence → decisions. This file starts the tasks.

mod backoff;
mod clock;
mod decisions;
mod delivery;
mod delivery_key;
mod evidence;
mod move_in;
pub mod notices;
mod partition;
mod partition_set;
mod services;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod test_config;
mod view;

pub use clock::Clock;
pub use decisions::{
    audit::who,
    guard::defuse,
    handshake::Handshake,
    notice::configuration_refused as notices_of_refused,
    run::{describe_run, describe_run_of},
};
pub use delivery::handshake::handshake;
pub use move_in::{MoveError, MovedIn, move_in};
pub use partition::{DELIVERIES, RUNS};
pub use services::{
    access::{Caller, Connection, Socket},
    api::{Admitted, Api},
    control::NotRecorded,
    gauges::Gauges,
};
pub use view::remove_view;

use delivery::forward::Forwarder;
use evidence::Evidence;
use partition::{
    RecentEvents,
    handle::{Owners, Ownership},
    health::Health,
    in_flight::InFlightLimit,
    owner::{Sender, Tools},
    supervisor::{self, StreamsGone},
};
use services::{Parts, Services, cluster, control, server};
use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};
use talaria_bus::Bus;
use talaria_core::config::{Config, ConfigStatus};
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// For the view to fold the last attempts, and again for the servers to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a relay could not start, or ended early.
#[derive(Debug, Error)]
pub enum Error {
    /// The status service's address.
    #[error(
        "cannot listen on {address} (relay.grpc); is another process there? name another address, or end it"
    )]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The error of the socket.
        source: io::Error,
    },
    /// The thread that writes evidence.
    #[error("cannot start the writer of evidence: {0}")]
    Evidence(io::Error),
    /// The status view.
    #[error("cannot open the status view: {0}")]
    View(#[from] talaria_bus::sqlite::Error),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] talaria_bus::Error),
    /// gRPC reflection.
    #[error("cannot set up gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The streams with which the relay began are gone.
    #[error(
        "{why}: this relay ends, and the next one begins with the streams that are there, or creates them; see \
         docs/errors/nats-streams-gone.md"
    )]
    StreamsGone {
        /// The reason.
        why: String,
    },
    /// An essential task ended.
    #[error("{task} ended, and a relay does not work without it; the log says why, and a restart is needed")]
    Ended {
        /// Its name.
        task: &'static str,
    },
}

/// The relay, listening but not yet working.
pub struct Relay {
    config: watch::Receiver<Arc<Config>>,
    bus: Bus,
    clock: Clock,
    view: view::View,
    evidence: Evidence,
    listener: TcpListener,
    owners: Owners,
    ownership: watch::Sender<Arc<Ownership>>,
    services: Services,
    /// Other interfaces that run as long as the relay.
    beside: Vec<(&'static str, Task)>,
    /// Ends all tasks but the supervisor and the replay jobs.
    end: CancellationToken,
    health: watch::Sender<Health>,
}

impl Relay {
    /// Opens the view and listens on the configured address. The configuration may change later; its status is shown in the
    /// status.
    pub async fn bind(
        config: watch::Receiver<Arc<Config>>,
        config_status: watch::Receiver<Arc<ConfigStatus>>,
        bus: Bus,
        clock: Clock,
    ) -> Result<Self, Error> {
        let journal = bus.bounds().await?;
        let (directory, address) = {
            let config = config.borrow();
            (config.data_dir.clone(), config.relay.grpc)
        };
        let view = view::View::open(&directory, &journal)?;
        let evidence = Evidence::start(&directory, config.clone()).map_err(Error::Evidence)?;
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let (ownership, health) = (watch::Sender::default(), watch::Sender::default());
        let (owners, end) = (Owners::default(), CancellationToken::new());
        let services = Services::new(Parts {
            config: config.clone(),
            config_status,
            bus: bus.clone(),
            view: view.clone(),
            clock: clock.clone(),
            owners: owners.clone(),
            evidence: evidence.clone(),
            ownership: ownership.subscribe(),
            stop: end.clone(),
        });
        let beside = Vec::new();
        Ok(Self {
            config,
            bus,
            clock,
            view,
            evidence,
            listener,
            owners,
            ownership,
            services,
            beside,
            end,
            health,
        })
    }

    /// The address of the gRPC server.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The services, for other interfaces in this process.
    pub fn api(&self) -> Api {
        self.services.api.clone()
    }

    /// Adds another interface, an essential task that ends by the given token, after the last attempts.
    pub fn also_serve(&mut self, name: &'static str, serve: impl FnOnce(CancellationToken) -> Task) {
        self.beside.push((name, serve(self.end.clone())));
    }

    /// Whether the relay works.
    pub fn readiness(&self) -> Readiness {
        Readiness { health: self.health.subscribe(), view: self.view.clone() }
    }

    /// The state of the partitions, for metrics.
    pub fn gauges(&self) -> Gauges {
        Gauges { cluster: self.services.cluster.clone() }
    }

    /// Runs until `stop`, and then lets attempts under way end. An error when an essential task ended.
    ///
    /// Boxed, so that the code of this crate is compiled here. A crate that awaits a future compiles it again.
    pub fn run(self, stop: CancellationToken) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
        Box::pin(self.work(stop))
    }

    async fn work(self, stop: CancellationToken) -> Result<(), Error> {
        let Self { config, bus, clock, view, evidence, listener, owners, services, beside, end, .. } = self;
        let Services { api, operator, refusals, .. } = services;
        let in_flight = InFlightLimit::new(config.clone());
        let forwarder = Forwarder::default();
        let tools = Tools {
            bus: bus.clone(),
            clock: clock.clone(),
            config: config.clone(),
            sender: Sender::new(bus.clone(), clock.clone(), forwarder.clone(), evidence.clone()),
            in_flight: in_flight.semaphore(),
            recent: RecentEvents::default(),
            feed: view.feed(),
            view: view.clone(),
        };
        let grpc =
            server::serve(listener, &config.borrow().relay, &api, self.health.subscribe(), end.clone())?;
        let mut tasks: JoinSet<&'static str> = JoinSet::new();
        let mut essential = |name: &'static str, task: Task| {
            tasks.spawn(async move {
                task.await;
                name
            });
        };
        // Servers and the view go on while attempts end, so that their end is shown.
        essential("the gRPC server", Box::pin(grpc));
        for (name, task) in beside {
            essential(name, task);
        }
        essential(
            "the projector of the status view",
            Box::pin(view::projector::run(bus.clone(), view.clone(), end.clone())),
        );
        essential("the refusals of ingresses", Box::pin(refusals.listen(bus, end.clone())));
        essential(
            "the answers to other relays",
            Box::pin(cluster::answer_questions(operator.clone(), end.clone())),
        );
        let until_end = |task: Task| -> Task {
            let end = end.clone();
            Box::pin(async move {
                end.run_until_cancelled(task).await;
            })
        };
        let replays = control::run_jobs(operator, stop.clone());
        let ended = end.clone();
        essential(
            "the replay jobs",
            Box::pin(async move {
                replays.await;
                ended.cancelled().await;
            }),
        );
        essential("the limit of deliveries in flight", until_end(Box::pin(in_flight.follow())));
        essential("the connections", until_end(Box::pin(forwarder.follow(config.clone()))));
        essential("the retention of evidence", until_end(Box::pin(evidence.clone().retain(clock.clone()))));
        essential(
            "the retention of the status view",
            until_end(Box::pin(retain(view.clone(), clock, config))),
        );
        let supervisor = supervisor::run(tools, owners, self.ownership, self.health, stop.clone());
        let mut supervisor = tokio::spawn(supervisor);
        let ended = tokio::select! {
            supervised = &mut supervisor => match supervised {
                Ok(Ok(())) if stop.is_cancelled() => None,
                Ok(Err(StreamsGone(why))) => {
                    tracing::error!(why, "the streams are gone; this relay ends, and needs a restart");
                    return Err(Error::StreamsGone { why });
                }
                _ => Some("the supervisor of the partitions"),
            },
            Some(ended) = tasks.join_next() => Some(ended.unwrap_or("a task of the relay")),
        };
        if let Some(task) = ended {
            tracing::error!(task, "essential task ended");
            return Err(Error::Ended { task });
        }
        // Watchers see the last attempts end before they are disconnected.
        let _ = tokio::time::timeout(STOP_TIMEOUT, view.folded()).await;
        end.cancel();
        // A silent client would otherwise keep the relay for ever.
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tasks.shutdown().await;
        }
        let _ = tokio::time::timeout(STOP_TIMEOUT, evidence.written()).await;
        if let Err(error) = view.close().await {
            tracing::warn!(%error, "status view close failed");
        }
        Ok(())
    }
}

/// A task of the relay.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Removes expired rows of the view that belong to no event.
async fn retain(view: view::View, clock: Clock, config: watch::Receiver<Arc<Config>>) {
    loop {
        let retention = config.borrow().retention;
        // Rows are kept at most a hundredth longer than the retention.
        clock.sleep((retention / 100).clamp(Duration::from_secs(1), Duration::from_secs(600))).await;
        if let Err(error) = view.expire(clock.now(), retention).await {
            tracing::warn!(%error, "status view cleanup failed");
        }
    }
}

/// Whether a relay works: it owns its partitions and dispatches.
#[derive(Clone)]
pub struct Readiness {
    health: watch::Receiver<Health>,
    view: view::View,
}

impl Readiness {
    /// Why the relay does not work, in one sentence; `None` when it does.
    pub fn fault(&self) -> Option<String> {
        self.health.borrow().fault()
    }

    /// Whether the status view is damaged, which only a restart mends.
    pub fn is_damaged(&self) -> bool {
        self.view.damage().was_found()
    }

    /// The number of commits that the status is behind.
    pub fn behind(&self) -> u64 {
        self.view.behind()
    }

    /// Returns once the relay works.
    pub async fn wait(&self) {
        // The sender lives as long as the relay.
        let _ = self.health.clone().wait_for(|health| health.fault().is_none()).await;
    }
}
