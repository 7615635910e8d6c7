//! `roost token`.

use std::path::PathBuf;

use clap::Args;
use roost_router::auth::Scope;
use roost_wire::UserId;

use super::key;
use crate::config::Span;

#[derive(Args)]
#[command(after_help = "EXAMPLES\n  \
    roost token --user u_42 --name Ada             for a user of your own system, valid for a day\n  \
    roost token --service --ttl 30days             for a backend: POST /v1/publish\n\n\
    The token is signed with the key in DIR/secrets: whoever can read that file can be anybody.")]
pub(crate) struct TokenArgs {
    /// The user's id: 1 to 64 of A-Z a-z 0-9 . _ : @ -
    #[arg(long, value_name = "ID", required_unless_present = "service")]
    user: Option<UserId>,
    /// The user's display name
    #[arg(long, default_value = "")]
    name: String,
    /// A token for a backend instead of a user
    #[arg(long, conflicts_with = "user")]
    service: bool,
    /// How long it is valid
    #[arg(long, default_value = "1day")]
    ttl: Span,
    /// The server's data directory
    #[arg(long, value_name = "DIR", default_value = "roost-data", env = "ROOST_DATA")]
    data: PathBuf,
    /// The file with its token key, instead: as `roost store key` writes it, for nodes that share a store
    #[arg(long, value_name = "FILE", env = "ROOST_TOKEN_KEY")]
    token_key: Option<PathBuf>,
}

pub(crate) fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let keys = key::find(args.token_key.as_deref(), &args.data)?;
    let (subject, scope) = match &args.user {
        Some(user) => (user.clone(), Scope::User),
        None => (key::service(), Scope::Service),
    };
    println!("{}", key::mint(&keys, subject, &args.name, scope, args.ttl.0)?);
    Ok(())
}
