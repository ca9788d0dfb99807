//! Adds the commit and the pages about errors to the binary.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The commit for a build without git, such as that of the image.
const COMMIT: &str = "TALARIA_COMMIT";

fn main() -> io::Result<()> {
    let crate_directory = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let project = crate_directory.parent().unwrap_or(&crate_directory).to_owned();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let version = variable("CARGO_PKG_VERSION");
    let given = env::var(COMMIT).ok().filter(|commit| !matches!(commit.as_str(), "" | "unknown"));
    if let Some(commit) = given.or_else(|| of_git(&project)) {
        let short: String = commit.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        println!("cargo::rustc-env=TALARIA_BUILT_FROM={version} ({short})");
    }
    errors(&project.join("docs/errors"))
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// The commit of the project's own repository, if it is in one.
fn of_git(project: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(project).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let top = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if top != fs::canonicalize(project).ok()? {
        return None;
    }
    // The log of HEAD grows with each commit and checkout. A missing file would rerun this at each build.
    for name in ["HEAD", "logs/HEAD"] {
        let file = project.join(git(&["rev-parse", "--git-path", name])?);
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    git(&["rev-parse", "HEAD"])
}

/// Writes the list of pages, by name.
fn errors(directory: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut pages = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "md") && name != "README" {
            pages.push((name, path));
        }
    }
    pages.sort();
    let entry = |(name, path): &(String, PathBuf)| {
        format!("({name:?}, include_str!({:?})),\n", path.display().to_string())
    };
    let list: String = pages.iter().map(entry).collect();
    fs::write(Path::new(&variable("OUT_DIR")).join("errors.rs"), format!("&[{list}]"))
}
