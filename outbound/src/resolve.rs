//! The resolver: from a name to its addresses.
//!
//! The system's look-up blocks a thread until a DNS server answers, and cannot be cancelled. The bus and the status need such
//! threads, too. So a caller that asks for a name that is being looked up waits for the same answer, and the number of look-ups
//! at once is limited.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
};

/// Half of tokio's blocking threads.
const AT_ONCE: usize = 256;

type LookUp = Result<Vec<IpAddr>, String>;

/// It blocks.
type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Looks names up. A name that is looked up for several callers is asked for once.
pub struct Resolver {
    ask: Arc<Ask>,
    running: Mutex<HashMap<String, watch::Receiver<Option<LookUp>>>>,
    threads: Arc<Semaphore>,
}

impl Resolver {
    /// By the system's hosts file and DNS.
    pub fn system() -> Arc<Self> {
        Self::asking(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// By this function, which may block.
    pub fn asking(ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Arc<Self> {
        let threads = Arc::new(Semaphore::new(AT_ONCE));
        Arc::new(Self { ask: Arc::new(ask), running: Mutex::default(), threads })
    }

    /// A look-up goes on for later callers if this future is dropped.
    pub(crate) async fn look_up(self: &Arc<Self>, name: &str) -> LookUp {
        let mut answer = self.join(name);
        let found = answer.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.unwrap_or_else(|| Err("the look-up was given up".into()))
    }

    fn join(self: &Arc<Self>, name: &str) -> watch::Receiver<Option<LookUp>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = running.get(name) {
            return answer.clone();
        }
        let (result, answer) = watch::channel(None);
        running.insert(name.to_owned(), answer.clone());
        let (resolver, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            let _thread = resolver.threads.acquire().await;
            let (ask, asked) = (Arc::clone(&resolver.ask), name.clone());
            let found = match spawn_blocking(move || ask(&asked)).await {
                Ok(found) => found.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // A later caller starts another look-up.
            resolver.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            result.send_replace(Some(found));
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        sync::mpsc,
        time::Duration,
    };
    use tokio::time::timeout;

    /// A DNS that does not answer costs one thread for each name, however many wait for it and give up.
    #[tokio::test]
    async fn a_name_is_looked_up_once_at_a_time() {
        let (answer, answers) = mpsc::channel::<IpAddr>();
        let (answers, asked) = (Mutex::new(answers), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&asked);
        let resolver = Resolver::asking(move |name| {
            count.fetch_add(1, Ordering::SeqCst);
            match name {
                "slow" => Ok(vec![answers.lock().unwrap().recv().unwrap()]),
                _ => Err(io::Error::other("no such name")),
            }
        });
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(20), resolver.look_up("slow")).await.is_err());
        }
        assert_eq!(resolver.look_up("other").await, Err("no such name".into()), "others go on");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        answer.send(address).unwrap();
        assert_eq!(resolver.look_up("slow").await, Ok(vec![address]));
        // Addresses are not cached: a name may lead elsewhere by now.
        let elsewhere: IpAddr = "192.0.2.2".parse().unwrap();
        answer.send(elsewhere).unwrap();
        assert_eq!(resolver.look_up("slow").await, Ok(vec![elsewhere]));
    }
}
