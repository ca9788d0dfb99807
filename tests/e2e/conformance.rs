//! The bus' contract over a real NATS server: the suite that the embedded bus passes too.

use jiff::Timestamp;
use std::sync::Arc;
use talaria_bus::{Bus, Clock, conformance::Backend};
use talaria_core::config::Nats;
use talaria_tests::nats;
use tempfile::TempDir;

/// Streams of their own on a server, and a directory that outlives the buses in it.
struct Broker {
    directory: TempDir,
    clock: Clock,
    prefix: String,
}

impl Broker {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_777_000_000).unwrap());
        let prefix = format!("conformance-{:016x}", rand::random::<u64>());
        Self { directory: tempfile::tempdir().unwrap(), clock, prefix }
    }
}

impl Backend for Broker {
    async fn open(&self) -> Bus {
        let config = Arc::new(Nats {
            servers: vec![nats::shared().await.to_owned()],
            creds: None,
            tls: None,
            replicas: 1,
            prefix: self.prefix.clone(),
            max_bytes: None,
        });
        // Whoever had the directory before may need a moment to let go of it.
        talaria_tests::until("the directory to be free", async || {
            Bus::nats(&config, self.directory.path(), self.clock.clone()).await.ok()
        })
        .await
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

talaria_bus::conformance_suite!(Broker::new());
