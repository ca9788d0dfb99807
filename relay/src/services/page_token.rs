//! Page tokens: base64url of `<kind>:<position>`, so that a token of one list is refused by another. They hold no secret.

use super::error::Error;
use crate::view::query::{DeliveryPosition, TOP};
use data_encoding::BASE64URL_NOPAD;

/// A position in a list. Lists run from the highest position down.
pub(super) trait Position: Ord + Clone + Send + 'static {
    /// Above all entries.
    const TOP: Self;

    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

macro_rules! positions {
    ($($number:ty)*) => {$(
        impl Position for $number {
            const TOP: Self = Self::MAX;

            fn write(&self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}
positions!(i64 u64);

impl Position for DeliveryPosition {
    const TOP: Self = TOP;

    fn write(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }

    fn read(text: &str) -> Option<Self> {
        let (seq, route) = text.split_once('.')?;
        Some((seq.parse().ok()?, route.parse().ok()?))
    }
}

/// A time, and an id.
impl Position for (i64, String) {
    const TOP: Self = (i64::MAX, String::new());

    fn write(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }

    fn read(text: &str) -> Option<Self> {
        let (time, id) = text.split_once('.')?;
        Some((time.parse().ok()?, id.to_owned()))
    }
}

pub(super) fn write(kind: &str, position: &impl Position) -> String {
    BASE64URL_NOPAD.encode(format!("{kind}:{}", position.write()).as_bytes())
}

/// The position in a token; `None` for an empty token.
pub(super) fn read<P: Position>(kind: &str, token: &str) -> Result<Option<P>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let text = BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let position = text.as_deref().and_then(|text| P::read(text.strip_prefix(kind)?.strip_prefix(':')?));
    let position =
        position.ok_or_else(|| Error::Invalid("the token is not one that was given out for this".into()));
    position.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_only_where_they_belong() {
        assert_eq!(read("e", &write("e", &7_i64)), Ok(Some(7_i64)));
        assert_eq!(read("d", &write("d", &(7_i64, -9_i64))), Ok(Some((7_i64, -9_i64))));
        let quarantined = (7_i64, "qrt_x".to_owned());
        assert_eq!(read("q", &write("q", &quarantined)), Ok(Some(quarantined)));
        assert_eq!(read::<u64>("w", ""), Ok(None));
        let wrong = ["x", "!!", &write("e", &7_i64), &write("d", &7_i64), &"A".repeat(10_000)];
        for token in wrong {
            let error = read::<DeliveryPosition>("d", token).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{token}");
        }
    }
}
