//! What operators did: pauses, replay jobs, actions.

use crate::decisions::pause::Pauses;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::collections::{BTreeMap, BTreeSet};
use talaria_bus::{
    sqlite::{limit, message},
    time::from_proto,
};
use talaria_core::id::DeliveryId;
use talaria_proto::v1::{ControlAction, Pause, PauseChanged, ReplayJob};

/// What is paused, and what was resumed when.
pub fn pauses(connection: &Connection) -> rusqlite::Result<Pauses> {
    let mut statement = connection.prepare_cached("SELECT paused, pause FROM pauses")?;
    let mut rows = statement.query(())?;
    let mut pauses = Pauses::default();
    while let Some(row) = rows.next()? {
        let pause: Pause = message(row, 1)?;
        if row.get(0)? {
            pauses.pause(&pause.tenant, &pause.route);
        } else {
            pauses.resume(&pause.tenant, &pause.route, from_proto(pause.since.as_ref()));
        }
    }
    Ok(pauses)
}

/// The pause of a route or, with an empty name, of a tenant.
pub fn pause(connection: &Connection, tenant: &str, route: &str) -> rusqlite::Result<Option<Pause>> {
    let select = "SELECT pause FROM pauses WHERE tenant = ? AND route = ? AND paused";
    connection.prepare_cached(select)?.query_row((tenant, route), |row| message(row, 0)).optional()
}

/// Every pause that there is, by tenant and route.
pub(super) fn paused(connection: &Connection) -> rusqlite::Result<BTreeMap<(String, String), Pause>> {
    let mut statement = connection.prepare_cached("SELECT tenant, route, pause FROM pauses WHERE paused")?;
    statement.query_map((), |row| Ok(((row.get(0)?, row.get(1)?), message(row, 2)?)))?.collect()
}

/// The pauses that were journalled before: the journal may forget them.
pub fn pauses_before(connection: &Connection, before: Timestamp) -> rusqlite::Result<Vec<PauseChanged>> {
    let mut statement = connection.prepare_cached("SELECT pause FROM pauses WHERE paused AND at < ?")?;
    let read = |row: &Row<'_>| Ok(PauseChanged { pause: Some(message(row, 0)?), paused: true });
    statement.query_map([before.as_microsecond()], read)?.collect()
}

/// Every route that has or had deliveries or was paused.
pub fn routes(connection: &Connection) -> rusqlite::Result<BTreeSet<(String, String)>> {
    let mut statement = connection.prepare_cached("SELECT tenant, route FROM lanes")?;
    statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Replay jobs that have not ended, oldest first.
pub fn running_jobs(connection: &Connection) -> rusqlite::Result<Vec<ReplayJob>> {
    let select = "SELECT job FROM replay_jobs WHERE running ORDER BY started_at, id";
    connection.prepare_cached(select)?.query_map((), |row| message(row, 0))?.collect()
}

/// A replay job.
pub fn job(connection: &Connection, id: &str) -> rusqlite::Result<Option<ReplayJob>> {
    let select = "SELECT job FROM replay_jobs WHERE id = ?";
    connection.prepare_cached(select)?.query_row([id], |row| message(row, 0)).optional()
}

/// Replay jobs below a place (when it began, and its id), newest first, and whether there are more; with a tenant, those
/// that name it.
pub fn jobs(
    connection: &Connection,
    tenant: Option<&str>,
    below: (i64, &str),
    max: usize,
) -> rusqlite::Result<(Vec<ReplayJob>, bool)> {
    let select = "SELECT job FROM replay_jobs WHERE (started_at, id) < (?, ?)
                  ORDER BY started_at DESC, id DESC";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query((below.0, below.1))?;
    let mut found = Vec::new();
    while found.len() <= max
        && let Some(row) = rows.next()?
    {
        let job: ReplayJob = message(row, 0)?;
        let of = job.filter.as_ref().map_or("", |filter| &filter.tenant);
        if tenant.is_none_or(|tenant| tenant == of) {
            found.push(job);
        }
    }
    Ok(cut(found, max))
}

/// What operators did below a place in the journal, newest first, and whether there is more.
pub fn actions(
    connection: &Connection,
    tenant: Option<&str>,
    since: Option<Timestamp>,
    below: i64,
    max: usize,
) -> rusqlite::Result<(Vec<(i64, ControlAction)>, bool)> {
    let select = "SELECT place, action FROM actions
                  WHERE listed AND place < ?1 AND (?2 IS NULL OR tenant = ?2) AND (?3 IS NULL OR at >= ?3)
                  ORDER BY place DESC LIMIT ?4";
    let mut statement = connection.prepare_cached(select)?;
    let since = since.map(Timestamp::as_microsecond);
    let rows = statement.query_map((below, tenant, since, limit(max.saturating_add(1))), |row| {
        Ok((row.get(0)?, message(row, 1)?))
    })?;
    Ok(cut(rows.collect::<Result<_, _>>()?, max))
}

/// What operators did to a delivery, oldest first.
pub fn actions_of(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Vec<ControlAction>> {
    let select = "SELECT action FROM actions
                  WHERE event_seq = (SELECT seq FROM events WHERE id = ?) AND route = ? ORDER BY place";
    let mut statement = connection.prepare_cached(select)?;
    statement.query_map((id.event.as_bytes(), id.route.to_i64()), |row| message(row, 0))?.collect()
}

fn cut<T>(mut found: Vec<T>, max: usize) -> (Vec<T>, bool) {
    let more = found.len() > max;
    found.truncate(max);
    (found, more)
}
