//! The io_uring driver, over connections that it accepts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use roost_edge::driver::uring::{Conn, UringDriver};
use roost_edge_core::driver::{Driver, Wake};

use crate::harness::{Harness, Heard};

/// Turns until a connection is accepted.
const PATIENCE: u32 = 3000;

pub(crate) struct Accepting(SocketAddr);

fn accepting(mut driver: UringDriver) -> (Accepting, UringDriver) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    driver.accept_from(listener);
    (Accepting(addr), driver)
}

/// A connection, and its other end.
fn connect(addr: SocketAddr, driver: &mut UringDriver, heard: &mut Heard<Conn>) -> (Conn, TcpStream) {
    let peer = TcpStream::connect(addr).unwrap();
    peer.set_nonblocking(true).unwrap();
    let its = peer.local_addr().unwrap();
    for _ in 0..PATIENCE {
        if let Some((conn, told)) = heard.arrivals.pop() {
            assert_eq!((told, heard.arrivals.len()), (its, 0));
            return (conn, peer);
        }
        driver.wait(Some(Duration::from_millis(10))).unwrap();
        driver.deliver(heard);
    }
    panic!("nobody accepts");
}

impl Harness for Accepting {
    type Driver = UringDriver;
    type Peer = TcpStream;

    fn new() -> (Self, UringDriver, Arc<dyn Wake>) {
        let made = UringDriver::new(0, 1000);
        let (driver, waker) = made.expect("io_uring is allowed here, or these tests are left out: --skip uring");
        let (harness, driver) = accepting(driver);
        (harness, driver, waker)
    }

    fn connect(&mut self, driver: &mut UringDriver, heard: &mut Heard<Conn>) -> (Conn, TcpStream) {
        connect(self.0, driver, heard)
    }
}

/// Rings with one place each, the first of which somebody else has.
pub(crate) struct ManyRings {
    accepting: Accepting,
    _somebody: (Conn, TcpStream),
}

impl Harness for ManyRings {
    type Driver = UringDriver;
    type Peer = TcpStream;

    fn new() -> (Self, UringDriver, Arc<dyn Wake>) {
        let made = UringDriver::with_tables(0, 1000, 1);
        let (driver, waker) = made.expect("io_uring is allowed here, or these tests are left out: --skip uring");
        let (accepting, mut driver) = accepting(driver);
        let somebody = connect(accepting.0, &mut driver, &mut Heard::default());
        (Self { accepting, _somebody: somebody }, driver, waker)
    }

    fn connect(&mut self, driver: &mut UringDriver, heard: &mut Heard<Conn>) -> (Conn, TcpStream) {
        connect(self.accepting.0, driver, heard)
    }
}
