//! Finds the tests that this machine can run. `cargo test` lists the others as ignored, with the reason.
//!
//! Looked up once: after installing something, `touch tests/build.rs`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(has_faketime, has_mount_namespaces)");
    let libraries = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|target| format!("/usr/lib/{target}/faketime/libfaketimeMT.so.1"));
    if let Some(library) = libraries.iter().find(|library| Path::new(library).exists()) {
        println!("cargo::rustc-cfg=has_faketime");
        println!("cargo::rustc-env=LIBFAKETIME={library}");
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "true"]).stderr(Stdio::null());
    if unshare.status().is_ok_and(|status| status.success()) {
        println!("cargo::rustc-cfg=has_mount_namespaces");
    }
}
