//! The agenda of a week: configurations, events, troubles and restarts.

use rand::{Rng as _, rngs::StdRng};
use std::{
    fmt::Write as _,
    sync::{Arc, LazyLock},
    time::Duration,
};
use talaria_core::config::{self, Config, Missing, Reading, Role, Settings, testing::Files};

pub(super) const WEEK: Duration = Duration::from_secs(7 * 86_400);
pub(super) const TENANTS: usize = 600;
pub(super) const ROUTES: usize = 4;
/// Each of so many tenants has one route more, which takes notices.
pub(super) const TOLD: usize = 3;
/// These tenants' routes never have trouble, and have so few events that none waits.
pub(super) const QUIET: usize = 20;
/// The name of routes that deliver without an agent.
pub(super) const DELIVER_ONLY: &str = "r1";

/// As it is; without one tenant's last route; with other paces.
pub(super) static CONFIGS: LazyLock<[(Arc<Config>, Settings); 3]> = LazyLock::new(|| {
    [
        ["30/min", "10/min", "2/s", "off"],
        ["30/min", "10/min", "2/s", ""],
        ["12/min", "3/min", "1/s", "60/min"],
    ]
    .map(compile)
});

fn compile(paces: [&str; ROUTES]) -> (Arc<Config>, Settings) {
    let mut text = "ingress: {public_url: 'https://h.example'}\ntenants:\n".to_owned();
    for tenant in 0..TENANTS {
        write!(
            text,
            "  t{tenant}:\n    openrouter: {{secrets: [{{file: secret}}], api_key: {{file: secret}}}}\n"
        )
        .unwrap();
        // Every other tenant keeps the files of its jobs.
        let media = if tenant % 2 == 0 { "    media: {mode: keep, wait: 2m}\n" } else { "" };
        writeln!(text, "{media}    routes:").unwrap();
        for (route, pace) in paces.iter().enumerate().filter(|(_, pace)| !pace.is_empty()) {
            writeln!(
                text,
                "      r{route}: {{url: 'https://hermes.example/webhooks/r', secret: {{file: secret}}, pace: {pace}, \
                 deliver_only: {}}}",
                format!("r{route}") == DELIVER_ONLY
            )
            .unwrap();
        }
        if tenant % TOLD == 0 {
            let keys = "secret: {file: secret}, pace: off, events: [talaria.*]";
            writeln!(text, "      r{ROUTES}: {{url: 'https://hermes.example/webhooks/r', {keys}}}").unwrap();
        }
    }
    let files = Files::new(&text, &[("secret", "secret")]);
    let Reading { settings, config } =
        config::read_for(&files.path("talaria.yaml"), Role::Both, Missing::Refused);
    (Arc::new(config.unwrap()), settings)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Event {
        tenant: usize,
    },
    Trouble {
        tenant: usize,
        route: usize,
    },
    Healed {
        tenant: usize,
        route: usize,
    },
    /// An operator pauses a route.
    Paused {
        tenant: usize,
        route: usize,
    },
    Resumed {
        tenant: usize,
        route: usize,
    },
    /// An operator probes a route, whether or not it is shut.
    Probed {
        tenant: usize,
        route: usize,
    },
    /// An event that came before comes again.
    Repeat,
    /// The owner dies, and another relay takes the partition over.
    Killed,
    /// The owner stands still for this time, and another relay takes the partition over meanwhile.
    Frozen {
        seconds: u64,
    },
    /// The owner gives the partition up in order.
    Moved,
    /// This configuration comes into force.
    Reload {
        config: usize,
    },
    /// The wall clocks of all relays are set to be this many seconds ahead.
    ClockSet {
        ahead: i64,
    },
    /// The journal loses its last commits.
    LostEnd {
        commits: usize,
    },
    /// The retention: events are forgotten or carried, and the streams are trimmed.
    Kept,
    TakeOver {
        relay: usize,
    },
    /// A relay looks for work.
    Pump {
        relay: usize,
        run: u64,
    },
    /// A commit reaches the journal.
    Append {
        relay: usize,
        run: u64,
    },
    /// The answer to an append reaches the relay.
    Answer {
        relay: usize,
        run: u64,
    },
    Sent {
        flight: u64,
    },
    Arrives {
        flight: u64,
    },
    Ends {
        flight: u64,
    },
    /// A client submits a job.
    Submit {
        tenant: usize,
    },
    /// The request to make a job reaches OpenRouter, or is refused.
    SubmitArrives {
        relay: usize,
        run: u64,
        job: u64,
    },
    SubmitAnswered {
        relay: usize,
        run: u64,
        job: u64,
        is_lost: bool,
    },
    /// A notice reaches the bus.
    Published {
        relay: usize,
        run: u64,
        notice: usize,
    },
    JobEnds {
        job: u64,
    },
    PollAnswered {
        relay: usize,
        run: u64,
        job: u64,
    },
    FilesAnswered {
        relay: usize,
        run: u64,
        job: u64,
        /// Whether the journal lost the job, and its event made another one.
        is_lost: bool,
    },
}

pub(super) fn a_week(rng: &mut StdRng) -> Vec<(Duration, Happening)> {
    let week = WEEK.as_secs();
    let mut agenda = Vec::new();
    let mut at = |second: u64, what| agenda.push((Duration::from_secs(second), what));
    for tenant in 0..QUIET {
        for _ in 0..3 {
            let begin = rng.random_range(0..week);
            at(begin, Happening::Event { tenant });
        }
    }
    // Singles, and bursts that fill a route for minutes or hours.
    for _ in 0..400 {
        let (tenant, begin) = (rng.random_range(QUIET..TENANTS), rng.random_range(0..week));
        let burst = if rng.random_range(0..40) == 0 { rng.random_range(1..150) } else { 1 };
        for _ in 0..burst {
            at(begin, Happening::Event { tenant });
        }
    }
    for _ in 0..400 {
        let (tenant, route) = (rng.random_range(QUIET..TENANTS), rng.random_range(0..ROUTES));
        let begin = rng.random_range(0..week);
        at(begin, Happening::Trouble { tenant, route });
        for _ in 0..rng.random_range(0..4) {
            at(begin + rng.random_range(0..7_200), Happening::Probed { tenant, route });
        }
        // Trouble has effects only if events come.
        for _ in 0..rng.random_range(0..12) {
            let later = begin + rng.random_range(0..3_600);
            at(later, Happening::Event { tenant });
        }
    }
    for _ in 0..100 {
        let (tenant, route) = (rng.random_range(QUIET..TENANTS), rng.random_range(0..ROUTES));
        let (begin, lasts) = (rng.random_range(0..week), rng.random_range(1..5 * 86_400));
        at(begin, Happening::Paused { tenant, route });
        at(begin + lasts, Happening::Resumed { tenant, route });
        for _ in 0..rng.random_range(0..12) {
            at(begin + rng.random_range(0..lasts), Happening::Event { tenant });
        }
    }
    for _ in 0..40 {
        let begin = rng.random_range(0..week);
        at(
            begin,
            match rng.random_range(0..3) {
                0 => Happening::Killed,
                1 => Happening::Frozen { seconds: rng.random_range(6..600) },
                _ => Happening::Moved,
            },
        );
        // Troubles come together.
        if rng.random_ratio(1, 3) {
            at(begin + rng.random_range(0..12), Happening::Killed);
        }
    }
    for _ in 0..300 {
        let tenant = rng.random_range(QUIET..TENANTS);
        at(rng.random_range(0..week), Happening::Submit { tenant });
    }
    for _ in 0..100 {
        at(rng.random_range(0..week), Happening::Repeat);
    }
    for day in 0..14 {
        at(day * week / 14, Happening::Kept);
    }
    for _ in 0..60 {
        let (begin, config) = (rng.random_range(0..week), rng.random_range(0..CONFIGS.len()));
        at(begin, Happening::Reload { config });
    }
    if rng.random_ratio(1, 4) {
        for _ in 0..4 {
            let begin = rng.random_range(0..week - 86_400);
            at(begin, Happening::ClockSet { ahead: rng.random_range(-7_200..864_000) });
            at(begin + rng.random_range(10..86_400), Happening::ClockSet { ahead: 0 });
        }
    }
    if rng.random_ratio(1, 8) {
        at(rng.random_range(0..week), Happening::LostEnd { commits: rng.random_range(1..20) });
    }
    at(week, Happening::Reload { config: 0 });
    // No time is a whole second.
    for (at, _) in &mut agenda {
        *at += Duration::from_micros(rng.random_range(0..1_000_000));
    }
    agenda
}
