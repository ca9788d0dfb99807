//! Several servers that replicate.

use super::server::{Server, server};
use crate::{free_port, until};

/// A running cluster on loopback.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    server: Server,
    monitor: u16,
}

impl Cluster {
    /// Starts this many nodes, and waits until each of them can create streams.
    pub async fn start(nodes: usize) -> Self {
        loop {
            if let Some(cluster) = Self::try_to_start(nodes).await {
                cluster.healthy().await;
                return cluster;
            }
        }
    }

    /// `None` if another process got one of the ports.
    async fn try_to_start(nodes: usize) -> Option<Self> {
        let routes: Vec<String> = (0..nodes).map(|_| format!("127.0.0.1:{}", free_port())).collect();
        let all = routes.iter().map(|route| format!("\"nats://{route}\"")).collect::<Vec<_>>().join(", ");
        let nodes = routes.iter().enumerate().map(|(index, route)| {
            let monitor = free_port();
            let server = server()
                .with(&format!("server_name: {}\nhttp: \"127.0.0.1:{monitor}\"", name(index)))
                .with(&format!("cluster {{name: tests, listen: \"{route}\", routes: [{all}]}}"))
                .launch(free_port());
            Node { server, monitor }
        });
        let mut cluster = Self { nodes: nodes.collect() };
        for node in &mut cluster.nodes {
            if !node.server.listens().await {
                return None;
            }
        }
        Some(cluster)
    }

    /// Where the nodes listen.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.server.url()).collect()
    }

    /// One of its servers. A killed one is restarted by [`Server::start_again`].
    pub fn node(&mut self, index: usize) -> &mut Server {
        &mut self.nodes[index].server
    }

    /// Waits until every node knows JetStream's leader and has caught up with all its streams.
    pub async fn healthy(&self) {
        let client = crate::http();
        for (index, node) in self.nodes.iter().enumerate() {
            let url = format!("http://127.0.0.1:{}/healthz", node.monitor);
            until(&format!("{} to be healthy: {}", name(index), node.server.log()), async || {
                client.get(&url).send().await.ok().filter(|answer| answer.status().is_success())
            })
            .await;
        }
    }

    /// The node that leads a stream, once one does.
    pub async fn leader_of(&self, stream: &str) -> usize {
        let client = async_nats::connect(self.urls()).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let leader = until(&format!("a leader of {stream}"), async || {
            // The server that answers is the leader; there may be none.
            let info = jetstream.get_stream(stream).await.ok()?;
            info.cached_info().cluster.as_ref()?.leader.clone()
        })
        .await;
        (0..self.nodes.len()).find(|&index| name(index) == leader).unwrap()
    }
}

fn name(index: usize) -> String {
    format!("node-{index}")
}
