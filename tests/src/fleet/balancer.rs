//! A load balancer as in a cluster: connections go to each ready ingress in turn. One that is not ready any more still gets some
//! for a while, because the news reaches the balancer late.

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

/// Time for which an ingress that is not ready still gets connections.
const LAG: Duration = Duration::from_secs(1);

/// Interval at which an ingress is asked whether it is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    /// Where callbacks come in.
    pub address: SocketAddr,
    behind: Arc<Behind>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Behind {
    /// The ingresses that get connections.
    parts: Mutex<Vec<Target>>,
    /// Connections to ingresses that were not ready any more.
    late: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    ingress: SocketAddr,
    leaves: bool,
}

impl Balancer {
    /// Starts it without ingresses.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), Arc::<Behind>::default());
        let server = tokio::spawn(lead(listener, Arc::clone(&behind)));
        Self { address, behind, server }
    }

    /// Adds an ingress once it is ready, until [`LAG`] after it is not.
    pub async fn add(&self, part: &Part) {
        let (ingress, admin) = part.listens_on();
        let ready = move || async move {
            let answer = crate::http().get(format!("http://{admin}/readyz")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        crate::until("an ingress to be ready", async || ready().await.then_some(())).await;
        self.behind.parts.lock().unwrap().push(Target { ingress, leaves: false });
        let behind = Arc::clone(&self.behind);
        tokio::spawn(async move {
            while ready().await {
                sleep(POLL_INTERVAL).await;
            }
            for target in behind.parts.lock().unwrap().iter_mut().filter(|target| target.ingress == ingress) {
                target.leaves = true;
            }
            sleep(LAG).await;
            behind.parts.lock().unwrap().retain(|target| target.ingress != ingress);
        });
    }

    /// The number of connections to ingresses that were not ready.
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
        let target = {
            let parts = behind.parts.lock().unwrap();
            parts.get(turn % parts.len().max(1)).copied()
        };
        // Without a target, or if the target refuses the connection, the client is disconnected.
        let Some(target) = target else { continue };
        behind.late.fetch_add(u64::from(target.leaves), Relaxed);
        connections.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(target.ingress).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
