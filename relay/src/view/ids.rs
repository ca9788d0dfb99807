//! Which ids begin so.

use super::{
    control::all_jobs,
    lanes::{Chunks, Order},
    query::{deliveries_of, events_of_job},
    schema::{CHUNK_BITS, job_key},
};
use crate::{partition::share::Share, view::schema::message};
use rusqlite::Connection;
use std::collections::BTreeMap;
use talaria_core::short_id::IdBeginning;
use talaria_proto::v1::{Event, KnownId, ReplayJob};

/// What an id begins with.
#[derive(Clone, Debug)]
pub(crate) enum Beginning {
    Event(IdBeginning),
    Delivery(IdBeginning),
    /// Of a job at OpenRouter.
    Job(String),
    ReplayJob(String),
}

/// Whose ids may be found.
pub(crate) struct Seen<'a> {
    /// Whether those of a tenant may.
    pub tenant: &'a dyn Fn(&str) -> bool,
    /// Whether a replay job may.
    pub job: &'a dyn Fn(&ReplayJob) -> bool,
    /// Of replay jobs: the partitions of which parts are looked at.
    pub share: &'a Share,
}

/// Ids that were found, by themselves. One more than is wanted is enough.
struct Found {
    ids: BTreeMap<String, KnownId>,
    max: usize,
}

impl Found {
    fn add(&mut self, known: KnownId) {
        self.ids.insert(known.id.clone(), known);
    }

    fn is_enough(&self) -> bool {
        self.ids.len() > self.max
    }
}

/// Ids that begin so, by id, at most `max` of them, and whether there are more.
pub(crate) fn ids(
    connection: &Connection,
    beginning: &Beginning,
    seen: &Seen<'_>,
    max: usize,
) -> rusqlite::Result<(Vec<KnownId>, bool)> {
    let mut found = Found { ids: BTreeMap::new(), max };
    match beginning {
        Beginning::Event(id) => events(connection, id, seen, &mut found, |found, _, event| {
            if id.fits(&event.id) {
                found.add(KnownId { id: event.id, tenant: event.tenant, route: String::new() });
            }
            Ok(())
        })?,
        Beginning::Delivery(id) => events(connection, id, seen, &mut found, |found, seq, _| {
            for delivery in deliveries_of(connection, seq)? {
                if id.fits(&delivery.id) {
                    found.add(KnownId { id: delivery.id, tenant: delivery.tenant, route: delivery.route });
                }
            }
            Ok(())
        })?,
        Beginning::Job(job) => jobs(connection, job, seen, &mut found)?,
        Beginning::ReplayJob(id) => {
            for job in all_jobs(connection, seen.share)? {
                if job.id.starts_with(id) && (seen.job)(&job) {
                    let tenant = job.filter.unwrap_or_default().tenant;
                    found.add(KnownId { id: job.id, tenant, route: String::new() });
                }
            }
        }
    }
    let more = found.is_enough();
    Ok((found.ids.into_values().take(max).collect(), more))
}

/// Events whose ids can begin so, newest first, until enough is found.
fn events(
    connection: &Connection,
    beginning: &IdBeginning,
    seen: &Seen<'_>,
    found: &mut Found,
    add: impl Fn(&mut Found, u64, Event) -> rusqlite::Result<()>,
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
            if beginning.fits_event(&event.id) && (seen.tenant)(&event.tenant) {
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

/// Jobs at OpenRouter. The one of exactly this id is found by its key. For all others every event is looked at, newest first: there
/// is no index of jobs' ids, which all callbacks would pay for.
fn jobs(
    connection: &Connection,
    beginning: &str,
    seen: &Seen<'_>,
    found: &mut Found,
) -> rusqlite::Result<()> {
    let known = |job_id: &str| KnownId { id: job_id.to_owned(), ..KnownId::default() };
    let exactly = events_of_job(connection, beginning)?;
    if exactly.iter().any(|(_, event)| (seen.tenant)(&event.tenant)) {
        found.add(known(beginning));
        return Ok(());
    }
    // SQLite finds the bytes faster than an event is decoded, and few that have them somewhere are no such job's.
    let select = "SELECT event FROM events WHERE instr(event, ?) > 0 ORDER BY seq DESC";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([beginning.as_bytes()])?;
    while !found.is_enough()
        && let Some(row) = rows.next()?
    {
        let event: Event = message(row, 0)?;
        if event.job_id.starts_with(beginning) && (seen.tenant)(&event.tenant) {
            found.add(known(&event.job_id));
        }
    }
    Ok(())
}
