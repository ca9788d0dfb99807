//! Random faults from a seed, for as long as it is told to: `make chaos SECONDS=… SEED=…`.

use rand::{Rng as _, rngs::StdRng};
use std::{
    env,
    time::{Duration, Instant},
};
use talaria_tests::{
    fleet::{Fleet, Ledger, fleet},
    gate::Gate,
    nats::Server,
    seeded,
};
use tokio::time::sleep;

/// What may happen next.
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to; `make chaos` runs it"]
async fn the_account_balances_after_random_faults() {
    let seconds = env::var("TALARIA_CHAOS_SECONDS").map_or(60, |seconds| seconds.parse().unwrap());
    let mut random = seeded("random faults");
    let (mut server, ledger) = (Server::start().await, Ledger::start().await);
    let gate = Gate::to(server.url().trim_start_matches("nats://").parse().unwrap()).await;
    let mut fleet = fleet(&ledger).over(&[server.url()]).start().await;
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
        happens(fault, &mut fleet, &mut server, &gate, &ledger, &mut random).await;
    }
    load.goes_on(20).await;
    fleet.account(&ledger, &load.stop().await).await;
}

/// Lets a fault happen, and be over: soon, or only once everybody has noticed it.
async fn happens(
    fault: Fault,
    fleet: &mut Fleet,
    server: &mut Server,
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
            server.kill();
            sleep(time).await;
            server.start_again().await;
        }
        Fault::FreezeNats => {
            server.freeze().await;
            sleep(time).await;
            server.thaw();
        }
        Fault::SlowHermes => {
            ledger.takes(time.min(Duration::from_secs(2)));
            sleep(time).await;
            ledger.takes(USUAL);
        }
    }
}
