//! `roost chat`: a person in a terminal, or a script with a pipe.
//!
//! Invariants:
//! - what comes from others is printed without control characters: a message cannot move the cursor or ring the bell;
//! - the terminal is as it was when the chat ends, however it ends;
//! - with a state file the same name on the same server is the same person, and loses no message it was shown as sent.

mod editor;
mod keys;
mod lines;
mod partner;
mod screen;
mod state;
mod talk;
mod text;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use roost_client::tls::UNTRUSTED;
use roost_client::{Builder, Client, ConnectError, EndReason, Events, Resume, Transport, Trust};
use roost_wire::ErrorCode;

use partner::Target;
use state::State;

/// What `roost chat` is told.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    roost chat --as Ada --to Bob                   talk to Bob; if nobody is called Bob, wait for him\n  \
    roost chat --as Ada --to u_4k2…                talk to exactly this person\n  \
    roost chat --as Ada --to Bob --server https://chat.example.org\n  \
    roost chat --as Ada --channel news             follow a channel, and write to it if you may\n  \
    echo hi | roost chat --as Ada --to Bob         send one message from a script; 0 once it is stored\n  \
    roost chat --as Ada --to Bob --json --stay </dev/null    print everything that happens, one JSON object a line\n\n\
    As a guest you stay the same person: token and unsent messages are kept in $XDG_STATE_HOME/roost\n\
    (~/.local/state/roost), per server and name. In the chat, /help lists the commands; Ctrl-C or Ctrl-D leaves.")]
pub struct ChatArgs {
    /// Your display name: enter as a guest, or come back as the same one
    #[arg(long = "as", value_name = "NAME", required_unless_present_any = ["token", "token_file"])]
    name: Option<String>,
    /// A token of a user, instead of a guest's name
    #[arg(long, env = "ROOST_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with such a token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "ROOST_SERVER")]
    server: String,
    /// A PEM file with the certificate to trust, instead of those that this machine trusts; for a server with --dev-tls its
    /// roost-data/dev-tls/cert.pem
    #[arg(long, value_name = "FILE", env = "ROOST_CA")]
    ca: Option<PathBuf>,
    /// What carries the session: auto tries QUIC first where the server speaks TLS, and WebSocket 250 ms later; wt is
    /// WebTransport, as browsers have it
    #[arg(long, value_name = "WAY", value_enum, default_value = "auto", env = "ROOST_TRANSPORT")]
    transport: Way,
    /// Print events as JSON, one a line, and read messages as lines
    #[arg(long)]
    json: bool,
    /// When the input ends, stay and print what arrives
    #[arg(long)]
    stay: bool,
}

/// What may carry a session.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    Auto,
    Quic,
    Ws,
    Wt,
}

impl From<Way> for Transport {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Quic => Self::Quic,
            Way::Ws => Self::WebSocket,
            Way::Wt => Self::WebTransport,
        }
    }
}

/// Chats until the user leaves, the input has been sent, or the server refuses.
///
/// # Errors
/// In words for people: no server, a refused token, nobody of that name, a message that was not stored.
pub async fn run(args: ChatArgs) -> anyhow::Result<()> {
    let (client, mut events, mut state) = enter(&args).await?;
    let interactive = !args.json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let result = async {
        // At once: whoever leaves while waiting for somebody comes back as the same guest.
        state.save(&client).await;
        let found = partner::find(&client, &mut events, &args.target, interactive).await?;
        if interactive {
            screen::run(&client, &mut events, found.place, &mut state).await
        } else {
            lines::run(&client, &mut events, found, args.json, args.stay).await
        }
    }
    .await;
    state.save(&client).await;
    client.close();
    // The goodbye goes out while the last events are read.
    while events.recv().await.is_some() {}
    result
}

/// Connects as the user of the token, or as the guest that the state file knows, or as a new guest.
async fn enter(args: &ChatArgs) -> anyhow::Result<(Client, Events, State)> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => Some(token.trim().to_owned()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Some(text.trim().to_owned())
        }
        (None, None) => None,
    };
    if let Some(token) = token {
        let (client, events) = builder(args).token(token).connect().await.map_err(explain)?;
        return Ok((client, events, State::none()));
    }
    let name = args.name.as_deref().unwrap_or_default().trim();
    if name.is_empty() {
        bail!("--as needs a name");
    }
    let mut state = State::open(&args.server, name)?;
    let resume = state.resume()?;
    let returning = !resume.token.is_empty();
    match connect(args, name, resume, &state).await {
        Err(ConnectError::Ended(EndReason::Refused(error))) if returning && is_stale(error.code) => {
            eprintln!(
                "The server does not know {name} of earlier any more ({}): you enter as a new guest.",
                error.message
            );
            state.forget()?;
            let (client, events) = connect(args, name, Resume::default(), &state).await.map_err(explain)?;
            Ok((client, events, state))
        }
        Err(error) => Err(explain(error)),
        Ok((client, events)) => Ok((client, events, state)),
    }
}

async fn connect(args: &ChatArgs, name: &str, resume: Resume, state: &State) -> Result<(Client, Events), ConnectError> {
    let mut builder = builder(args).guest(name).resume(resume);
    if let Some(outbox) = state.outbox().map_err(|error| ConnectError::Outbox(error.to_string()))? {
        builder = builder.outbox(outbox);
    }
    builder.connect().await
}

fn builder(args: &ChatArgs) -> Builder {
    let trust = args.ca.clone().map_or(Trust::System, Trust::File);
    Client::builder(&args.server).trust(trust).transport(args.transport.into())
}

const fn is_stale(code: u32) -> bool {
    code == ErrorCode::BadToken.number() || code == ErrorCode::TokenExpired.number()
}

fn explain(error: ConnectError) -> anyhow::Error {
    match error {
        ConnectError::Failed { url, reason } if reason.contains(UNTRUSTED) => {
            anyhow::anyhow!("{url}: {reason} (name the file with a certificate to trust by --ca)")
        }
        ConnectError::Failed { url, reason } => {
            anyhow::anyhow!(
                "no server answers at {url}: {reason} (start one with `roost serve`, or name it with --server)"
            )
        }
        error => error.into(),
    }
}
