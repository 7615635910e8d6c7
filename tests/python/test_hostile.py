"""Clients that mean harm, against a real server with its defaults, by plain sockets and another WebSocket library."""

import contextlib
import json
import socket
import time
import zlib

import pytest
from conftest import Server, connected, run

UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One for all tests here: whatever it is sent, it goes on."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.stop()
    server.start(compression="on")
    yield server
    assert server.stop() == 0


def dial(server):
    host, port = server.listen.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def frame(first: int, payload: bytes) -> bytes:
    """A frame as a client sends it, with the mask 0."""
    if len(payload) < 126:
        head = bytes([first, 0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        head = bytes([first, 0x80 | 126]) + len(payload).to_bytes(2)
    else:
        head = bytes([first, 0x80 | 127]) + len(payload).to_bytes(8)
    return head + bytes(4) + payload


def upgraded(server, more: str = ""):
    """A socket behind the upgrade, its HELLO read."""
    raw = dial(server)
    raw.sendall(UPGRADE.format(host=server.listen, more=more).encode())
    received = b""
    while b"\r\n\r\n" not in received or len(received.split(b"\r\n\r\n", 1)[1]) < 2:
        received += raw.recv(4096)
    assert received.startswith(b"HTTP/1.1 101 "), received
    return raw, received


def rest(raw) -> bytes:
    """Everything until the end; a reset is an end too."""
    received = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while part := raw.recv(65536):
            received += part
    return received


def close_code(received: bytes) -> int | None:
    """The code of the close frame that ends what a server sent; servers do not mask."""
    at, code = 0, None
    while at + 2 <= len(received):
        opcode, length = received[at] & 0x0F, received[at + 1] & 0x7F
        begin = at + 2
        if length == 126:
            length, begin = int.from_bytes(received[at + 2 : at + 4]), at + 4
        elif length == 127:
            length, begin = int.from_bytes(received[at + 2 : at + 10]), at + 10
        if opcode == 8:
            code = int.from_bytes(received[begin : begin + 2])
        at = begin + length
    return code


def metric(server, *parts: str) -> float:
    """The sum of the series whose line has all the parts."""
    _, page = server.get(server.admin, "/metrics")
    lines = [line for line in page.splitlines() if not line.startswith("#") and all(part in line for part in parts)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400, id="length and chunks"),
        pytest.param("Content-Length: 4\r\nContent-Length: 5\r\n", 400, id="two lengths"),
        pytest.param("Host: other\r\n", 400, id="two hosts"),
        pytest.param("X: a\r\n b\r\n", 400, id="folded line"),
        pytest.param("Content-Length : 4\r\n", 400, id="blank before the colon"),
        pytest.param("X: a\nY: b\r\n", 400, id="bare line feed"),
        pytest.param("X: a\r\n" * 70, 431, id="seventy fields"),
        pytest.param(f"X: {'a' * 17_000}\r\n", 431, id="seventeen KiB"),
    ],
)
def test_f01_a_head_that_could_be_read_in_two_ways_is_refused(server, head, status):
    with dial(server) as raw:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            raw.sendall(f"POST /v1/guest HTTP/1.1\r\nHost: x\r\n{head}\r\nGET /smuggled HTTP/1.1\r\n\r\n".encode())
        answer = rest(raw)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert answer.count(b"HTTP/1.1 ") == 1, answer


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(0x89, b"0123456789") * 5000, 4504, id="pings"),
        pytest.param(frame(0x01, b"") + frame(0x00, b"") * 1500, 1009, id="empty fragments"),
        pytest.param(frame(0x01, b"x" * 7000) + frame(0x00, b"x" * 7000), 1009, id="too much before connect"),
        pytest.param(frame(0x01, b'"\xc3') + frame(0x00, b"\x28"), 1007, id="bad UTF-8 across fragments"),
        pytest.param(frame(0x91, b"{}"), 1002, id="a reserved bit that no extension has"),
        pytest.param(frame(0xC1, b"{}"), 1002, id="compressed though it was not agreed"),
        pytest.param(frame(0x81, b"{") * 20, 4502, id="malformed frames"),
    ],
)
def test_f01_a_flood_or_a_broken_rule_ends_in_a_close_code(server, sent, code):
    raw, _ = upgraded(server)
    with raw, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        raw.sendall(sent)
        assert close_code(rest(raw)) == code
    assert server.guest("Ada")


def test_f01_a_bomb_is_closed_before_it_takes_memory(server):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(squeeze.compress(b" " * (1 << 20)) for _ in range(48)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 60_000, "it fits into a frame"
    token = server.guest("Mallory")["token"]
    offer = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"

    def explode(of: bytes):
        raw, head = upgraded(server, offer)
        assert b"permessage-deflate" in head
        with raw:
            raw.sendall(frame(0x81, json.dumps({"rid": 1, "connect": {"token": token}}).encode()))
            until(lambda: b"welcome" in raw.recv(4096, socket.MSG_PEEK) or raw.recv(1, socket.MSG_PEEK)[0] & 0x40)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                raw.sendall(of)
            return close_code(rest(raw))

    assert explode(frame(0xC1, bomb[:-4])) == 1009
    before, closes = metric(server, "process_resident_memory_bytes"), metric(server, "closes_total", "protocol")
    for _ in range(20):
        assert explode(frame(0xC1, bomb[:-4])) == 1009
    # In fragments as well.
    assert explode(frame(0x41, bomb[:100]) + frame(0x80, bomb[100:-4])) == 1009
    grown = metric(server, "process_resident_memory_bytes") - before
    assert grown < 8 << 20, f"{grown / 1e6} MB for 21 bombs of 48 MiB"
    assert metric(server, "closes_total", "protocol") >= closes + 21


def test_f01_a_session_subscribes_to_so_much_and_no_more(server):
    ada = server.guest("Ada")

    async def walk():
        errors = metric(server, "roost_router_errors_total")
        async with connected(server, ada["token"]) as a:
            for number in range(128):
                await a.ask("ok", subscribe={"channel": f"flood-{number}"})
            for number in range(128, 300):
                assert (await a.ask("error", subscribe={"channel": f"flood-{number}"}))["code"] == 404
            assert (await a.ask("error", watch={"users": [f"u_x{number}" for number in range(513)]}))["code"] == 104
            # Leaving one makes room for one.
            await a.ask("ok", unsubscribe={"channel": "flood-0"})
            await a.ask("ok", subscribe={"channel": "flood-200"})
            assert (await a.ask("error", subscribe={"channel": "flood-201"}))["code"] == 404
        assert metric(server, "roost_router_errors_total") >= errors + 173

    run(walk())


def test_f01_who_reads_nothing_cannot_fill_the_servers_memory(server):
    token = server.guest("Mallory")["token"]
    raw, _ = upgraded(server)
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(frame(0x81, json.dumps({"rid": 1, "connect": {"token": token}}).encode()))
        ask = frame(0x81, json.dumps({"rid": 2, "get": {"conv": "c_nobody"}}).encode()) * 1000
        raw.setblocking(False)
        before = metric(server, "process_resident_memory_bytes")
        throttles = metric(server, "roost_throttles_total")
        sent, deadline = 0, time.monotonic() + 3
        while sent < 64 << 20 and time.monotonic() < deadline:
            try:
                # What did not fit is sent first: a frame that is cut would be another offence.
                sent += raw.send(ask[sent % len(ask) :])
            except BlockingIOError:
                time.sleep(0.01)
            except (ConnectionResetError, BrokenPipeError):
                break
        assert sent < 64 << 20, "the server read all of it"
        assert metric(server, "roost_throttles_total") > throttles or metric(server, "flood") > 0
        assert metric(server, "process_resident_memory_bytes") - before < 16 << 20
    assert server.guest("Ada")


def test_f01_a_flood_beside_a_session_leaves_it_served(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a:
            conv = await a.direct(bob["user"])
            floods = []
            for number in range(10):
                raw, _ = upgraded(server)
                raw.setblocking(False)
                floods.append(raw)
            for number in range(20):
                for raw in floods:
                    with contextlib.suppress(OSError):
                        raw.send(frame(0x89, b"x") * 1000)
                assert (await a.send(conv, str(number)))["seq"] == number + 1
            for raw in floods:
                raw.close()

    run(walk())
    until(lambda: metric(server, "roost_websocket_closes_total", "flood") >= 1)
