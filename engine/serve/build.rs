//! Compiles the wire contracts in `proto/` with protox, so that no protoc is needed, and keeps their
//! descriptors for gRPC reflection. It touches nothing outside `OUT_DIR`.

use std::{env, error::Error, fs, path::Path};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile(["tidewatch/v1/tidewatch.proto", "prometheus/remote_read.proto"], [root])?;
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through Cargo")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Maps become ordered maps: the columns made of an event must not depend on a hash seed.
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".tidewatch.v1.QueryResponse")
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
