//! Random faults from a seed, for a given time, with one NATS server or three: `make chaos SECONDS=… SEED=…
//! SERVERS=3`.

use rand::{Rng as _, rngs::StdRng};
use std::{
    env,
    time::{Duration, Instant},
};
use talaria_tests::{
    fleet::{Fleet, Ledger, fleet},
    gate::Gate,
    nats::{Cluster, Server},
    seeded,
};
use tokio::time::sleep;

/// A fault.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillIngress,
    KillRelay,
    FreezeRelay,
    CutOffRelay,
    RestartRelay,
    Join,
    Leave,
    KillNats,
    FreezeNats,
    SlowHermes,
}

const FAULTS: [Fault; 10] = [
    Fault::KillIngress,
    Fault::KillRelay,
    Fault::FreezeRelay,
    Fault::CutOffRelay,
    Fault::RestartRelay,
    Fault::Join,
    Fault::Leave,
    Fault::KillNats,
    Fault::FreezeNats,
    Fault::SlowHermes,
];

/// How long Hermes usually takes.
const USUAL: Duration = Duration::from_millis(100);

/// The most relays at once.
const RELAYS: usize = 6;

/// The NATS servers.
enum Nats {
    One(Server),
    Three(Cluster),
}

impl Nats {
    async fn start() -> Self {
        match env::var("TALARIA_CHAOS_SERVERS").as_deref() {
            Ok("3") => Self::Three(Cluster::start(3).await),
            Ok("1") | Err(_) => Self::One(Server::start().await),
            Ok(other) => panic!("one server or three, not {other}"),
        }
    }

    fn urls(&self) -> Vec<String> {
        match self {
            Self::One(server) => vec![server.url()],
            Self::Three(cluster) => cluster.urls(),
        }
    }

    /// The only server, or the one that leads one of the streams.
    async fn leader(&mut self, random: &mut StdRng) -> &mut Server {
        match self {
            Self::One(server) => server,
            Self::Three(cluster) => {
                let stream = ["talaria-events", "talaria-journal"][random.random_range(0..2)];
                let leader = cluster.leader_of(stream).await;
                cluster.node(leader)
            }
        }
    }

    /// Waits until every server has caught up.
    async fn healthy(&self) {
        if let Self::Three(cluster) = self {
            cluster.healthy().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to; `make chaos` runs it"]
async fn the_account_balances_after_random_faults() {
    let seconds = env::var("TALARIA_CHAOS_SECONDS").map_or(60, |seconds| seconds.parse().unwrap());
    let mut random = seeded("random faults");
    let (mut nats, ledger) = (Nats::start().await, Ledger::start().await);
    let urls = nats.urls();
    let gate = Gate::to(urls[0].trim_start_matches("nats://").parse().unwrap()).await;
    let replicas = urls.len();
    let mut fleet = fleet(&ledger).over(&urls).replicas(replicas).start().await;
    fleet.join_over(format!("nats://{}", gate.address)).await;
    // So that there is always something under way.
    ledger.takes(USUAL);
    let load = fleet.load().start();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        load.goes_on(20).await;
        sleep(Duration::from_millis(random.random_range(0..2_000))).await;
        let fault = FAULTS[random.random_range(0..FAULTS.len())];
        eprintln!("{:?}: {fault:?}", start.elapsed());
        happens(fault, &mut fleet, &mut nats, &gate, &ledger, &mut random).await;
    }
    load.goes_on(20).await;
    fleet.account(&ledger, &load.stop().await).await;
}

/// Lets a fault happen, and be over: soon, or only once everybody has noticed it.
async fn happens(
    fault: Fault,
    fleet: &mut Fleet,
    nats: &mut Nats,
    gate: &Gate,
    ledger: &Ledger,
    random: &mut StdRng,
) {
    let longest = if random.random_bool(0.5) { 300 } else { 9_000 };
    let time = Duration::from_millis(random.random_range(0..longest));
    let (ingress, relay) =
        (random.random_range(0..fleet.ingresses.len()), random.random_range(0..fleet.relays.len()));
    match fault {
        Fault::KillIngress => {
            fleet.ingresses[ingress].kill();
            sleep(time).await;
            fleet.ingresses[ingress].start_again().await;
        }
        Fault::KillRelay => {
            fleet.relays[relay].kill();
            sleep(time).await;
            fleet.relays[relay].start_again().await;
        }
        Fault::FreezeRelay => {
            fleet.relays[relay].freeze();
            sleep(time).await;
            fleet.relays[relay].thaw();
        }
        // The one behind the gate, if it has not left.
        Fault::CutOffRelay => {
            gate.close();
            sleep(time).await;
            gate.open();
        }
        Fault::RestartRelay => {
            assert_eq!(fleet.relays[relay].terminate().await, Some(0));
            fleet.relays[relay].start_again().await;
        }
        Fault::Join if fleet.relays.len() < RELAYS => fleet.join().await,
        Fault::Leave if fleet.relays.len() > 1 => {
            let mut relay = fleet.relays.remove(relay);
            assert_eq!(relay.terminate().await, Some(0));
        }
        Fault::Join | Fault::Leave => {}
        Fault::KillNats => {
            let server = nats.leader(random).await;
            server.kill();
            sleep(time).await;
            server.start_again().await;
            nats.healthy().await;
        }
        Fault::FreezeNats => {
            let server = nats.leader(random).await;
            server.freeze().await;
            sleep(time).await;
            server.thaw();
            nats.healthy().await;
        }
        Fault::SlowHermes => {
            ledger.takes(time.min(Duration::from_secs(2)));
            sleep(time).await;
            ledger.takes(USUAL);
        }
    }
}
