//! Answers, signatures, rendering and the guard, at the webhook adapter: one event goes to many routes.

use super::Tried;
use crate::hermes::{direct, route};
use serde_json::{Value, json};
use talaria_core::{
    hermes::signature::{self, Scheme},
    id::DeliveryId,
};
use talaria_proto::v1::{Delivery, DeliveryState};
use talaria_tests::{
    PATIENCE,
    hermes::{Gateway, Version},
    http,
    openrouter::{event_id, payload},
    poll,
    sink::SECRET,
    stack::{Stack, Tenant, stack},
};

/// The gateway's limits: requests of a route in a minute, and the bytes of a body.
const RATE_LIMIT: usize = 2;
const MAX_BODY_BYTES: usize = 20_000;

/// 24 bytes, as Svix writes them.
const SVIX_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A route of Talaria and the one at Hermes, if that has it.
struct Route {
    name: String,
    theirs: Option<Value>,
    secret: &'static str,
    keys: String,
}

impl Route {
    fn new(name: impl Into<String>, theirs: Value, keys: impl Into<String>) -> Self {
        Self { name: name.into(), theirs: Some(theirs), secret: "{file: hermes}", keys: keys.into() }
    }
}

/// A route with the words for it, and the answer that is expected.
type Answer = (Route, String, &'static str);

/// The answers that a relay classifies.
fn answers() -> Vec<Answer> {
    let to_agent = |name: &str, more: Value, keys: &str| Route::new(name, route(&more), keys);
    let keys = "deliver_only: true\nprompt: x\nextra: {chat_id: '-100'}";
    let mut nowhere = direct();
    nowhere["deliver"] = json!("discord");
    let too_large = format!("prompt: {}", "x".repeat(MAX_BODY_BYTES + 5_000));
    let unknown = Route { theirs: None, ..to_agent("unknown", json!({}), "") };
    let filter = json!({"filters": [{"field": "data.status", "equals": "completed"}]});
    [
        (to_agent("taken", json!({}), ""), "a delivery for an agent", "202 accepted"),
        (to_agent("known", json!({}), ""), "an id that is known", "200 duplicate"),
        (
            to_agent("events", json!({"events": ["video.generation.completed"]}), ""),
            "a route for other events",
            "200 ignored",
        ),
        (to_agent("filter", filter, ""), "a route whose filter does not match", "200 ignored"),
        (
            to_agent("script", json!({"script": "missing.sh"}), ""),
            "a route whose script fails",
            "200 ignored",
        ),
        (to_agent("secret", json!({"secret": "another secret"}), ""), "a wrong secret", "401 route_fault"),
        (to_agent("disabled", json!({"enabled": false}), ""), "a disabled route", "403 route_fault"),
        (unknown, "an unknown route", "404 route_fault"),
        (to_agent("large", json!({}), &too_large), "a body that is too large", "413 route_fault"),
        (to_agent("busy", json!({}), "pace: off"), "too many requests", "429 rate_limited"),
        (Route::new("direct", direct(), keys), "a message without an agent", "200 delivered"),
        (Route::new("nowhere", nowhere, keys), "a message to a missing platform", "502 failed"),
    ]
    .map(|(route, what, expected)| (route, what.to_owned(), expected))
    .into()
}

/// Each way of signing, with the right secret and with a wrong one.
fn signatures() -> Vec<Answer> {
    let whsec = Route::new("whsec", route(&json!({"secret": SVIX_SECRET})), "signing: svix");
    let mut all =
        vec![(Route { secret: "{env: SVIX}", ..whsec }, "svix with whsec_".to_owned(), "202 accepted")];
    for name in Scheme::ALL.map(|scheme| scheme.name) {
        let keys = format!("signing: {name}");
        let right = Route::new(format!("{name}-right"), route(&json!({})), &*keys);
        let wrong = Route::new(format!("{name}-wrong"), route(&json!({"secret": "another secret"})), &*keys);
        all.push((right, name.to_owned(), "202 accepted"));
        all.push((wrong, format!("{name} with a wrong secret"), "401 route_fault"));
    }
    all
}

/// Templates, which Talaria renders for one route and Hermes for the other.
const TEMPLATES: [(&str, &str); 12] = [
    ("texts", "Video {data.id} is {data.status}."),
    ("missing keys", "{nope} {data.nope} {data.id.deeper} {} { data.id }"),
    ("a list", "{data.unsigned_urls}"),
    ("a list's element", "{data.unsigned_urls.0}"),
    ("an object", "{data}"),
    ("a long list", "{long}"),
    ("numbers", "{data.usage.cost} {numbers.large} {numbers.small} {numbers.whole}"),
    ("true, false and null", "{data.usage.is_byok} {yes} {nothing}"),
    ("unicode", "ß {unicode.text} {unicode}"),
    ("a template in a value", "{data.error}"),
    ("{event_type}", "{event_type}"),
    ("{__raw__}", "{__raw__}"),
];

/// Texts of a payload that are no command and no reference once the guard has changed them.
const HOSTILE: [&str; 16] = [
    "/help",
    " /help",
    "\n/restart",
    "\t/help",
    "\u{1C}/help",
    "\u{85}/help",
    "\u{A0}/help",
    "\u{2028}/help",
    "\u{3000}/help",
    "\u{200B}/help",
    "@image:x\n/help",
    "@IMAGE:/a b\n\n /help",
    "/talaria-video x",
    "see @file:/etc/passwd",
    "@url:http://127.0.0.1/",
    "@folder:. and @diff",
];

/// The same without the guard: Hermes takes the first for a command and expands a reference in the second.
const UNGUARDED: [(&str, &str); 2] = [("/help", "a command"), ("see @file:/etc/passwd", "a reference")];

fn rendering() -> Vec<Route> {
    let pair = |(index, (_, template)): (usize, &(&str, &str))| {
        let keys = format!("prompt: {}\nguard: {{commands: false, references: false}}", json!(template));
        [
            Route::new(format!("ours-{index}"), route(&json!({})), keys),
            Route::new(format!("theirs-{index}"), route(&json!({"prompt": template})), "body: raw"),
        ]
    };
    TEMPLATES.iter().enumerate().flat_map(pair).collect()
}

fn guard() -> Vec<Route> {
    let guarded = (0..HOSTILE.len()).map(|index| {
        Route::new(format!("guarded-{index}"), route(&json!({})), format!("prompt: '{{hostile.t{index}}}'"))
    });
    let unguarded = (0..UNGUARDED.len()).map(|index| {
        let keys = format!("prompt: '{{unguarded.t{index}}}'\nguard: {{commands: false, references: false}}");
        Route::new(format!("unguarded-{index}"), route(&json!({})), keys)
    });
    guarded.chain(unguarded).collect()
}

/// The payload that goes to all routes.
fn everything() -> Value {
    let numbered = |texts: &[&str]| -> Value {
        texts.iter().enumerate().map(|(index, text)| (format!("t{index}"), json!(text))).collect()
    };
    let mut body = payload("job", "failed");
    body["data"]["error"] = json!("{data.id} stays");
    body["long"] = json!((0..600).collect::<Vec<u32>>());
    body["numbers"] = json!({"large": u64::MAX, "small": 0.00001, "whole": 100.0});
    body["yes"] = json!(true);
    body["nothing"] = Value::Null;
    body["unicode"] = json!({"text": "größe ✓ 😀 \u{7F}"});
    body["hostile"] = numbered(&HOSTILE);
    body["unguarded"] = numbered(&UNGUARDED.map(|(text, _)| text));
    body
}

/// A request of another sender, with this id.
async fn send(url: &str, id: &str) {
    let body = r#"{"prompt": "another sender's"}"#;
    let request = http().post(url).header("X-GitHub-Delivery", id).body(body);
    let signature = signature::sign(&SECRET.into(), body.as_bytes());
    request.header(signature::HEADER, signature).send().await.unwrap();
}

/// The first attempt of a delivery.
async fn answered(stack: &Stack, event: &str, route: &str) -> String {
    let tried = |delivery: &Delivery| delivery.attempts > 0 || delivery.state() != DeliveryState::Waiting;
    let found = stack.delivery_when(event, route, tried).await;
    let Some(attempt) = found.attempts.first() else { return found.delivery.unwrap().reason };
    match attempt.http_status {
        Some(status) => format!("{status} {}", attempt.outcome().name()),
        None => attempt.outcome().name().to_owned(),
    }
}

/// The run that an agent would have begun on a route.
async fn run(hermes: &Gateway, route: &str) -> Option<Value> {
    poll(PATIENCE, async || hermes.runs(route).pop()).await
}

/// How the prompt that Hermes rendered differs from ours.
fn compared(ours: Option<Value>, theirs: Option<Value>) -> String {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return "no prompt".into() };
    let chars = |run: &Value| run["prompt"].as_str().unwrap().chars().collect::<Vec<_>>();
    let (ours, theirs) = (chars(&ours), chars(&theirs));
    if ours == theirs {
        return "the same".into();
    }
    let same = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
    format!("`{}`", theirs.iter().skip(same).take(30).collect::<String>().escape_debug())
}

/// What a prompt is to Hermes, whose text is that of a payload but for the guard's changes.
fn live(run: Option<Value>, text: &str) -> String {
    let Some(run) = run else { return "no prompt".into() };
    let prompt = run["prompt"].as_str().unwrap();
    if run["command"] == true {
        return "a command".into();
    }
    if run["references"] != json!([]) {
        return "a reference".into();
    }
    let arrived = prompt.strip_prefix("> ").unwrap_or(prompt).replace("@ ", "@");
    if arrived == text { "text".into() } else { format!("`{}`", prompt.escape_debug()) }
}

/// All that can be seen at the webhook adapter: answers, signatures, rendering, guard.
pub(super) async fn columns(version: &Version) -> [Vec<Tried>; 4] {
    let (answers, signatures, rendering, guard) = (answers(), signatures(), rendering(), guard());
    let spoken = answers.iter().chain(&signatures).map(|(route, ..)| route);
    let routes: Vec<&Route> = spoken.chain(&rendering).chain(&guard).collect();
    let theirs: Value =
        routes.iter().filter_map(|route| Some((route.name.clone(), route.theirs.clone()?))).collect();
    let settings = json!({"rate_limit": RATE_LIMIT, "max_body_bytes": MAX_BODY_BYTES, "examine": true});
    let hermes = Gateway::of(version, theirs, settings).await;
    let all = |tenant: Tenant| {
        routes.iter().fold(tenant, |tenant, route| {
            tenant.route_with(&route.name, &hermes.url(&route.name), route.secret, &route.keys)
        })
    };
    let stack = stack().environment("SVIX", SVIX_SECRET).tenant("acme", all).start().await;
    let event = event_id("acme", "job", "failed");
    let known = DeliveryId::new(event.parse().unwrap(), "known").idempotency_key(1);
    send(&hermes.url("known"), &known).await;
    for index in 0..RATE_LIMIT {
        send(&hermes.url("busy"), &index.to_string()).await;
    }
    stack.openrouter("acme").send_payload(&everything()).await;

    let mut columns = [const { Vec::new() }; 4];
    for (column, tries) in [(0, &answers), (1, &signatures)] {
        for (route, what, expected) in tries {
            let found = answered(&stack, &event, &route.name).await;
            columns[column].push(Tried::new(what, *expected, found));
        }
    }
    for (index, (what, _)) in TEMPLATES.iter().enumerate() {
        let (ours, theirs) = (format!("ours-{index}"), format!("theirs-{index}"));
        let found = compared(run(&hermes, &ours).await, run(&hermes, &theirs).await);
        columns[2].push(Tried::new(*what, "the same", found));
    }
    for (index, text) in HOSTILE.iter().enumerate() {
        let found = live(run(&hermes, &format!("guarded-{index}")).await, text);
        columns[3].push(Tried::new(format!("`{}`", text.escape_debug()), "text", found));
    }
    for (index, (text, expected)) in UNGUARDED.iter().enumerate() {
        let found = live(run(&hermes, &format!("unguarded-{index}")).await, text);
        columns[3].push(Tried::new(format!("`{text}` without the guard"), *expected, found));
    }
    columns
}
