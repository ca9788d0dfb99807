//! Short forms of ids, for people to read and type.
//!
//! ```text
//! evt_25m74olgq62h         the beginning of an event's id
//! dlv_25m74olgq62h-zovl    the beginning of a delivery's id, and of its route's part
//! job_25m74olgq62h         the beginning of a job's id; an id of OpenRouter's may begin with job_, too
//! ```
//!
//! The ids of all deliveries of an event begin with the event's 32 characters, so a prefix would have to be longer to
//! distinguish them. The first 9 characters of an id are the job's alone ([`crate::id`]): of 12 characters, the last ones
//! distinguish the events of a job.

use crate::id::InvalidId;
use data_encoding::BASE32_NOPAD;

/// Characters of an event's part in a short form, and of a route's.
const SHORT_EVENT: usize = 12;
const SHORT_ROUTE: usize = 4;
/// Digits of a replay job's id in its short form.
const SHORT_JOB: usize = 8;

/// Characters of an event's part in a whole id, which is all of a job's, and of a route's.
const EVENT: usize = 32;
const ROUTE: usize = 8;

/// The short form of an id. Any other text is returned unchanged.
pub fn short(id: &str) -> String {
    let (kind, body) = id.split_at_checked(4).unwrap_or((id, ""));
    if !body.is_ascii() {
        return id.to_owned();
    }
    let head = |length: usize| body.get(..length).unwrap_or(body);
    match kind {
        "evt_" | "qrt_" => format!("{kind}{}", head(SHORT_EVENT)),
        "dlv_" => match body.get(EVENT..EVENT + SHORT_ROUTE) {
            Some(route) => format!("{kind}{}-{route}", head(SHORT_EVENT)),
            None => id.to_owned(),
        },
        "rpl_" => format!("{kind}{}", head(SHORT_JOB)),
        "job_" if is_job(id) => format!("{kind}{}", head(SHORT_EVENT)),
        _ => id.to_owned(),
    }
}

/// Whether it is a job's whole id: "job_" and 32 characters of base32.
pub fn is_job(id: &str) -> bool {
    characters(id.strip_prefix("job_"), EVENT).is_some_and(|body| body.len() == EVENT)
}

/// The beginning of an event's id, or a delivery's id in its short form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdBeginning {
    kind: &'static str,
    event: String,
    route: String,
}

impl IdBeginning {
    /// Parses the beginning of an event's id: "evt_…".
    pub fn of_event(text: &str) -> Result<Self, InvalidId> {
        let expected = "an event id, or its beginning: evt_ and up to 32 characters of a-z and 2-7";
        let event = characters(text.strip_prefix("evt_"), EVENT).ok_or(InvalidId { expected })?;
        Ok(Self { kind: "evt_", event, route: String::new() })
    }

    /// Parses the beginning of a delivery's id, or its short form: "dlv_…", "dlv_…-…".
    pub fn of_delivery(text: &str) -> Result<Self, InvalidId> {
        let expected =
            "a delivery id, its beginning or its short form: dlv_ and up to 40 characters of a-z and 2-7";
        let read = || {
            let body = text.strip_prefix("dlv_")?;
            let (event, route) = match body.split_once('-') {
                Some(parts) => parts,
                None => body.split_at_checked(EVENT).unwrap_or((body, "")),
            };
            let (event, route) = (characters(Some(event), EVENT)?, characters(Some(route), ROUTE)?);
            Some(Self { kind: "dlv_", event, route })
        };
        read().ok_or(InvalidId { expected })
    }

    /// Whether it is the beginning or the short form of this id.
    pub fn fits(&self, id: &str) -> bool {
        let Some(body) = id.strip_prefix(self.kind) else { return false };
        body.starts_with(&self.event)
            && (self.route.is_empty()
                || body.get(EVENT..).is_some_and(|route| route.starts_with(&self.route)))
    }

    /// Whether this can be the event's id, or the id of the delivery's event.
    pub fn fits_event(&self, id: &str) -> bool {
        id.strip_prefix("evt_").is_some_and(|body| body.starts_with(&self.event))
    }

    /// The lowest and the highest job prefix of such ids.
    pub fn job_prefixes(&self) -> ([u8; 6], [u8; 6]) {
        // The first and the last letter of base32; ten characters have the six bytes, and sixteen are whole bytes.
        let padded = |with: &str| {
            let text: String = self.event.chars().chain(with.chars().cycle()).take(16).collect();
            let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).unwrap_or_default();
            let mut prefix = [0; 6];
            prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            prefix
        };
        (padded("a"), padded("7"))
    }
}

/// Characters of base32, up to a length.
fn characters(text: Option<&str>, longest: usize) -> Option<String> {
    let is_base32 = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
    text.filter(|text| text.len() <= longest && text.bytes().all(is_base32)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeliveryId, EventId};

    #[test]
    fn a_short_id_is_the_beginning_of_the_whole_one() {
        let event = EventId::new("acme", "job_test", "video.generation.completed");
        let delivery = DeliveryId::new(event, "video").to_string();
        let event = event.to_string();
        assert_eq!(
            (short(&event), short(&delivery)),
            ("evt_25m74olgq62h".into(), "dlv_25m74olgq62h-zovl".into())
        );
        assert_eq!(short("rpl_0123456789abcdef"), "rpl_01234567");
        let job = format!("job_{}", &event[4..]);
        assert!(is_job(&job) && !is_job(&job[..35]) && !is_job(&format!("{job}a")) && !is_job(&event));
        assert_eq!(short(&job), "job_25m74olgq62h");
        for other in ["", "dlv_x", "job_7", "job_25m74olgq62h_of_openrouter", "dlv_é", "evt", "rpl_é"] {
            assert_eq!(short(other), other);
        }
        assert!(IdBeginning::of_event(&short(&event)).unwrap().fits(&event));
        assert!(IdBeginning::of_delivery(&short(&delivery)).unwrap().fits(&delivery));
    }

    #[test]
    fn a_beginning_fits_only_ids_that_begin_with_it() {
        let event = EventId::new("acme", "job", "t");
        let (one, other) = (DeliveryId::new(event, "a").to_string(), DeliveryId::new(event, "b").to_string());
        let event = event.to_string();
        let fits = |text: &str, id: &str| IdBeginning::of_delivery(text).unwrap().fits(id);
        for length in 4..=one.len() {
            assert!(fits(&one[..length], &one), "{length}");
        }
        assert!(fits(&one[..36], &other) && !fits(&one, &other));
        assert!(fits(&short(&one), &one) && !fits(&short(&one), &other));
        assert!(fits("dlv_", &one) && !fits("dlv_", &event));
        let beginning = IdBeginning::of_event(&event[..9]).unwrap();
        assert!(beginning.fits(&event) && !beginning.fits(&one));
        assert!(IdBeginning::of_delivery(&one).unwrap().fits_event(&event));
        assert!(!beginning.fits(&EventId::new("acme", "another job", "t").to_string()));
    }

    #[test]
    fn an_impossible_beginning_is_refused() {
        let long = "a".repeat(33);
        for wrong in ["", "evt", "dlv_a", "evt_1", "evt_A", "evt_a-b", "evt_é", &format!("evt_{long}")] {
            assert!(IdBeginning::of_event(wrong).is_err(), "{wrong}");
        }
        for wrong in ["evt_a", "dlv_1", "dlv_a-b-c", "dlv_a-1", "dlv_a-aaaaaaaaa", &format!("dlv_{long}-a")] {
            assert!(IdBeginning::of_delivery(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_job_prefixes_of_a_beginning_are_in_a_range() {
        let id = EventId::new("acme", "job_test", "t");
        let text = id.to_string();
        let job = EventId::job_prefix("job_test");
        for length in 4..=text.len() {
            let (low, high) = IdBeginning::of_event(&text[..length]).unwrap().job_prefixes();
            assert!(low <= job && job <= high, "{length}");
            assert_eq!(
                low == high,
                length >= 4 + 10,
                "{length}: ten characters are the job's six bytes and two bits more"
            );
        }
        assert_eq!(IdBeginning::of_event("evt_").unwrap().job_prefixes(), ([0; 6], [0xFF; 6]));
    }
}
