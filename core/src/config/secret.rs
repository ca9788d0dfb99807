//! Secrets, which the file names and never has.

use super::{
    Problem,
    compile::Compiler,
    path::below,
    problem::{Fault, Problems},
};
use crate::{files, invisible};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_saphyr::Spanned;
use std::{env, fmt, fs, io, path::Path, path::PathBuf};

/// The origin of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In an environment variable.
    Env(String),
    /// In a file; line breaks at its end are not part of the secret.
    File(PathBuf),
}

impl Origin {
    /// The same, with a relative path resolved against `base`.
    pub(super) fn below(&self, base: &Path) -> Self {
        match self {
            Self::Env(name) => Self::Env(name.clone()),
            Self::File(path) => Self::File(below(base, path)),
        }
    }

    /// Reads a secret of one line.
    pub fn read(&self) -> Result<SecretString, Fault> {
        let text = self.text()?;
        if text.contains(char::is_control) {
            let what = format!("the secret in {self} has a line break or another control character in it");
            return Err((what, "a secret is one line of printable characters".into()));
        }
        if let Some(found) = invisible::find(&text) {
            let location = match (found.start, found.end) {
                (0, _) => "at its beginning",
                (_, end) if end == text.len() => "at its end",
                _ => "in it",
            };
            let code = text.get(found).and_then(|found| found.chars().next()).map_or(0, u32::from);
            let what =
                format!("the secret in {self} has a character {location} that is invisible, U+{code:04X}");
            let help = "such a character comes along when a secret is copied from a page or a chat: write the secret again without it";
            return Err((what, help.into()));
        }
        Ok(text.into())
    }

    /// The text of the variable or the file, without a byte order mark; never empty.
    pub(super) fn text(&self) -> Result<String, Fault> {
        let (text, empty) = match self {
            Self::Env(name) => match env::var(name) {
                Ok(text) => {
                    (without_mark(&text).to_owned(), format!("the environment variable {name} is empty"))
                }
                Err(env::VarError::NotPresent) => {
                    let what = format!("the environment variable {name} is not set");
                    return Err((what, format!("set {name} before starting, or name a file with file:")));
                }
                Err(env::VarError::NotUnicode(_)) => {
                    let what = format!("the environment variable {name} is not UTF-8");
                    return Err((what, "use a secret of printable characters".into()));
                }
            },
            Self::File(path) => match read_text(path) {
                Ok(text) => {
                    let text = without_mark(&text).trim_end_matches(['\n', '\r']);
                    (text.to_owned(), format!("{} is empty", path.display()))
                }
                Err(error) => {
                    let what = format!("cannot read the secret in {}: {error}", path.display());
                    let help = match error.kind() {
                        io::ErrorKind::NotFound => {
                            "write the secret into that file, readable by this user alone; `talaria secrets` writes \
                             signing secrets that are missing"
                        }
                        io::ErrorKind::PermissionDenied => {
                            "let the user that this runs as read it, and nobody else"
                        }
                        _ => "write the secret into that file, readable by this user alone",
                    };
                    return Err((what, help.into()));
                }
            },
        };
        if text.trim().is_empty() {
            return Err((empty, "an empty secret signs nothing".into()));
        }
        Ok(text)
    }

    /// Whether it is a file that every user of the machine can read.
    #[cfg(unix)]
    fn is_open_to_others(&self) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        match self {
            Self::File(path) => fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0),
            Self::Env(_) => false,
        }
    }

    #[cfg(not(unix))]
    fn is_open_to_others(&self) -> bool {
        false
    }
}

/// Removes the byte order mark that editors on Windows write, and which no signature covers.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = files::read(path)?;
    let is_utf16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    String::from_utf8(bytes).map_err(|_| {
        let why = if is_utf16 { "it is UTF-16: save it as UTF-8" } else { "it is not UTF-8" };
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

/// Warns of a secret with characters at an end that were probably copied with it. They may be a part of it.
pub(super) fn warn_if_odd<T>(warnings: &mut Problems, written: &Spanned<T>, found: &Origin, secret: &str) {
    let is_quote = |c: char| "\"'`\u{2018}\u{2019}\u{201c}\u{201d}\u{201e}\u{ab}\u{bb}".contains(c);
    let odd = if secret.starts_with(' ') || secret.ends_with(' ') {
        "white space at an end"
    } else if secret.starts_with(is_quote) || secret.ends_with(is_quote) {
        "a quote at an end"
    } else if secret.starts_with("v1,") {
        "v1, in front, which belongs to a signature"
    } else {
        return;
    };
    let what = format!("the secret in {found} has {odd}, and is taken with it");
    warnings.add(
        written,
        what,
        "if that is not part of it, write the secret alone: each character of it counts",
    );
}

/// Reads a secret of one line that the file names.
pub(super) fn read(c: &mut Compiler<'_>, written: &Spanned<Origin>) -> Result<SecretString, Problem> {
    let origin = written.value.below(c.base);
    warn_if_open(&mut c.warnings, written, &origin);
    let secret = origin.read().map_err(|(what, help)| Problem::at(written.referenced, what, help))?;
    warn_if_odd(&mut c.warnings, written, &origin, secret.expose_secret());
    Ok(secret)
}

/// Warns of a file that every user of the machine can read.
pub(super) fn warn_if_open<T>(warnings: &mut Problems, written: &Spanned<T>, found: &Origin) {
    if found.is_open_to_others() {
        let what = format!("every user of this machine can read {found}");
        warnings.add(written, what, format!("chmod 600 {found}"));
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OriginVisitor)
    }
}

struct OriginVisitor;

pub(super) const SHAPE: &str = "a secret is named, not written: {env: NAME} or {file: PATH}";

/// Visitor methods that refuse scalars. The value may be a secret, so the error never repeats it.
macro_rules! written_instead {
    ($shape:expr; $($visit:ident $value:ty),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $value) -> Result<Self::Value, E> {
            Err(E::custom($shape))
        })*
    };
}
pub(super) use written_instead;

impl<'de> Visitor<'de> for OriginVisitor {
    type Value = Origin;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{env: NAME} or {file: PATH}")
    }

    written_instead!(SHAPE; visit_str &str, visit_bool bool, visit_f64 f64, visit_i64 i64, visit_u64 u64, visit_i128 i128, visit_u128 u128);

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Origin, A::Error> {
        let Some((key, value)) = members.next_entry::<String, String>()? else {
            return Err(A::Error::custom(SHAPE));
        };
        if members.next_key::<String>()?.is_some() || value.is_empty() {
            return Err(A::Error::custom(SHAPE));
        }
        match key.as_str() {
            "env" => Ok(Origin::Env(value)),
            "file" => Ok(Origin::File(value.into())),
            _ => Err(A::Error::custom(SHAPE)),
        }
    }
}
