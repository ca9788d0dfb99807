//! One attempt: the request as it went out, the prompt in it, and the answer.

use super::{
    delivery::outcome,
    frame::Page,
    parts::{self, badge},
    visitor::Visitor,
    waterfall::waterfall,
};
use crate::fault::Fault;
use http::StatusCode;
use maud::{Markup, html};
use talaria_core::{
    invisible::visible,
    json::{Value, parse},
};
use talaria_proto::v1::{Attempt, AttemptEvidence, GetDeliveryRequest, GetEvidenceRequest, HttpHeader};
use tonic::Code;

/// The most of a body that the page has, in bytes, so that it stays small.
const LONGEST: usize = 16 * 1024;

pub(super) async fn page(visitor: &Visitor, id: &str, number: &str) -> Result<Page, Fault> {
    let number: u32 =
        number.parse().map_err(|_| Fault::invalid(format!("{number} is no number of an attempt")))?;
    let asked = GetDeliveryRequest { delivery_id: id.to_owned() };
    let answer = visitor.status().get_delivery(asked).await?.into_inner();
    let attempt = answer.attempts.into_iter().find(|attempt| attempt.number == number);
    let attempt = attempt.ok_or_else(|| {
        let message = format!("the delivery has no attempt {number}");
        Fault::http(StatusCode::NOT_FOUND, None, message).with(Code::NotFound)
    })?;
    let asked = GetEvidenceRequest { delivery_id: id.to_owned(), attempt: number };
    let evidence = visitor.status().get_evidence(asked).await?.into_inner();
    let main = html! {
        h1 { "Attempt " (number) " of " a href={ "/deliveries/" (id) } { code.id { (parts::text(&talaria_core::short_id::short(id))) } } }
        p.headline {
            (outcome(attempt.outcome()))
            " " (parts::sentence(&attempt.detail))
        }
        dl.pairs {
            dt { "Began" } dd { (parts::time(attempt.started_at.as_ref())) }
            dt { "Took" } dd { (parts::duration(attempt.duration.as_ref())) }
            dt { "Sent as" } dd { code data-copy=(attempt.idempotency_key) { (parts::text(&attempt.idempotency_key)) } }
        }
        @if let Some(timings) = &attempt.timings { (waterfall(timings)) }
        @if evidence.attempts.is_empty() {
            p.empty {
                "The request and the answer are not kept: it is too long ago, evidence is off, or the relay that made the attempt is gone"
                @if evidence.incomplete { " or does not answer" } "."
            }
        }
        @for kept in &evidence.attempts { (shown(&attempt, kept)) }
    };
    Ok(Page::new(format!("Attempt {number}"), "/deliveries", main))
}

fn shown(attempt: &Attempt, kept: &AttemptEvidence) -> Markup {
    let prompt = prompt(&kept.request_body);
    html! {
        @if let Some(prompt) = prompt {
            h2 { "The prompt" }
            pre.prompt tabindex="0" data-copy=(cut(&prompt)) { (marked(cut(&prompt), &attempt.guarded)) }
            (bound(&prompt))
            @for note in &attempt.guarded { p.hint { mark { "marked" } " by the guard: " (parts::text(note)) } }
        }
        h2 { "The request" }
        p { strong { (kept.method) } " " code { (parts::text(&kept.url)) } }
        (headers("Headers of the request", &kept.request_headers))
        (body(&kept.request_body, kept.request_body_bytes, kept.request_body_cut))
        @if kept.request_body.len() <= LONGEST && !kept.request_body_cut {
            p { "As a command, without the signature:" }
            pre tabindex="0" data-copy=(curl(kept)) { (parts::lines(&curl(kept))) }
        }
        h2 { "The answer" }
        @if let Some(status) = kept.status { p { strong { "HTTP " (status) } } }
        @if !kept.failure.is_empty() { p.fault { (parts::text(&kept.failure)) } }
        (headers("Headers of the answer", &kept.answer_headers))
        (body(&kept.answer_body, kept.answer_body_bytes, kept.answer_body_cut))
    }
}

fn headers(name: &str, headers: &[HttpHeader]) -> Markup {
    html! {
        @if !headers.is_empty() {
            dl.pairs aria-label=(name) {
                @for header in headers {
                    dt { code { (parts::text(&header.name)) } }
                    dd { @if header.masked { (badge("still", "MASKED")) } @else { (parts::text(&header.value)) } }
                }
            }
        }
    }
}

fn body(body: &str, bytes: u64, is_cut: bool) -> Markup {
    html! {
        @if !body.is_empty() {
            pre tabindex="0" { (parts::lines(cut(body))) }
            (bound(body))
        }
        @if is_cut { p.hint { "It had " (parts::count(bytes)) " bytes, of which these are kept." } }
    }
}

/// Says that the page has not all of a text.
fn bound(text: &str) -> Markup {
    html! {
        @if text.len() > LONGEST {
            p.hint { "The first " (parts::count(LONGEST as u64)) " bytes. " code { "talaria status dlv_… --evidence" } " shows all that is kept." }
        }
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text)
}

/// The prompt in the body of a request.
fn prompt(body: &str) -> Option<String> {
    let document = parse(body.as_bytes()).ok()?;
    Some(document.root().get("prompt").and_then(Value::as_text)?.to_str_lossy().into_owned())
}

/// The prompt, with what the guard put into it marked: the quote before a command, and the space that disarms a reference.
fn marked(prompt: &str, guarded: &[String]) -> Markup {
    let notes = |word: &str| guarded.iter().any(|note| note.contains(word));
    let (quote, rest) = match prompt.strip_prefix("> ") {
        Some(rest) if notes("leading /") => ("> ", rest),
        _ => ("", prompt),
    };
    let parts: Vec<&str> = if notes("reference") { rest.split("@ ").collect() } else { vec![rest] };
    html! {
        @if !quote.is_empty() { mark { (quote) } }
        @for (at, part) in parts.iter().enumerate() {
            @if at > 0 { @if part.starts_with(|c: char| c.is_ascii_alphabetic()) { mark { "@ " } } @else { "@ " } }
            (visible(part))
        }
    }
}

/// The request as a command of a shell. Masked headers are left out, so it has no signature.
fn curl(kept: &AttemptEvidence) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut command = format!("curl --request {} {}", kept.method, quoted(&kept.url));
    // curl sets these by itself.
    let own = |name: &str| ["host", "content-length"].iter().any(|own| name.eq_ignore_ascii_case(own));
    for header in kept.request_headers.iter().filter(|header| !header.masked && !own(&header.name)) {
        command
            .push_str(&format!(" \\\n  --header {}", quoted(&format!("{}: {}", header.name, header.value))));
    }
    command.push_str(&format!(" \\\n  --data-raw {}", quoted(&kept.request_body)));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guard_changed_is_marked_and_nothing_else() {
        let guarded =
            ["a leading / defused".to_owned(), "1 @ reference(s) out of the payload defused".to_owned()];
        let shown = marked("> /stop @ file:x, mail@ 5 <b>", &guarded).into_string();
        assert_eq!(shown, "<mark>&gt; </mark>/stop <mark>@ </mark>file:x, mail@ 5 &lt;b&gt;");
        assert_eq!(marked("> quoted @ home", &[]).into_string(), "&gt; quoted @ home");
    }

    #[test]
    fn a_command_is_quoted_and_has_no_secret() {
        let header =
            |name: &str, value: &str, masked| HttpHeader { name: name.into(), value: value.into(), masked };
        let kept = AttemptEvidence {
            method: "POST".into(),
            url: "http://127.0.0.1:8644/x".into(),
            request_headers: vec![
                header("Content-Type", "application/json", false),
                header("Content-Length", "3", false),
                header("X-Hub-Signature-256", "", true),
            ],
            request_body: "{\"a\": \"it's\"}; rm -rf /".into(),
            ..AttemptEvidence::default()
        };
        assert_eq!(
            curl(&kept),
            "curl --request POST 'http://127.0.0.1:8644/x' \\\n  --header 'Content-Type: application/json' \\\n  --data-raw \
             '{\"a\": \"it'\\''s\"}; rm -rf /'"
        );
    }
}
