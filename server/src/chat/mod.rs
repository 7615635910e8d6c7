//! stub
#[derive(clap::Args)]
#[allow(missing_docs)]
pub struct ChatArgs {}
#[allow(missing_docs, clippy::unused_async, clippy::missing_errors_doc)]
pub async fn run(_args: ChatArgs) -> anyhow::Result<()> { anyhow::bail!("being built") }
