//! Records that are written at once: rare ones, without a delivery.

use super::{super::schema::action_position, Batch};
use jiff::Timestamp;
use prost::Message as _;
use talaria_core::id::DeliveryId;
use talaria_proto::{
    time::from_proto,
    v1::{
        ControlAction, EventRepeated, Job, JobsForgotten, Opened, PauseChanged, QuarantinedCallback,
        ReplayJob, ReplayJobState, RouteChanged,
    },
};

impl<'a> Batch<'a> {
    pub(super) fn repeated(&mut self, repeated: &EventRepeated, at: Timestamp) -> rusqlite::Result<()> {
        let Some(conflict) = &repeated.conflict else { return Ok(()) };
        // The same body may come again: the first one is shown.
        let insert =
            "INSERT INTO conflicts SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM events WHERE seq = ?1)
                      ON CONFLICT DO UPDATE SET touched_at = excluded.touched_at";
        let digest: &[u8] = &conflict.payload_sha256;
        let row = (repeated.first_seq, digest, at.as_microsecond(), conflict.encode_to_vec());
        self.connection.prepare_cached(insert)?.execute(row).map(drop)
    }

    pub(super) fn quarantined(
        &mut self,
        callback: &QuarantinedCallback,
        at: Timestamp,
    ) -> rusqlite::Result<()> {
        let insert = "INSERT INTO quarantined VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                      ON CONFLICT (id) DO UPDATE SET touched_at = excluded.touched_at";
        let received_at = from_proto(callback.received_at.as_ref()).as_microsecond();
        let row = (
            &callback.id,
            self.partition,
            &callback.tenant,
            received_at,
            at.as_microsecond(),
            callback.encode_to_vec(),
        );
        self.connection.prepare_cached(insert)?.execute(row).map(drop)
    }

    pub(super) fn route_changed(&mut self, changed: &'a RouteChanged) -> rusqlite::Result<()> {
        let lane = self.lane(&changed.tenant, &changed.route)?.number;
        let until = changed.held_until.as_ref().map(|until| from_proto(Some(until)).as_microsecond());
        let update =
            "UPDATE lanes SET held_because = ?2, held_until = ?3, cause = ?4, tries = ?5 WHERE lane = ?1";
        let row = (lane, &changed.held_because, until, changed.cause, changed.tries);
        self.connection.prepare_cached(update)?.execute(row).map(drop)
    }

    pub(super) fn pause_changed(&mut self, changed: &'a PauseChanged) -> rusqlite::Result<()> {
        let Some(pause) = &changed.pause else { return Ok(()) };
        if !changed.paused {
            let delete = "DELETE FROM pauses WHERE tenant = ? AND route = ?";
            return self.connection.prepare_cached(delete)?.execute((&pause.tenant, &pause.route)).map(drop);
        }
        // So that the route is shown even if it never had a delivery.
        if !pause.route.is_empty() {
            self.lane(&pause.tenant, &pause.route)?;
        }
        let insert = "INSERT OR REPLACE INTO pauses VALUES (?, ?, ?, ?)";
        let row = (&pause.tenant, &pause.route, self.partition, pause.encode_to_vec());
        self.connection.prepare_cached(insert)?.execute(row).map(drop)
    }

    pub(super) fn acted(&mut self, seq: u64, action: &ControlAction, at: Timestamp) -> rusqlite::Result<()> {
        let delivery: Option<DeliveryId> = action.delivery_id.parse().ok();
        let listed = delivery.is_none() || action.replay_job_id.is_empty();
        let route = delivery.map_or(0, |id| id.route.to_i64());
        let insert = "INSERT OR REPLACE INTO actions VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let position = action_position(self.seq, self.actions);
        self.actions = self.actions.saturating_add(1);
        let at = at.as_microsecond();
        let row = (position, self.partition, at, &action.tenant, seq, route, listed, action.encode_to_vec());
        self.connection.prepare_cached(insert)?.execute(row).map(drop)
    }

    pub(super) fn replay_job(&mut self, job: &ReplayJob) -> rusqlite::Result<()> {
        let insert = "INSERT OR REPLACE INTO replay_jobs VALUES (?, ?, ?, ?, ?)";
        let row = (
            &job.id,
            self.partition,
            from_proto(job.updated_at.as_ref()).as_microsecond(),
            job.state() == ReplayJobState::Running,
            job.encode_to_vec(),
        );
        self.connection.prepare_cached(insert)?.execute(row).map(drop)
    }

    pub(super) fn job(&mut self, job: &Job) -> rusqlite::Result<()> {
        let insert = "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?)";
        let row = (
            &job.id,
            self.partition,
            &job.tenant,
            &job.openrouter_id,
            from_proto(job.created_at.as_ref()).as_microsecond(),
            job.encode_to_vec(),
        );
        self.connection.prepare_cached(insert)?.execute(row).map(drop)
    }

    pub(super) fn jobs_forgotten(&mut self, forgotten: &JobsForgotten) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached("DELETE FROM jobs WHERE id = ?")?;
        forgotten.job_ids.iter().try_for_each(|id| statement.execute([id]).map(drop))
    }

    /// Replaces all pauses, breakers and running jobs, because the journal before may be trimmed.
    pub(super) fn opened(&mut self, opened: &'a Opened) -> rusqlite::Result<()> {
        for end in [
            "DELETE FROM pauses WHERE partition = ?",
            "UPDATE lanes SET held_because = '', held_until = NULL, cause = 0, tries = 0
             WHERE partition = ? AND held_because != ''",
        ] {
            self.connection.prepare_cached(end)?.execute([self.partition])?;
        }
        opened.pauses.iter().try_for_each(|pause| self.pause_changed(pause))?;
        let mut shut = opened.routes.iter().filter_map(|route| route.shut.as_ref());
        shut.try_for_each(|shut| self.route_changed(shut))?;
        opened.jobs.iter().try_for_each(|job| self.replay_job(job))
    }
}
