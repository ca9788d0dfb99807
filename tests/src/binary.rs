//! The real `talaria`, built if necessary.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

/// The binary of the profile that these tests were built with, or the one that TALARIA_BINARY names.
///
/// A debug binary has the features of `cargo test --workspace`, so that no dependency is compiled twice. A release binary is built
/// as by `make build`, because it is measured.
pub fn talaria() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = env::var_os("TALARIA_BINARY") {
            return binary.into();
        }
        // The test binary is in target/<profile>/deps.
        let test = env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--bin", "talaria"]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(workspace());
        if profile.ends_with("release") {
            cargo.args(["--release", "--package", "talaria"]);
        } else {
            // Cargo enables the features of tests only if it builds a test.
            cargo.args(["--workspace", "--test", "e2e"]);
        }
        // These variables of `cargo test` would rerun build scripts.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_")
                || name == "CARGO_MANIFEST_DIR"
                || name == "OUT_DIR"
            {
                cargo.env_remove(name);
            }
        }
        assert!(cargo.status().unwrap().success(), "the binary could not be built");
        profile.join("talaria")
    })
}

/// The top of the project.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Runs a command to its end in a directory.
pub fn run(directory: &Path, args: &[&str]) -> Output {
    command(directory, args).output().unwrap()
}

/// Runs a command to its end with these variables.
pub fn run_with(directory: &Path, environment: &[(&str, &str)], args: &[&str]) -> Output {
    command(directory, args).envs(environment.iter().copied()).output().unwrap()
}

/// Runs a command to its end with this on its standard input.
pub fn run_with_input(directory: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = command(directory, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // From another thread: the input may be larger than the pipe's buffer.
    let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, &input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// A command in a directory, without the variables that it reads.
pub fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(talaria());
    command.args(args).current_dir(directory).env_remove("RUST_LOG");
    for name in ["CONFIG", "RELAY", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY"] {
        command.env_remove(format!("TALARIA_{name}"));
    }
    command.env("HERMES_HOME", directory.join(".hermes")).env("XDG_CONFIG_HOME", directory.join(".config"));
    command
}
