//! The style sheet, the script and the icon, which are in the binary.

use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::LazyLock,
};
use tonic::body::Body;

struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        path: "/assets/console.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("../../assets/console.css"),
    },
    Asset {
        path: "/assets/console.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/console.js"),
    },
    Asset {
        path: "/assets/icon.svg",
        content_type: "image/svg+xml",
        text: include_str!("../../assets/icon.svg"),
    },
];

/// Changes with the assets, so that browsers may keep them for good.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    for asset in ASSETS {
        asset.text.hash(&mut hasher);
    }
    format!("{:x}", hasher.finish())
});

/// The answer to a request for one of them. They are shown to everybody, as the page for the log-in needs them.
pub(super) fn answer(head: &Parts) -> Option<Response<Body>> {
    let asset = ASSETS.into_iter().find(|asset| asset.path == head.uri.path())?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(refused);
    }
    let mut answer = Response::new(Body::new(Full::new(asset.text.into())));
    crate::fault::guard(&mut answer, asset.content_type);
    let lasting = head.uri.query().is_some_and(|query| query == *VERSION);
    let cache = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    Some(answer)
}
