//! Metrics, traces and logs, and their use in docs, dashboard and alerts.

mod asked;
mod backups;
mod catalogue;
mod certificates;
mod prometheus;
mod scrape;
mod tenants;
mod traces;
mod traffic;
