//! Upkeep: the clock, the end of pauses, and the retention.

use super::{CARRIED, Running, needs, reading::read_carried};
use crate::partition::{clock_guard::Look, machine::Keeping};
use jiff::Timestamp;
use talaria_telemetry::LogLimiter;

impl Running {
    /// The wall clock. Each reading is compared with the time since boot, so that no record has a wrong time unnoticed.
    pub(super) fn now(&mut self) -> Timestamp {
        let now = self.tools.clock.now();
        match self.clock_guard.look(now, self.tools.clock.since_boot()) {
            Look::Steady => {}
            Look::Back(by) => {
                tracing::warn!(partition = %self.partition, ?by, "the wall clock was set back; what waits is due as much earlier");
                self.machine.set_back(now);
            }
            Look::Forward(by) => {
                tracing::warn!(
                    partition = %self.partition, ?by,
                    "the wall clock was set forward; nothing is parked by age or forgotten until it has settled"
                );
            }
        }
        self.machine.set_clock_settled(self.clock_guard.is_settled());
        now
    }

    /// Ends pauses that are over, and does the work of the retention.
    pub(super) fn look(&mut self) {
        let now = self.now();
        self.machine.end_pauses(now);
        let Keeping { renew, carry, remove } = self.machine.keep(now, CARRIED);
        self.remove_files(remove);
        if renew {
            let (bus, partition, renewing) = (self.tools.bus.clone(), self.partition, self.renewing.clone());
            let planned = self.machine.planned_through();
            self.tasks.spawn(async move {
                match bus.empty_through(partition, planned).await {
                    // The owner may have gone.
                    Ok(quiet) => drop(renewing.send(quiet).await),
                    Err(error) => {
                        static FAILED: LogLimiter = LogLimiter::new();
                        if let Some(left_out) = FAILED.admit() {
                            tracing::warn!(%error, %partition, left_out, "planned sequence read failed");
                        }
                    }
                }
            });
        }
        for seq in carry {
            let (bus, view) = (self.tools.bus.clone(), self.tools.view.clone());
            let (payload, carrying) = (self.machine.payload(seq), self.carrying.clone());
            let tasks = self.machine.tasks_of(seq);
            self.tasks.spawn(async move {
                if let Some(carried) = read_carried(&bus, &view, seq, payload, tasks).await {
                    // The owner may have gone.
                    let _ = carrying.send((seq, carried)).await;
                }
            });
        }
        while self.tasks.try_join_next().is_some() {}
        let now = needs(&self.machine);
        self.needs.send_if_modified(|known| std::mem::replace(known, now) != now);
    }
}
