//! The users of `docs/nats.md` have exactly the permissions that they need.

use super::{config, on_nats, process::Process, state, streams};
use crate::certificates::Authority;
use async_nats::{
    Client, ConnectOptions, Event as Happening,
    jetstream::{self, consumer::pull, stream},
};
use prost::Message as _;
use std::{collections::BTreeSet, fs, path::Path, time::Duration};
use talaria_bus::NatsUser;
use talaria_proto::v1::Event;
use talaria_tests::{
    binary::workspace,
    nats::{self, Server},
    openrouter::{OpenRouter, payload},
    sink::Sink,
    stack::Written,
    until,
};
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::StreamExt as _;

/// The page's configuration of a server, word for word.
pub(super) fn on_the_page() -> String {
    let page = fs::read_to_string(workspace().join("docs/nats.md")).unwrap();
    let mut blocks = page.split("```").skip(1).step_by(2);
    let block = blocks.find(|block| block.contains("verify_and_map")).unwrap();
    block.split_once('\n').unwrap().1.to_owned()
}

/// The subjects that a user of that configuration may `publish` or `subscribe` to.
pub(super) fn allowed(configuration: &str, user: &str, what: &str) -> Vec<String> {
    let (_, rest) = configuration.split_once(&format!("user: \"CN={user}\"")).unwrap();
    let (_, rest) = rest.split_once(&format!("{what}: {{allow: [")).unwrap();
    let (list, _) = rest.split_once(']').unwrap();
    let lines = list.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// With the lines that are comments there.
fn with_commented_lines(configuration: &str) -> String {
    assert!(configuration.contains("# \"$JS"), "the page has nothing to uncomment");
    configuration.replace("# \"$JS", "\"$JS")
}

/// A server with users, and who signs their certificates.
pub(super) struct Guarded {
    server: Server,
    authority: Authority,
    directory: TempDir,
}

impl Guarded {
    pub(super) async fn start(configuration: &str) -> Self {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
        authority.write_server(directory.path());
        assert!(configuration.contains("\"/etc/nats/"));
        let lines = configuration.replace("\"/etc/nats/", &format!("\"{}/", directory.path().display()));
        Self { server: nats::server().with(&lines).start().await, authority, directory }
    }

    pub(super) fn written(&self, user: &str, sink: &Sink, retention: &str) -> Written {
        let written = on_nats(&self.server.url(), "tls: {ca: ca.pem, cert: client.pem, key: client-key.pem}")
            .with(&format!("retention: {retention}"))
            .tenant("acme", |tenant| {
                tenant.route("r", &sink.url("r"), "pace: off").notices("ops", &sink.url("ops"))
            })
            .write();
        self.authority.write_client(written.path(), user);
        written
    }

    async fn ingress(&self, sink: &Sink) -> Process {
        Process::start("ingress", self.written("talaria-ingress", sink, "7d")).await
    }

    async fn relay(&self, sink: &Sink, retention: &str) -> Process {
        Process::start("relay", self.written("talaria-relay", sink, retention)).await
    }

    async fn client(&self, user: &str) -> User {
        let at = self.directory.path().join(user);
        fs::create_dir_all(&at).unwrap();
        self.authority.write_client(&at, user);
        User::connect(&self.server.url(), &at, user).await
    }

    pub(super) fn assert_no_refusals(&self) {
        let log = self.server.log();
        assert!(!log.contains("Violation"), "{log}");
    }
}

/// A client that reports refusals of the server.
pub(super) struct User {
    name: String,
    pub client: Client,
    refused: Mutex<mpsc::UnboundedReceiver<String>>,
}

impl User {
    async fn connect(url: &str, certificates: &Path, name: &str) -> Self {
        let options = ConnectOptions::new()
            .require_tls(true)
            .add_root_certificates(certificates.join("ca.pem"))
            .add_client_certificate(certificates.join("client.pem"), certificates.join("client-key.pem"))
            .custom_inbox_prefix("_INBOX_billing");
        Self::connect_with(options, url, name).await
    }

    pub(super) async fn connect_with(options: ConnectOptions, url: &str, name: &str) -> Self {
        let (sender, refused) = mpsc::unbounded_channel();
        let client = options
            .event_callback(move |event| {
                let sender = sender.clone();
                async move {
                    if let Happening::ServerError(error) = event {
                        let _ = sender.send(error.to_string().to_lowercase());
                    }
                }
            })
            .connect(url)
            .await
            .unwrap();
        Self { name: name.into(), client, refused: Mutex::new(refused) }
    }

    fn jetstream(&self) -> jetstream::Context {
        let mut jetstream = jetstream::new(self.client.clone());
        jetstream.set_timeout(Duration::from_millis(300));
        jetstream
    }

    async fn hears(&self, what: &str, subject: &str) {
        let expected = format!("permissions violation for {what} to \"{}\"", subject.to_lowercase());
        let mut refused = self.refused.lock().await;
        let heard = tokio::time::timeout(talaria_tests::PATIENCE, refused.recv()).await;
        let heard = heard.unwrap_or_else(|_| panic!("{} may {what} {subject}", self.name)).unwrap();
        assert!(heard.contains(&expected), "{}: {heard} instead of {expected}", self.name);
    }

    pub(super) async fn cannot_publish(&self, subject: &str) {
        self.client.publish(subject.to_owned(), "{}".into()).await.unwrap();
        self.hears("publish", subject).await;
    }

    pub(super) async fn cannot_subscribe(&self, subject: &str) {
        let _subscription = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.hears("subscription", subject).await;
    }
}

/// Requests that remove, change or take away, for one stream.
pub(super) fn harm(stream: &str) -> Vec<String> {
    [
        "STREAM.UPDATE.{}",
        "STREAM.DELETE.{}",
        "STREAM.MSG.DELETE.{}",
        "STREAM.SNAPSHOT.{}",
        "STREAM.RESTORE.{}",
        "STREAM.LEADER.STEPDOWN.{}",
        "CONSUMER.CREATE.{}.name",
        "CONSUMER.CREATE.{}.name.>",
        "CONSUMER.DURABLE.CREATE.{}.name",
        "CONSUMER.DELETE.{}.name",
        "CONSUMER.NAMES.{}",
        "DIRECT.GET.{}.talaria.journal.25",
    ]
    .map(|request| format!("$JS.API.{}", request.replace("{}", stream)))
    .into()
}

#[test]
fn the_page_has_the_lists_of_the_program() {
    let page = with_commented_lines(&on_the_page());
    for user in [NatsUser::Ingress, NatsUser::Relay, NatsUser::Backup] {
        let permissions = user.permissions("talaria").unwrap();
        for (what, subjects) in [("publish", permissions.publish), ("subscribe", permissions.subscribe)] {
            let listed: BTreeSet<_> =
                allowed(&page, &format!("talaria-{}", user.name()), what).into_iter().collect();
            assert_eq!(listed, subjects.into_iter().collect(), "{what} of {user:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_the_page_can_do_all_that_is_done() {
    let sink = Sink::start().await;
    let guarded = Guarded::start(&on_the_page()).await;
    let relay = guarded.relay(&sink, "7d").await;
    let ingress = guarded.ingress(&sink).await;
    let openrouter = ingress.openrouter("acme");
    let event = openrouter.send("job", "completed").await;
    relay.delivered(&event).await;
    // A repeat, a conflict, and a callback that is no event.
    openrouter.send("job", "completed").await;
    let mut other = payload("job", "completed");
    other["data"]["model"] = "another".into();
    openrouter.send_payload(&other).await;
    relay.event_when(&event, |found| found.conflicts.len() == 1).await;
    assert_eq!(openrouter.send_bytes(b"no event".to_vec()).await, Some(422));
    until("the notice of it", async || sink.requests_to("ops").pop()).await;
    // Any relay shows the refusals of an ingress.
    let stranger = OpenRouter::new(ingress.ingress(), "acme", "guessed");
    assert_eq!(stranger.try_send("job", "completed").await, Some(401));
    let refusals = relay.refusals().await;
    assert_eq!((refusals[0].tenant.as_str(), refusals[0].reason.as_str()), ("acme", "mismatch"));
    for process in [&ingress, &relay] {
        assert_eq!(process.readiness().await, (200, "ready\n".into()));
    }
    drop(relay);
    // A fresh relay takes over, and trims the streams.
    let relay = guarded.relay(&sink, "2s").await;
    let operator = guarded.client("operator").await.jetstream();
    until("everything old to be gone", async || {
        (state(&operator, "talaria-events").await.messages == 0).then_some(())
    })
    .await;
    // The server still remembers its id and its bytes: it is acknowledged, and not stored again.
    openrouter.send("job", "completed").await;
    assert_eq!(state(&operator, "talaria-events").await.messages, 0);
    let complaints = |process: &Process| process.log().join("\n").contains("complains");
    assert!(!complaints(&ingress) && !complaints(&relay), "{:#?}{:#?}", ingress.log(), relay.log());
    guarded.assert_no_refusals();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_without_permission_to_create_streams_fails_clearly_and_one_with_it_can_be_first() {
    let sink = Sink::start().await;
    let guarded = Guarded::start(&on_the_page()).await;
    let ended = Process::fails("ingress", guarded.written("talaria-ingress", &sink, "7d")).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for says in ["cannot set up the stream talaria-events", "$js.api.stream.create.talaria-events"] {
        assert!(ended.error.to_lowercase().contains(says), "{ended:?}");
    }

    let guarded = Guarded::start(&with_commented_lines(&on_the_page())).await;
    let ingress = guarded.ingress(&sink).await;
    let event = ingress.openrouter("acme").send("job", "completed").await;
    let relay = guarded.relay(&sink, "7d").await;
    relay.delivered(&event).await;
    guarded.assert_no_refusals();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one account after the other does all that it may")]
async fn the_users_of_the_page_can_do_nothing_else() {
    let sink = Sink::start().await;
    let guarded = Guarded::start(&with_commented_lines(&on_the_page())).await;
    let relay = guarded.relay(&sink, "7d").await;
    let ingress = guarded.ingress(&sink).await;
    let event = ingress.openrouter("acme").send("job", "completed").await;
    relay.delivered(&event).await;
    let operator = guarded.client("operator").await.jetstream();
    let mut before = Vec::new();
    for name in streams("talaria") {
        before.push(config(&operator, &name).await);
    }

    let user = guarded.client("talaria-ingress").await;
    for stream in streams("talaria") {
        for request in harm(&stream) {
            user.cannot_publish(&request).await;
        }
        user.cannot_publish(&format!("$JS.API.STREAM.PURGE.{stream}")).await;
        user.cannot_publish(&format!("$JS.API.CONSUMER.CREATE.{stream}")).await;
        user.cannot_publish(&format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.name")).await;
        user.cannot_publish(&format!("$JS.API.DIRECT.GET.{stream}")).await;
        user.cannot_publish(&format!("$JS.API.STREAM.MSG.GET.{stream}")).await;
    }
    for subject in [
        "$JS.API.STREAM.INFO.talaria-journal",
        "$JS.API.STREAM.CREATE.talaria-journal",
        "$JS.API.STREAM.CREATE.another",
        "$JS.API.STREAM.NAMES",
        "talaria.journal.25",
        "talaria.relays.x",
        "talaria.ask.x",
        "talaria.openrouter",
        "_INBOX_talaria_relay.x.y",
        "another.subject",
    ] {
        user.cannot_publish(subject).await;
    }
    for subject in [
        ">",
        "talaria.events.>",
        "talaria.quarantine.>",
        "talaria.journal.>",
        "talaria.relays.*",
        "talaria.ask.*",
        "talaria.refusals.*",
        "_INBOX.>",
        "_INBOX_talaria_relay.>",
        "_INBOX_talaria_openrouter.>",
    ] {
        user.cannot_subscribe(subject).await;
    }

    let user = guarded.client("talaria-relay").await;
    for stream in streams("talaria") {
        for request in harm(&stream).iter().filter(|request| !request.contains("UPDATE")) {
            user.cannot_publish(request).await;
        }
    }
    for subject in [
        "talaria.events.25.acme.x",
        "talaria.quarantine.25.acme",
        "talaria.refusals.x",
        "_INBOX_talaria_ingress.x.y",
        "_INBOX_talaria_openrouter.x",
        "$JS.API.STREAM.CREATE.another",
        "another.subject",
    ] {
        user.cannot_publish(subject).await;
    }
    for subject in
        [">", "talaria.events.>", "talaria.journal.>", "talaria.openrouter", "_INBOX_talaria_ingress.>"]
    {
        user.cannot_subscribe(subject).await;
    }

    let user = guarded.client("billing").await;
    for stream in streams("talaria") {
        for request in harm(&stream) {
            user.cannot_publish(&request).await;
        }
        user.cannot_publish(&format!("$JS.API.STREAM.PURGE.{stream}")).await;
        user.cannot_publish(&format!("$JS.API.CONSUMER.CREATE.{stream}")).await;
        user.cannot_publish(&format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.name")).await;
        user.cannot_publish(&format!("$JS.API.DIRECT.GET.{stream}")).await;
    }
    for subject in [
        "talaria.events.25.acme.x",
        "talaria.journal.25",
        "talaria.ask.x",
        "talaria.openrouter",
        "another.subject",
    ] {
        user.cannot_publish(subject).await;
    }
    for subject in [
        ">",
        "talaria.events.>",
        "talaria.journal.>",
        "talaria.openrouter",
        "_INBOX_talaria_ingress.>",
        "_INBOX_talaria_relay.>",
        "_INBOX_talaria_openrouter.>",
    ] {
        user.cannot_subscribe(subject).await;
    }
    for (name, before) in streams("talaria").iter().zip(before) {
        assert_eq!(config(&operator, name).await, before);
    }
    assert_eq!(state(&operator, "talaria-events").await.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_programs_read_events_as_cloudevents() {
    let sink = Sink::start().await;
    let guarded = Guarded::start(&on_the_page()).await;
    let relay = guarded.relay(&sink, "7d").await;
    let ingress = guarded.ingress(&sink).await;
    let operator = guarded.client("operator").await.jetstream();
    let consumer = pull::Config {
        durable_name: Some("billing".into()),
        filter_subject: "talaria.events.*.*.video.generation.completed".into(),
        ..pull::Config::default()
    };
    operator.create_consumer_on_stream(consumer, "talaria-events").await.unwrap();
    let openrouter = ingress.openrouter("acme");
    openrouter.send("failed", "failed").await;
    let event = openrouter.send("job", "completed").await;

    let reader = guarded.client("billing").await.jetstream();
    let stream: stream::Stream<()> = reader.get_stream_no_info("talaria-events").await.unwrap();
    let consumer = stream.get_consumer::<pull::Config>("billing").await.unwrap();
    let mut messages =
        consumer.fetch().max_messages(1).expires(talaria_tests::PATIENCE).messages().await.unwrap();
    let message = messages.next().await.unwrap().unwrap();
    let headers = message.headers.as_ref().unwrap();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", event.as_str()),
        ("ce-type", "video.generation.completed"),
        ("ce-source", "/talaria/callbacks/acme"),
        ("content-type", "application/protobuf"),
    ] {
        assert_eq!(headers.get(name).unwrap().as_str(), value, "{name}");
    }
    let found = Event::decode(message.payload.clone()).unwrap();
    assert_eq!(found.payload, payload("job", "completed").to_string());
    message.ack().await.unwrap();
    until("the acknowledgement to arrive", async || {
        let info =
            operator.get_stream("talaria-events").await.unwrap().consumer_info("billing").await.unwrap();
        (info.ack_floor.consumer_sequence == 1).then_some(())
    })
    .await;
    // Other readers do not consume our messages.
    relay.delivered(&event).await;
    guarded.assert_no_refusals();
}
