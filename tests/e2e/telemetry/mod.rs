//! Metrics, traces and logs, and their use in docs, dashboard and alerts.

mod asked;
mod catalogue;
mod prometheus;
mod scrape;
mod traces;
mod traffic;
