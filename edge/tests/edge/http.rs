//! Requests that are no upgrade reach hyper through the shard, and its answers the client.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::{PATIENCE, Server, config, pattern, serve};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one response with a `Content-Length` from the front of `input`.
fn response(stream: &mut TcpStream, input: &mut Vec<u8>) -> (String, Vec<u8>) {
    let mut buf = vec![0; 64 * 1024];
    loop {
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(input[..end].to_vec()).unwrap().to_lowercase();
            let len = head.split("content-length: ").nth(1).expect("a length").lines().next().unwrap();
            let (from, len) = (end + 4, len.parse::<usize>().unwrap());
            if input.len() >= from + len {
                let body = input[from..from + len].to_vec();
                input.drain(..from + len);
                return (head, body);
            }
        }
        let n = stream.read(&mut buf).unwrap();
        assert!(n > 0, "the connection ended in a response");
        input.extend_from_slice(&buf[..n]);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let server = serve(config());
    let mut stream = connect(&server);
    stream
        .write_all(
            b"GET /one HTTP/1.1\r\nHost: edge\r\n\r\nPOST /two HTTP/1.1\r\nHost: edge\r\nContent-Length: 3\r\n\r\nabc\
              GET /three HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut input = Vec::new();
    for body in [&b"/one 0 0"[..], b"/two 3 294", b"/three 0 0"] {
        let (head, got) = response(&mut stream, &mut input);
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(got, body);
    }
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "closed after the last, without a reset");
    server.until("closed", |metrics| metrics.connections_open() == 0);
}

#[test]
fn a_client_that_ends_its_side_behind_the_request_gets_its_answer() {
    let server = serve(config());
    for (request, want) in [
        (&b"GET /big/3000000 HTTP/1.1\r\nHost: edge\r\n\r\n"[..], pattern(3_000_000)),
        (b"POST /up HTTP/1.1\r\nHost: edge\r\nContent-Length: 3\r\n\r\nabc", b"/up 3 294".to_vec()),
    ] {
        let mut stream = connect(&server);
        stream.write_all(request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut input = Vec::new();
        assert_eq!(response(&mut stream, &mut input).1, want);
        assert_eq!((stream.read(&mut [0; 1]).unwrap(), input.len()), (0, 0), "then it is closed");
    }
    server.until("closed", |metrics| metrics.connections_open() == 0);
}

#[test]
fn a_response_of_a_mebibyte_arrives_whole_even_at_a_slow_reader() {
    let server = serve(config());
    let mut stream = connect(&server);
    stream.write_all(b"GET /big/1048576 HTTP/1.1\r\nHost: edge\r\n\r\n").unwrap();
    // Whoever asks later is not held up by a response that nobody reads.
    let mut other = connect(&server);
    other.write_all(b"GET /other HTTP/1.1\r\nHost: edge\r\n\r\n").unwrap();
    assert_eq!(response(&mut other, &mut Vec::new()).1, b"/other 0 0");
    assert_eq!(response(&mut stream, &mut Vec::new()).1, pattern(1 << 20));
}

#[test]
fn a_body_larger_than_the_window_is_read_to_its_end() {
    let mut config = config();
    config.shard.http_window_bytes = 16 * 1024;
    let server = serve(config);
    let mut stream = connect(&server);
    let body = pattern(3 << 20);
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    write!(stream, "POST /up HTTP/1.1\r\nHost: edge\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(&body).unwrap();
    assert_eq!(response(&mut stream, &mut Vec::new()).1, format!("/up {} {sum}", body.len()).as_bytes());
    let metrics = server.handle().metrics();
    assert!(metrics.total.pauses > 0, "the window was shut at times");
    assert_eq!(metrics.total.pauses, metrics.total.resumes);
}

#[test]
fn a_client_that_goes_away_in_the_middle_frees_its_connection() {
    let server = serve(config());
    let mut stream = connect(&server);
    stream.write_all(b"GET /big/50000000 HTTP/1.1\r\nHost: edge\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    drop(stream);
    let mut stream = connect(&server);
    stream.write_all(b"POST /up HTTP/1.1\r\nHost: edge\r\nContent-Length: 1000\r\n\r\nonly this").unwrap();
    drop(stream);
    server.until("both freed", |metrics| metrics.total.connections_opened == 2 && metrics.connections_open() == 0);
}
