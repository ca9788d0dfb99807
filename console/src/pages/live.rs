//! A page again and again, while it is looked at: server-sent events with its content, whenever that differs.

use super::{Pages, Shown, form::Fields, page, visitor::Visitor};
use crate::fault::{self, Fault};
use bytes::Bytes;
use futures_util::stream;
use http::{Response, Uri};
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tonic::{Code, body::Body};

pub(super) const PATH: &str = "/live";

/// From one look to the next, at least.
const INTERVAL: Duration = Duration::from_secs(2);

/// The share of the time that one page may take: a page that is slow to make is made more rarely.
const SHARE: u32 = 20;

/// The most live pages at once. Others are as they were when they were asked for.
const MOST: usize = 200;

/// How many live pages there may be. Clones share it.
#[derive(Clone)]
pub(crate) struct Limit(Arc<Semaphore>);

impl Default for Limit {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

struct Live {
    pages: Pages,
    visitor: Visitor,
    uri: Uri,
    /// What was sent last.
    shown: String,
    wait: Duration,
    _permit: OwnedSemaphorePermit,
}

/// The stream of a page.
pub(super) fn answer(pages: Pages, visitor: Visitor, fields: &Fields) -> Result<Response<Body>, Fault> {
    let uri: Uri = fields.needed("page")?.parse().map_err(|_| Fault::invalid("page is no path"))?;
    let permit = Arc::clone(&pages.live.0).try_acquire_owned();
    let permit = permit.map_err(|_| {
        Fault::new(
            Code::ResourceExhausted,
            format!("{MOST} pages are live already; reload this one for news"),
        )
    })?;
    let live = Live { pages, visitor, uri, shown: String::new(), wait: Duration::ZERO, _permit: permit };
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
        let began = Instant::now();
        let fields = Fields::of_query(&self.uri);
        let made = page(&self.visitor, self.uri.path(), &fields).await;
        self.wait = INTERVAL.max(began.elapsed().saturating_mul(SHARE));
        match made {
            Ok(Shown::Page(page)) if page.main.0 != self.shown => {
                self.shown = page.main.0;
                Some((event("main", &self.shown), Some(self)))
            }
            // So that a browser that is gone is noticed.
            Ok(_) => Some((Bytes::from_static(b": \n\n"), Some(self))),
            // While the broker is gone, the page stays as it is.
            Err(fault) if fault.code == Code::Unavailable => {
                Some((event("fault", &fault.message), Some(self)))
            }
            Err(fault) => Some((event("end", &fault.message), None)),
        }
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
    fn no_text_begins_another_event() {
        let event = event("main", "a\n\nevent: end\rdata: x\r\n");
        assert_eq!(
            event,
            "event: main\ndata: a\ndata: \ndata: event: end\ndata: data: x\ndata: \ndata: \n\n"
        );
    }
}
