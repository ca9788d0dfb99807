use super::*;
use crate::{decisions::exchange::Exchange, test_config};
use jiff::Timestamp;
use std::fs;
use tempfile::TempDir;

struct World {
    directory: TempDir,
    config: watch::Sender<Arc<Config>>,
    evidence: Evidence,
}

/// With this age of evidence.
fn config(age: Option<u64>) -> Arc<Config> {
    let mut config = test_config::config("");
    config.relay.evidence = age.map(Duration::from_secs);
    config.into()
}

impl World {
    fn new() -> Self {
        Self::in_directory(TempDir::new().unwrap())
    }

    fn in_directory(directory: TempDir) -> Self {
        let config = watch::Sender::new(config(Some(3600)));
        let evidence = Evidence::start(directory.path(), config.subscribe()).unwrap();
        Self { directory, config, evidence }
    }

    async fn numbers(&self, delivery: &str) -> Vec<u32> {
        let found = self.evidence.read(delivery, 0, |_| true).await.unwrap();
        found.iter().map(|evidence| evidence.number).collect()
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join(FILE)
    }

    /// Sends an order that has to be done.
    async fn order(&self, order: Order) {
        self.evidence.queue.send(Work::Order(order)).unwrap();
        // The steps of a removal follow the order.
        self.evidence.written().await;
        self.evidence.written().await;
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn observed(delivery: &str, number: u32, second: i64, body: Vec<u8>) -> Observed {
    Observed {
        delivery: delivery.into(),
        tenant: "acme".into(),
        number,
        started_at: at(second),
        route: test_config::route("prompt: p"),
        headers: http::HeaderMap::new(),
        body: body.into(),
        exchange: Exchange::Lost("reset".into()),
    }
}

/// Bytes that cannot be compressed.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| rand::random_range(b'!'..b'~')).collect()
}

#[tokio::test]
async fn attempts_are_found_by_delivery_number_and_tenant_also_after_a_restart() {
    let world = World::new();
    assert_eq!(world.numbers("a").await, [0; 0], "there is no file yet");
    for number in 1..=200 {
        world.evidence.keep(observed("a", number, 1, b"{}".into()));
        world.evidence.keep(observed("b", number, 1, b"{}".into()));
    }
    let all: Vec<u32> = (1..=200).rev().collect();
    assert_eq!(world.numbers("a").await, all, "newest first");
    let one = world.evidence.read("b", 7, |tenant| tenant == "acme").await.unwrap();
    assert_eq!((one.len(), one[0].number, one[0].request_body.as_str()), (1, 7, "{}"));
    assert!(world.evidence.read("b", 7, |tenant| tenant == "globex").await.unwrap().is_empty());
    assert!(world.numbers("c").await.is_empty());

    let World { directory, config, evidence } = world;
    drop((config, evidence));
    let again = World::in_directory(directory);
    again.evidence.keep(observed("a", 201, 1, b"{}".into()));
    assert_eq!(again.numbers("a").await.len(), 201);
}

#[tokio::test]
async fn no_secret_is_in_the_file() {
    let world = World::new();
    let secret = test_config::SECRET;
    world.evidence.keep(observed("a", 1, 1, format!("{{\"echo\":\"{secret}\"}}").into()));
    assert_eq!(world.numbers("a").await, [1]);
    let connection = rusqlite::Connection::open(world.file()).unwrap();
    let data: Vec<u8> = connection.query_row("SELECT data FROM blocks", (), |row| row.get(0)).unwrap();
    let mut raw = Vec::new();
    io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&*data), &mut raw).unwrap();
    let raw = String::from_utf8_lossy(&raw);
    assert!(raw.contains("{\"echo\":\"(secret)\"}") && !raw.contains(secret), "{raw}");
    for entry in fs::read_dir(world.directory.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn old_evidence_is_removed_in_steps() {
    let world = World::new();
    // A block each.
    for number in 1..=150 {
        world.evidence.keep(observed("a", number, i64::from(number), vec![b'x'; 256 << 10]));
        if number % 50 == 0 {
            world.evidence.written().await;
        }
    }
    assert_eq!(world.numbers("a").await.len(), 150);
    world.order(Order::Remove(at(101))).await;
    until_numbers(&world, &(101..=150).rev().collect::<Vec<_>>()).await;
    world.order(Order::Remove(at(1000))).await;
    until_numbers(&world, &[]).await;
    let connection = rusqlite::Connection::open(world.file()).unwrap();
    let keys: i64 = connection.query_row("SELECT count(*) FROM keys", (), |row| row.get(0)).unwrap();
    assert_eq!(keys, 0);
}

async fn until_numbers(world: &World, expected: &[u32]) {
    while world.numbers("a").await != expected {
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_oldest_evidence_goes_first_where_the_file_is_too_large() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    let mut file = file::File::open(&path).unwrap();
    let large = |number| Box::new(observed("a", number, 1, noise(256 << 10)));
    file.append((1..=40).map(large)).unwrap();
    let full = file.size().unwrap();
    assert!(full > 40 * (128 << 10), "{full}");
    file.remove_oldest().unwrap();
    assert!(file.size().unwrap() < full * 9 / 10);
    let found = file::read(&path, "a", 0, &|_| true).unwrap();
    assert_eq!((found.len(), found[0].number, found.last().unwrap().number), (32, 40, 9));
    // Free pages are used again.
    file.append((41..=48).map(large)).unwrap();
    assert!(file.size().unwrap() < full * 11 / 10);
    // Also until nothing is left.
    for _ in 0..5 {
        file.remove_oldest().unwrap();
    }
    assert!(file::read(&path, "a", 0, &|_| true).unwrap().is_empty());
    file.append([large(49)].into_iter()).unwrap();
    assert_eq!(file::read(&path, "a", 0, &|_| true).unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_queue_makes_evidence_missing_and_stops_nothing() {
    let world = World::new();
    // Most of these come while the writer gathers.
    for number in 1..=100 {
        world.evidence.keep(observed("a", number, 1, vec![b'x'; 1 << 20]));
    }
    let found = world.numbers("a").await.len();
    assert!((1..100).contains(&found), "{found}");
    // The room is there again.
    world.evidence.keep(observed("b", 1, 1, vec![b'x'; 1 << 20]));
    assert_eq!(world.numbers("b").await, [1]);
}

#[tokio::test]
async fn with_off_nothing_is_written_and_the_file_is_removed() {
    let world = World::new();
    world.evidence.keep(observed("a", 1, 1, b"{}".into()));
    assert_eq!(world.numbers("a").await, [1]);
    let retain = tokio::spawn(world.evidence.clone().retain(Clock::manual(at(1))));
    world.config.send_replace(config(None));
    while world.file().exists() {
        tokio::task::yield_now().await;
    }
    world.evidence.keep(observed("a", 2, 1, b"{}".into()));
    assert!(world.numbers("a").await.is_empty() && !world.file().exists());
    // And on again.
    world.config.send_replace(config(Some(60)));
    world.evidence.keep(observed("a", 3, 1, b"{}".into()));
    assert_eq!(world.numbers("a").await, [3]);
    retain.abort();

    world.config.send_replace(config(None));
    assert!(world.file().exists());
    let _ = Evidence::start(world.directory.path(), world.config.subscribe()).unwrap();
    assert!(!world.file().exists(), "a start removes it");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_created_again() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join(FILE), "no SQLite file").unwrap();
    let world = World::in_directory(directory);
    world.evidence.keep(observed("a", 1, 1, b"{}".into()));
    assert_eq!(world.numbers("a").await, [1]);
}

#[test]
fn evidence_is_kept_no_longer_than_events() {
    let mut config = Config::clone(&config(Some(3600)));
    assert_eq!(kept_for(&config), Some(Duration::from_secs(3600)));
    config.retention = Duration::from_secs(60);
    assert_eq!(kept_for(&config), Some(Duration::from_secs(60)));
}
