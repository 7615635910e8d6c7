//! Compiles the schemas with protox, so that building needs no `protoc`. What they take from the protocol of clients is
//! that of `roost_wire`.

use std::path::Path;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let includes = ["proto", "../wire/proto"];
    for schema in ["proto/link.proto", "proto/api.proto", "../wire/proto/roost.proto"] {
        println!("cargo::rerun-if-changed={schema}");
    }
    let api = protox::compile(["proto/api.proto"], includes)?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("api.bin"), api.encode_to_vec())?;
    let link = protox::compile(["proto/link.proto"], includes)?;
    for descriptors in [api, link] {
        tonic_prost_build::configure()
            .extern_path(".roost.v1", "::roost_wire::pb")
            .bytes(".roost.link.v1.Deliver.frame")
            .compile_fds(descriptors)?;
    }
    Ok(())
}
