//! Compiles the contracts with protox, so that a build needs no protoc.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 11] = [
    "talaria/v1/event.proto",
    "talaria/v1/delivery.proto",
    "talaria/v1/action.proto",
    "talaria/v1/openrouter.proto",
    "talaria/v1/job.proto",
    "talaria/v1/journal.proto",
    "talaria/v1/relay.proto",
    "talaria/v1/ingress.proto",
    "talaria/v1/status.proto",
    "talaria/v1/control.proto",
    "talaria/v1/cluster.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Names let a message be looked up in the descriptors, for its JSON; Bytes share payloads instead of copying. A map in order
    // always has the same encoding.
    let mut prost = tonic_prost_build::Config::new();
    prost.enable_type_names().bytes(["."]).btree_map([".talaria.v1.SeriesCounts"]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, prost)?;
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
