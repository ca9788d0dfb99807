//! The fields of a request, in its URL or in its body.

use crate::fault::Fault;
use http::Uri;
use std::borrow::Cow;
use url::form_urlencoded;

/// The most fields that are read: the rows of a page, each selected, and those of the form.
const MOST: usize = 300;

/// Fields in their order. A field without a value is as good as missing.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn of_query(uri: &Uri) -> Self {
        Self::of_body(uri.query().unwrap_or_default().as_bytes())
    }

    pub(super) fn of_body(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body).filter(|(_, value)| !value.trim().is_empty());
        Self(pairs.take(MOST).map(|(name, value)| (name.into_owned(), value.trim().to_owned())).collect())
    }

    /// The first value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value, or nothing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A field that the form always has.
    pub(super) fn needed(&self, name: &str) -> Result<&str, Fault> {
        self.get(name).ok_or_else(|| Fault::invalid(format!("the form needs the field {name}")))
    }

    /// The fields of these names, for the URL of the same list.
    pub(super) fn kept(&self, names: &[&str]) -> Vec<(&str, &str)> {
        let pairs = self.0.iter().filter(|(name, _)| names.contains(&name.as_str()));
        pairs.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// The page to go back to. Only one of ours.
    pub(super) fn back(&self) -> Cow<'_, str> {
        let back = self.text("back");
        let is_ours = back.starts_with('/')
            && !back.starts_with("//")
            && back.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        if is_ours && !back.starts_with("/log") { without_note(back) } else { "/".into() }
    }
}

/// A page of ours without the note that it was shown with.
fn without_note(path: &str) -> Cow<'_, str> {
    let Some((path, query)) = path.split_once('?') else { return path.into() };
    let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("note=")).collect();
    if rest.is_empty() { path.into() } else { format!("{path}?{}", rest.join("&")).into() }
}

/// A path with fields.
pub(super) fn url(path: &str, fields: &[(&str, &str)]) -> String {
    if fields.is_empty() {
        return path.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    format!("{path}?{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_to_pages_of_ours_alone() {
        for (back, expected) in [
            ("/deliveries?state=parked&note=x", "/deliveries?state=parked"),
            ("/routes?note=x", "/routes"),
            ("/login?back=%2Fx", "/"),
            ("//evil.example/", "/"),
            ("https://evil.example/", "/"),
            ("/\\evil.example", "/"),
            ("/a\r\nset-cookie: x", "/"),
            ("javascript:alert(1)", "/"),
            ("", "/"),
        ] {
            let body = url("", &[("back", back)]);
            assert_eq!(Fields::of_body(&body.as_bytes()[1..]).back(), expected, "{back:?}");
        }
    }

    #[test]
    fn empty_fields_are_missing() {
        let fields = Fields::of_body(b"a=&b=+x+&c=1&c=2&d=%20");
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("d")), (None, Some("x"), None));
        assert_eq!(fields.all("c").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(url("/x", &fields.kept(&["c"])), "/x?c=1&c=2");
        assert!(fields.needed("a").unwrap_err().message.contains("field a"));
    }
}
