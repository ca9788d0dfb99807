//! The models of OpenRouter, kept for a while and shown from before while OpenRouter cannot be asked.

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use talaria_core::config::Api;
use talaria_openrouter::VideoModel;
use tokio::time::Instant;

/// How long a list is fresh.
const FRESH: Duration = Duration::from_secs(600);

/// The pause before the next try while an old list is shown.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// How long a failure is the answer to all where there is no old list. Those who waited for the same fetch come within it.
const FAILURE_LIFE: Duration = Duration::from_secs(5);

/// The most lists. Only replaced keys leave old ones.
const MOST: usize = 1024;

/// The models as OpenRouter listed them.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub models: Arc<[VideoModel]>,
    pub fetched_at: Timestamp,
    /// Why the list is not fresh; empty if it is.
    pub stale_because: String,
}

/// The lists by URL and key: two accounts may see different models.
#[derive(Default)]
pub(super) struct Catalogue(Mutex<HashMap<[u8; 32], Slot>>);

/// Locked while it is fetched: those who ask meanwhile get the same result, also if it is a failure.
type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

/// The result of the last fetch.
struct Known {
    result: Result<Listing, String>,
    /// When OpenRouter is asked again.
    next: Instant,
}

impl Catalogue {
    /// The list of an API, from `fetch` if it is not fresh. Fails if there is none, not even an old one.
    pub(super) async fn listing<E: ToString>(
        &self,
        api: &Api,
        fetch: impl Future<Output = Result<Vec<VideoModel>, E>>,
    ) -> Result<Listing, String> {
        let slot = self.slot(api);
        let mut slot = slot.lock().await;
        if let Some(known) = slot.as_ref().filter(|known| Instant::now() < known.next) {
            return known.result.clone();
        }
        let fetched = fetch.await.map_err(|error| error.to_string());
        let old = slot.take().and_then(|known| known.result.ok());
        let known = old_or_fetched(old, fetched, Timestamp::now(), Instant::now());
        slot.insert(known).result.clone()
    }

    fn slot(&self, api: &Api) -> Slot {
        let digest = Sha256::new()
            .chain_update(api.base_url.as_str())
            .chain_update([0])
            .chain_update(api.key.expose_secret())
            .finalize();
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST {
            slots.clear();
        }
        Arc::clone(slots.entry(digest.into()).or_default())
    }
}

/// The fetched list, or the old one with the reason.
fn old_or_fetched(
    old: Option<Listing>,
    fetched: Result<Vec<VideoModel>, String>,
    now: Timestamp,
    clock: Instant,
) -> Known {
    let (result, life) = match (fetched, old) {
        (Ok(models), _) => {
            (Ok(Listing { models: models.into(), fetched_at: now, stale_because: String::new() }), FRESH)
        }
        (Err(why), Some(old)) => (Ok(Listing { stale_because: why, ..old }), RETRY_DELAY),
        (Err(why), None) => (Err(why), FAILURE_LIFE),
    };
    Known { result, next: clock + life }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use talaria_core::network::Networks;

    fn api(key: &str) -> Api {
        let base_url = "https://openrouter.example/api/v1".parse().unwrap();
        Api { key: key.into(), base_url, networks: Networks::default() }
    }

    fn model(id: &str) -> VideoModel {
        VideoModel { id: id.into(), ..VideoModel::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_fetched_again_when_it_is_old_and_shown_while_it_cannot_be() {
        let (catalogue, fetches) = (Catalogue::default(), Cell::new(0));
        let ask = async |key: &str, says: Result<&str, &str>| {
            let api = api(key);
            let listing = catalogue.listing(&api, async {
                fetches.set(fetches.get() + 1);
                says.map(|id| vec![model(id)])
            });
            listing.await.map(|listing| (listing.models[0].id.clone(), listing.stale_because))
        };
        let fresh = |id: &str| Ok((id.to_owned(), String::new()));
        let stale = |id: &str| Ok((id.to_owned(), "away".to_owned()));
        assert_eq!(ask("a", Err("away")).await, Err("away".into()));
        assert_eq!(ask("a", Ok("one")).await, Err("away".into()), "for a short while");
        tokio::time::advance(FAILURE_LIFE).await;
        assert_eq!(ask("a", Ok("one")).await, fresh("one"));
        assert_eq!(ask("a", Ok("two")).await, fresh("one"));
        assert_eq!(ask("b", Ok("other")).await, fresh("other"), "another key may see others");
        assert_eq!(fetches.get(), 3);
        tokio::time::advance(FRESH).await;
        assert_eq!(ask("a", Err("away")).await, stale("one"));
        assert_eq!(ask("a", Ok("two")).await, stale("one"), "it is not asked at once again");
        assert_eq!(fetches.get(), 4);
        tokio::time::advance(RETRY_DELAY).await;
        assert_eq!(ask("a", Ok("two")).await, fresh("two"));
        assert_eq!(fetches.get(), 5);
    }
    #[tokio::test(start_paused = true)]
    async fn one_fetch_that_hangs_answers_all_who_ask_meanwhile() {
        let (catalogue, fetches) = (Catalogue::default(), Cell::new(0));
        for says in [Err("it did not answer"), Ok(vec![model("one")])] {
            tokio::time::advance(FAILURE_LIFE).await;
            let key = api("a");
            let ask = || {
                catalogue.listing(&key, async {
                    fetches.set(fetches.get() + 1);
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    says.clone()
                })
            };
            let (one, two, three) = tokio::join!(ask(), ask(), ask());
            assert!([one, two, three].iter().all(|answer| answer.is_ok() == says.is_ok()));
        }
        assert_eq!(fetches.get(), 2);
    }
}
