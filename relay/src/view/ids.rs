//! Ids by their beginnings.

use super::{
    control::all_jobs,
    lanes::{Chunks, Order},
    query::{deliveries_of, events_of_job},
    schema::{CHUNK_BITS, job_key},
};
use crate::partition_set::PartitionSet;
use crate::view::schema::message;
use rusqlite::Connection;
use std::collections::BTreeMap;
use talaria_core::short_id::IdBeginning;
use talaria_proto::v1::{Event, KnownId, ReplayJob};

#[derive(Clone, Debug)]
pub(crate) enum Beginning {
    Event(IdBeginning),
    Delivery(IdBeginning),
    /// At OpenRouter.
    Job(String),
    /// "job_…": submitted or tracked here.
    SubmittedJob(String),
    ReplayJob(String),
}

/// The ids that the caller may see.
pub(crate) struct Visible<'a> {
    /// Whether a tenant's ids are visible.
    pub tenant: &'a dyn Fn(&str) -> bool,
    /// Whether a replay job is visible.
    pub job: &'a dyn Fn(&ReplayJob) -> bool,
    /// The partitions of replay jobs.
    pub partitions: &'a PartitionSet,
}

/// One more than `max` is enough.
struct FoundIds {
    ids: BTreeMap<String, KnownId>,
    max: usize,
}

impl FoundIds {
    fn add(&mut self, known: KnownId) {
        self.ids.insert(known.id.clone(), known);
    }

    fn is_enough(&self) -> bool {
        self.ids.len() > self.max
    }
}

/// At most `max` ids with this beginning, sorted, and whether there are more.
pub(crate) fn ids(
    connection: &Connection,
    beginning: &Beginning,
    visible: &Visible<'_>,
    max: usize,
) -> rusqlite::Result<(Vec<KnownId>, bool)> {
    let mut found = FoundIds { ids: BTreeMap::new(), max };
    match beginning {
        Beginning::Event(id) => events(connection, id, visible, &mut found, |found, _, event| {
            if id.fits(&event.id) {
                found.add(KnownId { id: event.id, tenant: event.tenant, route: String::new() });
            }
            Ok(())
        })?,
        Beginning::Delivery(id) => events(connection, id, visible, &mut found, |found, seq, _| {
            for delivery in deliveries_of(connection, seq)? {
                if id.fits(&delivery.id) {
                    found.add(KnownId { id: delivery.id, tenant: delivery.tenant, route: delivery.route });
                }
            }
            Ok(())
        })?,
        Beginning::Job(job) => jobs(connection, job, visible, &mut found)?,
        Beginning::SubmittedJob(id) => submitted_jobs(connection, id, visible, &mut found)?,
        Beginning::ReplayJob(id) => {
            for job in all_jobs(connection, visible.partitions)? {
                if job.id.starts_with(id) && (visible.job)(&job) {
                    let tenant = job.filter.unwrap_or_default().tenant;
                    found.add(KnownId { id: job.id, tenant, route: String::new() });
                }
            }
        }
    }
    let more = found.is_enough();
    Ok((found.ids.into_values().take(max).collect(), more))
}

/// Events whose ids may match, newest first, until enough are found.
fn events(
    connection: &Connection,
    beginning: &IdBeginning,
    visible: &Visible<'_>,
    found: &mut FoundIds,
    add: impl Fn(&mut FoundIds, u64, Event) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let select = format!(
        "SELECT seq, event FROM events INDEXED BY events_job WHERE seq >> {CHUNK_BITS} = ? AND job BETWEEN ? AND ?"
    );
    let mut statement = connection.prepare_cached(&select)?;
    let (low, high) = beginning.job_prefixes();
    let (low, high) = (job_key(&low), job_key(&high));
    for chunk in Chunks::of(connection, "events", "seq", (0, i64::MAX), Order::NewestFirst)? {
        let mut rows = statement.query((chunk?, low, high))?;
        while let Some(row) = rows.next()? {
            let event: Event = message(row, 1)?;
            if beginning.fits_event(&event.id) && (visible.tenant)(&event.tenant) {
                let seq: i64 = row.get(0)?;
                add(found, seq.cast_unsigned(), event)?;
                if found.is_enough() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Jobs at OpenRouter. A job with exactly this id is found by its key. For others all events are scanned, newest first: an index
/// of jobs' ids would make every callback slower.
fn jobs(
    connection: &Connection,
    beginning: &str,
    visible: &Visible<'_>,
    found: &mut FoundIds,
) -> rusqlite::Result<()> {
    let known = |job_id: &str| KnownId { id: job_id.to_owned(), ..KnownId::default() };
    let exactly = events_of_job(connection, beginning)?;
    if exactly.iter().any(|(_, event)| (visible.tenant)(&event.tenant)) {
        found.add(known(beginning));
        return Ok(());
    }
    // SQLite finds the bytes faster than an event is decoded, and most events with them match.
    let select = "SELECT event FROM events WHERE instr(event, ?) > 0 ORDER BY seq DESC";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([beginning.as_bytes()])?;
    while !found.is_enough()
        && let Some(row) = rows.next()?
    {
        let event: Event = message(row, 0)?;
        if event.job_id.starts_with(beginning) && (visible.tenant)(&event.tenant) {
            found.add(known(&event.job_id));
        }
    }
    Ok(())
}

/// Jobs that were submitted or tracked here.
fn submitted_jobs(
    connection: &Connection,
    beginning: &str,
    visible: &Visible<'_>,
    found: &mut FoundIds,
) -> rusqlite::Result<()> {
    // No id has the last character of Unicode, so all with the beginning are before it.
    let select = "SELECT id, tenant FROM jobs WHERE id >= ?1 AND id < ?1 || char(0x10ffff) ORDER BY id";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([beginning])?;
    while !found.is_enough()
        && let Some(row) = rows.next()?
    {
        let tenant: String = row.get(1)?;
        if (visible.tenant)(&tenant) {
            found.add(KnownId { id: row.get(0)?, tenant, route: String::new() });
        }
    }
    Ok(())
}
