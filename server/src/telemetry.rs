//! Logs: text for people, JSON for machines. They go to standard error; standard output is for what a command answers.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Starts logging. A second call in one process does nothing.
pub(crate) fn start(config: &Config) {
    // The tables of the store tell much about themselves; who wants it says so: `--log info,fjall=info`.
    let filter = format!("fjall=warn,lsm_tree=warn,{}", config.log);
    // It was checked with the settings.
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that a subscriber is set already: the process is a test.
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}
