//! The arguments that `talaria submit` and `talaria track` have in common: who asks, and where the result goes.

use crate::Failure;
use clap::Args;
use std::collections::HashMap;

/// Characters of a context's key, and bytes of its value.
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 1024;

/// Whose job it is, and where its result goes.
#[derive(Args, Debug)]
pub struct OfJob {
    /// A value for templates, {talaria.job.context.KEY}; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub context: Vec<(String, String)>,
    /// The only route that gets the result, as ROUTE or TENANT/ROUTE; every route that takes it where it is left out
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// The tenant; needed where the configuration has more than one
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Your name; the user name where it is left out
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
}

impl OfJob {
    /// The values for templates. A key that is given twice is a slip.
    pub(crate) fn values(&self) -> Result<HashMap<String, String>, Failure> {
        let mut values = HashMap::new();
        for (key, value) in &self.context {
            if values.insert(key.clone(), value.clone()).is_some() {
                return Err(Failure::Usage(format!("--context {key} is given twice")));
            }
        }
        Ok(values)
    }
}

/// KEY=VALUE.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as chat_id=-100123")?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if key.is_empty() || key.len() > LONGEST_KEY || !key.bytes().all(is_word) {
        return Err(format!("a key has 1 to {LONGEST_KEY} characters of a-z, A-Z, 0-9 and _"));
    }
    if value.len() > LONGEST_VALUE {
        return Err(format!("a value has at most {LONGEST_VALUE} bytes"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_a_key_and_a_value() {
        let read = |text: &str| pair(text).ok();
        let both = |key: &str, value: &str| Some((key.to_owned(), value.to_owned()));
        assert_eq!(read("chat_id=-100123"), both("chat_id", "-100123"));
        assert_eq!(read("a=b=c"), both("a", "b=c"));
        assert_eq!(read("a="), both("a", ""));
        let long = "k".repeat(65);
        for wrong in
            ["", "a", "=b", "a b=c", "a.b=c", "é=c", &format!("{long}=v"), &format!("k={}", "v".repeat(1025))]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_context_has_each_key_once() {
        let of = |pairs: &[(&str, &str)]| {
            let context = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            OfJob { context, route: None, tenant: None, name: None }.values()
        };
        assert_eq!(of(&[("a", "1"), ("b", "2")]).unwrap().len(), 2);
        assert!(of(&[("a", "1"), ("a", "2")]).unwrap_err().to_string().contains("twice"));
    }
}
