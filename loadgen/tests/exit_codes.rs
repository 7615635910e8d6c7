//! The verdict is told by the exit code.

mod common;

use common::{finished, run};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn an_unreachable_target_is_3_and_leaves_no_report() {
    // Bound and not listening: nobody else takes the port meanwhile.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let run = run(&["quick", "--clients", "5", "--for", "1s", "--target", &format!("http://{address}")]);
    assert_eq!(run.code, 3, "{}", run.output);
    assert!(run.report.is_none());
    assert!(run.output.contains("cannot connect"), "{}", run.output);
}

#[test]
fn a_target_that_speaks_something_else_is_3() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read as _, Write as _};
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let run = run(&["quick", "--clients", "3", "--for", "1s", "--target", &format!("http://{address}")]);
    assert_eq!(run.code, 3, "{}", run.output);
    assert!(run.output.contains("status 404"), "{}", run.output);
}

#[test]
fn wrong_usage_is_2_and_says_what_is_wrong() {
    for (args, part) in [
        (&["quick", "--clients", "1"][..], "--clients"),
        (&["quick", "--rate", "0"], "--rate"),
        (&["quick", "--for", "soon"], "--for"),
        (&["quick", "--for", "0s"], "--for"),
        (&["quick", "--bytes", "3"], "--bytes"),
        (&["quick", "--threshold", "delivery.p98<3"], "delivery.p98"),
        (&["quick", "--target", "https://example.org"], "TLS"),
        (&["quick", "--migrating", "0.1"], "--transport quic"),
        (&["hold", "--migrating", "0.5"], "--transport quic"),
        (&["quick", "--loss", "0.05"], "--transport quic"),
        (&["hold", "--delay", "20ms"], "--transport quic"),
        (&["hold", "--tickets"], "--transport wss"),
        (&["hold", "--transport", "quic", "--target", "http://127.0.0.1:1"], "https://"),
        (&["hold", "--transport", "wss", "--target", "https://127.0.0.1:1"], "--ca"),
        (&["hold", "--transport", "quic", "--protocol", "mqtt"], "--protocol"),
        (&["quick", "--token-key", "key"], "--target"),
        (&["idle", "--protocol", "plain"], "--target"),
        (&["idle", "--connections", "4000000"], "descriptors"),
        (&["slow"], "slow"),
    ] {
        let run = run(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.output);
        assert!(run.output.contains(part), "{args:?}: {}", run.output);
    }
}

#[test]
fn ctrl_c_is_130_and_leaves_a_partial_report_and_no_server() {
    let out = tempfile::tempdir().unwrap();
    let mut command = common::command(&["quick", "--clients", "10", "--rate", "50", "--for", "600s"], out.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Its lines tell when the load has begun.
    let stderr = child.stderr.take().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line.contains("acknowledged/s")), "the load never began");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    for _ in lines {}
    let run = finished(child.wait_with_output().unwrap(), out.path());
    assert_eq!(run.code, 130, "{}", run.output);
    let report = run.report();
    assert_eq!(report["verdict"], "interrupted");
    assert!(report["sends"]["acknowledged"].as_u64().unwrap() > 0);
    let pid = Pid::from_raw(report["server"]["pid"].as_i64().unwrap() as i32).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_err(), "the server of the run is still there");
    let left = std::fs::read_dir(out.path()).unwrap().count();
    assert_eq!(left, 2, "only the report is left");
}
