//! What operators ask for.

use super::{Action, Machine, ROOM};
use crate::{
    decisions::replay,
    partition::handle::{AuditInfo, Command, Done, Key, NotDone},
};
use jiff::Timestamp;
use prost::Message as _;
use talaria_proto::v1::DeliveryTask;
use tokio::sync::oneshot;

impl Machine {
    /// Carries a command out; its answer comes once that is durable.
    pub(crate) fn command(&mut self, command: Command, reply: oneshot::Sender<Done>, now: Timestamp) {
        let done = if self.is_draining { Err(NotDone::Lost) } else { self.carry_out(command, now) };
        match done {
            Ok(()) => {
                self.set_windows();
                self.actions.push(Action::Reply(reply));
            }
            // The caller may have gone.
            Err(why) => drop(reply.send(Err(why))),
        }
    }

    fn carry_out(&mut self, command: Command, now: Timestamp) -> Result<(), NotDone> {
        match command {
            Command::Append(records) => {
                let size: usize = records.iter().map(|record| record.encoded_len() + 8).sum();
                if size + ROOM > self.largest {
                    return Err(NotDone::TooLarge);
                }
                for record in records {
                    self.push(record);
                }
            }
            Command::Cancel(key, audit) => {
                let task = self.waiting(key)?;
                self.push(replay::cancelled(&task, audit.at(now)).record);
            }
            Command::Replay(key, audit) => {
                let task = self.waiting(key)?;
                self.push(replay::again(&task, AuditInfo::at(&audit, now)).record);
            }
        }
        Ok(())
    }

    fn waiting(&self, key: Key) -> Result<DeliveryTask, NotDone> {
        let task = self.state.task(key).ok_or(NotDone::NotWaiting)?;
        if self.state.is_under_way(key) { Err(NotDone::UnderWay) } else { Ok(task) }
    }
}
