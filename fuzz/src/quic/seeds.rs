//! First inputs: see [`step`](super::step) for what the numbers mean.

/// Frames of all kinds (RFC 9000 §19), well and badly made.
const FRAMES: [&[u8]; 24] = [
    // PING, a broken ACK, RESET_STREAM, STOP_SENDING, CRYPTO, NEW_TOKEN.
    &[1],
    &[2, 0x40, 0xff, 0, 9, 9],
    &[3, 5, 0, 1, 0, 0, 0x40],
    &[4, 0, 0, 0],
    &[5, 0, 1],
    &[6, 0, 4, 1, 0, 0, 0],
    &[6, 0xbf, 0xff, 0xff, 0xff, 1, 0],
    &[7, 1, 1],
    // STREAM on the one, on others of every kind, far ahead, ended.
    &[0x0a, 0, 1, b'x'],
    &[0x0e, 0, 0x80, 1, 0, 0, 1, b'x'],
    &[0x0f, 0, 0x40, 9, 1, b'x'],
    &[0x0a, 4, 1, b'x'],
    &[0x0a, 2, 1, b'x'],
    &[0x0a, 1, 1, b'x'],
    // Windows and streams, ids that come and go, challenges.
    &[0x10, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x11, 0, 1],
    &[0x12, 0xd0, 0, 0, 0, 0, 0, 0, 1],
    &[0x14, 9, 0x15, 0, 9, 0x16, 9],
    &[0x18, 9, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    &[0x19, 0],
    &[0x1a, 1, 2, 3, 4, 5, 6, 7, 8],
    // Ends, a datagram, HANDSHAKE_DONE, which only servers say, and a frame that nobody knows.
    &[0x1c, 0, 0, 0],
    &[0x1e, 0x31, 2, b'h', b'i'],
    &[0x7f, 0xff, 0, 0],
];

/// The control stream of HTTP/3 with SETTINGS, as a browser has them (RFC 9114 §6.2.1).
const SETTINGS: &[u8] = &[
    0, 4, 33, 171, 96, 55, 66, 1, 8, 1, 128, 255, 210, 119, 1, 51, 1, 192, 0, 0, 0, 198, 113, 112, 106, 1, 171, 96, 55,
    67, 1, 6, 128, 0, 64, 0,
];

/// All of them.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [forgeries(), strangers(), friends(), rogues(), web()].concat()
}

/// `frames` in a packet of the first rogue.
fn forged(form: u8, header: u8, frames: &[u8]) -> Vec<u8> {
    [&[4, 0, form, header, frames.len() as u8][..], frames].concat()
}

/// `bytes` of the first rogue: on its stream, on one beside it, on one without answers.
fn say(where_to: u8, bytes: &[u8]) -> Vec<u8> {
    [&[20, 0, where_to, bytes.len() as u8][..], bytes].concat()
}

fn forgeries() -> Vec<Vec<u8>> {
    let sealed = |frames: &&[u8]| {
        let frames = *frames;
        [0, 2, 3].map(|level| [&[7, 2, 8][..], &forged(level, 0, frames), &[14, 0, 9]].concat())
    };
    let mut all: Vec<Vec<u8>> = FRAMES.iter().flat_map(sealed).collect();
    // In the middle of a handshake; with its first byte changed.
    all.push([&[7, 2, 4][..], &forged(3, 0, &[6, 0, 4, 1, 0, 0, 0]), &forged(2, 0, &[1])].concat());
    all.push([&[7, 2, 8][..], &forged(8, 0x18, &[1]), &forged(8, 4, &[1])].concat());
    all
}

fn strangers() -> Vec<Vec<u8>> {
    // Short datagrams, long ones of all versions, what was overheard, two in one.
    let mut all = vec![[&[5][..], &[0, 15, 3, 0x40, 1, 2].repeat(3), &[0, 0, 0]].concat()];
    all.extend([0, 2, 3, 0x80].map(|form| [0, 1, 15, 0xc0, form, 10, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0].to_vec()));
    all.push((0..20).flat_map(|which| [12, which, 15]).collect());
    all.push([&[1][..], &[22, 15, 1, 22, 15, 4, 22, 0, 7]].concat());
    all
}

/// Friends whose words are changed, cut, or overtaken by their copies; who move; who are told something.
fn friends() -> Vec<Vec<u8>> {
    vec![
        (0..16).flat_map(|at| [9, at & 1, 15, at * 3, 0, 1 << (at & 7)]).collect(),
        vec![11, 11, 0, 15, 20, 0, 9, 1, 15, 3, 0, 0, 15, 1, 200, 16, 0, 0xff, 0x10],
        vec![1, 18, 0, 1, 18, 1, 0, 15, 0, 9, 16, 1, 9, 0, 14, 0x40, 0x9c],
    ]
}

fn rogues() -> Vec<Vec<u8>> {
    let mut all = vec![
        // Handshakes that go no further, until others are asked for more; another protocol.
        [&[3][..], &[2, 4, 7, 0].repeat(6), &[2, 2, 2, 3, 14, 0xff, 0x3f]].concat(),
        // Some that open no stream; one that is thought to be here and there.
        [&[1][..], &[2, 0].repeat(8), &[14, 0xff, 0x7f]].concat(),
        vec![1, 2, 8, 19, 0, 200, 19, 0, 200, 7, 0],
    ];
    // Clients that write, update keys, break off, leave, move, are not read, are let go; what is lost.
    let act = |what| vec![2, 2, 8, 8, 0, what, 0, 4, 7, 0, 17, 0, what, 8, 0, 0, 0, 8, 7, 0, 13, what << 5, 7, 0];
    all.extend((0..9).map(act));
    all
}

/// A request for a session by WebTransport: CONNECT in a HEADERS frame (RFC 9204, without a table).
pub(super) fn connect() -> Vec<u8> {
    let (host, path, protocol) = (&b"localhost"[..], &b"/wt"[..], &b"webtransport"[..]);
    let name = &b":protocol"[..];
    [&[1, 44, 0, 0, 207, 215, 80, 9], host, &[81, 3], path, &[39, 2], name, &[12], protocol].concat()
}

/// A session by WebTransport.
pub(super) fn session() -> Vec<u8> {
    [&[1, 2, 2][..], &say(2, SETTINGS), &say(0, &connect()), &say(1, &[0x40, 0x41, 0, b'!'])].concat()
}

fn web() -> Vec<Vec<u8>> {
    let behind = [
        // The end of the session, with its code; a second session; streams of a session that is none.
        say(0, &[0, 7, 0x68, 0x43, 4, 0, 0, 0, 7]),
        say(1, &connect()),
        say(1, &[0x40, 0x41, 0x40, 0x64, b'?']),
        say(2, &[0x40, 0x54, 0, b'?']),
        // A second control stream, streams of QPACK, GREASE, PUSH.
        say(2, SETTINGS),
        say(2, &[2, 0x3f, 0xe1, 0x1f]),
        say(2, &[3, 0x80]),
        say(2, &[0x21, 1, 2, 3]),
        say(2, &[1, 0]),
        // Frames that do not belong there, a length without its bytes, a datagram of the session, one of another.
        say(0, &[4, 0]),
        say(0, &[0, 0xbf, 0xff, 0xff, 0xff]),
        forged(0, 0, &[0x31, 4, 0, 2, 8, 1]),
        forged(0, 0, &[0x31, 3, 0x40, 0x64, 1]),
        // The request stream ends, is reset; the lane is stopped.
        vec![8, 0, 1, 0, 0, 7, 0],
        vec![8, 0, 2, 0, 0, 7, 0],
        forged(0, 0, &[5, 4, 0]),
    ];
    let mut all = vec![session()];
    all.extend(behind.map(|behind| [&session()[..], &behind, &[16, 2, 9, 0, 7, 0]].concat()));
    all.push([&[1, 2, 2][..], &say(2, &[0, 4, 2, 1, 1]), &say(0, &[1, 3, 0, 0, 0xd1])].concat());
    all.push([&[1, 2, 2][..], &say(0, &connect()[..9]), &say(2, &[0, 1, 0])].concat());
    all
}
