//! Fuzz targets: what must hold whatever bytes come, as plain functions.
//!
//! The same functions run under libFuzzer (`libfuzzer/`, by `cargo xtask fuzz`), which looks for inputs that break
//! them, and over the kept inputs of `corpus/` and `regressions/` in an ordinary test on the stable compiler.
//!
//! A target panics when something does not hold; else it returns. It reads no clock that matters and no random source:
//! an input that fails once fails always.
#![forbid(unsafe_code)]

mod deflate;
mod frames;
mod frames_json;
mod frames_protobuf;
mod handshake_head;
mod quic;
mod seeds;
mod session_commands;
mod tls_session;
mod tungstenite_differential;
mod ws;
mod ws_stream;

pub use seeds::seeds;

/// One thing to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Names its folders and its program.
    pub name: &'static str,
    /// Tries one input; panics if something does not hold.
    pub run: fn(&[u8]),
}

/// Every target. Each has a one-line program of the same name in `libfuzzer/fuzz_targets`, and a corpus.
pub const TARGETS: &[Target] = &[
    Target { name: "ws_stream", run: ws_stream::run },
    Target { name: "deflate", run: deflate::run },
    Target { name: "handshake_head", run: handshake_head::run },
    Target { name: "frames_json", run: frames_json::run },
    Target { name: "frames_protobuf", run: frames_protobuf::run },
    Target { name: "session_commands", run: session_commands::run },
    Target { name: "tls_session", run: tls_session::run },
    Target { name: "quic", run: quic::run },
    Target { name: "tungstenite_differential", run: tungstenite_differential::run },
];

/// Tries `input` on the target called `name`.
///
/// # Panics
/// If something does not hold, or no target has that name.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target is called {name}")).run)(input);
}
