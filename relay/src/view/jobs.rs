//! Jobs at OpenRouter, and what events cost.

use super::{
    filter::allows,
    query::cut,
    schema::{day, message},
};
use crate::partition_set::PartitionSet;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};
use talaria_bus::sqlite::limit;
use talaria_proto::{
    time::from_proto,
    v1::{Cost, Job, JobState},
};

/// The job with this id, or the newest one with this id at OpenRouter that `is_visible` allows.
pub(crate) fn job(
    connection: &Connection,
    id: &str,
    is_visible: impl Fn(&Job) -> bool,
) -> rusqlite::Result<Option<Job>> {
    let select = "SELECT job FROM jobs WHERE id = ?";
    let own = connection.prepare_cached(select)?.query_row([id], |row| message(row, 0)).optional()?;
    if let Some(job) = own.filter(&is_visible) {
        return Ok(Some(job));
    }
    let select =
        "SELECT job FROM jobs WHERE openrouter_id = ? AND openrouter_id != '' ORDER BY created_at DESC";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let job: Job = message(row, 0)?;
        if is_visible(&job) {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

/// Jobs below a position (time of their creation, and id), newest first, and whether there are more.
pub(crate) fn jobs(
    connection: &Connection,
    set: &PartitionSet,
    tenant: Option<&str>,
    states: &[JobState],
    below: (i64, &str),
    max: usize,
) -> rusqlite::Result<(Vec<Job>, bool)> {
    let select = "SELECT job FROM jobs WHERE (created_at, id) < (?1, ?2) ORDER BY created_at DESC, id DESC";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query(below)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let job: Job = message(row, 0)?;
        let is_wanted = states.is_empty() || states.contains(&job.state());
        if is_wanted && allows(tenant, &job.tenant) && set.has_tenant(&job.tenant) {
            found.push(job);
            if found.len() > max {
                break;
            }
        }
    }
    Ok(cut(found, max))
}

/// The position of a job in lists.
pub(crate) fn position(job: &Job) -> (i64, String) {
    (from_proto(job.created_at.as_ref()).as_microsecond(), job.id.clone())
}

/// The costs of days, newest first, by tenant, model and routes. Whole days count, in UTC.
pub(crate) fn costs(
    connection: &Connection,
    set: &PartitionSet,
    tenant: Option<&str>,
    (since, until): (Option<Timestamp>, Option<Timestamp>),
) -> rusqlite::Result<Vec<Cost>> {
    let select = "SELECT day, tenant, model, routes, events, without_cost, micros FROM costs
                  WHERE day >= ?1 AND day <= ?2 AND (?3 IS NULL OR tenant = ?3)
                  ORDER BY day DESC, tenant, model, routes LIMIT ?4";
    let mut statement = connection.prepare_cached(select)?;
    let since = since.map_or(i64::MIN, |since| day(since.as_microsecond()));
    // `until` is excluded.
    let until = until.map_or(i64::MAX, |until| day(until.as_microsecond() - 1));
    let rows = statement.query_map((since, until, tenant, limit(MOST_COSTS)), |row| {
        let day: i64 = row.get(0)?;
        Ok(Cost {
            day: date(day),
            tenant: row.get(1)?,
            model: row.get(2)?,
            routes: row.get(3)?,
            events: row.get(4)?,
            without_cost: row.get(5)?,
            cost_micros: row.get(6)?,
        })
    })?;
    let costs: Vec<Cost> = rows.collect::<Result<_, _>>()?;
    Ok(costs.into_iter().filter(|cost| set.has_tenant(&cost.tenant)).collect())
}

/// The most rows of costs in one answer.
const MOST_COSTS: usize = 10_000;

/// A day since 1970 as YYYY-MM-DD.
fn date(day: i64) -> String {
    let second = day.saturating_mul(86_400);
    Timestamp::from_second(second).map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d").to_string())
}
