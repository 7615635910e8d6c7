//! `roost drain`: asks a node to let its clients go elsewhere, and to stop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

#[derive(Args)]
#[command(
    after_help = "The node tells load balancers by /readyz, and its clients by GOAWAY, each at a moment of its own; it stops when \
    they have left, or at its drain_deadline. The same as SIGTERM, or POST /drain.\n\n\
    EXAMPLES\n  \
    roost drain                                the node of this machine\n  \
    roost drain --admin 10.0.0.7:9090 --within 10m"
)]
pub(crate) struct DrainArgs {
    /// The node's admin address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090", env = "ROOST_ADMIN")]
    admin: SocketAddr,
    /// How long to wait for its end
    #[arg(long, value_name = "TIME", default_value = "5m")]
    within: crate::config::Span,
}

/// How often it is looked whether the node is still there.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: DrainArgs) -> anyhow::Result<()> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, ask(args.admin)).await;
    let answer = answer.with_context(|| format!("{} does not answer", args.admin))??;
    let told: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    println!("{} drains: {} sessions are asked to leave", args.admin, told["sessions"]);
    let began = Instant::now();
    while TcpStream::connect(args.admin).await.is_ok() {
        let within = humantime::format_duration(args.within.0);
        ensure!(
            began.elapsed() < args.within.0,
            "it still runs after {within}: look at its log and its drain_deadline"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    println!("stopped after {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

async fn ask(admin: SocketAddr) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(admin).await.with_context(|| format!("no node answers at {admin} (--admin)"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let request = Request::post("/drain").header(http::header::HOST, admin.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "{admin} answers {}: is it the admin address?", response.status());
    let answer = response.into_body().collect().await?.to_bytes();
    driving.abort();
    Ok(answer)
}
