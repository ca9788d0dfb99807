//! Simulated weeks of a relay in seconds: the real decisions and the real machine, with a simulated clock, and stand-ins for
//! Hermes that fail in all known ways.
//!
//! - [`agenda`]: the events of a week.
//! - [`world`]: their effects, and the invariants.
//! - [`hermes`]: the stand-in for Hermes.
//! - [`journal`]: the journal, and its invariants.
//!
//! A seed makes the same week again. `TALARIA_SEEDS=1000` asks for so many weeks, `TALARIA_TEST_SEED=7` for that one.

#![allow(clippy::print_stdout, reason = "a seed that fails has to be known")]

mod agenda;
mod hermes;
mod journal;
mod world;

use std::{env, thread};

/// The default number of weeks.
const SEEDS: u64 = 4;

#[test]
fn weeks_of_trouble_add_up() {
    let number =
        |name| env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse::<u64>().unwrap());
    let seeds: Vec<u64> = match number("TALARIA_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TALARIA_SEEDS").unwrap_or(SEEDS)).map(|_| rand::random()).collect(),
    };
    let workers = thread::available_parallelism().map_or(1, Into::into);
    let share = seeds.len().div_ceil(workers).max(1);
    thread::scope(|scope| {
        for seeds in seeds.chunks(share) {
            scope.spawn(move || {
                for seed in seeds {
                    println!("TALARIA_TEST_SEED={seed}");
                    println!("  {}", world::World::new(*seed).live_through_a_week());
                }
            });
        }
    });
}
