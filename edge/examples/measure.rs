//! Prices of the edge, with real sockets on the loopback interface and a router that only says yes.
//!
//! ```text
//! cargo run --release -p roost-edge --example measure -- idle 10000
//! cargo run --release -p roost-edge --example measure -- fanout 2000 1000 1
//! ```
//!
//! `idle N`: user-space bytes of N authenticated sessions that say nothing, and what it takes when all go at once. `fanout N MESSAGES BURST [RATE]`: deliveries per
//! second of the server's CPU to N sessions of a topic, with bodies of 128 bytes, BURST messages at a time;
//! with a RATE that many messages a second (paced: the clients read between them), else as fast as they are written. Clients
//! run in a process of their own, so that neither their memory nor their time is counted. `ROOST_DRIVER=poll` or `uring`
//! says which driver, `ROOST_TLS=1.3` or `1.2` that everybody speaks TLS.

use std::error::Error;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::{Events, Interest, Poll, Token};
use roost_edge::tls::{Identity, TlsSetup};
use roost_edge::{DriverKind, Edge, EdgeConfig, EdgeHandle, HttpIo, HttpService, Running, ShardConfig, Upstream};
use roost_wire::link::{Audience, Down, Envelope, Lane, Up};
use roost_wire::pb::{self, Frame};
use roost_wire::{ConvId, Encoding, FrameBody, UserId, ws};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

/// Each has a descriptor.
const CLIENTS_PER_PROCESS: u64 = 15_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["idle", sessions] => idle(sessions.parse()?),
        ["fanout", sessions, messages, burst] => fanout(sessions.parse()?, messages.parse()?, burst.parse()?, None),
        ["fanout", sessions, messages, burst, rate] => {
            fanout(sessions.parse()?, messages.parse()?, burst.parse()?, Some(rate.parse()?))
        }
        ["clients", addr, first, sessions] => clients(addr.parse()?, first.parse()?, sessions.parse()?),
        _ => Err("usage: idle SESSIONS | fanout SESSIONS MESSAGES BURST [RATE]".into()),
    }
}

/// Accepts everybody and joins them to "news".
#[derive(Default)]
struct Yes(OnceLock<EdgeHandle>);

impl Upstream for Yes {
    fn submit(&self, batch: &mut Vec<Up>) {
        for up in batch.drain(..) {
            let (Up::Connect { session, rid, connect, .. }, Some(edge)) = (up, self.0.get()) else { continue };
            let user = UserId::new(&connect.guest).expect("our own clients send ids");
            let welcome = pb::Welcome { user: user.to_string(), session: session.to_string(), ..Default::default() };
            let accepted = Down::Accepted { session, rid, user, welcome: Box::new(welcome) };
            edge.post(session.shard(), &mut vec![accepted, Down::Join { session, topic: news() }]);
        }
    }
}

impl HttpService for Yes {
    fn serve(&self, _: HttpIo, _: SocketAddr) {}
}

fn news() -> ConvId {
    ConvId::channel("news").expect("a name")
}

fn serve(shards: usize) -> Result<Running> {
    let driver = match std::env::var("ROOST_DRIVER").as_deref() {
        Ok("poll") => DriverKind::Poll,
        Ok("uring") => DriverKind::Uring,
        _ => DriverKind::Auto,
    };
    // Nobody here beats.
    let shard = ShardConfig { heartbeat: Duration::from_secs(3600), ..ShardConfig::default() };
    let config = EdgeConfig { listen: ([127, 0, 0, 1], 0).into(), shards, driver, shard, ..EdgeConfig::default() };
    let mut bound = Edge::bind(config)?;
    if std::env::var_os("ROOST_TLS").is_some() {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let identity = Identity::dev(&certificates(), since.as_secs() as i64)?;
        bound = bound.with_tls(TlsSetup::new(identity.server_config(&[b"http/1.1"])?, false));
    }
    let router = Arc::new(Yes::default());
    router.0.set(bound.handle()).map_err(|_| "set once")?;
    Ok(bound.start(router.clone(), router)?)
}

/// Where the certificate is that both sides know.
fn certificates() -> std::path::PathBuf {
    std::env::temp_dir().join("roost-measure-tls")
}

/// Settings of clients with TLS, if they are to speak it. Each session is a new one.
fn tls() -> Result<Option<Arc<ClientConfig>>> {
    let version = match std::env::var("ROOST_TLS").as_deref() {
        Ok("1.2") => &rustls::version::TLS12,
        Ok(_) => &rustls::version::TLS13,
        Err(_) => return Ok(None),
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates().join("cert.pem"))?)?;
    let builder = ClientConfig::builder_with_protocol_versions(&[version]);
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Some(Arc::new(config)))
}

/// Processes of clients; each ends with its standard input.
struct Clients(Vec<Child>);

impl Clients {
    /// Starts them, and waits until all are sessions.
    fn start(edge: &EdgeHandle, sessions: u64) -> Result<Self> {
        let mut children = Vec::new();
        for first in (0..sessions).step_by(CLIENTS_PER_PROCESS as usize) {
            let count = CLIENTS_PER_PROCESS.min(sessions - first);
            let child = Command::new(std::env::current_exe()?)
                .args(["clients", &edge.local_addr().to_string(), &first.to_string(), &count.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            children.push(child);
        }
        for child in &mut children {
            BufReader::new(child.stdout.take().ok_or("piped")?).read_line(&mut String::new())?;
        }
        while edge.metrics().total.topics_joined < sessions {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self(children))
    }

    /// All of them go at once.
    fn end(mut self) -> Result<()> {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
        for child in &mut self.0 {
            child.wait()?;
        }
        Ok(())
    }
}

fn idle(sessions: u64) -> Result<()> {
    let running = serve(0)?;
    let before = memory()?;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let clients = Clients::start(running.handle(), sessions)?;
    println!("{sessions} sessions in {:.1?}, {:.2} s of CPU", began.elapsed(), cpu_seconds()? - cpu);
    std::thread::sleep(Duration::from_secs(2));
    tell(&before, sessions)?;
    let edge = running.handle();
    for round in 1..=10 {
        for shard in 0..edge.shards() {
            edge.post(shard, &mut vec![deliver(round)]);
        }
        while edge.metrics().total.deliveries < round * sessions {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    println!("after ten broadcasts:");
    tell(&before, sessions)?;
    let cpu = cpu_seconds()?;
    std::thread::sleep(Duration::from_secs(5));
    println!("idle CPU: {:.2} %", (cpu_seconds()? - cpu) / 5.0 * 100.0);
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    clients.end()?;
    while running.handle().metrics().connections_open() > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("all gone after {:.1?}, {:.2} s of CPU", began.elapsed(), cpu_seconds()? - cpu);
    let rings: u64 = running.handle().metrics().shards.iter().map(|(_, turns)| turns.rings).sum();
    println!("{rings} rings, {} accepts failed", running.handle().metrics().accept_errors);
    Ok(())
}

fn fanout(sessions: u64, messages: u64, burst: u64, rate: Option<f64>) -> Result<()> {
    let running = serve(1)?;
    let edge = running.handle();
    let clients = Clients::start(edge, sessions)?;
    let (cpu, began, before) = (cpu_seconds()?, Instant::now(), edge.metrics());
    for round in 1..=messages / burst {
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64((round * burst) as f64 / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let mut batch = (0..burst).map(deliver).collect();
        edge.post(0, &mut batch);
        // The next ones once these are written: nobody is to fall behind.
        while edge.metrics().total.frames_out - before.total.frames_out < round * burst * sessions {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    let (cpu, wall, after) = (cpu_seconds()? - cpu, began.elapsed(), edge.metrics());
    let deliveries = (after.total.deliveries - before.total.deliveries) as f64;
    println!("{deliveries} deliveries in {wall:.2?}, {cpu:.2} s of CPU");
    println!("{:.0} deliveries per CPU second, {:.2} us each", deliveries / cpu, cpu / deliveries * 1e6);
    let writes = (after.shards[0].1.writes - before.shards[0].1.writes) as f64;
    println!("{:.1} frames a write, {} marked behind", deliveries / writes, after.total.behind);
    clients.end()
}

fn deliver(seq: u64) -> Down {
    let body = Some(pb::Body { text: "x".repeat(128), ..Default::default() });
    let entry = pb::Entry { conv: "news".into(), seq, body, ..Default::default() };
    let envelope = Envelope::new(Lane::Durable, FrameBody::Entry(entry));
    Down::Deliver { envelope, audience: Audience::Topic { topic: news(), except: None } }
}

fn tell(before: &[(&'static str, f64)], sessions: u64) -> Result<()> {
    for ((name, before), (_, now)) in before.iter().zip(memory()?) {
        let bytes = (now - before) * 1024.0 / sessions as f64;
        println!("{name}: {before:.0} kB -> {now:.0} kB, {bytes:.0} bytes a session");
    }
    Ok(())
}

/// Sizes of this process, in kB.
fn memory() -> Result<Vec<(&'static str, f64)>> {
    let field = |page: &str, name: &str| -> Result<f64> {
        let line = page.lines().find(|line| line.starts_with(name)).ok_or("no such field")?;
        Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse()?)
    };
    let status = std::fs::read_to_string("/proc/self/status")?;
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    Ok(vec![("VmRSS", field(&status, "VmRSS:")?), ("Private_Dirty", field(&smaps, "Private_Dirty:")?)])
}

/// CPU time of this process, user and system.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

/// Connects, says so, and reads until its standard input ends.
fn clients(addr: SocketAddr, first: usize, sessions: usize) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut streams = Vec::new();
    let tls = tls()?;
    for number in 0..sessions {
        let stream = connect(addr, first + number, tls.as_ref())?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        streams.push(stream);
    }
    println!("ready");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut events = Events::with_capacity(1024);
    let mut buf = vec![0; 64 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            while !matches!(streams[event.token().0].read(&mut buf), Ok(n) if n < buf.len()) {}
        }
    }
}

fn connect(addr: SocketAddr, number: usize, tls: Option<&Arc<ClientConfig>>) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Ports of one address are too few for all.
    let from = [127, 1, 0, (number as u64 / CLIENTS_PER_PROCESS) as u8 + 1];
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&addr.into())?;
    let mut stream = TcpStream::from(socket);
    let Some(config) = tls else {
        enter(&mut stream, number)?;
        return Ok(stream);
    };
    // What comes later is read and thrown away as it is.
    let mut client = ClientConnection::new(config.clone(), ServerName::try_from("localhost")?)?;
    enter(&mut rustls::Stream::new(&mut client, &mut stream), number)?;
    Ok(stream)
}

/// Becomes a session.
fn enter(stream: &mut (impl Read + Write), number: usize) -> Result<()> {
    let head = "GET /ws HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Sec-WebSocket-Protocol: roost.v1.pb\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let guest = format!("u_{number}");
    let body = Some(FrameBody::Connect(pb::Connect { guest, device: "probe".into(), ..Default::default() }));
    let (mut payload, mut message) = (BytesMut::new(), BytesMut::new());
    Encoding::Protobuf.encode(&Frame { rid: 1, body }, &mut payload);
    ws::write_message_header(ws::MessageKind::Binary, payload.len(), Some([0; 4]), &mut message);
    message.extend_from_slice(&payload);
    stream.write_all(&message)?;
    // WELCOME comes last, and names the user.
    let (mut got, mut buf) = (Vec::new(), [0; 2048]);
    let user = format!("u_{number}");
    while !got.windows(user.len()).any(|part| part == user.as_bytes()) {
        match stream.read(&mut buf) {
            Ok(0) => return Err("the server closed".into()),
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
