//! The bus' contract over a real NATS server: the suite that the embedded bus passes too.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use talaria_bus::{Bus, conformance::Backend};
use talaria_core::config::Nats;
use talaria_tests::{nats::Server, until};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, OnceCell},
};

/// The beginning of a commit on the wire to the server.
const COMMIT: &[u8] = b"HPUB talaria.journal.";

/// A server of its own, and directories that outlive the buses in them.
struct Broker {
    directories: [TempDir; 2],
    running: OnceCell<Running>,
}

struct Running {
    server: Mutex<Server>,
    wire: Wire,
}

impl Broker {
    fn new() -> Self {
        let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
        Self { directories, running: OnceCell::new() }
    }

    async fn running(&self) -> &Running {
        let start = async || {
            let server = Server::start().await;
            let address = server.url().trim_start_matches("nats://").parse().unwrap();
            Running { server: Mutex::new(server), wire: Wire::to(address).await }
        };
        self.running.get_or_init(start).await
    }

    async fn bus(&self, directory: &TempDir) -> Bus {
        let config = Nats {
            servers: vec![format!("nats://{}", self.running().await.wire.address)],
            creds: None,
            nkey: None,
            tls: None,
            replicas: 1,
            prefix: "talaria".into(),
            max_bytes: None,
        };
        // The bus that had the directory before may need a moment to let go of it.
        until("the directory to be free", async || Bus::nats(&config, directory.path()).await.ok()).await
    }
}

impl Backend for Broker {
    async fn open(&self) -> Bus {
        self.bus(&self.directories[0]).await
    }

    async fn open_second(&self) -> Option<Bus> {
        Some(self.bus(&self.directories[1]).await)
    }

    async fn break_writes(&self, _: &Bus) -> bool {
        self.running().await.server.lock().await.kill();
        true
    }

    async fn mend(&self, bus: &Bus) {
        self.running().await.server.lock().await.start_again().await;
        until("the connection to be back", async || bus.check().await.ok()).await;
    }

    async fn lose_acknowledgement(&self, _: &Bus) -> bool {
        self.running().await.wire.loses.store(true, Ordering::SeqCst);
        true
    }
}

/// A wire to the server that can hang up between a commit and its acknowledgement.
struct Wire {
    address: SocketAddr,
    /// Whether it does so with the next commit.
    loses: Arc<AtomicBool>,
}

impl Wire {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let loses = Arc::<AtomicBool>::default();
        let shared = Arc::clone(&loses);
        // Ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let loses = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        // Either side may hang up.
                        let _ = carry(client, server, &loses).await;
                    }
                });
            }
        });
        Self { address, loses }
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, loses: &AtomicBool) -> std::io::Result<()> {
    let (mut sent, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut hangs_up = false;
    loop {
        tokio::select! {
            read = client.read(&mut sent) => match read? {
                0 => return Ok(()),
                read => {
                    let sent = &sent[..read];
                    let is_commit = sent.windows(COMMIT.len()).any(|part| part == COMMIT);
                    hangs_up |= is_commit && loses.swap(false, Ordering::SeqCst);
                    server.write_all(sent).await?;
                }
            },
            read = server.read(&mut answer) => match read? {
                0 => return Ok(()),
                // The answer has come, so the commit was stored.
                _ if hangs_up => return Ok(()),
                read => client.write_all(&answer[..read]).await?,
            },
        }
    }
}

talaria_bus::conformance_suite!(Broker::new());
