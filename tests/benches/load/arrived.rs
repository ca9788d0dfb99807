//! Arrivals at Hermes: latencies and rates.

use crate::{generator::Sent, hermes};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

/// How long callbacks took from their sending to their arrival.
pub struct Journeys {
    /// Milliseconds, in order.
    latencies: Vec<f64>,
    /// How long after the last sending the last one arrived.
    pub last: Duration,
}

impl Journeys {
    /// The latency that so many of 100 do not exceed.
    pub fn at(&self, percent: usize) -> f64 {
        self.latencies[self.latencies.len() * percent / 100]
    }
}

/// Waits until all of them have arrived.
pub async fn journeys(hermes: SocketAddr, sent: &[Sent]) -> Journeys {
    let arrivals: HashMap<String, u64> = hermes::arrivals(hermes, sent.len()).await.into_iter().collect();
    let took = |sent: &Sent| arrivals[&sent.delivery()].saturating_sub(sent.at) as f64 / 1000.0;
    let mut latencies: Vec<f64> = sent.iter().map(took).collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let last_sent = sent.iter().map(|sent| sent.at).max().unwrap();
    let last = arrivals.values().max().unwrap().saturating_sub(last_sent);
    Journeys { latencies, last: Duration::from_micros(last) }
}

/// Waits until so many deliveries have arrived, each once. How many a second it was.
pub async fn rate(hermes: SocketAddr, deliveries: usize) -> f64 {
    let arrivals = hermes::arrivals(hermes, deliveries).await;
    let ids: HashSet<&str> = arrivals.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!((ids.len(), arrivals.len()), (deliveries, deliveries), "each has to arrive once");
    let times = arrivals.iter().map(|(_, at)| *at);
    let took = times.clone().max().unwrap() - times.min().unwrap();
    deliveries as f64 / Duration::from_micros(took).as_secs_f64()
}
