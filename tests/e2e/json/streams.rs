//! Watches, as server-sent events and in Connect's envelopes.

use super::{WATCH, delivered};
use prost::Message as _;
use serde_json::{Value, json};
use talaria_proto::v1::{WatchDeliveriesRequest, WatchDeliveriesResponse, WatchKind};
use talaria_tests::{json::Json, openrouter::event_id, sink::Sink, until};
use tonic::Code;

/// Server-sent events, as they arrive.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The name and the data of the next one; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("data: ")
                    .map(|data| (field("event: ").unwrap_or_default(), serde_json::from_str(&data).unwrap()));
                let rest = rest.to_owned();
                self.text = rest;
                match found {
                    Some(found) => return Some(found),
                    // A comment.
                    None => continue,
                }
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_comes_as_server_sent_events_and_ends_with_the_process() {
    let sink = Sink::start().await;
    let (mut stack, event) = delivered(&sink).await;
    let client = Json::new(stack.console(), None);
    let post = client.request("POST", WATCH).header("content-type", "application/json");
    let mut posted = Events::of(post.header("accept", "text/event-stream").body("{}")).await;
    let mut got =
        Events::of(client.request("GET", &format!("{WATCH}?message=%7B%22changesOnly%22%3Atrue%7D"))).await;
    let (name, first) = posted.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &first["kind"], &first["delivery"]["eventId"]),
        ("", &json!("WATCH_KIND_SNAPSHOT"), &json!(event))
    );
    assert_eq!(posted.next().await.unwrap().1["kind"], "WATCH_KIND_SNAPSHOT_DONE");
    stack.openrouter("me").send("another job", "completed").await;
    let later = event_id("me", "another job", "completed");
    for events in [&mut posted, &mut got] {
        loop {
            let (_, message) = events.next().await.unwrap();
            if message["delivery"]["eventId"] == later.as_str() {
                assert_eq!(message["kind"], "WATCH_KIND_CHANGE");
                break;
            }
        }
    }
    let stopped = tokio::join!(stack.terminate(), async {
        loop {
            let (name, message) = got.next().await.expect("a last event");
            if name == "end" {
                return (message, got.next().await);
            }
        }
    });
    let (code, (end, after)) = stopped;
    assert_eq!((code, &end["error"]["code"], after), (Some(0), &json!("unavailable"), None), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_comes_in_envelopes_and_is_resumed() {
    let sink = Sink::start().await;
    let (stack, event) = delivered(&sink).await;
    let client = Json::new(stack.console(), None);
    let decode = |bytes: &bytes::Bytes| WatchDeliveriesResponse::decode(bytes.clone()).unwrap();
    let done = |bytes: &bytes::Bytes| decode(bytes).kind() == WatchKind::SnapshotDone;
    let answer = client.call(WATCH, &[], done).await;
    assert_eq!((answer.code, answer.messages.len()), (Code::Ok, 2));
    assert_eq!(decode(&answer.messages[0]).delivery.unwrap().event_id, event);
    let resume_token = decode(&answer.messages[1]).token;
    stack.openrouter("me").send("another job", "completed").await;
    let request = WatchDeliveriesRequest { resume_token, ..WatchDeliveriesRequest::default() };
    let answer = client.call(WATCH, &request.encode_to_vec(), |_| true).await;
    let next = decode(&answer.messages[0]).delivery.unwrap();
    assert_eq!(next.event_id, event_id("me", "another job", "completed"));

    let request =
        WatchDeliveriesRequest { resume_token: "no token".into(), ..WatchDeliveriesRequest::default() };
    let answer = client.call(WATCH, &request.encode_to_vec(), |_| true).await;
    assert_eq!((answer.code, answer.messages.len()), (Code::InvalidArgument, 0), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_a_client_gives_ends_a_stream() {
    let sink = Sink::start().await;
    let (stack, _) = delivered(&sink).await;
    let client = Json::new(stack.console(), None);
    let timed =
        client.request("GET", &format!("{WATCH}?message=%7B%7D")).header("connect-timeout-ms", "1000");
    let mut events = Events::of(timed).await;
    let end = loop {
        let (name, message) = events.next().await.unwrap();
        if name == "end" {
            break message;
        }
    };
    assert_eq!(end["error"]["code"], "deadline_exceeded");
    assert!(events.next().await.is_none());
    // A stream that cannot begin is refused as any other request.
    let refused = client.request("GET", &format!("{WATCH}?message=%7B%22resumeToken%22%3A%22x%22%7D"));
    assert_eq!(refused.send().await.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_watch() {
    let sink = Sink::start().await;
    let (stack, _) = delivered(&sink).await;
    let client = Json::new(stack.console(), None);
    let open = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", stack.pid())).unwrap();
        links.filter(|link| link.as_ref().is_ok_and(|link| std::fs::read_link(link.path()).is_ok())).count()
    };
    let mut watches = Vec::new();
    for _ in 0..20 {
        let mut events = Events::of(client.request("GET", WATCH)).await;
        events.next().await.unwrap();
        watches.push(events);
    }
    let with_watches = open();
    drop(watches);
    until("the connections to be closed", async || (open() + 20 <= with_watches).then_some(())).await;
}
