//! Refusals of the ingress in the status, in the log and in the metrics.

use serde_json::Value;
use std::fs;
use talaria_core::openrouter::signature;
use talaria_proto::v1::DeliveryState;
use talaria_tests::{
    binary::run,
    http,
    openrouter::{OpenRouter, payload},
    sink::{SECRET, Sink},
    stack::{Stack, openrouter_secret, stack},
    until,
};

/// The output of a command that has to succeed.
fn works(stack: &Stack, args: &[&str]) -> String {
    let relay = stack.relay();
    let args = [args, &["--relay", &relay]].concat();
    let output = run(stack.written.path(), &args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The output of a command, once it contains this.
async fn says(stack: &Stack, args: &[&str], what: &str) -> String {
    until(&format!("{args:?} to say {what}"), async || {
        Some(works(stack, args)).filter(|said| said.contains(what))
    })
    .await
}

/// POSTs a job's callback to a path, signed with the tenant's secret.
async fn post(stack: &Stack, path: &str, job: &str) -> u16 {
    let body = payload(job, "completed").to_string();
    let signed = signature::sign(&openrouter_secret("acme").into(), jiff::Timestamp::now(), body.as_bytes());
    let request = http().post(format!("http://{}{path}", stack.ingress())).header(signature::HEADER, signed);
    request.body(body).send().await.unwrap().status().as_u16()
}

/// The likeliest first mistake.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_in_the_status_with_advice() {
    let mut stack = stack().tenant("acme", |t| t).start().await;
    let file = stack.written.path().join("openrouter-acme");
    fs::write(&file, format!("'{}'\n", openrouter_secret("acme"))).unwrap();
    stack.kill_and_restart().await;
    assert!(!works(&stack, &["status"]).contains("refused"));
    assert!(works(&stack, &["status", "--refused"]).contains("Nothing was refused in the last hour."));
    for job in ["one", "two", "three"] {
        assert_eq!(stack.openrouter("acme").try_send(job, "completed").await, Some(401));
    }
    let said = says(&stack, &["status"], "acme: 3 refused in the last hour, the last at ").await;
    assert!(said.contains(": the signature does not match (mismatch)\n"), "{said}");
    assert!(said.contains("talaria status --refused says more"), "{said}");
    let said = says(
        &stack,
        &["status", "--refused"],
        "  help: the signature matches the configured secret without the quotes",
    )
    .await;
    assert!(said.contains("  the last from 127.0.0.1 to /callbacks/acme, answered 401\n"), "{said}");
    assert!(said.contains("docs/errors/callback-401.md"), "{said}");
    let json: Value = serde_json::from_str(&works(&stack, &["status", "--refused", "--json"])).unwrap();
    let refusal = &json["refusals"][0];
    assert_eq!((&refusal["tenant"], &refusal["reason"]), (&"acme".into(), &"mismatch".into()), "{json}");
    assert_eq!((&refusal["count"], &refusal["answered"]), (&"3".into(), &401.into()), "{json}");
    let json: Value = serde_json::from_str(&works(&stack, &["status", "--json"])).unwrap();
    assert_eq!(json["refusals"][0]["tenant"], "acme", "{json}");
    let warned = stack.logged("\"callback refused\"").await;
    assert!(warned.contains("\"level\":\"WARN\"") && warned.contains("\"tenant\":\"acme\""), "{warned}");
    stack.logged("without the quotes around it").await;
    let log = stack.log().join("\n");
    assert!(!log.contains(&openrouter_secret("acme")) && !said.contains(&openrouter_secret("acme")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_is_listed_and_does_not_block_the_right_one() {
    let keys = "ingress: {listen: 127.0.0.1:0, trusted_proxies: []}";
    let stack = stack().with(keys).tenant("acme", |t| t).start().await;
    for number in 0..70 {
        assert_eq!(post(&stack, "//callbacks/acme", &format!("job {number}")).await, 404);
    }
    assert_eq!(post(&stack, "/callbacks/acme/", "the right one").await, 204);
    let said = says(&stack, &["status"], "acme: 70 refused in the last hour").await;
    assert!(
        said.contains("it is signed rightly, and was not POSTed to the tenant's path (misdirected)"),
        "{said}"
    );
    let said = works(&stack, &["status", "--refused", "--tenant", "acme"]);
    assert!(said.contains("  the last from 127.0.0.1 to //callbacks/acme, answered 404\n"), "{said}");
    assert!(said.contains("  help: callbacks of acme go to POST /callbacks/acme"), "{said}");
    let (_, metrics) = stack.admin_get("/metrics").await;
    assert!(metrics.contains("talaria_callbacks_refused_total{reason=\"misdirected\"} 70\n"), "{metrics}");
    // One line for each, up to ten of an address.
    let lines = stack.log().iter().filter(|line| line.contains("\"callback refused\"")).count();
    assert!((1..=10).contains(&lines), "{lines}");
}

/// Refusals of no tenant are shown by `--refused` alone, without control characters.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_no_tenant_are_listed_separately() {
    let stack = stack().tenant("acme", |t| t).start().await;
    assert_eq!(
        OpenRouter::new(stack.ingress(), "nobody", "guessed").try_send("job", "completed").await,
        Some(401)
    );
    let wild = http().get(format!("http://{}/%1B[2J/.env", stack.ingress())).send().await.unwrap();
    assert_eq!(wild.status().as_u16(), 404);
    let said = says(&stack, &["status", "--refused"], "(wrong_path)").await;
    assert!(
        said.contains("no tenant's: 1 refused in the last hour, at ") && said.contains("(unknown_tenant)"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "{said}");
    assert!(!works(&stack, &["status"]).contains("refused"));
}

/// For a route's secret: its deliveries wait, and go out once the secret exists, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_takes_down_its_route_alone() {
    let sink = Sink::start().await;
    let written = stack()
        .tenant("acme", |t| {
            t.route("works", &sink.url("works"), "").route_with(
                "lacks",
                &sink.url("lacks"),
                "{file: its-own}",
                "",
            )
        })
        .write();
    let checked = run(written.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(3), "{checked:?}");
    let mut stack = written.start().await;
    let warned = stack.logged("route acme/lacks: cannot read the secret in ").await;
    assert!(warned.contains("the route is down, and what is for it waits"), "{warned}");
    // Before anything comes for it.
    let said = says(&stack, &["status", "--routes"], "acme/lacks").await;
    assert!(said.contains("down: cannot read the secret in "), "{said}");
    let event = stack.openrouter("acme").send("job", "completed").await;
    assert_eq!(stack.finished(&event, "works").await.delivery.unwrap().state(), DeliveryState::Delivered);
    let waits = stack.delivery_when(&event, "lacks", |it| it.reason.contains("the route is down: ")).await;
    assert_eq!(waits.delivery.unwrap().attempts, 0);
    let said = works(&stack, &["explain", &event]);
    assert!(said.contains("nothing until that can be read"), "{said}");
    let (_, metrics) = stack.admin_get("/metrics").await;
    let down = "talaria_route_down{tenant=\"acme\",route=\"lacks\"} 1";
    assert!(metrics.contains(down), "{metrics}");
    assert_eq!(stack.admin_get("/readyz").await.0, 200);
    // A relay that is started again leaves it waiting.
    stack.kill_and_restart().await;
    stack.delivery_when(&event, "lacks", |it| it.reason.contains("the route is down: ")).await;
    assert!(sink.requests_to("lacks").is_empty());
    fs::write(stack.written.path().join("its-own"), SECRET).unwrap();
    assert_eq!(stack.finished(&event, "lacks").await.delivery.unwrap().state(), DeliveryState::Delivered);
    let (_, metrics) = stack.admin_get("/metrics").await;
    assert!(!metrics.contains(down), "{metrics}");
}

/// A secret that is missing takes down its tenant and no other, and when it comes the tenant is back without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_takes_down_its_tenant_alone() {
    let written = stack().tenant("acme", |t| t).tenant("globex", |t| t).write();
    let (file, aside) = (written.path().join("openrouter-acme"), written.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    let checked = run(written.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(3), "{checked:?}");
    let stack = written.start().await;
    stack.openrouter("globex").send("job", "completed").await;
    let warned = stack.logged("tenant acme: cannot read the secret in ").await;
    assert!(warned.contains("its callbacks are answered 503"), "{warned}");
    // Before anything of it comes.
    let said = says(&stack, &["status"], "acme: no callback is taken: ").await;
    assert!(said.contains("none of the tenant's OpenRouter secrets can be read (no_secret)"), "{said}");
    assert_eq!(stack.openrouter("acme").try_send("job", "completed").await, Some(503));
    let said = says(&stack, &["status", "--refused"], "acme: 1 refused in the last hour, at ").await;
    assert!(
        said.contains("  help: cannot read the secret in ") && said.contains("docs/errors/secret-missing.md")
    );
    let (_, metrics) = stack.admin_get("/metrics").await;
    assert!(metrics.contains("talaria_tenants_down 1\n"), "{metrics}");
    // It is a fault of this tenant, and no reason to send callbacks elsewhere.
    assert_eq!(stack.admin_get("/readyz").await.0, 200);
    fs::rename(&aside, &file).unwrap();
    stack.generation(2).await;
    stack.openrouter("acme").send("job", "completed").await;
    let (_, metrics) = stack.admin_get("/metrics").await;
    assert!(metrics.contains("talaria_tenants_down 0\n"), "{metrics}");
    // When it is removed again, the last valid configuration stays in force.
    fs::rename(&file, &aside).unwrap();
    stack.config_when("the fault", |config| !config["fault"].is_null()).await;
    stack.openrouter("acme").send("job 2", "completed").await;
}
