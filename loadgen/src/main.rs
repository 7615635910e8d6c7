//! The `roost-load` binary: see [`roost_loadgen::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    roost_loadgen::cli::main_with(std::env::args_os())
}
