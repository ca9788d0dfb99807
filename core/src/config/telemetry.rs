//! The collector of traces.

use super::{
    compile::Compiler,
    outbound::{self, Header},
    path::below,
    pem,
    problem::{Fault, Problems},
    raw,
    value::percent,
};
use url::Url;

/// Every trace.
const DEFAULT_SAMPLE: f64 = 1.0;

/// A collector of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Its address, `http://` or `https://`, for OTLP over gRPC.
    pub otlp: Url,
    /// The share of traces that are collected, from 0 to 1. The ingress decides it for each trace, and the others follow.
    pub sample: f64,
    /// Headers of each request.
    pub headers: Vec<Header>,
    /// Further trusted authorities, in PEM.
    pub ca: Option<Vec<u8>>,
}

pub(super) fn compile(c: &mut Compiler<'_>, raw: &raw::Telemetry) -> Option<Telemetry> {
    let otlp = c.problems.or(Some(&raw.otlp), None, |text| collector(text).map(Some));
    let mut unread = Problems::default();
    let mut headers = outbound::headers(c, &mut unread, &raw.headers, true);
    c.problems.0.append(&mut unread.0);
    // gRPC has names in lower case alone.
    for header in &mut headers {
        header.name.make_ascii_lowercase();
    }
    let ca = c.problems.or(raw.ca.as_ref(), None, |path| pem::read(&below(c.base, path)).map(Some));
    let sample = c.problems.or(raw.sample.as_ref(), DEFAULT_SAMPLE, |text| percent(text, 100));
    let otlp = otlp?;
    if let Some(written) = raw.ca.as_ref().filter(|_| otlp.scheme() == "http") {
        let help = "write https:// in otlp, or leave ca out";
        c.problems.add(written, "telemetry.ca is of no use over http://", help);
    }
    Some(Telemetry { otlp, sample, headers, ca })
}

fn collector(text: &str) -> Result<Url, Fault> {
    let help = || "write a URL such as http://127.0.0.1:4317, where OTLP over gRPC is taken".to_owned();
    let url = Url::parse(text).map_err(|error| (format!("not a URL: {error}"), help()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err((
            "the collector's URL must begin with http:// or https:// and name a host".into(),
            help(),
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let help = "write headers: {authorization: {file: PATH}}";
        return Err(("the collector's URL must not hold a user name or password".into(), help.into()));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        let what = "the collector's URL ends with the host and the port";
        return Err((what.into(), "OTLP over gRPC has no path; /v1/traces is OTLP over HTTP".into()));
    }
    Ok(url)
}
