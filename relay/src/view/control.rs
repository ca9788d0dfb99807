//! Pauses, replay jobs, and operators' actions.

use super::{
    filter::allows,
    query::{self, cut},
};
use crate::partition_set::PartitionSet;
use crate::view::schema::message;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::{BTreeMap, BTreeSet};
use talaria_bus::sqlite::limit;
use talaria_core::id::DeliveryId;
use talaria_proto::{
    time::from_proto,
    v1::{ControlAction, Pause, ReplayJob, ReplayJobState},
};

/// The pause of a route or, with an empty name, of a tenant.
pub(crate) fn pause(connection: &Connection, tenant: &str, route: &str) -> rusqlite::Result<Option<Pause>> {
    let select = "SELECT pause FROM pauses WHERE tenant = ? AND route = ?";
    connection.prepare_cached(select)?.query_row((tenant, route), |row| message(row, 0)).optional()
}

/// All pauses, by tenant and route.
pub(super) fn paused(connection: &Connection) -> rusqlite::Result<BTreeMap<(String, String), Pause>> {
    let mut statement = connection.prepare_cached("SELECT tenant, route, pause FROM pauses")?;
    statement.query_map((), |row| Ok(((row.get(0)?, row.get(1)?), message(row, 2)?)))?.collect()
}

/// All routes that have had a delivery or a pause.
pub(crate) fn routes(connection: &Connection) -> rusqlite::Result<BTreeSet<(String, String)>> {
    let mut statement = connection.prepare_cached("SELECT tenant, route FROM lanes")?;
    statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// A replay job, merged from its parts in these partitions: the view may still have rows of others.
pub(crate) fn job(
    connection: &Connection,
    set: &PartitionSet,
    id: &str,
) -> rusqlite::Result<Option<ReplayJob>> {
    let select = "SELECT partition, job FROM replay_jobs WHERE id = ? ORDER BY partition";
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_map([id], |row| Ok((row.get(0)?, message(row, 1)?)))?;
    let parts: Vec<(u16, ReplayJob)> = rows.collect::<Result<_, _>>()?;
    let parts = parts.into_iter().filter(|(partition, _)| set.has_number(*partition));
    Ok(parts.map(|(_, part)| part).reduce(merged))
}

/// Replay jobs below a position (time of their start, and id), newest first, and whether there are more; with a tenant, those of
/// that tenant.
pub(crate) fn jobs(
    connection: &Connection,
    set: &PartitionSet,
    tenant: Option<&str>,
    below: (i64, &str),
    max: usize,
) -> rusqlite::Result<(Vec<ReplayJob>, bool)> {
    let mut jobs = all_jobs(connection, set)?;
    jobs.retain(|job| {
        let of = job.filter.as_ref().map_or("", |filter| &filter.tenant);
        started(job) < below && allows(tenant, of)
    });
    jobs.sort_by(|a, b| started(b).cmp(&started(a)));
    Ok(cut(jobs, max))
}

/// The position of a job in lists.
fn started(job: &ReplayJob) -> (i64, &str) {
    (from_proto(job.started_at.as_ref()).as_microsecond(), &job.id)
}

/// There are few, because each was started by an operator.
pub(super) fn all_jobs(connection: &Connection, set: &PartitionSet) -> rusqlite::Result<Vec<ReplayJob>> {
    let select = "SELECT partition, job FROM replay_jobs ORDER BY id, partition";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query(())?;
    let mut jobs: Vec<ReplayJob> = Vec::new();
    while let Some(row) = rows.next()? {
        if !set.has_number(row.get(0)?) {
            continue;
        }
        let part: ReplayJob = message(row, 1)?;
        match jobs.pop_if(|job| job.id == part.id) {
            Some(job) => jobs.push(merged(job, part)),
            None => jobs.push(part),
        }
    }
    Ok(jobs)
}

/// Merges two parts of a job. It runs while one of them does, and was cancelled if one of them was. It has no cursor.
#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to reduce")]
pub(crate) fn merged(one: ReplayJob, other: ReplayJob) -> ReplayJob {
    let earlier = |a: Option<prost_types::Timestamp>, b: Option<prost_types::Timestamp>| {
        a.into_iter().chain(b).min_by_key(|at| from_proto(Some(at)))
    };
    let later = |a: Option<prost_types::Timestamp>, b: Option<prost_types::Timestamp>| {
        a.into_iter().chain(b).max_by_key(|at| from_proto(Some(at)))
    };
    let states = [one.state(), other.state()];
    let state = [ReplayJobState::Running, ReplayJobState::Cancelled]
        .into_iter()
        .find(|state| states.contains(state))
        .unwrap_or(one.state());
    ReplayJob {
        state: state.into(),
        rate_per_minute: one.rate_per_minute.saturating_add(other.rate_per_minute),
        matched: one.matched + other.matched,
        replayed: one.replayed + other.replayed,
        skipped: one.skipped + other.skipped,
        started_at: earlier(one.started_at, other.started_at),
        updated_at: later(one.updated_at, other.updated_at),
        ended_at: later(one.ended_at, other.ended_at).filter(|_| state != ReplayJobState::Running),
        last_event_seq: one.last_event_seq.max(other.last_event_seq),
        cursor: None,
        ..one
    }
}

/// Operators' actions below a position, newest first, and whether there are more.
pub(crate) fn actions(
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

/// Operators' actions on a delivery, oldest first.
pub(crate) fn actions_of(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Vec<ControlAction>> {
    let Some(event_seq) = query::event_seq(connection, id.event)? else { return Ok(Vec::new()) };
    let select = "SELECT action FROM actions WHERE event_seq = ? AND route = ? ORDER BY place";
    let mut statement = connection.prepare_cached(select)?;
    statement.query_map((event_seq, id.route.to_i64()), |row| message(row, 0))?.collect()
}
