//! The guarantees of the tests' own NATS servers, on which other tests depend.

use async_nats::jetstream::{self, Context, consumer::PullConsumer, stream};
use std::time::Duration;
use talaria_tests::{
    PATIENCE,
    nats::{self, Cluster, Server},
    until,
};

async fn jetstream(url: &str) -> Context {
    jetstream::new(async_nats::connect(url).await.unwrap())
}

fn stream(name: &str, num_replicas: usize) -> stream::Config {
    stream::Config { name: name.into(), num_replicas, ..Default::default() }
}

async fn publish(jetstream: &Context, subject: &'static str, text: &'static str) -> u64 {
    until(&format!("{text} to be stored"), async || {
        jetstream.publish(subject, text.into()).await.ok()?.await.ok().map(|stored| stored.sequence)
    })
    .await
}

async fn message(jetstream: &Context, stream: &str, sequence: u64) -> String {
    let payload = until(&format!("message {sequence}"), async || {
        let stream = jetstream.get_stream_no_info(stream).await.ok()?;
        stream.get_raw_message(sequence).await.ok().map(|message| message.payload)
    })
    .await;
    String::from_utf8(payload.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_acknowledged_messages() {
    for builder in [nats::server(), nats::server().sync_always()] {
        let mut server = builder.start().await;
        let jetstream = jetstream(&server.url()).await;
        jetstream.create_stream(stream("kept", 1)).await.unwrap();
        let stored = publish(&jetstream, "kept", "before").await;
        server.kill();
        server.start_again().await;
        // The client comes back by itself: the port is the same.
        assert_eq!(message(&jetstream, "kept", stored).await, "before");
        server.stop().await;
        server.start_again().await;
        assert_eq!(publish(&jetstream, "kept", "after").await, stored + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_answers_once_it_is_thawed() {
    let server = Server::start().await;
    let mut jetstream = jetstream(&server.url()).await;
    jetstream.set_timeout(Duration::from_millis(300));
    server.freeze().await;
    assert!(jetstream.query_account().await.is_err());
    server.thaw();
    jetstream.set_timeout(PATIENCE);
    jetstream.query_account().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_further_lines_of_configuration() {
    let server = nats::server().with("authorization {token: \"let me in\"}").start().await;
    assert!(async_nats::connect(server.url()).await.is_err());
    async_nats::ConnectOptions::with_token("let me in".into()).connect(server.url()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_three_survives_the_loss_of_a_streams_leader() {
    let mut cluster = Cluster::start(3).await;
    let mut jetstream = jetstream::new(async_nats::connect(cluster.urls()).await.unwrap());
    // The request to the lost leader is never answered.
    jetstream.set_timeout(Duration::from_secs(1));
    jetstream.create_stream(stream("replicated", 3)).await.unwrap();
    let stored = publish(&jetstream, "replicated", "before").await;
    let leader = cluster.leader_of("replicated").await;
    cluster.node(leader).kill();
    let next = publish(&jetstream, "replicated", "without").await;
    assert!(next > stored);
    assert_ne!(cluster.leader_of("replicated").await, leader);
    assert_eq!(message(&jetstream, "replicated", stored).await, "before");
    cluster.node(leader).start_again().await;
    cluster.healthy().await;
    // It has caught up, so that another may go.
    let leader = cluster.leader_of("replicated").await;
    cluster.node(leader).kill();
    assert_eq!(message(&jetstream, "replicated", next).await, "without");
}

/// Twice, because the second test finds the server that the first one left, from a runtime that has ended.
#[test]
fn the_shared_server_answers_every_test() {
    let urls = ["broker-one", "broker-two"].map(|name| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let url = nats::shared().await;
            let jetstream = jetstream(url).await;
            let created = jetstream.create_stream(stream(name, 1)).await.unwrap();
            let _: PullConsumer =
                created.create_consumer(jetstream::consumer::pull::Config::default()).await.unwrap();
            url
        })
    });
    assert_eq!(urls[0], urls[1]);
}
