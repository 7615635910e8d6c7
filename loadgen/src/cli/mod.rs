//! The command line of `roost-load`.

mod args;
mod capacity;
mod carrying;
mod compare;
#[cfg(target_os = "linux")]
mod mass;
#[cfg(target_os = "linux")]
mod mass_run;
mod own;
mod run;
mod scenario;
mod target;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::hostile::AS_ATTACKER;
use crate::server::AS_ROOST;

/// A fault of the generator itself.
const EXIT_FAILURE: u8 = 1;
/// The server could not be reached.
const EXIT_UNREACHABLE: u8 = 3;

/// Runs the command line `args` (the program's name first) and returns its exit code.
pub fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|first| first == AS_ROOST) {
        args.remove(1);
        die_with_parent();
        return roost_server::cli::main_with(args);
    }
    if args.get(1).is_some_and(|first| first == AS_ATTACKER) {
        args.remove(1);
        die_with_parent();
        return match crate::hostile::attack::main(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("roost-load: {error:#}");
                ExitCode::from(EXIT_FAILURE)
            }
        };
    }
    let code = match args::Cli::try_parse_from(&args) {
        Ok(cli) => match run::run(cli.command) {
            Ok(code) => code,
            Err(error) => explain(&error),
        },
        Err(error) => usage(&error),
    };
    ExitCode::from(code)
}

fn explain(error: &run::Failed) -> u8 {
    match error {
        run::Failed::Usage(error) => usage(error),
        run::Failed::Unreachable(why) => {
            eprintln!("roost-load: {why}");
            EXIT_UNREACHABLE
        }
        run::Failed::Other(error) => {
            eprintln!("roost-load: {error:#}");
            EXIT_FAILURE
        }
    }
}

fn usage(error: &clap::Error) -> u8 {
    // Printing fails only if there is nobody to read it.
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// A server of ours does not outlive a generator that was killed.
fn die_with_parent() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        // Where it is refused, the next run removes what is left.
        let _ = set_parent_process_death_signal(Some(Signal::TERM));
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::args::Cli::command().debug_assert();
    }
}
