//! Wall clocks that are wrong, as libfaketime makes them.

use std::path::Path;

/// Debian's library; where there is none, this says which package has it, and a test cannot show what it is for.
#[allow(clippy::print_stderr, reason = "a test that shows nothing has to say so")]
pub fn faketime() -> Option<String> {
    let libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let found = libraries
        .map(|directory| format!("{directory}/faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|library| Path::new(library).exists());
    if found.is_none() {
        eprintln!("skipped: this needs Debian's package libfaketime");
    }
    found
}
