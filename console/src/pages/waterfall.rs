//! The parts of an attempt's time, as bars one after another.

use maud::{Markup, html};
use std::time::Duration;
use talaria_core::time::rounded;
use talaria_proto::{time::duration_from_proto, v1::Timings};

/// The width of the drawing, in its own units.
const WIDTH: f64 = 600.0;

/// The least width of a bar, so that it is seen.
const LEAST: f64 = 2.0;

const ROW: usize = 18;

struct Bar {
    name: &'static str,
    class: &'static str,
    from: Duration,
    until: Duration,
}

/// The bars, with the same in words.
pub(super) fn waterfall(timings: &Timings) -> Markup {
    let bars = bars(timings);
    let whole = bars.iter().map(|bar| bar.until).max().unwrap_or_default();
    if whole.is_zero() {
        return html! {};
    }
    let height = bars.len() * ROW;
    let at = |time: Duration| time.as_secs_f64() / whole.as_secs_f64() * WIDTH;
    let took = |bar: &Bar| rounded(bar.until.saturating_sub(bar.from));
    html! {
        div.waterfall {
            ol {
                @for bar in &bars { li { span { (bar.name) } " " span.took { (took(bar)) } } }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (height) } preserveAspectRatio="none" aria-hidden="true" {
                @for (row, bar) in bars.iter().enumerate() {
                    rect class=(bar.class) x={ (format!("{:.1}", at(bar.from))) } y=(row * ROW + 4) height=(ROW - 8)
                        width={ (format!("{:.1}", (at(bar.until) - at(bar.from)).max(LEAST))) } rx="2" {}
                }
            }
        }
        @if timings.reused_connection { p.hint { "On a connection that was open already." } }
    }
}

/// A part begins where the one before it ended.
fn bars(timings: &Timings) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut now = Duration::ZERO;
    for (name, class, took) in
        [("DNS", "dns", &timings.dns), ("Connect", "connect", &timings.connect), ("TLS", "tls", &timings.tls)]
    {
        if let Some(took) = took {
            let until = now + duration_from_proto(Some(took));
            bars.push(Bar { name, class, from: now, until });
            now = until;
        }
    }
    if let Some(first) = &timings.first_byte {
        let until = duration_from_proto(Some(first)).max(now);
        bars.push(Bar { name: "First byte", class: "first", from: now, until });
        now = until;
    }
    if let Some(total) = &timings.total {
        bars.push(Bar {
            name: "Rest",
            class: "rest",
            from: now,
            until: duration_from_proto(Some(total)).max(now),
        });
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::time::duration_to_proto;

    #[test]
    fn parts_follow_one_another_and_end_with_the_whole() {
        let millis = |millis| Some(duration_to_proto(Duration::from_millis(millis)));
        let timings = Timings {
            dns: millis(10),
            connect: millis(20),
            first_byte: millis(90),
            total: millis(100),
            ..Timings::default()
        };
        let bars: Vec<_> = bars(&timings)
            .iter()
            .map(|bar| (bar.name, bar.from.as_millis(), bar.until.as_millis()))
            .collect();
        assert_eq!(bars, [("DNS", 0, 10), ("Connect", 10, 30), ("First byte", 30, 90), ("Rest", 90, 100)]);
        assert!(waterfall(&Timings::default()).into_string().is_empty());
        let late = Timings { dns: millis(50), total: millis(40), ..Timings::default() };
        assert!(
            waterfall(&late).into_string().contains("<rect"),
            "clocks of different kinds never give a negative width"
        );
    }
}
