//! A relay that is unreachable while a command waits: one warning at the beginning, one line at the end.

use crate::print::{moment, one_line, warn};
use jiff::Timestamp;
use std::io::{self, Write as _};

/// Whether the relay is unreachable now.
#[derive(Default)]
pub(crate) struct Outage {
    is_unreachable: bool,
}

impl Outage {
    pub(crate) fn begins(&mut self, why: &tonic::Status) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_unreachable, true) {
            let (at, why) = (moment(Timestamp::now()), one_line(why.message()));
            warn(&format!("{at}  the relay is away: {why}; it is asked again each second"))?;
        }
        Ok(())
    }

    pub(crate) fn ends(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_unreachable) {
            let at = moment(Timestamp::now());
            writeln!(anstream::stderr(), "{at}  the relay is back")?;
        }
        Ok(())
    }
}

/// Whether the relay stopped or the connection broke, which is `Unknown` or `Internal`. A relay that refuses is not asked again.
pub(crate) fn is_temporary(status: &tonic::Status) -> bool {
    use tonic::Code::{Cancelled, Internal, Unavailable, Unknown};
    matches!(status.code(), Cancelled | Internal | Unavailable | Unknown)
}
