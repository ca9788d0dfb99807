//! Requests that are refused, names, sites, TLS, the end of the process.

use super::{EVENT, PAUSE, SUMMARY, WATCH, delivered};
use crate::access::entry;
use serde_json::{Value, json};
use talaria_tests::{
    json::Json,
    sink::Sink,
    stack::{Stack, stack},
    until,
};

async fn alone() -> (Stack, Json) {
    let stack = stack().tenant("me", |t| t).start().await;
    let client = Json::new(stack.console(), None);
    (stack, client)
}

/// The status and the code of the answer to a request with these headers.
async fn refused(client: &Json, verb: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = client.request(verb, path).body("{}");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

const AS_JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_valid_say_why() {
    let (_stack, client) = alone().await;
    let refused = async |verb, path, headers: &[_]| refused(&client, verb, path, headers).await;
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(
        refused("POST", "/talaria.v1.StatusService/Nothing", &[AS_JSON]).await,
        is(501, "unimplemented")
    );
    assert_eq!(refused("POST", "/grpc.health.v1.Health/Check", &[AS_JSON]).await, is(501, "unimplemented"));
    assert_eq!(refused("POST", "/", &[AS_JSON]).await, is(404, "unimplemented"));
    assert_eq!(refused("GET", PAUSE, &[]).await, is(405, "unimplemented"));
    assert_eq!(refused("OPTIONS", SUMMARY, &[]).await, is(405, "unimplemented"));
    assert_eq!(refused("POST", "/openapi.json", &[]).await, is(405, "unimplemented"));
    assert_eq!(refused("POST", SUMMARY, &[]).await, is(415, "unimplemented"));
    assert_eq!(refused("POST", WATCH, &[AS_JSON]).await, is(415, "unimplemented"));
    let gzip = [AS_JSON, ("content-encoding", "gzip")];
    assert_eq!(refused("POST", SUMMARY, &gzip).await, is(501, "unimplemented"));
    let version = [AS_JSON, ("connect-protocol-version", "2")];
    assert_eq!(refused("POST", SUMMARY, &version).await, is(400, "invalid_argument"));
    let timeout = [AS_JSON, ("connect-timeout-ms", "soon")];
    assert_eq!(refused("POST", SUMMARY, &timeout).await, is(400, "invalid_argument"));

    let (status, answer) = client.post(SUMMARY, r#"{"tennant": "me"}"#).await;
    let said = answer["message"].as_str().unwrap();
    assert!(status == 400 && said.contains("unrecognized field name 'tennant'"), "{answer}");
    assert_eq!(client.post(SUMMARY, "").await.0, 400);
    assert_eq!(client.post(SUMMARY, "[".repeat(100_000)).await.0, 400, "depth is bounded");
    let (status, answer) = client.post(SUMMARY, vec![b' '; 4 * 1024 * 1024 + 1]).await;
    assert_eq!((status, &answer["code"]), (413, &json!("resource_exhausted")));
    let (status, answer) = client.post(EVENT, r#"{"eventId": "evt_"}"#).await;
    assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")));
    // And the next request is answered.
    assert_eq!(client.post(SUMMARY, "{}").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_is_asked_by_get_and_no_cache_keeps_it() {
    let sink = Sink::start().await;
    let (stack, event) = delivered(&sink).await;
    let client = Json::new(stack.console(), None);
    let query = format!("{EVENT}?encoding=json&connect=v1&message=%7B%22eventId%22%3A%22{event}%22%7D");
    let response = client.request("GET", &query).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(answer["event"]["id"], event.as_str());
    assert_eq!(
        (&headers["content-type"], &headers["cache-control"]),
        (&"application/json".parse().unwrap(), &"no-store".parse().unwrap())
    );
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{headers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_and_pages_of_other_sites_are_refused() {
    let written = stack().with("console: {listen: 127.0.0.1:0, names: [talaria.example.com]}");
    let stack = written.tenant("me", |t| t).start().await;
    let client = Json::new(stack.console(), None);
    let own = format!("http://{}", stack.console());
    for (name, value, expected) in [
        ("host", "talaria.example.com", 200),
        ("host", "localhost:9", 200),
        ("host", "evil.example", 403),
        ("origin", own.as_str(), 200),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        for path in [SUMMARY, "/openapi.json", "/"] {
            let verb = if path == SUMMARY { "POST" } else { "GET" };
            let (status, code) = refused(&client, verb, path, &[AS_JSON, (name, value)]).await;
            assert_eq!(status == 403, expected == 403, "{path} {name}: {value}: {status}");
            assert!(status != 403 || code == "permission_denied", "{path} {name}: {value}: {code}");
        }
    }
    stack.logged("refused a request to the console").await;
    // Names are reloaded.
    let text = |text: String| text.replace("talaria.example.com", "other.example.com");
    stack.rewrite(text);
    until("the other name to be answered", async || {
        let (status, _) = refused(&client, "POST", SUMMARY, &[AS_JSON, ("host", "other.example.com")]).await;
        (status == 200).then_some(())
    })
    .await;
    assert_eq!(refused(&client, "POST", SUMMARY, &[AS_JSON, ("host", "talaria.example.com")]).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_decide_before_a_body_is_read() {
    let tokens =
        [entry("reader", "read", None, &["tlr_read"]), entry("ops", "control", None, &["tlr_control"])];
    let stack = stack()
        .with(&format!("relay: {{grpc: 127.0.0.1:0, tokens: [{}]}}", tokens.join(", ")))
        .tenant("me", |t| t)
        .start()
        .await;
    let [stranger, reader, ops] =
        [None, Some("tlr_read"), Some("tlr_control")].map(|it| Json::new(stack.console(), it));
    let response =
        stranger.request("POST", SUMMARY).header("content-type", "application/json").send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );
    // Not even whether the body is valid.
    assert_eq!(stranger.post(SUMMARY, "no json").await.0, 401);
    let openapi =
        async |client: &Json| client.request("GET", "/openapi.json").send().await.unwrap().status().as_u16();
    assert_eq!((openapi(&stranger).await, openapi(&reader).await), (401, 200));
    let pause = json!({"tenant": "me", "requestedBy": "ana"}).to_string();
    let (status, answer) = reader.post(PAUSE, pause.clone()).await;
    assert_eq!((status, &answer["code"]), (403, &json!("permission_denied")));
    let (status, answer) = ops.post(PAUSE, pause).await;
    assert_eq!((status, &answer["pause"]["tokenName"]), (200, &json!("ops")), "{answer}");
    assert!(!stack.log().join("\n").contains("tlr_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_for_others_needs_tokens_and_off_is_off() {
    let mut stack = stack().with("console: {listen: off}").tenant("me", |t| t).start().await;
    let line = stack.logged("listening: ").await;
    assert!(
        !line.contains("console on") && serde_json::from_str::<Value>(&line).unwrap()["console"].is_null(),
        "{line}"
    );
    stack.restart_with(|text| text.replace("listen: off", "listen: 127.0.0.1:0")).await;
    let line = stack.logged("console on").await;
    assert!(line.contains(&format!("console on http://{}", stack.console())), "{line}");
    let config =
        stack.rewrite(|text| text.replace("console: {listen: 127.0.0.1:0}", "console: {listen: 0.0.0.0:0}"));
    assert!(config.contains("0.0.0.0:0"));
    stack.logged("console.listen: whoever reaches this address").await;
    assert_eq!(Json::new(stack.console(), None).post(SUMMARY, "{}").await.0, 200, "the address stays");
}
