//! What it costs to close sockets with an armed poll, by how many a ring holds: `cargo run --release -p roost-uring
//! --example closings -- SOCKETS_PER_RING...`

#[cfg(target_os = "linux")]
fn main() {
    use roost_uring::op::{close, poll, socket};
    use roost_uring::{How, Ring, Target, Token};

    #[derive(Clone, Copy)]
    struct Number(u64);
    impl Token for Number {
        fn pack(self) -> u64 {
            self.0
        }
        fn unpack(bits: u64) -> Self {
            Self(bits)
        }
    }
    /// CPU time of this thread, in us.
    fn cpu_us() -> f64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
    }
    const DONE: Number = Number(1 << 60);

    let family = ([127, 0, 0, 1], 0).into();
    for sockets in std::env::args().skip(1).map(|arg| arg.parse::<u32>().expect("a number")) {
        let mut ring = Ring::<Number>::new(512, 8192).expect("a ring");
        ring.register_files(sockets).expect("a table");
        for slot in 0..sockets {
            socket::start(&mut ring, Some(slot), family, How::QUIET, DONE).expect("a socket");
            let token = Number(u64::from(slot) | 7 << 28);
            poll::start(&mut ring, Target::fixed(slot), poll::SOCKET, How::PLAIN, token).expect("a poll");
        }
        ring.submit().expect("sockets");
        while ring.pop().is_some() {}
        let began = cpu_us();
        for slot in 0..sockets {
            let token = Number(u64::from(slot) | 7 << 28);
            close::after_cancel(&mut ring, slot, token, DONE, DONE).expect("a close");
        }
        ring.submit().expect("closings");
        let per = (cpu_us() - began) / f64::from(sockets);
        let mut failed = 0;
        while let Some(completion) = ring.pop() {
            failed += u32::from(completion.result < 0 && completion.result != -125);
        }
        println!("{sockets:>8} sockets a ring: {per:.2} us of CPU a close, {failed} failed");
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
