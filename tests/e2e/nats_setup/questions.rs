//! Questions about OpenRouter, from a relay to an ingress, and files, with the users of `docs/nats.md`.

use super::permissions::{Guarded, on_the_page};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use talaria_bus::{Bus, Publisher};
use talaria_core::config::{self, BusKind, Nats};
use talaria_tests::{sink::Sink, stack::Written};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

/// A relay's side and an ingress' side of the bus, each as its user.
struct Sides {
    relay: Bus,
    ingress: Publisher,
    _files: ([Written; 2], TempDir),
}

impl Sides {
    async fn connect(guarded: &Guarded) -> Self {
        let sink = Sink::start().await;
        let written = ["talaria-relay", "talaria-ingress"].map(|user| guarded.written(user, &sink, "7d"));
        let [for_relay, for_ingress] = written.each_ref().map(nats);
        let directory = tempfile::tempdir().unwrap();
        // The relay first, because it may create the streams.
        let relay = Bus::nats(&for_relay, directory.path()).await.unwrap();
        let ingress = Publisher::nats(&for_ingress).await.unwrap();
        Self { relay, ingress, _files: (written, directory) }
    }
}

fn nats(written: &Written) -> Arc<Nats> {
    match config::load(&written.path().join("talaria.yaml")).unwrap().bus {
        BusKind::Nats(nats) => nats,
        BusKind::Embedded => panic!("the bus is NATS"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_the_page_ask_and_answer() {
    let guarded = Guarded::start(&on_the_page()).await;
    let sides = Sides::connect(&guarded).await;
    let mut questions = sides.ingress.openrouter_questions().await.unwrap();
    let answering = tokio::spawn(async move {
        let question = questions.next().await.unwrap();
        assert_eq!(question.question, "a question");
        question.answer(Bytes::from_static(b"an answer")).await.unwrap();
    });
    let answer = sides.relay.ask_openrouter(Bytes::from_static(b"a question")).await.unwrap();
    assert_eq!(answer, "an answer");
    answering.await.unwrap();
    guarded.assert_no_refusals();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_the_page_keep_files() {
    let guarded = Guarded::start(&on_the_page()).await;
    let sides = Sides::connect(&guarded).await;
    let retention = Duration::from_secs(3_600);
    let (ingress, relay) = (sides.ingress.files(retention), sides.relay.files(retention));
    let content: Bytes = (0..=255).cycle().take(400_000).collect();
    let mut file = ingress.create("a-0").await.unwrap();
    file.write(content.clone()).await.unwrap();
    file.finish().await.unwrap();
    for files in [&ingress, &relay] {
        let mut found = Vec::new();
        let mut open = files.open("a-0", 300_000).await.unwrap().unwrap();
        open.bytes.read_to_end(&mut found).await.unwrap();
        assert_eq!(found, content[300_000..]);
    }
    // One that is not finished, which is removed meanwhile, and a changed retention.
    drop(ingress.create("a-1").await.unwrap());
    let relay = sides.relay.files(2 * retention);
    relay.remove("a-0").await.unwrap();
    assert!(ingress.open("a-0", 0).await.unwrap().is_none());
    guarded.assert_no_refusals();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_may_not_ask_learns_so_at_once() {
    let page = on_the_page();
    let (publish, _) = page.split_once("\"talaria.openrouter\"\n          # To create").unwrap();
    let without = format!("{publish}{}", &page[publish.len() + "\"talaria.openrouter\"".len()..]);
    let guarded = Guarded::start(&without).await;
    let sides = Sides::connect(&guarded).await;
    let _questions = sides.ingress.openrouter_questions().await.unwrap();
    let error = sides.relay.ask_openrouter(Bytes::from_static(b"a question")).await.unwrap_err();
    assert!(error.was_not_asked(), "{error}");
    let error = error.to_string().to_lowercase();
    assert!(error.contains("permissions violation") && error.contains("docs/nats.md#permissions"), "{error}");
}
