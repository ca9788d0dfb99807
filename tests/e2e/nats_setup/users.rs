//! Users by key, which `talaria secrets --nats-users` makes: `bus.nats.nkey`.

use super::{
    on_nats,
    permissions::{User, harm},
    process::Process,
    streams,
};
use crate::commands::works;
use async_nats::{Client, ConnectOptions, jetstream};
use futures_util::StreamExt as _;
use serde_json::json;
use std::{fs, path::Path};
use talaria_tests::{
    nats::{self, Server},
    sink::Sink,
    stack::Written,
    until,
};
use tempfile::TempDir;

/// The directory of `--nats-users`, below that of a configuration.
pub(super) const USERS: &str = "nats";

/// Keys, and what the server reads.
pub(super) struct Keys(TempDir);

impl Keys {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = "tenants: {acme: {openrouter: {secrets: [{file: secret}]}}}\n";
        fs::write(directory.path().join("talaria.yaml"), text).unwrap();
        let keys = Self(directory);
        keys.write();
        keys
    }

    /// Makes the missing keys.
    pub(super) fn write(&self) {
        works(self.0.path(), &["secrets", "--nats-users", USERS]);
    }

    /// Replaces the key of a user, and the server's list with it.
    fn exchange(&self, user: &str) {
        fs::remove_file(self.path(user).join("nkey")).unwrap();
        self.write();
    }

    /// The directory of a user, or of the server.
    pub(super) fn path(&self, of: &str) -> std::path::PathBuf {
        self.0.path().join(USERS).join(of)
    }

    pub(super) fn seed(&self, user: &str) -> String {
        fs::read_to_string(self.path(user).join("nkey")).unwrap()
    }

    /// The list of users, as a configuration in another temporary directory names it: relative, as the server wants it.
    fn include(&self) -> String {
        let name = self.0.path().file_name().unwrap().to_str().unwrap();
        format!("include ../{name}/{USERS}/server/users.conf")
    }

    async fn server(&self) -> Server {
        nats::server().with(&self.include()).start().await
    }

    /// A configuration with this user's key.
    pub(super) fn written(&self, url: &str, keys: &str, user: &str, sink: &Sink) -> Written {
        let written = on_nats(url, &format!("nkey: {{file: nkey}}\n{keys}"))
            .tenant("acme", |tenant| tenant.route("r", &sink.url("r"), "pace: off"))
            .write();
        self.give(written.path(), user);
        written
    }

    /// Writes a user's key beside a configuration, as a whole.
    fn give(&self, directory: &Path, user: &str) {
        fs::copy(self.path(user).join("nkey"), directory.join("new")).unwrap();
        fs::rename(directory.join("new"), directory.join("nkey")).unwrap();
    }

    pub(super) async fn client(&self, url: &str, user: &str) -> User {
        let inbox = format!("_INBOX_talaria_{user}");
        let options = ConnectOptions::with_nkey(self.seed(user)).custom_inbox_prefix(inbox);
        User::connect_with(options, url, user).await
    }
}

/// A callback goes its whole way.
pub(super) async fn delivers(ingress: &Process, relay: &Process, job: &str) {
    let event = ingress.openrouter("acme").send(job, "completed").await;
    relay.delivered(&event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_and_relay_with_keys_do_all_that_is_done_whichever_is_first() {
    let (keys, sink) = (Keys::new(), Sink::start().await);
    let server = keys.server().await;
    let ingress = Process::start("ingress", keys.written(&server.url(), "", "ingress", &sink)).await;
    let relay = Process::start("relay", keys.written(&server.url(), "", "relay", &sink)).await;
    delivers(&ingress, &relay, "job").await;
    for (process, user) in [(&ingress, "ingress"), (&relay, "relay")] {
        assert_eq!(process.readiness().await, (200, "ready\n".into()));
        let log = process.log().join("\n");
        assert!(!log.contains("error of the NATS server") && !log.contains(&keys.seed(user)), "{log}");
    }
    assert!(!server.log().contains("Violation"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_told_what_is_missing() {
    let (keys, others, sink) = (Keys::new(), Keys::new(), Sink::start().await);
    let server = keys.server().await;
    for role in ["ingress", "relay"] {
        let ended = Process::fails(role, others.written(&server.url(), "", role, &sink)).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for says in ["bus.nats.nkey", "authorization violation", "users.conf", "talaria secrets --nats-users"]
        {
            assert!(ended.error.contains(says), "no {says:?}: {ended:?}");
        }
        assert!(!ended.log.join("\n").contains(&others.seed(role)), "{ended:?}");

        let without =
            on_nats(&server.url(), "").tenant("acme", |tenant| tenant.route("r", &sink.url("r"), ""));
        let ended = Process::fails(role, without.write()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for says in ["bus.nats.nkey", "bus.nats.creds", "authorization violation"] {
            assert!(ended.error.contains(says), "no {says:?}: {ended:?}");
        }

        let written = keys.written(&server.url(), "", role, &sink);
        fs::write(written.path().join("nkey"), "SUAHUNTER2HUNTER2HUNTER2").unwrap();
        let ended = Process::fails(role, written).await;
        assert_eq!(ended.code, Some(3), "{ended:?}");
        for says in ["talaria.yaml:", "nkey does not hold the seed of an NKey", "\n  help: "] {
            assert!(ended.error.contains(says), "no {says:?}: {ended:?}");
        }
        assert!(!ended.log.join("\n").contains("HUNTER2"), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_exchanged_takes_effect_without_a_restart() {
    let (keys, sink) = (Keys::new(), Sink::start().await);
    let server = keys.server().await;
    let relay = Process::start("relay", keys.written(&server.url(), "", "relay", &sink)).await;
    let ingress = Process::start("ingress", keys.written(&server.url(), "", "ingress", &sink)).await;
    delivers(&ingress, &relay, "before").await;

    let old = keys.seed("ingress");
    keys.exchange("ingress");
    server.reload().await;
    until("the old key to be refused", async || (ingress.readiness().await.0 != 200).then_some(())).await;
    assert!(ConnectOptions::with_nkey(old).connect(server.url()).await.is_err());
    assert_eq!(relay.readiness().await.0, 200, "the others' connections stay");

    keys.give(ingress.path(), "ingress");
    until("the new key to be taken", async || (ingress.readiness().await.0 == 200).then_some(())).await;
    delivers(&ingress, &relay, "after").await;
    assert!(!ingress.log().join("\n").contains(&keys.seed("ingress")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_an_ingress_reads_no_stream_and_that_of_a_backup_writes_none() {
    let (keys, sink) = (Keys::new(), Sink::start().await);
    let server = keys.server().await;
    let relay = Process::start("relay", keys.written(&server.url(), "", "relay", &sink)).await;
    let ingress = Process::start("ingress", keys.written(&server.url(), "", "ingress", &sink)).await;
    delivers(&ingress, &relay, "job").await;

    for name in ["ingress", "backup"] {
        let user = keys.client(&server.url(), name).await;
        for stream in streams("talaria") {
            let may = |request: &String| {
                name == "backup"
                    && (request.contains("SNAPSHOT") || *request == "$JS.API.STREAM.UPDATE.talaria-journal")
            };
            for request in harm(&stream).iter().filter(|request| !may(request)) {
                user.cannot_publish(request).await;
            }
            for request in ["STREAM.PURGE", "STREAM.MSG.GET", "DIRECT.GET", "CONSUMER.CREATE"] {
                user.cannot_publish(&format!("$JS.API.{request}.{stream}")).await;
            }
        }
        for subject in ["talaria.journal.25", "talaria.ask.x", "_INBOX_talaria_relay.x", "another.subject"] {
            user.cannot_publish(subject).await;
        }
        for subject in [">", "talaria.events.>", "talaria.journal.>", "_INBOX_talaria_relay.>"] {
            user.cannot_subscribe(subject).await;
        }
    }
    let user = keys.client(&server.url(), "backup").await;
    user.cannot_publish("talaria.events.25.acme.x").await;
}

/// Reads a stream as a backup does, and returns its bytes.
async fn snapshot(client: &Client, stream: &str) -> usize {
    let parts = client.new_inbox();
    let mut coming = client.subscribe(parts.clone()).await.unwrap();
    let asked = json!({"deliver_subject": parts, "no_consumers": true, "chunk_size": 1024}).to_string();
    let answer = client.request(format!("$JS.API.STREAM.SNAPSHOT.{stream}"), asked.into()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer["error"].is_null(), "{answer}");
    let mut bytes = 0;
    while let Some(part) = coming.next().await {
        if part.payload.is_empty() {
            return bytes;
        }
        bytes += part.payload.len();
        if let Some(reply) = part.reply {
            client.publish(reply, "".into()).await.unwrap();
        }
    }
    panic!("the end of {stream} did not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_backup_reads_both_streams_and_records_when() {
    let (keys, sink) = (Keys::new(), Sink::start().await);
    let server = keys.server().await;
    let relay = Process::start("relay", keys.written(&server.url(), "", "relay", &sink)).await;
    let ingress = Process::start("ingress", keys.written(&server.url(), "", "ingress", &sink)).await;
    delivers(&ingress, &relay, "job").await;
    let user = keys.client(&server.url(), "backup").await;
    for stream in streams("talaria") {
        assert!(snapshot(&user.client, &stream).await > 0, "{stream}");
    }
    let jetstream = jetstream::new(user.client.clone());
    let mut config = jetstream.get_stream("talaria-journal").await.unwrap().cached_info().config.clone();
    config.metadata.insert("talaria-backup".into(), "0".into());
    jetstream.update_stream(config).await.unwrap();
    user.client.flush().await.unwrap();
    assert!(!server.log().contains("Violation"), "{}", server.log());
    // A key of the metadata that is not Talaria's own changes nothing.
    assert_eq!(relay.readiness().await, (200, "ready\n".into()));
    delivers(&ingress, &relay, "after").await;
}
