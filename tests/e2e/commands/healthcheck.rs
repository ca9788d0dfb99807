//! `talaria healthcheck`.

use super::{err, json, works};
use std::fs;
use talaria_tests::{binary::run, nats::server, stack::stack, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_needs_no_secrets_and_gives_the_reason() {
    let server = server().start().await;
    let nats = format!("bus: {{nats: {{servers: ['{}']}}}}", server.url());
    let running = stack().with(&nats).tenant("acme", |tenant| tenant).start().await;
    let directory = running.written.path();
    let address = running.admin();
    fs::remove_file(directory.join("openrouter-acme")).unwrap();
    let text = fs::read_to_string(&running.written.config).unwrap();
    let text = text
        .replace("admin: {listen: 127.0.0.1:0}", &format!("admin: {{listen: 0.0.0.0:{}}}", address.port()));
    fs::write(&running.written.config, text).unwrap();
    until("it to be ready", async || run(directory, &["healthcheck"]).status.success().then_some(())).await;
    assert_eq!(works(directory, &["healthcheck"]), "ready\n");
    let url = format!("http://{address}/");
    let found = json(directory, &["healthcheck", "--json", "--url", &url]);
    assert_eq!(found, serde_json::json!({"ready": true, "status": 200, "said": "ready"}));
    drop(server);
    let output = until("it to be noticed", async || {
        Some(run(directory, &["healthcheck"])).filter(|output| !output.status.success())
    })
    .await;
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let why = "/readyz answered 503 Service Unavailable: ";
    assert!(err(&output).contains(why) && err(&output).contains("NATS"), "{}", err(&output));
}
