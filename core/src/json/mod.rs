//! JSON as Python reads and writes it.
//!
//! Hermes is written in Python, and handles payloads with `json.loads`, `str()` and `json.dumps`. A prompt that we render must
//! be the prompt that Hermes would have rendered, so payloads are read here by Python's rules and not by a JSON crate's:
//! integers are exact at any size, floats print as Python's `repr`, a repeated key keeps its first position and gets its last
//! value, `NaN` and `Infinity` are numbers, and a string may have a lone surrogate. The rules are those of CPython 3.11's `json`
//! module, and are tested against it.
//!
//! - [`text`]: strings, which are sequences of code points and need not be valid UTF-8.
//! - [`value`]: values, and Python's `==` between them.
//! - [`parse`]: bytes to a [`Document`].
//! - [`print`]: `json.dumps` and `str()`.

pub mod parse;
pub mod print;
pub mod text;
pub mod value;

pub use parse::{Document, ParseError, parse};
pub use text::Text;
pub use value::{Integer, Object, Value};

/// The deepest nesting of a payload that Hermes can read and render.
///
/// Hermes 0.19.0 on CPython 3.11 reads 984 levels and renders 981; one more is a `RecursionError` and a 500.
/// Values below this depth are checked but not kept.
pub const MAX_DEPTH: usize = 980;

/// The most digits of an integer that Hermes can read: CPython's `sys.int_info.default_max_str_digits`.
pub const MAX_INTEGER_DIGITS: usize = 4300;
