//! The evidence of an attempt: its request and its answer, without secrets. Evidence is for operators, and decides nothing.
//!
//! The value of a header is kept if its name is known to be harmless, and masked otherwise. The alternative, a list of names that are
//! secret, would keep the value of each header that it does not know.

use super::{
    exchange::{Answer, Exchange},
    mask::{HIDDEN, Mask},
    prepare::names,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use prost::Message as _;
use std::sync::Arc;
use talaria_core::config::Route;
use talaria_proto::time::to_proto;
use talaria_proto::v1::{AttemptEvidence, HttpHeader};
use url::{Position, Url};

/// The longest body of a request, in bytes: Hermes' own limit.
pub(crate) const LONGEST_REQUEST: usize = 1 << 20;

/// The longest body of an answer, in bytes.
pub(crate) const LONGEST_ANSWER: usize = 4 << 10;

/// The most headers of an answer, and the longest value, in bytes.
const MOST_HEADERS: usize = 64;
const LONGEST_VALUE: usize = 1 << 10;

/// The headers of requests whose values are kept. A route's own headers have other names.
const REQUEST: [&str; 12] = [
    "host",
    "content-length",
    "content-type",
    "user-agent",
    "accept-encoding",
    "x-github-event",
    "x-github-delivery",
    "x-request-id",
    "traceparent",
    "svix-id",
    "svix-timestamp",
    "x-webhook-timestamp",
];

/// The headers of answers whose values are kept.
const ANSWER: [&str; 15] = [
    "allow",
    "cache-control",
    "cf-ray",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "keep-alive",
    "retry-after",
    "server",
    "transfer-encoding",
    "vary",
    "via",
    "x-request-id",
];

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub delivery: String,
    pub tenant: String,
    pub number: u32,
    pub started_at: Timestamp,
    pub route: Arc<Route>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub exchange: Exchange,
}

impl Observed {
    /// About the bytes that it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let answer = match &self.exchange {
            Exchange::Answered(answer) => answer.body.len(),
            Exchange::NotSent(_) | Exchange::NotAllowed(_) | Exchange::Lost(_) => 0,
        };
        1024 + self.body.len() + answer
    }

    /// The part of it that is kept, with the mask of its route.
    pub(crate) fn evidence(&self, mask: &Mask) -> AttemptEvidence {
        let Self { route, exchange, .. } = self;
        let text = |bytes: &[u8]| {
            // Checks valid text, which almost all is, several bytes at a time.
            let valid = str::from_utf8(bytes).map(str::to_owned);
            mask.text(valid.unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned()))
        };
        // Secrets go first: shortening could leave half of one.
        let cut = |bytes: &[u8], longest| shortened(text(bytes), longest);
        let (answer, failure) = match exchange {
            Exchange::Answered(answer) => (Some(answer), cut_short(answer)),
            Exchange::NotSent(why) => (None, format!("not sent: {why}")),
            Exchange::NotAllowed(why) => (None, format!("not allowed: {why}")),
            Exchange::Lost(why) => (None, why.clone()),
        };
        let kept = |headers: &HeaderMap, known: &[&str], name: &dyn Fn(&HeaderName) -> String| {
            let header = |(header, value): (&HeaderName, &http::HeaderValue)| {
                let masked = !known.contains(&header.as_str());
                let value = if masked { String::new() } else { cut(value.as_bytes(), LONGEST_VALUE).0 };
                HttpHeader { name: name(header), value, masked }
            };
            headers.iter().take(MOST_HEADERS).map(header).collect::<Vec<_>>()
        };
        let mut request_headers = vec![
            HttpHeader { name: "Host".into(), value: host(&route.url), masked: false },
            HttpHeader { name: "Content-Length".into(), value: self.body.len().to_string(), masked: false },
        ];
        request_headers.extend(kept(&self.headers, &REQUEST, &|name| written(name, route)));
        let none = Answer::default();
        let answer = answer.unwrap_or(&none);
        let (request_body, request_body_cut) = cut(&self.body, LONGEST_REQUEST);
        let (answer_body, answer_body_cut) = cut(&answer.body, LONGEST_ANSWER);
        AttemptEvidence {
            number: self.number,
            started_at: Some(to_proto(self.started_at)),
            method: "POST".into(),
            url: text(address(&route.url).as_bytes()),
            request_headers,
            request_body,
            request_body_bytes: self.body.len() as u64,
            status: exchange.status().map(u32::from),
            answer_headers: kept(&answer.headers, &ANSWER, &ToString::to_string),
            answer_body,
            answer_body_bytes: answer.body.len() as u64,
            failure: text(failure.as_bytes()),
            left_out: false,
            request_body_cut,
            answer_body_cut,
        }
    }
}

/// Why an answer is not complete.
fn cut_short(answer: &Answer) -> String {
    answer.cut_short.as_ref().map_or_else(String::new, |why| format!("the answer is not complete: {why}"))
}

/// The name as it is written on the wire.
fn written(name: &HeaderName, route: &Route) -> String {
    let own = route.headers.iter().map(|header| header.name.as_str());
    let written = names().into_iter().chain(own).find(|known| known.eq_ignore_ascii_case(name.as_str()));
    written.unwrap_or(name.as_str()).to_owned()
}

/// The URL without its user and its fragment, and with its query masked.
fn address(url: &Url) -> String {
    let query = if url.query().is_some() { format!("?{HIDDEN}") } else { String::new() };
    format!("{}://{}{}{query}", url.scheme(), host(url), url.path())
}

fn host(url: &Url) -> String {
    url[Position::BeforeHost..Position::AfterPort].to_owned()
}

/// The text up to `longest` bytes, and whether that is not all.
fn shortened(mut text: String, longest: usize) -> (String, bool) {
    let is_cut = text.len() > longest;
    text.truncate(text.floor_char_boundary(longest));
    (text, is_cut)
}

/// The most bytes of an answer with evidence. gRPC clients take 4 MiB by default.
const LARGEST_RESPONSE: usize = 3 << 20;

/// The room that is left in an answer. The evidence of an attempt that finds none is left out.
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(LARGEST_RESPONSE)
    }
}

impl Budget {
    pub(crate) fn admit(&mut self, evidence: AttemptEvidence) -> AttemptEvidence {
        let size = evidence.encoded_len();
        if size <= self.0 {
            self.0 -= size;
            return evidence;
        }
        // Older ones are left out, too.
        self.0 = 0;
        AttemptEvidence {
            number: evidence.number,
            started_at: evidence.started_at,
            left_out: true,
            ..AttemptEvidence::default()
        }
    }
}

#[cfg(test)]
mod tests;
