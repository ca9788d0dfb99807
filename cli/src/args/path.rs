//! Paths on the command line, and the default path of the configuration.

use clap::builder::{PathBufValueParser, TypedValueParser, ValueParser};
use std::{
    env,
    path::{Path, PathBuf},
};
use talaria_core::config::expand_home;

/// A path in which `~` is the home. A shell does not expand it behind a `=`, nor in variables.
pub(super) fn path() -> ValueParser {
    ValueParser::new(PathBufValueParser::new().map(expand_home::<PathBuf>))
}

/// The first configuration that exists: in this directory, of this user, of this machine. Without one, that in this directory.
pub(super) fn configuration() -> PathBuf {
    let here = PathBuf::from("./talaria.yaml");
    let of_the_user = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let of_the_user = of_the_user.or_else(|| Some(env::home_dir()?.join(".config")));
    let of_the_user = of_the_user.map(|directory| directory.join("talaria/talaria.yaml"));
    let of_the_machine = PathBuf::from("/etc/talaria/talaria.yaml");
    first_existing([Some(here.clone()), of_the_user, Some(of_the_machine)].into_iter().flatten())
        .unwrap_or(here)
}

/// A path that cannot be checked counts as existing, so that the error is reported.
fn first_existing(mut paths: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    paths.find(|path| Path::try_exists(path).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_existing_configuration_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a/talaria.yaml", "b/talaria.yaml"].map(|path| directory.path().join(path));
        assert_eq!(first_existing(paths.clone().into_iter()), None);
        for path in paths.iter().rev() {
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
            assert_eq!(first_existing(paths.clone().into_iter()).as_ref(), Some(path));
        }
    }
}
