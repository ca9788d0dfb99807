use super::*;
use crate::contracts::method;
use http::Request;

const SUMMARY: &str = "/talaria.v1.StatusService/GetSummary";
const WATCH: &str = "/talaria.v1.StatusService/WatchDeliveries";
const PAUSE: &str = "/talaria.v1.ControlService/Pause";

fn asked(verb: &str, path: &str, headers: &[(&str, &str)]) -> Result<Asked, Fault> {
    let mut request = Request::builder().method(verb).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    read(&method(head.uri.path()).unwrap(), &head)
}

fn status(verb: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    asked(verb, path, headers).unwrap_err().status().as_u16()
}

const AS_JSON: (&str, &str) = ("content-type", "application/json");
const ENVELOPED: (&str, &str) = ("content-type", "application/connect+json");
const EVENTS: (&str, &str) = ("accept", "text/event-stream");

#[test]
fn the_form_follows_from_the_method_and_the_content_type() {
    let form = |path: &str, headers: &[(&str, &str)]| asked("POST", path, headers).map(|asked| asked.form);
    assert_eq!(form(SUMMARY, &[AS_JSON]), Ok(Form::Unary));
    assert_eq!(form(SUMMARY, &[("content-type", "Application/JSON; charset=\"UTF-8\"")]), Ok(Form::Unary));
    assert_eq!(form(SUMMARY, &[AS_JSON, EVENTS]), Ok(Form::Unary), "it has one message");
    assert_eq!(form(WATCH, &[ENVELOPED]), Ok(Form::Enveloped));
    assert_eq!(form(WATCH, &[AS_JSON, EVENTS]), Ok(Form::Events));
    assert_eq!(form(WATCH, &[AS_JSON, ("accept", "text/html, text/event-stream;q=0.5")]), Ok(Form::Events));
    for (path, headers) in [
        (SUMMARY, &[][..]),
        (SUMMARY, &[ENVELOPED]),
        (SUMMARY, &[("content-type", "application/proto")]),
        (SUMMARY, &[("content-type", "text/plain")]),
        (SUMMARY, &[("content-type", "application/json; charset=latin1")]),
        (WATCH, &[AS_JSON]),
        (WATCH, &[AS_JSON, ("accept", "*/*")]),
    ] {
        assert_eq!(status("POST", path, headers), 415, "{path} {headers:?}");
    }
}

#[test]
fn versions_encodings_and_timeouts_that_are_unknown_are_refused() {
    let code =
        |path: &str, headers: &[(&str, &str)]| asked("POST", path, headers).map_err(|fault| fault.code);
    assert!(code(SUMMARY, &[AS_JSON, ("connect-protocol-version", "1")]).is_ok());
    assert_eq!(code(SUMMARY, &[AS_JSON, ("connect-protocol-version", "2")]), Err(Code::InvalidArgument));
    assert!(code(SUMMARY, &[AS_JSON, ("content-encoding", "identity")]).is_ok());
    assert_eq!(code(SUMMARY, &[AS_JSON, ("content-encoding", "gzip")]), Err(Code::Unimplemented));
    assert_eq!(code(WATCH, &[ENVELOPED, ("connect-content-encoding", "gzip")]), Err(Code::Unimplemented));
    for (written, expected) in [
        ("1", Ok(Some(Duration::from_millis(1)))),
        ("9999999999", Ok(Some(Duration::from_millis(9_999_999_999)))),
        ("", Err(Code::InvalidArgument)),
        ("-1", Err(Code::InvalidArgument)),
        ("+1", Err(Code::InvalidArgument)),
        ("1.5", Err(Code::InvalidArgument)),
        ("12345678901", Err(Code::InvalidArgument)),
    ] {
        let timeout = code(SUMMARY, &[AS_JSON, ("connect-timeout-ms", written)]).map(|asked| asked.timeout);
        assert_eq!(timeout, expected, "{written}");
    }
}

#[test]
fn only_methods_without_side_effects_are_asked_by_get() {
    let got = |path: &str, query: &str| asked("GET", &format!("{path}?{query}"), &[]);
    let message = |query: &str| match got(SUMMARY, query).unwrap().message {
        Message::Query(message) => String::from_utf8(message.to_vec()).unwrap(),
        Message::Body => panic!("{query}"),
    };
    assert_eq!(message(""), "{}");
    assert_eq!(
        message("encoding=json&connect=v1&message=%7B%22tenant%22%3A%22a+b%22%7D"),
        r#"{"tenant":"a b"}"#
    );
    assert_eq!(message("base64=1&message=e30"), "{}");
    assert_eq!(message("base64=1&message=e30%3D&_=7"), "{}");
    assert_eq!(got(SUMMARY, "").unwrap().form, Form::Unary);
    assert_eq!(got(WATCH, "").unwrap().form, Form::Events);
    for (query, code) in [
        ("encoding=proto", Code::Unimplemented),
        ("connect=v2", Code::InvalidArgument),
        ("compression=gzip", Code::Unimplemented),
        ("base64=1&message=%25", Code::InvalidArgument),
    ] {
        assert_eq!(got(SUMMARY, query).unwrap_err().code, code, "{query}");
    }
    for (verb, path) in
        [("GET", PAUSE), ("PUT", PAUSE), ("OPTIONS", SUMMARY), ("HEAD", SUMMARY), ("DELETE", SUMMARY)]
    {
        assert_eq!(status(verb, path, &[]), 405, "{verb} {path}");
    }
}
