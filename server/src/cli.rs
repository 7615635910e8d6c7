//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::{drain, publish, store, token};
use crate::config::{Config, ConfigError, Layer};
use crate::doctor::{self, DoctorArgs};
use crate::{chat, lifecycle, tls};

/// A wrong setting (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

#[derive(Parser)]
#[command(
    name = "roost",
    version,
    about = "Roost: a messaging edge. Holds sessions, routes messages, keeps every acknowledged one.",
    after_help = "Without a command, `roost` serves with its defaults.\n\n\
        EXAMPLES\n  \
        roost                                          serve on http://127.0.0.1:8080, data in ./roost-data\n  \
        roost serve --listen 0.0.0.0:80 --data /srv/roost\n  \
        roost chat --as Ada --to Bob                   chat in the terminal\n  \
        roost publish news \"Doors open at nine\"        publish to a channel, as a backend does\n  \
        roost token --user u_42 --name Ada --ttl 1h    a token for a user of yours\n  \
        roost doctor --for 1000000                     what stands in the way of a million sessions\n  \
        roost store check roost-data                   look through a data directory for damage\n  \
        roost check-config --config roost.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    #[command(after_help = "Every setting may also stand in the file, with _ for -, or in the environment.\n\n\
        EXAMPLES\n  \
        roost serve\n  \
        roost serve --listen 0.0.0.0:8080 --admin 127.0.0.1:9090 --data /srv/roost\n  \
        roost serve --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem\n  \
        roost serve --dev-tls                         https:// with a self-made certificate\n  \
        ROOST_LOG=debug roost serve --config /etc/roost.toml\n  \
        roost serve --node n1 --store cql://db1,db2,db3/roost --redis redis://cache:6379        one of several nodes\n  \
        roost serve --role router --grpc 0.0.0.0:7000 --store cql://db1/roost --redis redis://cache:6379\n  \
        roost serve --role edge --routers dns:routers:7000\n\n\
        SIGTERM or Ctrl-C drains: clients are asked to leave, then the server stops. A second one stops it at once.")]
    Serve(Box<ServeArgs>),
    /// Chat in the terminal
    Chat(chat::ChatArgs),
    /// Publish to a channel over HTTP, as a backend does
    Publish(publish::PublishArgs),
    /// Ask a node to let its clients go elsewhere, and to stop
    Drain(drain::DrainArgs),
    /// Make a token for a user or a service
    Token(token::TokenArgs),
    /// Check or repair a data directory, or make a keyspace that nodes share
    Store(store::StoreArgs),
    /// Say how many sessions this machine can hold, and what stands in the way
    #[command(
        after_help = "Limits, sysctls, io_uring, memory, cores, the clock and the disk are looked at. Each thing that stands \
        in the way is told with the lines that mend it.\n\n\
        EXIT CODES\n  \
        0  the sessions fit\n  \
        1  something stands in the way\n  \
        2  wrong usage\n\n\
        EXAMPLES\n  \
        roost doctor                                  a million, or what memory allows\n  \
        roost doctor --for 1000000 --data /srv/roost\n  \
        sudo roost doctor --for 1000000 --fix         mend what can be mended now\n  \
        roost doctor --for 1000000 --print > /etc/sysctl.d/90-roost.conf\n  \
        roost doctor --json | jq '.findings[] | select(.status != \"ok\")'"
    )]
    Doctor(DoctorArgs),
    /// Check settings without starting anything
    CheckConfig(Box<ServeArgs>),
    /// Print the completions for a shell
    #[command(after_help = "EXAMPLE\n  roost completions bash > /etc/bash_completion.d/roost")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Settings on the command line.
#[derive(Args, Default)]
struct ServeArgs {
    /// Settings file (TOML); flags and environment win over it
    #[arg(long, value_name = "FILE", env = "ROOST_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Layer,
    /// Where /proc and /sys are, for tests
    #[arg(long, value_name = "DIR", hide = true)]
    system_root: Option<PathBuf>,
}

impl ServeArgs {
    fn load(self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.settings, self.config.as_deref())?;
        config.system_root = self.system_root.unwrap_or(config.system_root);
        Ok(config)
    }
}

/// Runs the command line `args` (the program's name first) and returns its exit code: 0 well, 1 failed, 2 wrong
/// usage, 78 a wrong setting.
pub fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = match Cli::try_parse_from(&args) {
        Ok(Cli { command: Some(command) }) => command,
        // Parsed again as `serve`, so that the environment counts.
        Ok(Cli { command: None }) => match Cli::try_parse_from(["roost", "serve"]) {
            Ok(Cli { command: Some(command) }) => command,
            Ok(Cli { command: None }) => unreachable!("`serve` is a command"),
            Err(error) => return usage(&error),
        },
        Err(error) => return usage(&error),
    };
    let command = match command {
        // With exit codes of their own.
        Command::Store(args) => return store::run(args),
        Command::Doctor(args) => return doctor::run(&args),
        command => command,
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}` shows the chain of causes in one line.
            eprintln!("roost: {error:#}");
            if error.is::<ConfigError>() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // Printing fails only if there is nobody to read it.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => lifecycle::run(&args.load()?),
        Command::Chat(args) => lifecycle::client_runtime()?.block_on(chat::run(args)),
        Command::Publish(args) => lifecycle::client_runtime()?.block_on(publish::run(args)),
        Command::Drain(args) => lifecycle::client_runtime()?.block_on(drain::run(args)),
        Command::Token(args) => token::run(&args),
        Command::Store(_) | Command::Doctor(_) => unreachable!("they were run before"),
        Command::CheckConfig(args) => {
            let config = args.load()?;
            if !config.dev_tls {
                tls::Tls::open(&config)?;
            }
            println!("The settings are well. In force:\n{config:#?}");
            Ok(())
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "roost", &mut std::io::stdout());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_2_and_wrong_settings_are_78() {
        let code = |args: &[&str]| format!("{:?}", main_with(args.iter().map(OsString::from)));
        assert_eq!(code(&["roost", "--nope"]), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(&["roost", "check-config", "--heartbeat", "1ms"]), format!("{:?}", ExitCode::from(78)));
        assert_eq!(code(&["roost", "check-config", "--config", "/nonexistent"]), format!("{:?}", ExitCode::from(78)));
        assert_eq!(code(&["roost", "check-config"]), format!("{:?}", ExitCode::SUCCESS));
    }
}
