//! Beginning, end and faults.

use super::Client;
use serde_json::json;
use talaria_tests::{sink::Sink, stack::stack, until};

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_its_input_and_writes_nothing_but_the_protocol() {
    let sink = Sink::start().await;
    let mut stack =
        stack().tenant("acme", |t| t.route("video", &sink.url("video"), "pace: off")).start().await;
    let (status, err) = Client::spawn(&stack, &[], &[]).end().await;
    assert!(status.success() && err.is_empty(), "before the first request: {status} {err}");

    // A log of everything goes to standard error.
    let mut client = Client::start_with(&stack, &[("RUST_LOG", "trace")], &[]).await;
    client.request("ping", json!({})).await.unwrap();
    let error = client.request("tools/call", json!({"name": "shell", "arguments": {}})).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("there is no tool shell"), "{error}");
    assert!(client.request("tools/nothing", json!({})).await.is_err());
    for (tool, arguments, says) in [
        ("deliveries", json!({"limit": 100}), "unknown field `limit`"),
        ("deliveries", json!({"filter": {"states": "parked"}}), "filter.states: invalid type"),
        ("deliveries", json!({"filter": {"tenant": "nobody"}}), "nobody"),
        ("deliveries", json!({"page": "x"}), "the token is not one that was given out"),
        ("why", json!({}), "missing field `id`"),
        ("why", json!({"id": "evt_2"}), "no event evt_2 is known"),
        ("video_models", json!({"tenant": "acme"}), "tell the operator"),
    ] {
        let said = client.fails(tool, arguments.clone()).await;
        assert!(said.contains(says), "{tool} {arguments}: {said}");
    }
    assert!(client.works("deliveries", json!({"filter": null})).await.contains("No deliveries match."));

    // A relay that is away is a result, and one that is back is asked again.
    stack.terminate().await;
    let said = client.fails("deliveries", json!({})).await;
    assert!(said.contains("cannot reach the relay") && said.contains("call again in a minute"), "{said}");
    let (status, err) = client.end().await;
    assert!(status.success() && !err.is_empty(), "{status} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tenants_have_to_be_named() {
    let sink = Sink::start().await;
    let stack = stack()
        .tenant("acme", |t| t.route("video", &sink.url("a"), "pace: off"))
        .tenant("other", |t| t.route("video", &sink.url("b"), "pace: off"))
        .start()
        .await;
    stack.openrouter("acme").send("j1", "completed").await;
    stack.openrouter("other").send("j1", "completed").await;
    let mut client = Client::start(&stack, &[]).await;
    let said = client.fails("video_submit", json!({"model": "m"})).await;
    assert!(said.contains("which tenant? tenant takes one of: acme, other"), "{said}");
    until("both deliveries", async || (stack.deliveries().await.len() == 2).then_some(())).await;
    let one = client.works("deliveries", json!({"filter": {"route": "other/video"}})).await;
    assert!(one.contains("to other/video") && !one.contains("to acme/video"), "{one}");
}
