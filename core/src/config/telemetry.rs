//! Where traces go.

use super::{
    Role,
    outbound::{self, Header},
    path::below,
    problem::{Fault, Problems},
    raw,
    value::share,
};
use crate::files;
use std::path::Path;
use url::Url;

/// Every trace.
const DEFAULT_SAMPLE: f64 = 1.0;

/// A collector of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Its address, `http://` or `https://`, for OTLP over gRPC.
    pub otlp: Url,
    /// Which share of the traces goes there, from 0 to 1. Ingress decides it for each trace, and the others follow.
    pub sample: f64,
    /// What is sent along.
    pub headers: Vec<Header>,
    /// Whom we trust beside the system's own authorities, in PEM.
    pub ca: Option<Vec<u8>>,
}

pub(super) fn compile(
    p: &mut Problems,
    warnings: &mut Problems,
    raw: &raw::Telemetry,
    base: &Path,
) -> Option<Telemetry> {
    let otlp = p.or(Some(&raw.otlp), None, |text| collector(text).map(Some));
    let mut unread = Problems::default();
    let mut headers = outbound::headers(p, &mut unread, warnings, &raw.headers, base, Role::Both);
    p.0.append(&mut unread.0);
    // gRPC knows names in lower case alone.
    for header in &mut headers {
        header.name.make_ascii_lowercase();
    }
    let ca = p.or(raw.ca.as_ref(), None, |path| {
        let path = below(base, path);
        files::read(&path).map(Some).map_err(|error| {
            let help =
                "name a file in PEM that this user may read; relative paths start at the configuration";
            (format!("cannot read {}: {error}", path.display()), help.to_owned())
        })
    });
    let sample = p.or(raw.sample.as_ref(), DEFAULT_SAMPLE, |text| share(text));
    let otlp = otlp?;
    if let Some(written) = raw.ca.as_ref().filter(|_| otlp.scheme() == "http") {
        p.add(written, "telemetry.ca is of no use over http://", "write https:// in otlp, or leave ca out");
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
