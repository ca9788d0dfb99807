//! A page again and again, while it is looked at: server-sent events with its content, whenever that differs.

use super::{Pages, Shown, form::Fields, page, visitor::Visitor};
use crate::fault::{self, Fault};
use bytes::Bytes;
use futures_util::stream;
use http::{Response, Uri, request::Parts};
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tonic::{Code, body::Body};

pub(super) const PATH: &str = "/live";

/// From one look to the next, at least.
const INTERVAL: Duration = Duration::from_secs(2);

/// And at most, however slow a page is.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// The share of the time that one page may take: a page that is slow to make is made more rarely.
const SHARE: u32 = 20;

/// The most live pages of one token, and of all who need none. Others are as they were when they were asked for.
const MOST: usize = 100;

/// Live pages that are made at once, so that they leave the processor to deliveries.
const AT_ONCE: usize = 2;

/// How many live pages there are. Clones share it.
#[derive(Clone)]
pub(crate) struct Limit {
    open: Arc<Mutex<HashMap<String, usize>>>,
    making: Arc<Semaphore>,
}

impl Default for Limit {
    fn default() -> Self {
        Self { open: Arc::default(), making: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Limit {
    fn open(&self, token: &str) -> Option<Open> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(token.to_owned()).or_default();
        if *count >= MOST {
            return None;
        }
        *count += 1;
        Some(Open { limit: self.clone(), token: token.to_owned() })
    }
}

/// A live page of a token. It is not counted any more when this is dropped.
struct Open {
    limit: Limit,
    token: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.limit.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.token);
            }
        }
    }
}

struct Live {
    pages: Pages,
    /// The head of the request. Each time the page is made, the visitor is identified by it again.
    head: Parts,
    uri: Uri,
    /// The hash of what was sent last.
    shown: u64,
    wait: Duration,
    _open: Open,
}

/// The stream of a page.
pub(super) fn answer(
    pages: Pages,
    head: Parts,
    visitor: &Visitor,
    fields: &Fields,
) -> Result<Response<Body>, Fault> {
    let uri: Uri = fields.needed("page")?.parse().map_err(|_| Fault::invalid("page is no path"))?;
    let open = pages.live.open(&visitor.caller.token).ok_or_else(|| {
        Fault::new(
            Code::ResourceExhausted,
            format!("{MOST} pages are live already; reload this one for news"),
        )
    })?;
    let live = Live { pages, head, uri, shown: 0, wait: Duration::ZERO, _open: open };
    let frames = stream::unfold(Some(live), |live| async {
        let (bytes, rest) = live?.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), rest))
    });
    let mut answer = Response::new(Body::new(StreamBody::new(frames)));
    fault::guard(&mut answer, "text/event-stream");
    Ok(answer)
}

impl Live {
    /// The next bytes, and the rest of the stream, which ends with an error.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        let end = self.pages.end.clone();
        end.run_until_cancelled(sleep(self.wait)).await?;
        let making = Arc::clone(&self.pages.live.making);
        let _turn = end.run_until_cancelled(making.acquire()).await?.ok()?;
        let began = Instant::now();
        let made = self.made().await;
        self.wait = began.elapsed().saturating_mul(SHARE).clamp(INTERVAL, LONGEST_INTERVAL);
        match made {
            Ok(Shown::Page(page)) => {
                let mut hasher = DefaultHasher::new();
                page.main.0.hash(&mut hasher);
                if hasher.finish() == self.shown {
                    // A comment, by which a closed connection is noticed.
                    return Some((Bytes::from_static(b": \n\n"), Some(self)));
                }
                self.shown = hasher.finish();
                Some((event("main", &page.main.0), Some(self)))
            }
            Ok(Shown::Elsewhere(_)) => None,
            // While the broker is gone, the page stays as it is.
            Err(fault) if fault.code == Code::Unavailable => {
                Some((event("fault", &fault.message), Some(self)))
            }
            Err(fault) => Some((event("end", &fault.message), None)),
        }
    }

    /// The page as this visitor would get it now: a session may have ended since, and a token may have another meaning.
    async fn made(&self) -> Result<Shown, Fault> {
        let visitor = Visitor::of(&self.pages, &self.head)?.looking_again();
        page(&visitor, self.uri.path(), &Fields::of_query(&self.uri)).await
    }
}

fn event(name: &str, text: &str) -> Bytes {
    let mut event = format!("event: {name}\n");
    for line in text.split(['\n', '\r']) {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    event.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_has_so_many_live_pages() {
        let limit = Limit::default();
        let mut open: Vec<_> = (0..MOST).map(|_| limit.open("a").unwrap()).collect();
        assert!(limit.open("a").is_none());
        assert!(limit.open("b").is_some());
        open.pop();
        assert!(limit.open("a").is_some());
        drop(open);
        assert!(limit.open.lock().unwrap().is_empty());
    }

    #[test]
    fn no_text_begins_another_event() {
        let event = event("main", "a\n\nevent: end\rdata: x\r\n");
        assert_eq!(
            event,
            "event: main\ndata: a\ndata: \ndata: event: end\ndata: data: x\ndata: \ndata: \n\n"
        );
    }
}
