//! Files on the command line, and the configuration where none is named.

use clap::builder::{PathBufValueParser, TypedValueParser, ValueParser};
use std::{
    env,
    path::{Path, PathBuf},
};
use talaria_core::config::expand_home;

/// A path, in which `~` is the home, too where no shell has made it so: behind a `=`, and in variables.
pub(super) fn path() -> ValueParser {
    ValueParser::new(PathBufValueParser::new().map(expand_home::<PathBuf>))
}

/// Where the configuration is where none is named: here, of this user, or of this machine, the first that is there. Here, where
/// there is none.
pub(super) fn configuration() -> PathBuf {
    let here = PathBuf::from("./talaria.yaml");
    let of_the_user = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let of_the_user = of_the_user.or_else(|| Some(env::home_dir()?.join(".config")));
    let of_the_user = of_the_user.map(|directory| directory.join("talaria/talaria.yaml"));
    let of_the_machine = PathBuf::from("/etc/talaria/talaria.yaml");
    first_that_is_there([Some(here.clone()), of_the_user, Some(of_the_machine)].into_iter().flatten())
        .unwrap_or(here)
}

/// One that may not be looked at counts as there: that it cannot be read has to be told.
fn first_that_is_there(mut places: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    places.find(|path| Path::try_exists(path).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_configuration_that_is_there_is_meant() {
        let directory = tempfile::tempdir().unwrap();
        let places = ["a/talaria.yaml", "b/talaria.yaml"].map(|place| directory.path().join(place));
        assert_eq!(first_that_is_there(places.clone().into_iter()), None);
        for place in places.iter().rev() {
            fs::create_dir(place.parent().unwrap()).unwrap();
            fs::write(place, "").unwrap();
            assert_eq!(first_that_is_there(places.clone().into_iter()).as_ref(), Some(place));
        }
    }
}
