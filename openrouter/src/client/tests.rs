//! Over real sockets of this machine.

mod content;

use super::*;
use std::sync::Mutex;
use talaria_core::network::Network;
use talaria_proto::v1::submitted::Outcome;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use url::Url;

const KEY: &str = "sk-or-v1-never-to-be-shown";
const PROMPT: &str = "a very private prompt";

/// Answers each connection's request with the next of these, and hangs up. The requests so far.
async fn serve(answers: Vec<String>) -> (Api, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = api(&format!("http://{}/proxy/api/v1", listener.local_addr().unwrap()));
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !is_whole(&request) {
                if stream.read_buf(&mut request).await.unwrap() == 0 {
                    break;
                }
            }
            seen.lock().unwrap().push(String::from_utf8(request).unwrap());
            // The client stops reading a long one.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (api, requests)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn api(base_url: &str) -> Api {
    let networks = ["loopback"].iter().map(|text| text.parse::<Network>().unwrap()).collect();
    Api { key: KEY.into(), base_url: Url::parse(base_url).unwrap(), networks }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn video() -> VideoRequest {
    VideoRequest { model: "google/veo-3.1".into(), prompt: PROMPT.into(), ..VideoRequest::default() }
}

async fn submit_until(api: &Api, deadline: Instant) -> Outcome {
    let callback_url = Some("https://me.example/callbacks/me/t");
    Client::new().submit(api, &video(), callback_url, deadline).await.outcome.unwrap()
}

async fn submit(api: &Api) -> Outcome {
    submit_until(api, Instant::now() + 2 * SUBMIT_TIMEOUT).await
}

#[tokio::test]
async fn a_submit_has_the_key_and_the_body_and_goes_to_the_base_url() {
    let (api, requests) =
        serve(vec![http("202 Accepted", r#"{"id":"gen-vid-1-x","status":"pending"}"#)]).await;
    let Outcome::Made(made) = submit(&api).await else { panic!() };
    assert_eq!((made.openrouter_id.as_str(), made.status.as_str()), ("gen-vid-1-x", "pending"));
    let request = requests.lock().unwrap()[0].clone();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /proxy/api/v1/videos HTTP/1.1\r\n"), "{head}");
    for line in [
        format!("Authorization: Bearer {KEY}"),
        "Accept: */*".into(),
        "Accept-Encoding: identity".into(),
        "Content-Type: application/json".into(),
    ] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["callback_url"], "https://me.example/callbacks/me/t");
}

#[tokio::test]
async fn only_a_request_that_made_no_job_is_sent_again() {
    let accepted = http("202 Accepted", r#"{"id":"gen-vid-1-x","status":"pending"}"#);
    let (api, requests) = serve(vec![http("429 Too Many Requests", "{}"), accepted.clone()]).await;
    assert!(matches!(submit(&api).await, Outcome::Made(_)));
    assert_eq!(requests.lock().unwrap().len(), 2);

    for lost in [
        String::new(),
        http("502 Bad Gateway", "<html>"),
        "HTTP/1.1 202 Accepted\r\nContent-Length: 99\r\n\r\n{".into(),
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".into(),
    ] {
        let (api, requests) = serve(vec![lost.clone(), accepted.clone()]).await;
        let outcome = submit(&api).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{lost}: {outcome:?}");
        assert_eq!(requests.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_pause_that_leaves_no_time_for_another_try_ends_as_a_refusal() {
    for (answer, says) in [
        (http("429 Too Many Requests\r\nRetry-After: 3", "{}"), "takes no more requests now (429"),
        (http("503 Service Unavailable\r\nRetry-After: 3", "{}"), "is not available (503"),
    ] {
        let accepted = http("202 Accepted", r#"{"id":"gen-vid-1-x","status":"pending"}"#);
        let (api, requests) = serve(vec![answer, accepted]).await;
        let refused = submit_until(&api, Instant::now() + SUBMIT_TIMEOUT).await;
        assert!(matches!(&refused, Outcome::Refused(why) if why.contains(says)), "{refused:?}");
        assert_eq!(requests.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn no_error_repeats_the_key_the_prompt_or_an_account() {
    let echo = format!(
        r#"{{"error":{{"code":400,"message":"Bearer {KEY}: '{PROMPT}' at https://me.example/callbacks/me/t"}},"user_id":"user_SECRET"}}"#
    );
    let (api, _) =
        serve(vec![http("400 Bad Request", &echo), http("500 Oops", &echo), http("401 No", &echo)]).await;
    let refused = submit(&api).await;
    assert_eq!(
        refused,
        Outcome::Refused(
            "OpenRouter refuses the request (400): Bearer (hidden): '(hidden)' at (hidden)".into()
        )
    );
    let unknown = submit(&api).await;
    let models = Client::new().models(&api).await;
    for text in [format!("{unknown:?}"), format!("{models:?}"), format!("{api:?}")] {
        assert!(!text.contains(KEY) && !text.contains("user_SECRET"), "{text}");
    }
    assert!(!format!("{unknown:?}").contains(PROMPT));
}

#[tokio::test]
async fn a_poll_asks_for_the_job_by_its_encoded_id() {
    let running = http("200 OK", r#"{"id":"a/../b?c#d%","status":"in_progress"}"#);
    let (api, requests) = serve(vec![running]).await;
    let polling = Client::new().poll(&api, "a/../b?c#d%", "").await;
    assert_eq!(polling.reading, Reading::Running { status: "in_progress".into() });
    let request = requests.lock().unwrap()[0].clone();
    assert!(request.starts_with("GET /proxy/api/v1/videos/a%2F..%2Fb%3Fc%23d%25 HTTP/1.1\r\n"), "{request}");
    assert!(!request.to_lowercase().contains("content-type"), "{request}");
}

#[tokio::test]
async fn what_cannot_be_an_id_is_not_asked_for() {
    let api = api("http://127.0.0.1:1/api/v1");
    let long = "x".repeat(201);
    for id in ["", ".", "..", "a b", "a\r\nb", "\u{e9}", &long] {
        let polling = Client::new().poll(&api, id, "").await;
        let Reading::NotFound { message } = polling.reading else { panic!("{id}") };
        assert!(message.ends_with("is no id"), "{message}");
    }
}

#[tokio::test]
async fn the_catalogue_is_bounded_and_its_faults_are_named() {
    let (api, _) = serve(vec![
        http("200 OK", r#"{"data":[{"id":"m"}]}"#),
        http("200 OK", "<html>"),
        http("429 Too Many Requests", r#"{"error":{"message":"slow","metadata":{"retry_after_seconds":7}}}"#),
        http("200 OK", &format!(r#"{{"data":"{}"}}"#, "x".repeat(5 << 20))),
    ])
    .await;
    let client = Client::new();
    assert_eq!(client.models(&api).await.unwrap()[0].id, "m");
    let page = client.models(&api).await.unwrap_err();
    assert_eq!(page.message, "OpenRouter's list of models is not JSON: byte 0: expected a JSON value");
    let busy = client.models(&api).await.unwrap_err();
    assert_eq!(busy.to_string(), "OpenRouter gives no list of models (429): slow");
    assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
    let long = client.models(&api).await.unwrap_err();
    assert_eq!(long.message, "OpenRouter's list of models is longer than 4194304 bytes");
}

/// The tenant allows only public addresses.
#[tokio::test]
async fn an_address_that_the_tenant_does_not_allow_is_not_asked() {
    let (api, requests) = serve(vec![http("200 OK", "{}")]).await;
    let strict = Api { networks: std::iter::empty().collect(), ..api };
    let Outcome::Refused(why) = submit(&strict).await else { panic!() };
    assert!(
        why.starts_with(
            "nothing was sent to OpenRouter: 127.0.0.1 is loopback, and the tenant does not allow that"
        ),
        "{why}"
    );
    assert!(why.ends_with("if OpenRouter is there, add loopback to the tenant's networks"), "{why}");
    assert!(requests.lock().unwrap().is_empty());
}
