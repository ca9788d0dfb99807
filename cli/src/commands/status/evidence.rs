//! `talaria status dlv_… --evidence`: the requests and answers of a delivery's attempts.

use crate::{
    Failure,
    client::{StatusClient, ask, ids},
    print::{self, BOLD, DIM, one_line, time, visible},
};
use std::io::{self, Write};
use talaria_proto::v1::{AttemptEvidence, GetEvidenceRequest, GetEvidenceResponse, HttpHeader};

pub(super) async fn show(
    relay: &mut StatusClient,
    id: &str,
    attempt: Option<u32>,
    json: bool,
) -> Result<(), Failure> {
    let delivery_id = ids::complete(relay, id).await?;
    let request = GetEvidenceRequest { delivery_id: delivery_id.clone(), attempt: attempt.unwrap_or(0) };
    let answer = ask(relay.get_evidence(request)).await?;
    if json {
        return Ok(print::json_document(&answer)?);
    }
    if answer.incomplete {
        print::warn("a relay does not answer: what it sent may be missing; ask again soon")?;
    }
    Ok(write(&mut anstream::stdout().lock(), &delivery_id, &answer)?)
}

fn write(out: &mut impl Write, delivery_id: &str, answer: &GetEvidenceResponse) -> io::Result<()> {
    writeln!(out, "{BOLD}{delivery_id}{BOLD:#}")?;
    for evidence in &answer.attempts {
        let (number, at) = (evidence.number, time(evidence.started_at.as_ref()));
        writeln!(out, "\n{BOLD}attempt {number}{BOLD:#}  {DIM}{at}{DIM:#}")?;
        if evidence.left_out {
            writeln!(out, "left out, because newer attempts fill the answer: --attempt {number} shows it")?;
        } else {
            write_attempt(out, evidence)?;
        }
    }
    if answer.attempts.is_empty() && answer.missing.is_empty() {
        writeln!(out, "no attempt has ended")?;
    }
    for number in &answer.missing {
        writeln!(
            out,
            "\nno evidence of attempt {number}: relay.evidence is off, it is older than that keeps, there was no room for it, or it is with a \
             relay that is gone"
        )?;
    }
    Ok(())
}

fn write_attempt(out: &mut impl Write, evidence: &AttemptEvidence) -> io::Result<()> {
    writeln!(out, "{} {}", evidence.method, one_line(&evidence.url))?;
    write_headers(out, &evidence.request_headers)?;
    write_body(out, &evidence.request_body, evidence.request_body_bytes, evidence.request_body_cut)?;
    if let Some(status) = evidence.status {
        writeln!(out, "\n{BOLD}answer {status}{BOLD:#}")?;
        write_headers(out, &evidence.answer_headers)?;
        write_body(out, &evidence.answer_body, evidence.answer_body_bytes, evidence.answer_body_cut)?;
    }
    if !evidence.failure.is_empty() {
        writeln!(out, "\n{}", one_line(&evidence.failure))?;
    }
    Ok(())
}

fn write_headers(out: &mut impl Write, headers: &[HttpHeader]) -> io::Result<()> {
    for header in headers {
        let value = if header.masked { "(masked)" } else { &header.value };
        writeln!(out, "{}: {}", one_line(&header.name), one_line(value))?;
    }
    Ok(())
}

fn write_body(out: &mut impl Write, body: &str, bytes: u64, is_cut: bool) -> io::Result<()> {
    if bytes > 0 {
        writeln!(out, "\n{}", visible(body))?;
    }
    if is_cut {
        writeln!(out, "{DIM}its end is left out: it has {bytes} bytes{DIM:#}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: &GetEvidenceResponse) -> String {
        let mut out = Vec::new();
        write(&mut anstream::StripStream::new(&mut out), "dlv_x", answer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_attempt_is_shown_as_it_went_out() {
        let header =
            |name: &str, value: &str, masked| HttpHeader { name: name.into(), value: value.into(), masked };
        let evidence = AttemptEvidence {
            number: 2,
            method: "POST".into(),
            url: "http://h/webhooks/v".into(),
            request_headers: vec![header("Host", "h", false), header("X-Hub-Signature-256", "", true)],
            request_body: "{\"a\":1}\u{1b}[2J".into(),
            request_body_bytes: 8,
            status: Some(500),
            answer_body: "boom".into(),
            answer_body_bytes: 9000,
            answer_body_cut: true,
            failure: "the answer is not complete: reset".into(),
            ..AttemptEvidence::default()
        };
        let said =
            shown(&GetEvidenceResponse { attempts: vec![evidence], missing: vec![1], incomplete: false });
        for part in [
            "dlv_x\n\nattempt 2  ",
            "\nPOST http://h/webhooks/v\nHost: h\nX-Hub-Signature-256: (masked)\n\n{\"a\":1}\\u{1b}[2J\n",
            "\nanswer 500\n\nboom\nits end is left out: it has 9000 bytes\n",
            "\nthe answer is not complete: reset\n",
            "no evidence of attempt 1: ",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let left_out = AttemptEvidence { number: 7, left_out: true, ..AttemptEvidence::default() };
        let said = shown(&GetEvidenceResponse { attempts: vec![left_out], ..GetEvidenceResponse::default() });
        assert!(said.contains("--attempt 7 shows it"), "{said}");
        assert!(shown(&GetEvidenceResponse::default()).contains("no attempt has ended"));
    }
}
