//! Files of completed jobs: fetched from OpenRouter once, and kept.
//!
//! A file may take longer than a question, so fetching goes on between two questions, and each of them is answered after a while
//! with how far it is. A file appears whole or not at all, so a fetch that ends in between begins again.

use metrics::counter;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use talaria_bus::{Files, OpenFile};
use talaria_core::{config::Api, media::kept_name};
use talaria_openrouter::{Client, ContentError, known_type};
use talaria_proto::v1::{AskKeep, Kept, KeptFile, kept::Outcome};
use talaria_telemetry::LogLimiter;
use tokio::{
    io::AsyncReadExt as _,
    sync::{Semaphore, watch},
    time::timeout,
};

/// How long a question waits before it is answered with how far the fetch is.
const SLICE: Duration = Duration::from_secs(20);

/// The most jobs whose files are fetched at once. The owner of a tenant's partition asks for at most 4 of the tenant.
const MOST_FETCHES: usize = 32;

/// The most files of one job, as links have.
const MOST_FILES: u32 = 16;

/// The bytes by which a file's type is known.
const HEAD: usize = 16;

/// A tenant and a job's id at OpenRouter.
type JobKey = (String, String);

/// Fetches files.
#[derive(Clone)]
pub(super) struct Keeper {
    client: Client,
    turns: Arc<Semaphore>,
    under_way: Arc<Mutex<HashMap<JobKey, Fetch>>>,
}

/// A fetch that is under way.
#[derive(Clone)]
struct Fetch {
    bytes: Arc<AtomicU64>,
    kept: watch::Receiver<Option<Kept>>,
}

/// Why a file is not kept.
enum Failure {
    /// It will never be.
    Final(String),
    Now(String),
}

impl Keeper {
    pub(super) fn new(client: Client) -> Self {
        Self { client, turns: Arc::new(Semaphore::new(MOST_FETCHES)), under_way: Arc::default() }
    }

    /// Fetches the files of a job that are not kept yet, or goes on waiting for them.
    pub(super) async fn keep(&self, files: Files, tenant: &str, api: &Api, most: u64, ask: AskKeep) -> Kept {
        let key = (tenant.to_owned(), ask.openrouter_id);
        let mut fetch = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way
                .entry(key.clone())
                .or_insert_with(|| self.begin(key, files, api, most, ask.count))
                .clone()
        };
        let unfinished = |outcome| Kept { files: Vec::new(), outcome: Some(outcome) };
        match timeout(SLICE, fetch.kept.wait_for(Option::is_some)).await {
            Ok(Ok(kept)) => kept.clone().unwrap_or_default(),
            Ok(Err(_)) => unfinished(Outcome::Failed("the fetch ended with an error of the ingress".into())),
            Err(_) => unfinished(Outcome::UnderWay(fetch.bytes.load(Relaxed))),
        }
    }

    fn begin(&self, key: JobKey, files: Files, api: &Api, most: u64, count: u32) -> Fetch {
        let (ended, kept) = watch::channel(None);
        let bytes = Arc::<AtomicU64>::default();
        let fetch = Fetch { bytes: Arc::clone(&bytes), kept };
        let (keeper, api) = (self.clone(), api.clone());
        tokio::spawn(async move {
            let Ok(_turn) = keeper.turns.acquire().await else { return };
            let mut kept = Vec::new();
            let mut outcome = Outcome::All(true);
            for index in 0..count.clamp(1, MOST_FILES) {
                match keeper.one(&files, &key, &api, most, index, &bytes).await {
                    Ok(file) => kept.push(file),
                    // The others are kept all the same. One that may still come has the job tried again.
                    Err(failure) => {
                        let failed = failed(&key, index, failure);
                        if !matches!(outcome, Outcome::Failed(_)) {
                            outcome = failed;
                        }
                    }
                }
            }
            let label = match &outcome {
                Outcome::All(_) => "kept",
                Outcome::Refused(_) => "refused",
                Outcome::Failed(_) | Outcome::UnderWay(_) => "failed",
            };
            counter!("talaria_media_fetches_total", "outcome" => label).increment(1);
            keeper.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            ended.send_replace(Some(Kept { files: kept, outcome: Some(outcome) }));
        });
        fetch
    }

    async fn one(
        &self,
        files: &Files,
        (tenant, job): &JobKey,
        api: &Api,
        most: u64,
        index: u32,
        bytes: &AtomicU64,
    ) -> Result<KeptFile, Failure> {
        let name = kept_name(tenant, job, index);
        if let Some(found) = files.open(&name, 0).await.map_err(|error| Failure::Now(error.to_string()))? {
            return read(found, index).await;
        }
        let number = u8::try_from(index).map_err(|error| Failure::Final(error.to_string()))?;
        let mut content = self.client.content(api, job, number, most).await?;
        let mut file = files.create(&name).await?;
        let mut account = FileAccount::new(index);
        while let Some(chunk) = poll_fn(|cx| content.poll_chunk(cx)).await {
            let chunk = chunk?;
            account.add(&chunk);
            bytes.fetch_add(chunk.len() as u64, Relaxed);
            file.write(chunk).await?;
        }
        file.finish().await?;
        let kept = account.end();
        tracing::info!(tenant, job, index, bytes = kept.size, media_type = kept.media_type, "file kept");
        Ok(kept)
    }
}

fn failed((tenant, job): &JobKey, index: u32, failure: Failure) -> Outcome {
    static FAILED: LogLimiter = LogLimiter::new();
    let (Failure::Final(because) | Failure::Now(because)) = &failure;
    if let Some(left_out) = FAILED.admit() {
        tracing::warn!(tenant, job, index, because, left_out, "file not kept");
    }
    match failure {
        Failure::Final(why) => Outcome::Refused(why),
        Failure::Now(why) => Outcome::Failed(why),
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::TooLong(_) => {
                Self::Final(format!("{error}, which media.max_bytes of the tenant does not allow"))
            }
            ContentError::NotFound(_) | ContentError::Failed(_) => Self::Now(error.to_string()),
        }
    }
}

impl From<talaria_bus::Error> for Failure {
    fn from(error: talaria_bus::Error) -> Self {
        Self::Now(error.to_string())
    }
}

/// A file that is kept already.
async fn read(mut found: OpenFile, index: u32) -> Result<KeptFile, Failure> {
    let mut account = FileAccount::new(index);
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = found.bytes.read(&mut piece).await.map_err(|error| Failure::Now(error.to_string()))?;
        let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else { return Ok(account.end()) };
        account.add(read);
    }
}

/// A file's size, type and hash, from its bytes.
struct FileAccount {
    index: u32,
    size: u64,
    head: Vec<u8>,
    hash: Sha256,
}

impl FileAccount {
    fn new(index: u32) -> Self {
        Self { index, size: 0, head: Vec::with_capacity(HEAD), hash: Sha256::new() }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.head.extend(bytes.iter().take(HEAD - self.head.len()));
        self.hash.update(bytes);
    }

    fn end(self) -> KeptFile {
        KeptFile {
            index: self.index,
            size: self.size,
            sha256: bytes::Bytes::copy_from_slice(&self.hash.finalize()),
            media_type: known_type(&self.head).to_owned(),
            path: String::new(),
        }
    }
}
