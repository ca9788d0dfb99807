//! One exchange with Hermes: one deadline over all of it, and no more read than is needed.

use crate::{
    classify::{Answer, Exchange},
    prepare::Request,
};
use http::header;
use reqwest::{Client, Response, redirect};
use std::{
    error::Error as _,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

/// Hermes' answers have a few hundred bytes; what is longer is not Hermes'.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Shorter than Hermes (aiohttp) keeps an idle connection, so that we seldom send into one that it is closing.
const IDLE: Duration = Duration::from_secs(20);

/// Sends requests.
#[derive(Clone)]
pub struct Forwarder {
    client: Client,
}

impl Forwarder {
    /// With a pool of connections of its own.
    pub fn new() -> Result<Self, reqwest::Error> {
        // The binary has set it already; tests of this crate have not.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            // A redirect would turn the POST into a GET, or take it to where nobody meant it to go.
            .redirect(redirect::Policy::none())
            // A repeat that we do not know of would break the account.
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            // Hermes' filters on headers compare names as they were written.
            .http1_title_case_headers()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE)
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self { client })
    }

    /// Sends a request and waits for the whole answer, together at most for `timeout`.
    pub async fn exchange(&self, url: &Url, request: Request, timeout: Duration) -> Exchange {
        let end = Instant::now() + timeout;
        let sending = self.client.post(url.clone()).headers(request.headers).body(request.body).send();
        let response = match timeout_at(end, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() || error.is_builder() => {
                return Exchange::NotSent(causes(error));
            }
            Ok(Err(error)) => return Exchange::Lost(causes(error)),
            Err(_) => return Exchange::Lost(format!("nothing within {timeout:?}")),
        };
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after: retry_after(&response),
            location: text(&response, header::LOCATION),
            ..Answer::default()
        };
        answer.cut_short = match timeout_at(end, read(response, &mut answer.body)).await {
            Ok(cut_short) => cut_short,
            Err(_) => Some(format!("not whole within {timeout:?}")),
        };
        Exchange::Answered(answer)
    }
}

/// Reads up to the cap; says why if there is more or less.
async fn read(mut response: Response, body: &mut Vec<u8>) -> Option<String> {
    loop {
        match response.chunk().await {
            Ok(None) => return None,
            Ok(Some(chunk)) => {
                let room = LARGEST_ANSWER - body.len();
                body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
                if chunk.len() > room {
                    return Some(format!("longer than {LARGEST_ANSWER} bytes"));
                }
            }
            Err(error) => return Some(causes(error)),
        }
    }
}

fn text(response: &Response, name: header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Seconds, or a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = text(response, header::RETRY_AFTER)?;
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The innermost cause, which says most; without the URL, which the reader knows.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let (outer, inner) = (error.to_string(), innermost.to_string());
    if outer == inner || error.source().is_none() { outer } else { format!("{outer}: {inner}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    /// Answers one request with these bytes, then goes on writing `drip` until nobody listens.
    async fn serve(answer: &'static [u8], drip: &'static [u8]) -> (Url, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/webhooks/r", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(answer).await.unwrap();
            while !drip.is_empty() && stream.write_all(drip).await.is_ok() {}
            // Holds the connection open where the answer promised more.
            if answer.ends_with(b"...") {
                let _ = stream.read_u8().await;
            }
            String::from_utf8(request).unwrap()
        });
        (url, server)
    }

    async fn exchange(url: &Url, timeout: Duration) -> Exchange {
        let mut headers = HeaderMap::new();
        headers.insert("x-github-delivery", "d".parse().unwrap());
        let request = Request { headers, body: Bytes::from_static(b"{}"), guarded: vec![] };
        Forwarder::new().unwrap().exchange(url, request, timeout).await
    }

    async fn answer_to(answer: &'static [u8], drip: &'static [u8]) -> Exchange {
        let (url, _server) = serve(answer, drip).await;
        exchange(&url, Duration::from_millis(500)).await
    }

    #[tokio::test]
    async fn an_answer_comes_back_whole_and_header_names_are_in_title_case() {
        let (url, server) =
            serve(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nok", b"").await;
        let expected = Answer {
            status: 202,
            retry_after: Some(Duration::from_secs(7)),
            body: b"ok".into(),
            ..Answer::default()
        };
        assert_eq!(exchange(&url, Duration::from_secs(5)).await, Exchange::Answered(expected));
        let request = server.await.unwrap();
        assert!(request.contains("\r\nX-Github-Delivery: d\r\n"), "{request}");
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let Exchange::Answered(answer) = answer_to(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            b"",
        )
        .await
        else {
            panic!()
        };
        assert_eq!((answer.status, answer.location.as_deref()), (302, Some("http://127.0.0.1:1/")));
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_and_a_dripping_one_ends_at_the_deadline() {
        let Exchange::Answered(endless) =
            answer_to(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", &[b'x'; 4096]).await
        else {
            panic!()
        };
        assert_eq!(endless.body.len(), LARGEST_ANSWER);
        assert_eq!(endless.cut_short.as_deref(), Some("longer than 65536 bytes"));
        let Exchange::Answered(stalled) =
            answer_to(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n...", b"").await
        else {
            panic!()
        };
        assert_eq!(stalled.cut_short.as_deref(), Some("not whole within 500ms"));
    }

    #[tokio::test]
    async fn what_was_not_sent_is_told_from_what_was_not_answered() {
        // Nobody listens.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let refused = exchange(&url, Duration::from_secs(5)).await;
        assert!(matches!(&refused, Exchange::NotSent(why) if why.contains("refused")), "{refused:?}");
        let nowhere =
            exchange(&Url::parse("http://does-not-exist.invalid/").unwrap(), Duration::from_secs(5)).await;
        assert!(matches!(nowhere, Exchange::NotSent(_)), "{nowhere:?}");
        // Somebody hangs up, somebody says nothing, somebody talks nonsense.
        for answer in [b"".as_slice(), b"...", b"nonsense\r\n\r\n"] {
            let lost = answer_to(answer, b"").await;
            assert!(matches!(lost, Exchange::Lost(_)), "{lost:?}");
        }
    }
}
