//! The `roost` binary: see [`roost_server::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    roost_server::cli::main_with(std::env::args_os())
}
