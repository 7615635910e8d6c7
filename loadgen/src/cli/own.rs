//! The server that full clients meet: one of our own, its settings and its deploys, or a target.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::args::Common;
use super::run::{lock, resolve};
use crate::engine::Deployer;
use crate::scenario::Scenario;
use crate::sdk;
use crate::server::{DEFENDED, DEPLOYED, NO_LIMITS, OwnServer};

/// How long an admin page may take.
const ADMIN_WITHIN: Duration = Duration::from_secs(2);

/// Settings of a server of our own, for those that are not given.
pub(super) fn usual(scenario: &Scenario, attacked: bool) -> Vec<&'static str> {
    let usual = if attacked { DEFENDED } else { NO_LIMITS };
    let deployed = if scenario.deploys() { DEPLOYED } else { &[] };
    [usual, deployed].concat()
}

pub(super) fn given<'a>(scenario: &Scenario, common: &'a Common) -> Vec<&'a str> {
    let tls = scenario.crowds.iter().any(|crowd| crowd.transport.has_tls()).then_some("--dev-tls");
    tls.into_iter().chain(common.settings()).collect()
}

/// Starts a server of our own anew; asks a target to leave by its admin address, and leaves the rest to who looks after it.
pub(super) fn deployer(server: &Arc<Mutex<Option<OwnServer>>>, common: &Common) -> Deployer {
    let (server, admin, pid) = (Arc::clone(server), common.admin.as_ref().and_then(resolve), common.server_pid);
    Box::new(move || match (lock(&server).as_mut(), admin) {
        (Some(server), _) => server.deploy().map(|done| done.map(Some)).map_err(|error| format!("{error:#}")),
        (None, Some(admin)) => match ask(admin, "POST", "/drain") {
            Some(_) => Ok(Some(pid)),
            None => Err(format!("{admin} does not answer POST /drain")),
        },
        (None, None) => Err("there is nobody to ask".into()),
    })
}

/// How clients of the SDK reach the server.
pub(super) fn sdk_setup(common: &Common, ca: Option<&Path>, server: Option<&OwnServer>) -> sdk::Setup {
    match (server, common.target.as_ref()) {
        (Some(server), _) => sdk::Setup {
            plain: format!("http://{}", server.listen),
            secure: format!("https://localhost:{}", server.listen.port()),
            ca: Some(server.certificate()),
        },
        (None, Some(target)) => {
            sdk::Setup { plain: target.to_string(), secure: target.to_string(), ca: ca.map(Path::to_owned) }
        }
        (None, None) => unreachable!("there is a target or a server"),
    }
}

/// Asks an admin page to do something. What it answers, head and all.
fn ask(admin: SocketAddr, method: &str, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect_timeout(&admin, ADMIN_WITHIN).ok()?;
    stream.set_read_timeout(Some(ADMIN_WITHIN)).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer).ok()?;
    String::from_utf8(answer).ok()
}
