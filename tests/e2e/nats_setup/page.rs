//! `docs/nats.md` names everything on the server.

use super::{jetstream, on_nats, process::Process, streams};
use futures_util::StreamExt as _;
use std::{collections::BTreeSet, fs};
use talaria_tests::{binary::workspace, nats::Server, openrouter::event_id, sink::Sink};

/// The names on the server, with capitals for variable parts.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_names_every_stream_subject_header_and_setting() {
    let page = fs::read_to_string(workspace().join("docs/nats.md")).unwrap();
    let (sink, server) = (Sink::start().await, Server::start().await);
    let configuration = || {
        on_nats(&server.url(), "")
            .tenant("acme", |tenant| tenant.route("r", &sink.url("r"), "pace: off"))
            .write()
    };
    let relay = Process::start("relay", configuration()).await;
    let ingress = Process::start("ingress", configuration()).await;
    let openrouter = ingress.openrouter("acme");
    // Some at once, so that there is a batch.
    let jobs: Vec<_> = (0..50).map(|job| format!("j{job}")).collect();
    let sent = jobs.iter().map(|job| openrouter.send(job, "completed"));
    futures_util::future::join_all(sent).await;
    assert_eq!(openrouter.send_bytes(b"no event".to_vec()).await, Some(422));
    for job in jobs {
        relay.delivered(&event_id("acme", &job, "completed")).await;
    }

    let jetstream = jetstream(&server.url()).await;
    let names: BTreeSet<String> = jetstream.stream_names().map(Result::unwrap).collect().await;
    assert_eq!(names, streams("talaria").into());
    let mut seen = BTreeSet::new();
    for name in &names {
        let stream = jetstream.get_stream(name).await.unwrap();
        let serde_json::Value::Object(config) = serde_json::to_value(&stream.cached_info().config).unwrap()
        else {
            panic!("settings are an object")
        };
        // A setting without a value is none.
        seen.extend(
            config.into_iter().filter(|(name, value)| is_set(value) && name != "name").map(|(name, _)| name),
        );
        seen.insert(name.clone());
        let mut subjects = stream.info_with_subjects(">").await.unwrap();
        while let Some(subject) = subjects.next().await {
            let (subject, _) = subject.unwrap();
            let partition = subject.split('.').nth(2).unwrap();
            assert_eq!(partition.len(), 2, "{subject}");
            let subject = subject.replacen(partition, "PP", 1);
            let subject = subject.replace("acme.video.generation.completed", "acme.TYPE");
            seen.insert(subject.replace("acme", "TENANT"));
        }
        let state = &stream.cached_info().state;
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            seen.extend(message.headers.iter().map(|(name, _)| name.to_string()));
        }
        let mut consumers = stream.consumers();
        while let Some(consumer) = consumers.next().await {
            let consumer = consumer.unwrap();
            assert_eq!(consumer.config.durable_name, None, "the page says that none is durable");
        }
    }
    assert!(
        ["talaria.events.PP.TENANT.TYPE", "talaria.quarantine.PP.TENANT", "talaria.journal.PP"]
            .iter()
            .all(|subject| seen.contains(*subject)),
        "{seen:?}"
    );
    let missing: Vec<_> = seen.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/nats.md does not name {missing:?}");
}

fn is_set(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_i64().is_some_and(|number| number > 0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}
