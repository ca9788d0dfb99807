//! The conformance suite for both backends. Each test has the number of the invariant that it shows.
//!
//! For tests only: [`crate::conformance_suite`] runs it against a [`Backend`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    async_fn_in_trait,
    missing_docs,
    reason = "tests"
)]

mod events;
mod faults;
mod files;
mod journal;
mod openrouter;
mod relays;
mod retention;

pub use events::*;
pub use faults::*;
pub use files::*;
pub use journal::*;
pub use openrouter::*;
pub use relays::*;
pub use retention::*;

use crate::{Bus, Committed, Events, Incoming, Partition, Stored};
use std::time::Duration;
use talaria_core::id::EventId;
use talaria_proto::v1::{Commit, Event, EventRepeated, QuarantinedCallback, Record, record::What};

/// How long one test may take.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// A backend under test. Each value has streams of its own.
pub trait Backend {
    /// Opens the bus for the first relay, always with the same data directory. The bus of an earlier call was dropped.
    async fn open(&self) -> Bus;

    /// Opens the same bus for a second relay with another data directory. `None` on a bus for one process.
    async fn open_second(&self) -> Option<Bus> {
        None
    }

    /// Makes all further writes fail. False when the backend cannot be broken.
    async fn break_writes(&self, _bus: &Bus) -> bool {
        false
    }

    /// Undoes `break_writes`.
    async fn mend(&self, _bus: &Bus) {}

    /// The next append becomes durable, and its acknowledgement is lost. False when the backend cannot do that.
    async fn lose_acknowledgement(&self, _bus: &Bus) -> bool {
        false
    }
}

/// Two tenants; in different partitions where there are several.
fn tenants(bus: &Bus) -> [String; 2] {
    let count = bus.partitions();
    let first = "tenant-0".to_owned();
    let is_elsewhere =
        |other: &String| count == 1 || Partition::of(other, count) != Partition::of(&first, count);
    let second = (1..1_000).map(|number| format!("tenant-{number}")).find(is_elsewhere).unwrap();
    [first, second]
}

fn partition(bus: &Bus, tenant: &str) -> Partition {
    Partition::of(tenant, bus.partitions())
}

fn event(tenant: &str, job: &str) -> Event {
    Event {
        id: EventId::new(tenant, job, "t").to_string(),
        tenant: tenant.into(),
        r#type: "t".into(),
        job_id: job.into(),
        payload: format!("the payload of {job}").into(),
        payload_sha256: format!("the digest of {job}").into(),
        ..Event::default()
    }
}

/// An event with a payload of the size of the largest callbacks.
fn large_event(tenant: &str, job: &str) -> Event {
    let payload: Vec<u8> = (0..=255).cycle().take(600_000).collect();
    Event { payload_size: payload.len() as u64, payload: payload.into(), ..event(tenant, job) }
}

fn callback(tenant: &str, id: &str) -> QuarantinedCallback {
    QuarantinedCallback {
        id: id.into(),
        tenant: tenant.into(),
        reason: "no event".into(),
        payload: id.to_owned().into(),
        ..QuarantinedCallback::default()
    }
}

async fn publish(bus: &Bus, event: Event) {
    bus.publisher().publish(event).await.unwrap();
}

/// The job of an event, the id of a quarantined callback.
fn name(stored: &Stored) -> &str {
    match &stored.what {
        Incoming::Event(event) => &event.job_id,
        Incoming::Quarantined(callback) => &callback.id,
        Incoming::Unreadable => "unreadable",
    }
}

fn seqs(stored: &[Stored]) -> Vec<u64> {
    stored.iter().map(|stored| stored.seq).collect()
}

/// Takes `count` events.
async fn take(events: &mut Events, count: usize) -> Vec<Stored> {
    let mut found = Vec::new();
    while found.len() < count {
        let next = events.next(count - found.len()).await.unwrap();
        assert!((1..=count - found.len()).contains(&next.len()));
        found.extend(next);
    }
    assert!(found.is_sorted_by(|one, next| one.seq < next.seq), "{:?}", seqs(&found));
    found
}

/// The first events of a tenant's partition after a sequence.
async fn events_after(bus: &Bus, tenant: &str, after: u64, count: usize) -> Vec<Stored> {
    take(&mut bus.events(partition(bus, tenant), after).await.unwrap(), count).await
}

/// A commit with one record of this name.
fn commit(name: &str) -> Commit {
    let what = What::EventRepeated(EventRepeated { event_id: name.into(), ..EventRepeated::default() });
    Commit { records: vec![Record { what: Some(what), ..Record::default() }] }
}

/// The names of the records.
fn names(commits: &[Committed]) -> Vec<&str> {
    commits.iter().flat_map(|committed| &committed.commit.records).map(record_name).collect()
}

fn record_name(record: &Record) -> &str {
    match &record.what {
        Some(What::EventRepeated(repeated)) => &repeated.event_id,
        other => panic!("{other:?}"),
    }
}

/// All commits of a tenant's partition after a sequence.
async fn commits_after(bus: &Bus, tenant: &str, mut after: u64) -> Vec<Committed> {
    let partition = partition(bus, tenant);
    let mut found = Vec::new();
    loop {
        let page = bus.read(partition, after, 7).await.unwrap();
        let Some(last) = page.last() else { return found };
        assert!(page.iter().all(|committed| committed.seq > after && committed.partition == partition));
        assert!(page.is_sorted_by(|one, next| one.seq < next.seq));
        after = last.seq;
        found.extend(page);
    }
}

/// Whether a future is not ready within 30 ms. For futures that never become ready; a slow machine can only miss a fault.
async fn waits<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(30), future).await.is_err()
}

/// A test for each invariant, run against one backend.
#[macro_export]
macro_rules! conformance_suite {
    ($backend:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let backend = $backend;
                let test = $crate::conformance::$name(&backend);
                tokio::time::timeout($crate::conformance::TIMEOUT, test).await.expect("it came to no end");
            }
        )*
    };
    ($backend:expr) => {
        $crate::conformance_suite! { $backend;
            i01_what_was_stored_survives_a_restart
            i01_two_bodies_under_one_id_are_both_stored
            i02_sequences_rise_over_all_partitions_and_restarts
            i03_events_come_in_order_each_once_and_of_one_partition
            i03_the_first_event_is_waited_for
            i03_events_begin_after_any_sequence
            i03_a_dropped_next_loses_no_event
            i04_an_event_comes_back_byte_for_byte
            i05_a_commit_is_durable_as_a_whole
            i05_sequences_of_commits_rise_over_all_partitions_and_restarts
            i05_a_commit_that_is_too_large_is_refused_and_the_next_one_is_not
            i06_of_two_writers_one_goes_on
            i06_of_many_writers_at_once_one_goes_on
            i06_a_second_relay_overtakes_the_first
            i06_a_journal_that_ends_too_early_has_lost_its_end
            i07_an_append_survives_broken_writes
            i07_a_commit_whose_acknowledgement_was_lost_is_there_once
            i07_a_dropped_append_is_there_as_a_whole_or_not_at_all
            i08_read_gives_commits_in_order_and_misses_none
            i09_all_commits_are_followed_in_order
            i09_a_dropped_next_loses_no_commit
            i10_trim_removes_the_front_and_nothing_else
            i10_all_entries_can_be_trimmed_and_sequences_continue
            i10_a_partition_whose_commits_were_trimmed_continues
            i11_what_cannot_be_made_durable_is_an_error_and_succeeds_later
            i12_a_healthy_bus_passes_its_check
            i13_relays_announce_and_ask
            i13_relays_receive_the_refusals_of_ingresses
            i14_an_ingress_answers_questions_about_openrouter
            i14_a_question_that_no_ingress_gets_was_not_asked
            i14_a_question_goes_to_one_ingress
            i14_an_ingress_that_closes_answers_what_came
            i15_a_finished_file_is_there_whole_until_it_is_removed
            i15_a_file_that_is_not_finished_is_under_no_name
            i15_of_two_files_of_one_name_one_is_there
            i15_a_file_of_one_process_is_there_for_the_other
            a_relay_keeps_its_name_and_streams_keep_their_source
        }
    };
}
