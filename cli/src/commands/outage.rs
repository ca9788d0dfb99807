//! A relay that hangs up while something is waited for: one warning when it begins, and a line when it is over.

use crate::print::{moment, one_line, warn};
use jiff::Timestamp;
use std::io::{self, Write as _};

/// Whether the relay is away now.
#[derive(Default)]
pub(super) struct Outage {
    is_now: bool,
}

impl Outage {
    /// It hung up, or cannot be reached.
    pub(super) fn begins(&mut self, why: &tonic::Status) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_now, true) {
            let (at, why) = (moment(Timestamp::now()), one_line(why.message()));
            warn(&format!("{at}  the relay is away: {why}; it is asked again each second"))?;
        }
        Ok(())
    }

    /// It answers.
    pub(super) fn ends(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_now) {
            let at = moment(Timestamp::now());
            writeln!(anstream::stderr(), "{at}  the relay is back")?;
        }
        Ok(())
    }
}

/// Whether it stopped or was killed, and not refused: a connection that breaks is `Unknown` or `Internal`.
pub(super) fn may_come_back(status: &tonic::Status) -> bool {
    use tonic::Code::{Cancelled, Internal, Unavailable, Unknown};
    matches!(status.code(), Cancelled | Internal | Unavailable | Unknown)
}
