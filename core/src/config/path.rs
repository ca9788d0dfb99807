//! Written paths: `~` is the home of the user that runs this, and relative paths start at the configuration's directory.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The path with the home in place of a leading `~`. Unchanged if there is no home.
pub fn expand_home<P: AsRef<Path>>(written: P) -> PathBuf {
    let written = written.as_ref();
    match (written.strip_prefix("~"), env::home_dir()) {
        // Not `join`, which would leave a slash behind the home alone.
        (Ok(rest), Some(home)) => home.components().chain(rest.components()).collect(),
        _ => written.to_owned(),
    }
}

/// A written path, resolved against the configuration's directory.
pub(super) fn below(base: &Path, written: impl AsRef<Path>) -> PathBuf {
    base.join(expand_home(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_alone_in_front_is_the_home() {
        let home = env::home_dir().unwrap();
        let base = Path::new("/etc/talaria");
        for (written, expected) in [
            ("~", home.clone()),
            ("~/", home.clone()),
            ("~/secrets/a", home.join("secrets/a")),
            ("secrets/a", base.join("secrets/a")),
            ("./~/a", base.join("./~/a")),
            ("~bob/a", base.join("~bob/a")),
            ("/var/a", PathBuf::from("/var/a")),
        ] {
            assert_eq!(below(base, written), expected, "{written}");
        }
    }
}
