//! `roost-faults`: breaks a fleet of real processes while people talk, and says what they lost: nothing.
//!
//! For each cell people on real clients talk through a load balancer to nodes of `roost` on a real Redis and a real
//! Cassandra. Something breaks, and mends. Then every acknowledged message must be in the log, and shown once and in
//! order at every device of every member.
#![forbid(unsafe_code)]

mod cells;
mod crowd;
mod fleet;
mod load;
mod proxy;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use serde::Serialize;

use cells::Fault;
use fleet::{Fleet, Shape};
use load::{Load, Verdict};

/// People talk so long before anything breaks, and after it has mended.
const CALM: Duration = Duration::from_secs(3);

#[derive(Parser)]
#[command(
    name = "roost-faults",
    about = "Breaks a fleet of real processes while people talk, and checks that nothing acknowledged is lost",
    after_help = "EXIT CODES\n  \
        0  every cell is well\n  \
        1  something acknowledged was lost, doubled, reordered or refused, or the fleet did not come back\n\n\
        EXAMPLES\n  \
        roost-faults --roost target/release/roost\n  \
        roost-faults --roost target/release/roost --only node-killed,redis-killed\n  \
        roost-faults --roost target/release/roost --routers 2 --only router-killed,link-dark\n  \
        roost-faults --roost target/release/roost --ring 3 --pairs --json faults.json"
)]
struct Args {
    /// The roost binary
    #[arg(long, value_name = "FILE")]
    roost: PathBuf,
    /// Nodes of roost that clients connect to
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Routers behind them; 0: every node is its own
    #[arg(long, default_value_t = 0)]
    routers: usize,
    /// Nodes of Cassandra; everything is kept on all of them, up to three
    #[arg(long, default_value_t = 1)]
    ring: usize,
    /// People who talk
    #[arg(long, default_value_t = 10)]
    people: usize,
    /// How often each says something
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = humantime::parse_duration)]
    every: Duration,
    /// Cells, with commas between; two faults at once as node-killed+redis-killed [default: all single ones]
    #[arg(long, value_name = "CELLS", value_delimiter = ',')]
    only: Vec<String>,
    /// All pairs of faults as well
    #[arg(long, conflicts_with = "only")]
    pairs: bool,
    /// Instead of the cells: so many clients, one node killed, and how soon all are back
    #[arg(long, value_name = "N", conflicts_with_all = ["only", "pairs"])]
    crowd: Option<usize>,
    /// Write what was found here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One cell: faults that happen at once.
#[derive(Clone, Debug)]
struct Cell(Vec<Fault>);

impl Cell {
    fn name(&self) -> String {
        self.0.iter().map(|fault| fault.name()).collect::<Vec<_>>().join("+")
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let fault = |name: &str| {
            let found = Fault::ALL.into_iter().find(|fault| fault.name() == name.trim());
            found.with_context(|| {
                let known: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
                format!("there is no fault \"{name}\"; there are {}", known.join(", "))
            })
        };
        text.split('+').map(fault).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Single faults, and all pairs if `pairs`; those of routers if there are any.
    fn all(pairs: bool, routers: bool) -> Vec<Self> {
        let faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| routers || !fault.needs_routers()).collect();
        let mut cells: Vec<Self> = faults.iter().map(|fault| Self(vec![*fault])).collect();
        if pairs {
            let real = &faults[1..];
            for (place, one) in real.iter().enumerate() {
                cells.extend(real[place + 1..].iter().map(|other| Self(vec![*one, *other])));
            }
        }
        cells
    }
}

/// A row of the table.
#[derive(Serialize)]
struct Row {
    cell: String,
    #[serde(flatten)]
    verdict: Verdict,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("roost-faults: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("roost-faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cells; true if all are well.
async fn run(args: &Args) -> anyhow::Result<bool> {
    let cells = match args.only.as_slice() {
        [] => Cell::all(args.pairs, args.routers > 0),
        only => only.iter().map(|text| Cell::parse(text)).collect::<anyhow::Result<_>>()?,
    };
    let shape = Shape { roost: args.roost.clone(), nodes: args.nodes, routers: args.routers, ring: args.ring };
    println!("starting {} nodes, {} routers, Redis, and {} of Cassandra", args.nodes, args.routers, args.ring);
    let of_routers = |cell: &Cell| cell.0.iter().any(|fault| fault.needs_routers());
    anyhow::ensure!(args.routers > 0 || !cells.iter().any(of_routers), "there are no routers to break: --routers 2");
    let mut fleet = Fleet::start(&shape).await?;
    if let Some(count) = args.crowd {
        let comeback = crowd::run(&mut fleet, count).await?;
        println!("{}", serde_json::to_string_pretty(&comeback)?);
        return Ok(true);
    }
    println!(
        "| fault | acknowledged | lost | doubled | reordered | refused | longest silence | slowest acknowledgement |\n|---|---|---|---|---|---|---|---|"
    );
    let (mut rows, mut well) = (Vec::new(), true);
    for cell in cells {
        let verdict = one(args, &mut fleet, &cell).await.with_context(|| cell.name())?;
        let Verdict { acknowledged, lost, doubled, reordered, refused, outage_ms, worst_ack_ms, .. } = verdict;
        println!(
            "| {} | {acknowledged} | {lost} | {doubled} | {reordered} | {refused} | {outage_ms} ms | {worst_ack_ms} ms |",
            cell.name()
        );
        if !verdict.is_well() {
            well = false;
            verdict.examples.iter().for_each(|example| println!("  {example}"));
            println!("{}", fleet.logs());
        }
        rows.push(Row { cell: cell.name(), verdict });
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(well)
}

/// One cell.
async fn one(args: &Args, fleet: &mut Fleet, cell: &Cell) -> anyhow::Result<Verdict> {
    let url = format!("http://{}", fleet.balancer.addr());
    let load = Load::start(&url, args.people, args.every).await?;
    tokio::time::sleep(CALM).await;
    let since = Instant::now();
    for fault in &cell.0 {
        fault.begin(fleet).await?;
    }
    let lasts = cell.0.iter().map(|fault| fault.lasts()).max().unwrap_or_default();
    tokio::time::sleep(lasts).await;
    for fault in cell.0.iter().rev() {
        fault.end(fleet).await?;
    }
    let before = load.acknowledged();
    tokio::time::sleep(CALM).await;
    let verdict = load.finish(since).await?;
    anyhow::ensure!(
        verdict.acknowledged > before || cell.0 == [Fault::None],
        "nothing was acknowledged after it had mended"
    );
    Ok(verdict)
}
