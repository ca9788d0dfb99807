//! Times as the state keeps them: nanoseconds since 1970 in eight bytes, which are exact from 1678 to 2261.

use jiff::Timestamp;
use talaria_proto::time::{from_proto, to_proto};

/// No time.
pub(super) const MISSING: i64 = i64::MIN;

/// Times outside that range become its first or last one.
pub(in crate::partition) fn nanos(time: Timestamp) -> i64 {
    let nanos = time.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { MISSING + 1 } else { i64::MAX }).max(MISSING + 1)
}

pub(in crate::partition) fn timestamp(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn read(time: Option<&prost_types::Timestamp>) -> i64 {
    nanos(from_proto(time))
}

pub(super) fn read_optional(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(MISSING, |time| read(Some(time)))
}

pub(super) fn write(nanos: i64) -> prost_types::Timestamp {
    to_proto(timestamp(nanos))
}

pub(super) fn write_optional(nanos: i64) -> Option<prost_types::Timestamp> {
    (nanos != MISSING).then(|| write(nanos))
}
