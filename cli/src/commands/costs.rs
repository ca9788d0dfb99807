//! `talaria costs`: what jobs cost, by day, tenant, model and routes.

use crate::{
    Failure,
    args::Costs,
    client,
    print::{self, Cell, Column, DIM, Screen, counted},
};
use std::{io::Write as _, path::Path};
use talaria_core::money::dollars;
use talaria_proto::{
    time::to_proto,
    v1::{Cost, ListCostsRequest},
};

const COLUMNS: [Column; 7] = [
    Column::new("DAY"),
    Column::new("TENANT").rank(1).whole(),
    Column::new("MODEL").whole(),
    Column::new("ROUTES").rank(2).at_least(8),
    Column::new("EVENTS").rank(3),
    Column::new("NO COST").rank(4),
    Column::new("COST"),
];

pub(crate) async fn run(config: &Path, args: Costs) -> Result<(), Failure> {
    let mut relay = client::jobs(&args.ask, config).await?;
    let request = ListCostsRequest {
        tenant: args.tenant.unwrap_or_default(),
        since: args.since.map(to_proto),
        until: args.until.map(to_proto),
    };
    let answer = client::ask(relay.list_costs(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    print::warn_if_incomplete(answer.incomplete)?;
    let mut out = anstream::stdout();
    if answer.costs.is_empty() {
        return Ok(writeln!(out, "{DIM}No events.{DIM:#}")?);
    }
    let screen = Screen::stdout(args.wide);
    print::table(&COLUMNS, answer.costs.iter().map(row).collect(), screen)?;
    Ok(writeln!(out, "{}", sum(&answer.costs))?)
}

fn row(cost: &Cost) -> Vec<Cell> {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        Cell::from(&cost.day),
        Cell::from(&cost.tenant),
        Cell::from(or_none(&cost.model)),
        Cell::from(or_none(&cost.routes)),
        Cell::from(cost.events),
        Cell::from(cost.without_cost),
        Cell::from(amount(cost)),
    ]
}

/// "-" where no event reported a cost.
fn amount(cost: &Cost) -> String {
    if cost.without_cost >= cost.events { "-".to_owned() } else { dollars(cost.cost_micros) }
}

/// "$3.28 for 5 events. 1 event reported no cost, and is not in the sum."
fn sum(costs: &[Cost]) -> String {
    let micros = costs.iter().fold(0_i64, |sum, cost| sum.saturating_add(cost.cost_micros));
    let count = |of: fn(&Cost) -> u64| {
        usize::try_from(costs.iter().fold(0_u64, |sum, cost| sum.saturating_add(of(cost))))
            .unwrap_or(usize::MAX)
    };
    let events = counted(count(|cost| cost.events), "event");
    let without = match count(|cost| cost.without_cost) {
        0 => String::new(),
        1 => " 1 event reported no cost, and is not in the sum.".to_owned(),
        n => format!(" {n} events reported no cost, and are not in the sum."),
    };
    format!("{} for {events}.{without}", dollars(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_without_a_cost_are_counted() {
        let cost =
            |events, without_cost, cost_micros| Cost { events, without_cost, cost_micros, ..Cost::default() };
        assert_eq!(sum(&[cost(1, 0, 400_000)]), "$0.40 for 1 event.");
        assert_eq!(
            sum(&[cost(2, 1, 81_700), cost(3, 0, 3_200_000)]),
            "$3.2817 for 5 events. 1 event reported no cost, and is not in the sum."
        );
        assert!(sum(&[cost(3, 3, 0)]).ends_with("3 events reported no cost, and are not in the sum."));
        assert_eq!((amount(&cost(2, 2, 0)), amount(&cost(2, 1, 0))), ("-".to_owned(), "$0.00".to_owned()));
    }
}
