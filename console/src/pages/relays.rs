//! The relays, and which partitions they own.

use super::{
    frame::Page,
    parts::{self, badge, count},
    visitor::Visitor,
};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_proto::v1::{ListRelaysRequest, RelaySummary};

pub(super) async fn page(visitor: &Visitor) -> Result<Page, Fault> {
    let answer = visitor.status().list_relays(ListRelaysRequest {}).await?.into_inner();
    let rows: Vec<Markup> = answer.relays.iter().map(row).collect();
    let main = html! {
        h1 { "Relays" }
        div data-live id="relays" {
            p.headline {
                @if answer.unowned.is_empty() { (badge("good", "ALL OWNED")) " Each of the " (count(answer.partitions.into())) " partitions has an owner." }
                @else { (badge("bad", "NOT OWNED")) " Partitions without an owner: " (numbers(&answer.unowned)) }
            }
            (parts::table("Relays", &["Relay", "Partitions", "#How many"], &rows, "No relay is known."))
        }
        p.hint { "Everything of a tenant belongs to one partition, and the relay that owns it decides and sends for it." }
    };
    Ok(Page::new("Relays", "/relays", main))
}

fn row(relay: &RelaySummary) -> Markup {
    html! {
        th scope="row" { code { (parts::text(&relay.id)) } @if relay.answers { span.none { " this one" } } }
        td.wide { (numbers(&relay.partitions)) }
        td.number { (relay.partitions.len()) }
    }
}

/// "0–3, 7"
fn numbers(partitions: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in partitions {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}–{last}") });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn neighbours_are_one_range() {
        assert_eq!(super::numbers(&[0, 1, 2, 3, 7, 9, 10]), "0–3, 7, 9–10");
        assert_eq!(super::numbers(&[]), "");
    }
}
