//! What is counted, measured, traced and logged, and what docs, dashboard and alerts say of it.

mod asked;
mod catalogue;
mod scrape;
mod traces;
