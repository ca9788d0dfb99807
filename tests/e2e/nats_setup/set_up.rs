//! Streams that are missing, that are out of date, and that are something else.

use super::{config, jetstream, on_nats, prefix, process::Process, streams};
use async_nats::jetstream::{
    Context,
    stream::{
        Compression, Config, DiscardPolicy, PersistenceMode, RetentionPolicy, Source, StorageType,
        SubjectTransform,
    },
};
use std::{future::Future, pin::Pin, time::Duration};
use talaria_bus::{Bus, Publisher};
use talaria_core::config::Nats;
use talaria_tests::{
    nats::{self, Cluster, Server},
    stack::Builder,
};

fn configuration(url: &str, prefix: &str, keys: &str) -> Builder {
    on_nats(url, &format!("prefix: {prefix}\n{keys}")).tenant("acme", |tenant| tenant)
}

async fn start(role: &str, url: &str, prefix: &str, keys: &str) -> Process {
    Process::start(role, configuration(url, prefix, keys).write()).await
}

async fn configs(jetstream: &Context, prefix: &str) -> Vec<Config> {
    let mut configs = Vec::new();
    for stream in streams(prefix) {
        configs.push(config(jetstream, &stream).await);
    }
    configs
}

#[tokio::test(flavor = "multi_thread")]
async fn either_service_creates_missing_streams_and_finds_them_again() {
    let url = nats::shared().await;
    let jetstream = jetstream(url).await;
    for roles in [["ingress", "relay"], ["relay", "ingress"], ["up", "ingress"]] {
        let prefix = prefix("order");
        let first = start(roles[0], url, &prefix, "").await;
        let events = config(&jetstream, &streams(&prefix)[0]).await;
        let second = start(roles[1], url, &prefix, "").await;
        let made = configs(&jetstream, &prefix).await;
        assert_eq!(made[0], events, "{roles:?}");
        let (first, second) = (first.kill(), second.kill());
        drop([Process::start(roles[1], second).await, Process::start(roles[0], first).await]);
        assert_eq!(configs(&jetstream, &prefix).await, made, "{roles:?} again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_start_at_once_get_the_same_streams() {
    type Opening = Pin<Box<dyn Future<Output = Result<(), talaria_bus::Error>> + Send>>;
    let url = nats::shared().await;
    for _ in 0..20 {
        let config = Nats {
            servers: vec![url.to_owned()],
            creds: None,
            nkey: None,
            tls: None,
            replicas: 1,
            prefix: prefix("moment"),
            max_bytes: None,
        };
        let opening = (0..8).map(|index| {
            let config = config.clone();
            let opening: Opening = if index % 2 == 0 {
                Box::pin(async move { Publisher::nats(&config).await.map(drop) })
            } else {
                Box::pin(async move {
                    let directory = tempfile::tempdir().unwrap();
                    Bus::nats(&config, directory.path()).await.map(drop)
                })
            };
            tokio::spawn(opening)
        });
        for opened in opening.collect::<Vec<_>>() {
            opened.await.unwrap().unwrap();
        }
    }
    let prefix = prefix("moment");
    let roles = ["ingress", "relay", "ingress", "relay", "up"];
    let mut all = roles.map(|role| Process::begin(role, configuration(url, &prefix, "").write()));
    for process in &mut all {
        process.listens().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_applied_to_existing_streams() {
    let server = Server::start().await;
    let jetstream = jetstream(&server.url()).await;
    let prefix = prefix("limit");
    let [events, journal] = streams(&prefix);
    for (keys, limit) in [("", -1), ("max_bytes: 2MiB", 2 << 20), ("max_bytes: 3MiB", 3 << 20), ("", 3 << 20)]
    {
        drop(start("relay", &server.url(), &prefix, keys).await);
        assert_eq!(config(&jetstream, &events).await.max_bytes, limit, "{keys}");
        assert_eq!(config(&jetstream, &journal).await.max_bytes, -1, "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_reach_streams_that_are_there() {
    let cluster = Cluster::start(3).await;
    let url = &cluster.urls()[0];
    let jetstream = jetstream(url).await;
    let prefix = prefix("replicas");
    for replicas in [1, 3, 3] {
        drop(start("relay", url, &prefix, &format!("replicas: {replicas}")).await);
        cluster.healthy().await;
        for stream in streams(&prefix) {
            assert_eq!(config(&jetstream, &stream).await.num_replicas, replicas, "{stream}");
        }
    }
}

/// A restart keeps other settings of the operator.
#[tokio::test(flavor = "multi_thread")]
async fn other_settings_of_the_operator_are_kept() {
    let url = nats::shared().await;
    let jetstream = jetstream(url).await;
    let prefix = prefix("operator");
    drop(start("relay", url, &prefix, "").await);
    for stream in &streams(&prefix) {
        let mut operators = Config {
            description: Some("ours".into()),
            max_bytes: 1 << 30,
            max_messages: 1_000_000,
            max_message_size: 1 << 20,
            compression: Some(Compression::S2),
            deny_delete: true,
            ..config(&jetstream, stream).await
        };
        operators.metadata.insert("owner".into(), "platform".into());
        jetstream.update_stream(operators).await.unwrap();
    }
    let changed = configs(&jetstream, &prefix).await;
    assert_eq!(changed[0].compression, Some(Compression::S2));
    drop(start("ingress", url, &prefix, "").await);
    drop(start("relay", url, &prefix, "").await);
    assert_eq!(configs(&jetstream, &prefix).await, changed);
}

/// The text in the error, and the change of the stream that causes it.
type Wrong = (&'static str, fn(&mut Config));

const WRONG: [Wrong; 15] = [
    ("subjects", |stream| stream.subjects = vec![format!("{}.other.>", stream.name)]),
    ("subjects", |stream| stream.subjects.push(format!("{}.other.>", stream.name))),
    ("retention", |stream| stream.retention = RetentionPolicy::WorkQueue),
    ("retention", |stream| stream.retention = RetentionPolicy::Interest),
    ("storage", |stream| stream.storage = StorageType::Memory),
    ("discard", |stream| stream.discard = DiscardPolicy::Old),
    ("max_age", |stream| stream.max_age = Duration::from_secs(3600)),
    ("max_msgs_per_subject", |stream| stream.max_messages_per_subject = 1000),
    ("talaria-partitions", |stream| drop(stream.metadata.remove("talaria-partitions"))),
    ("talaria-partitions", |stream| {
        stream.metadata.insert("talaria-partitions".into(), "32".into());
    }),
    ("no_ack", |stream| stream.no_ack = true),
    ("deny_purge", |stream| stream.deny_purge = true),
    ("subject_transform", |stream| {
        let source = stream.subjects[0].clone();
        let (first, second) = ("{{wildcard(1)}}", "{{wildcard(2)}}");
        let destination = format!("renamed.{source}").replacen('*', first, 1).replacen('*', second, 1);
        stream.subject_transform = Some(SubjectTransform { source, destination });
    }),
    ("sources", |stream| {
        stream.sources = Some(vec![Source { name: "elsewhere".into(), ..Source::default() }]);
    }),
    ("persist_mode", |stream| {
        stream.persist_mode = Some(PersistenceMode::Async);
        stream.allow_atomic_publish = false;
    }),
];

const MIRROR: Wrong = ("mirror", |stream| {
    stream.mirror = Some(Source { name: "elsewhere".into(), ..Source::default() });
    // A mirror has none of these.
    stream.subjects.clear();
    stream.allow_atomic_publish = false;
    stream.duplicate_window = Duration::ZERO;
});

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_something_else_is_named_and_left_as_it_is() {
    left_as_it_is(&WRONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_named_and_left_as_it_is() {
    left_as_it_is(&[MIRROR]).await;
}

async fn left_as_it_is(wrong: &[Wrong]) {
    let server = Server::start().await;
    let (url, jetstream) = (server.url(), jetstream(&server.url()).await);
    let ours = prefix("ours");
    drop(start("relay", &url, &ours, "").await);
    for (index, role) in [(0, "ingress"), (1, "relay")] {
        let right = config(&jetstream, &streams(&ours)[index]).await;
        for (setting, change) in wrong {
            let prefix = prefix("wrong");
            let name = streams(&prefix)[index].clone();
            let subjects = right.subjects.iter().map(|subject| subject.replace(&ours, &prefix)).collect();
            let mut wrong = Config { name: name.clone(), subjects, ..right.clone() };
            change(&mut wrong);
            jetstream.create_stream(wrong).await.unwrap_or_else(|error| panic!("{setting}: {error}"));
            let before = config(&jetstream, &name).await;
            let ended = Process::fails(role, configuration(&url, &prefix, "").write()).await;
            assert_eq!(ended.code, Some(1), "{setting}: {ended:?}");
            assert!(ended.error.contains(&format!("the stream {name} ")), "{setting}: {ended:?}");
            assert!(ended.error.contains(setting), "{setting}: {ended:?}");
            assert_eq!(ended.error.lines().count(), 1, "{setting}: {ended:?}");
            assert_eq!(config(&jetstream, &name).await, before, "{setting}");
            jetstream.delete_stream(&name).await.unwrap();
        }
    }
}

/// Subjects as they were before there were partitions.
#[tokio::test(flavor = "multi_thread")]
async fn streams_without_partitions_are_refused_with_advice() {
    let url = nats::shared().await;
    let jetstream = jetstream(url).await;
    for (role, stream, kind) in [("ingress", 0, "events"), ("relay", 0, "events"), ("relay", 1, "journal")] {
        let prefix = prefix("former");
        let name = streams(&prefix)[stream].clone();
        let subjects = vec![format!("{prefix}.{kind}.>")];
        let former = Config { name: name.clone(), subjects, ..Config::default() };
        jetstream.create_stream(former).await.unwrap();
        let ended = Process::fails(role, configuration(url, &prefix, "").write()).await;
        assert_eq!((ended.code, ended.error.lines().count()), (Some(1), 1), "{ended:?}");
        for says in [name.as_str(), "another bus.nats.prefix", "nats stream rm", "nats-stream-differs.md"] {
            assert!(ended.error.contains(says), "{ended:?}");
        }
        jetstream.delete_stream(&name).await.unwrap();
    }
}

/// A setting that is changed while a service runs is no less wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_running_makes_a_service_not_ready() {
    let server = Server::start().await;
    let (url, jetstream) = (server.url(), jetstream(&server.url()).await);
    let prefix = prefix("changed");
    let relay = start("relay", &url, &prefix, "").await;
    talaria_tests::until("it to own its partitions", async || {
        (relay.readiness().await.0 == 200).then_some(())
    })
    .await;
    for stream in &streams(&prefix) {
        let right = config(&jetstream, stream).await;
        let wrong = Config { max_age: Duration::from_secs(3600), ..right.clone() };
        jetstream.update_stream(wrong).await.unwrap();
        let (status, says) = relay.readiness().await;
        assert_eq!((status, says.contains(stream), says.contains("max_age")), (503, true, true), "{says}");
        jetstream.update_stream(right).await.unwrap();
        assert_eq!(relay.readiness().await.0, 200);
    }
}
