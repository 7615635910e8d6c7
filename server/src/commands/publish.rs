//! `roost publish`: what a backend does over HTTP, from the shell.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use roost_client::Trust;
use roost_client::tls::{Connector, UNTRUSTED};
use roost_client::url::Url;
use roost_router::auth::Scope;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::key;

#[derive(Args)]
#[command(after_help = "EXAMPLES\n  \
    roost publish news \"Doors open at nine\"                     the token is made from ./roost-data\n  \
    roost publish news hello --server http://127.0.0.1:8080 --token \"$TOKEN\"\n\n\
    The same with curl:\n  \
    curl -H \"Authorization: Bearer $(roost token --service)\" -H 'Content-Type: application/json' \\\n       \
    -d '{\"channel\":\"news\",\"body\":{\"text\":\"hello\"}}' http://127.0.0.1:8080/v1/publish")]
pub(crate) struct PublishArgs {
    /// The channel
    channel: String,
    /// What to publish
    text: String,
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "ROOST_SERVER")]
    server: String,
    /// A PEM file with the certificate to trust, instead of those that this machine trusts
    #[arg(long, value_name = "FILE", env = "ROOST_CA")]
    ca: Option<PathBuf>,
    /// A service token [default: made from the key in the data directory]
    #[arg(long, env = "ROOST_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The server's data directory
    #[arg(long, value_name = "DIR", default_value = "roost-data", env = "ROOST_DATA")]
    data: PathBuf,
    /// The file with its token key, instead: as `roost store key` writes it, for nodes that share a store
    #[arg(long, value_name = "FILE", env = "ROOST_TOKEN_KEY")]
    token_key: Option<PathBuf>,
}

/// How long the server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: PublishArgs) -> anyhow::Result<()> {
    let token = match args.token {
        Some(token) => token,
        None => key::mint(
            &key::find(args.token_key.as_deref(), &args.data)?,
            key::service(),
            "",
            Scope::Service,
            Duration::from_secs(60),
        )?,
    };
    let body = json!({"channel": args.channel, "body": {"text": args.text}}).to_string();
    let (status, answer) = tokio::time::timeout(ANSWER_WITHIN, post(&args.server, args.ca, &token, body))
        .await
        .with_context(|| format!("{} did not answer within {} s", args.server, ANSWER_WITHIN.as_secs()))??;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    if !status.is_success() {
        let reason = answer["error"]["message"].as_str().unwrap_or("no reason given");
        bail!("{} refused it: {status}, {reason}", args.server);
    }
    println!("{answer}");
    Ok(())
}

async fn post(
    server: &str,
    ca: Option<PathBuf>,
    token: &str,
    body: String,
) -> anyhow::Result<(http::StatusCode, Bytes)> {
    let url = Url::parse(server)?;
    let stream = TcpStream::connect((url.host(), url.port()))
        .await
        .with_context(|| format!("no server answers at {server} (start one with `roost serve`)"))?;
    if url.is_tls() {
        let connector = Connector::new(&ca.map_or(Trust::System, Trust::File))?;
        let stream = connector.connect(url.host(), stream).await.map_err(|error| match error.to_string() {
            text if text.contains(UNTRUSTED) => {
                anyhow!("{server}: {text} (name the file with a certificate to trust by --ca)")
            }
            text => anyhow!("{server}: {text}"),
        })?;
        send(stream, &url, token, body).await
    } else {
        send(stream, &url, token, body).await
    }
}

async fn send<S>(stream: S, url: &Url, token: &str, body: String) -> anyhow::Result<(http::StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let request = Request::post("/v1/publish")
        .header(http::header::HOST, url.authority())
        .header(http::header::AUTHORIZATION, format!("Bearer {token}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    driving.abort();
    Ok((status, answer))
}
