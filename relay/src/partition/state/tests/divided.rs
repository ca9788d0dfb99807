//! A journal that is divided among many partitions, as a bus that moves to NATS is.

use super::{driver::Driver, *};
use crate::{
    move_in::divide::{Division, Survey},
    view::control::merged,
};
use std::collections::{BTreeMap, HashMap};
use talaria_bus::Partition;
use talaria_proto::v1::{Commit, ReplayJob};

const PARTITIONS: u16 = 64;

/// A journal: the sequence and the records of each commit.
type Journal = Vec<(u64, Vec<Record>)>;

/// The journals of the partitions that this one becomes; `None` if a record is larger than a commit may be.
fn divided(journal: &[(u64, Vec<Record>)], largest: usize) -> Option<BTreeMap<Partition, Journal>> {
    let commit = |records: &Vec<Record>| Commit { records: records.clone() };
    let mut survey = Survey::default();
    for (_, records) in journal {
        survey.commit(&commit(records));
    }
    let mut journals: BTreeMap<Partition, Journal> =
        survey.partitions().map(|partition| (partition, Vec::new())).collect();
    let mut division = Division::new(survey, largest);
    let mut all = Vec::new();
    for (seq, records) in journal {
        all.extend(division.commit(*seq, commit(records)).ok()?);
    }
    all.extend(division.end());
    for (seq, (partition, commit)) in (1..).zip(all) {
        journals.get_mut(&partition).unwrap().push((seq, commit.records));
    }
    Some(journals)
}

/// The partition of each event.
fn partitions(journal: &[(u64, Vec<Record>)]) -> HashMap<u64, Partition> {
    let of = |event: Option<&Event>| Some(Partition::of(&event?.tenant, PARTITIONS));
    let records = journal.iter().flat_map(|(_, records)| records);
    let partition = |record: &Record| {
        let partition = match record.what.as_ref()? {
            What::EventPlanned(planned) => of(planned.event.as_ref())?,
            What::EventCarried(carried) => of(carried.event.as_ref())?,
            _ => return None,
        };
        Some((record.event_seq, partition))
    };
    records.filter_map(partition).collect()
}

/// Replay jobs as answers show them.
fn replays<'a>(states: impl Iterator<Item = &'a State>) -> Vec<String> {
    let mut jobs: BTreeMap<String, ReplayJob> = BTreeMap::new();
    for part in states.flat_map(State::replays).cloned() {
        let job = match jobs.remove(&part.id) {
            Some(job) => merged(job, part),
            None => part,
        };
        jobs.insert(job.id.clone(), job);
    }
    jobs.values().map(|job| format!("{} {:?} {}", job.id, job.state(), job.replayed)).collect()
}

fn agree(journal: &[(u64, Vec<Record>)], largest: usize) -> bool {
    let Some(journals) = divided(journal, largest) else { return false };
    if journals.is_empty() {
        // No record is of a tenant.
        return true;
    }
    let (one, events) = (replay(journal, 0, 1), partitions(journal));
    let parts: BTreeMap<Partition, State> =
        journals.iter().map(|(partition, journal)| (*partition, replay(journal, 0, 1))).collect();
    for (partition, state) in &parts {
        let is_its = |tenant: &str| Partition::of(tenant, PARTITIONS) == *partition;
        let expected = one.share(is_its, |seq| events.get(&seq) == Some(partition));
        assert_eq!(state.share(|_| true, |_| true), expected, "{partition}");
        // The next owner may trim it, and finds what waits.
        let floors = state.floors();
        assert_eq!(replay(&journals[partition], floors.journal, 1), *state);
        assert!(floors.events >= one.floors().events.min(state.planned_through() + 1));
    }
    let kept = |state: &State| state.kept.iter().count();
    assert_eq!(parts.values().map(kept).sum::<usize>(), kept(&one), "nothing is in no partition");
    let waiting = |state: &State| state.lanes().map(|lane| state.waiting(lane)).sum::<usize>();
    assert_eq!(parts.values().map(waiting).sum::<usize>(), waiting(&one));
    assert_eq!(parts.values().map(State::planned_through).max(), Some(one.planned_through()));
    assert_eq!(replays(parts.values()), replays([&one].into_iter()));
    true
}

#[test]
fn the_states_of_all_partitions_are_the_state_of_the_one() {
    let mut split = 0;
    for seed in SEEDS {
        let mut driver = drive(seed, 800, |_| {});
        driver.commit_all();
        assert!(agree(&driver.journal, 1 << 20));
        split += usize::from(agree(&driver.journal, 1_500));
        // As far as the streams were trimmed.
        let floor = driver.state.floors().journal;
        let trimmed: Journal = driver.journal.iter().filter(|(seq, _)| *seq >= floor).cloned().collect();
        assert!(agree(&trimmed, 1 << 20));
    }
    assert!(split > 0, "in none of them a commit became several");
}

/// Whenever the bus is copied.
#[test]
fn the_states_agree_after_every_commit() {
    for seed in 100..104 {
        let mut seen = 0;
        drive(seed, 300, |driver: &mut Driver| {
            if driver.seq != seen {
                seen = driver.seq;
                assert!(agree(&driver.journal, 1 << 20));
            }
        });
    }
}

#[test]
fn a_replay_of_all_tenants_has_a_part_for_each_and_its_numbers_once() {
    let job = ReplayJob {
        id: "rpl_1".into(),
        rate_per_minute: 60,
        matched: 9,
        replayed: 4,
        skipped: 1,
        ..ReplayJob::default()
    };
    let planned = |job: u32| planned(TENANTS[usize::from(job == 3)], job, &["a"]);
    let mut records: Vec<Record> = (1..=3).map(|job| record(start(), job.into(), planned(job))).collect();
    records.push(record(start(), 0, What::ReplayJob(job.clone())));
    let journals = divided(&[(7, records)], 1 << 20).unwrap();
    let parts =
        journals.values().flatten().flat_map(|(_, records)| records).filter_map(|record| {
            match &record.what {
                Some(What::ReplayJob(part)) => Some(part.clone()),
                _ => None,
            }
        });
    let parts: Vec<ReplayJob> = parts.collect();
    let mut rates: Vec<u32> = parts.iter().map(|part| part.rate_per_minute).collect();
    rates.sort_unstable();
    assert_eq!(rates, [20, 40], "by their events");
    assert_eq!(parts.into_iter().reduce(merged), Some(job));
}
