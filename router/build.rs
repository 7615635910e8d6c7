//! Compiles the schema of the bus with protox, so that building needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schema = "proto/bus.proto";
    println!("cargo::rerun-if-changed={schema}");
    println!("cargo::rerun-if-changed=../wire/proto/roost.proto");
    let descriptors = protox::compile([schema], ["proto", "../wire/proto"])?;
    let mut config = prost_build::Config::new();
    // What is shared with the protocol of clients exists once.
    config.extern_path(".roost.v1", "::roost_wire::pb");
    // Parcels and frames stay parts of the message they came in, uncopied.
    config.bytes(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}
