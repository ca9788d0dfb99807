//! What a cluster puts before a service: connections go to each ingress that is ready, in turn, and one that is not ready
//! any more gets some for a while yet, because what knows of it is not what leads connections.

use super::Part;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// How long a part gets connections after it said that it is not ready.
const LAG: Duration = Duration::from_secs(1);

/// How often parts are asked.
const PAUSE: Duration = Duration::from_millis(20);

/// A running balancer, with no server behind it yet.
#[derive(Debug)]
pub struct Balancer {
    /// Where callbacks come in.
    pub address: SocketAddr,
    behind: Arc<Behind>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Behind {
    /// Who gets connections.
    parts: Mutex<Vec<Seat>>,
    /// Connections that went to a server that was not ready any more.
    late: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    ingress: SocketAddr,
    leaves: bool,
}

impl Balancer {
    /// Starts to listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), Arc::<Behind>::default());
        let server = tokio::spawn(lead(listener, Arc::clone(&behind)));
        Self { address, behind, server }
    }

    /// Leads connections to an ingress too, from when it is ready until a while after it is not any more. Returns once
    /// it is ready.
    pub async fn add(&self, part: &Part) {
        let (ingress, admin) = part.listens_on();
        let ready = move || async move {
            let answer = crate::http().get(format!("http://{admin}/readyz")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        crate::until("an ingress to be ready", async || ready().await.then_some(())).await;
        self.behind.parts.lock().unwrap().push(Seat { ingress, leaves: false });
        let behind = Arc::clone(&self.behind);
        tokio::spawn(async move {
            while ready().await {
                sleep(PAUSE).await;
            }
            for seat in behind.parts.lock().unwrap().iter_mut().filter(|seat| seat.ingress == ingress) {
                seat.leaves = true;
            }
            sleep(LAG).await;
            behind.parts.lock().unwrap().retain(|seat| seat.ingress != ingress);
        });
    }

    /// How many connections went to a server that had said that it is not ready.
    pub fn late(&self) -> u64 {
        self.behind.late.load(Relaxed)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn lead(listener: TcpListener, behind: Arc<Behind>) {
    let mut connections = JoinSet::new();
    for turn in 0.. {
        let (mut near, _) = listener.accept().await.unwrap();
        let seat = {
            let parts = behind.parts.lock().unwrap();
            parts.get(turn % parts.len().max(1)).copied()
        };
        // A client is hung up on when no server is there, or when the chosen one refuses connections.
        let Some(seat) = seat else { continue };
        behind.late.fetch_add(u64::from(seat.leaves), Relaxed);
        connections.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(seat.ingress).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
