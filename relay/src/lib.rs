//! The way out: fans events out to their tenant's routes, forwards each to Hermes, and answers what became of it.
//!
//! ```text
//! [events] ▶ fan-out: plan ▶ [deliveries] ▶ dispatch: pace ▶ prepare ▶ forward ▶ classify ▶ conclude ─┐
//!                 └───────────── facts ──────────────▶ [journal] ◀──────────── facts ────────────────┘
//!                                                          └▶ projector: fold ▶ view ▶ status (gRPC)
//! ```
//!
//! Decisions, pure, each a file:
//!
//! - [`step`]: what becomes of a delivery in hand, by all that follow.
//! - [`plan`]: which routes an event goes to.
//! - [`admission`], of [`breaker`] and [`pace`]: whether a route's next request may go out, and otherwise when.
//! - [`prepare`] and [`guard`]: what it says.
//! - [`rotation`]: which of the route's secrets it is signed with.
//! - [`classify`]: what Hermes' answer means.
//! - [`retry`]: when a failed attempt is repeated.
//! - [`conclude`]: what an attempt leaves behind.
//! - [`fold`]: where a delivery stands, from the facts about it.
//! - [`explain`]: why an event arrived or did not, and what happens next; [`barrier`]: what stands before it.
//! - [`pause`] and [`replay`]: what operators hold up, and what they do to deliveries.
//!
//! Shells around them: `fanout`, `dispatch` with `routes` and [`forward`] over [`outbound`], `projector` with [`view`],
//! `keeper`, `status`, and `control`, by which operators intervene, both behind `access`: who may ask what. And
//! [`gauges`]: how things stand.

mod access;
pub mod admission;
pub mod barrier;
pub mod breaker;
pub mod classify;
pub mod conclude;
mod control;
mod dispatch;
pub mod explain;
mod fanout;
pub mod fold;
pub mod forward;
pub mod gauges;
pub mod guard;
mod keeper;
pub mod outbound;
pub mod pace;
pub mod pause;
pub mod plan;
pub mod prepare;
mod projector;
pub mod replay;
pub mod retry;
pub mod rotation;
mod routes;
#[cfg(test)]
mod simulation;
mod status;
pub mod step;
#[cfg(test)]
mod testing;
pub mod view;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use talaria_bus::{Bus, Clock};
use talaria_core::config::{Config, Standing};
use talaria_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        control_service_server::{self, ControlServiceServer},
        status_service_server::{self, StatusServiceServer},
    },
};
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// What health is told of: all services at once, and each.
const SERVICES: [&str; 3] = ["", status_service_server::SERVICE_NAME, control_service_server::SERVICE_NAME];

/// How often a client that says nothing is asked whether it is still there; one that is gone gives its place back.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Requests of one gRPC connection at once, watches among them; more wait at the client. As few as RFC 9113, section
/// 6.5.2, recommends at least: a stranger may begin as many health watches, and tonic sets no bound by itself.
const STREAMS: u32 = 100;

/// How long, once all attempts have ended, whoever watches may take to hear of it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why a relay could not be started.
#[derive(Debug, Error)]
pub enum Error {
    /// The status service's address.
    #[error(
        "cannot listen on {address} (relay.grpc); is another process there? name another address, or end it"
    )]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The status view.
    #[error("cannot open the status view: {0}")]
    View(#[from] rusqlite::Error),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] talaria_bus::Error),
    /// gRPC reflection.
    #[error("cannot set up gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The relay, listening but not yet working.
pub struct Relay {
    /// As it is now.
    config: watch::Receiver<Arc<Config>>,
    standing: watch::Receiver<Arc<Standing>>,
    bus: Bus,
    clock: Clock,
    view: view::View,
    forwarder: forward::Forwarder,
    listener: TcpListener,
    /// The journal's newest fact at the start: readiness waits for it.
    newest_fact: u64,
}

impl Relay {
    /// Opens the view and listens on the configured address. The configuration may change from then on; its standing is
    /// told to whoever asks for the status.
    pub async fn bind(
        config: watch::Receiver<Arc<Config>>,
        standing: watch::Receiver<Arc<Standing>>,
        bus: Bus,
        clock: Clock,
    ) -> Result<Self, Error> {
        let journal = bus.journal_bounds().await?;
        let (directory, address) = {
            let config = config.borrow();
            (config.data_dir.clone(), config.relay.grpc)
        };
        let view = view::View::open(&directory, &journal)?;
        let newest_fact = journal.newest;
        let forwarder = forward::Forwarder::default();
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        Ok(Self { config, standing, bus, clock, view, forwarder, listener, newest_fact })
    }

    /// Where the status service listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether the view knows everything that was journalled before the start.
    pub fn readiness(&self) -> Readiness {
        Readiness {
            bus: self.bus.clone(),
            position: self.view.position(),
            newest_fact: self.newest_fact,
            damage: self.view.damage(),
        }
    }

    /// How things stand, for metrics.
    pub fn gauges(&self) -> gauges::Gauges {
        gauges::Gauges {
            config: self.config.clone(),
            bus: self.bus.clone(),
            view: self.view.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Works until it is told to stop, and then lets attempts finish that have begun.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Self { config, standing, bus, clock, view, forwarder, listener, newest_fact } = self;
        // What answers and follows goes on while attempts finish, so that their end can still be seen.
        let (end, mut others) = (CancellationToken::new(), JoinSet::new());
        others.spawn(projector::run(bus.clone(), view.clone(), clock.clone(), end.clone()));
        let operator = control::Operator::new(config.clone(), bus.clone(), view.clone(), clock.clone());
        // What was paused before the start is paused from the start: until that is known nothing is done, and over NATS
        // no share of the work is asked for.
        let known = || projector::caught_up(view.position(), newest_fact);
        let keep = keeper::run(
            operator.clone(),
            bus.clone(),
            view.clone(),
            clock.clone(),
            config.clone(),
            stop.clone(),
        );
        others.spawn(once(known(), stop.clone(), keep));
        let plan = fanout::run(config.clone(), bus.clone(), clock.clone(), stop.clone());
        others.spawn(once(known(), stop.clone(), plan));
        others.spawn(control::run_jobs(operator.clone(), stop.clone()));
        let (health, health_service) = tonic_health::server::health_reporter();
        let status = StatusServiceServer::new(status::StatusServer::new(
            view.clone(),
            bus.clone(),
            clock.clone(),
            standing,
            end.clone(),
        ));
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let refusals = access::Refusals::default();
        if let Ok(address) = listener.local_addr() {
            access::announce(&config.borrow().relay, address);
        }
        let grpc = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .max_concurrent_streams(STREAMS)
            .layer(access::Gate::new(config.clone(), refusals.clone()))
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            // grpcurl before 1.9 asks in the older dialect.
            .add_service(reflection().build_v1alpha()?)
            .add_service(status)
            .add_service(ControlServiceServer::new(operator))
            .serve_with_incoming_shutdown(
                access::listen(listener, config.clone(), refusals),
                end.clone().cancelled_owned(),
            );
        let (ended, caught_up) = (end.clone(), view.position());
        others.spawn(async move {
            use tonic_health::ServingStatus::{NotServing, Serving};
            for service in SERVICES {
                health.set_service_status(service, NotServing).await;
            }
            tokio::select! {
                () = ended.cancelled() => {}
                () = projector::caught_up(caught_up, newest_fact) => {
                    for service in SERVICES {
                        health.set_service_status(service, Serving).await;
                    }
                }
            }
        });
        others.spawn(async move {
            if let Err(error) = grpc.await {
                tracing::error!(%error, "the gRPC services ended");
            }
        });
        let retiring = async {
            stop.cancelled().await;
            bus.retire();
        };
        let dispatcher = dispatch::Dispatcher::new(config, bus.clone(), clock, forwarder, view.clone());
        let dispatch = once(known(), stop.clone(), dispatcher.run(stop.clone()));
        tokio::join!(dispatch, retiring);
        // Watchers see the last attempts end before they are hung up on.
        if let Ok(journal) = bus.journal_bounds().await {
            let seen = projector::caught_up(view.position(), journal.newest);
            let _ = tokio::time::timeout(LAST_WORDS, seen).await;
        }
        if let Err(error) = bus.close().await {
            tracing::warn!(%error, "the bus was not closed in order");
        }
        end.cancel();
        // A client that connected and said nothing would otherwise keep us for ever.
        let ended = tokio::time::timeout(LAST_WORDS, async { while others.join_next().await.is_some() {} });
        if ended.await.is_err() {
            others.shutdown().await;
        }
        if let Err(error) = view.close().await {
            tracing::warn!(%error, "the status view was not closed in order and may be made anew at the next start");
        }
        Ok(())
    }
}

/// Works once everything from before the start is known, unless it is told to stop before.
async fn once(known: impl Future<Output = ()>, stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = known => {}
    }
    work.await;
}

/// Tells whether the relay's status is complete.
#[derive(Clone)]
pub struct Readiness {
    bus: Bus,
    position: watch::Receiver<u64>,
    newest_fact: u64,
    damage: view::Damage,
}

impl Readiness {
    /// Whether the status turned out to be damaged, which only a restart mends.
    pub fn is_damaged(&self) -> bool {
        self.damage.was_found()
    }

    /// How many entries of the journal from before the start are still to be followed.
    pub fn behind(&self) -> u64 {
        self.bus.entries_between(*self.position.borrow(), self.newest_fact)
    }

    /// Returns once none are.
    pub async fn wait(&self) {
        projector::caught_up(self.position.clone(), self.newest_fact).await;
    }
}
