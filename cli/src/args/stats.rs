//! `talaria stats`

use super::{Ask, status::moment};
use clap::Args;
use jiff::Timestamp;

/// `talaria stats`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria stats                           the last 24 hours, by hour
  talaria stats acme/video --since 7d
  talaria stats acme --minutes --since 1h
  talaria stats --routes                  a line for each tenant and each route

Counts are of the time in which something happened: a delivery that is parked, replayed and delivered counts twice. P50 and P99 are \
times from the callback to DELIVERED, at most 6.25 % off. Hours are kept as long as events, minutes for 24 hours. Those in which \
nothing happened are left out. Times are in UTC.")]
pub struct Stats {
    /// A tenant, or a route as TENANT/ROUTE; all tenants together where it is left out
    #[arg(value_name = "TENANT[/ROUTE]")]
    pub of: Option<String>,
    /// Begin at a time such as '2026-04-24 12:00:00Z', or so long ago, such as 2h
    #[arg(long, value_name = "WHEN", value_parser = moment, default_value = "24h")]
    pub since: Timestamp,
    /// End before this time
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// By minute instead of by hour
    #[arg(long)]
    pub minutes: bool,
    /// Show the sums of each tenant and each route
    #[arg(long)]
    pub routes: bool,
    /// Show every column, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
    #[command(flatten)]
    pub ask: Ask,
}
