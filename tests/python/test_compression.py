"""Compression, fragments, pings and close codes by Python's `websockets`, which shares nothing with our codec."""

import asyncio
import re
import zlib

import pytest
import websockets
from conftest import ANSWER_WITHIN_S, Server, connected, opened, run
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

LONG = "To and fro, to and fro, the birds of Roost do come and go. " * 40


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One for all tests here, with compression and /echo."""
    server = Server(tmp_path_factory.mktemp("server"), compression="on", bench_paths="true")
    yield server
    assert server.stop() == 0


def metric(server, name: str) -> float:
    status, text = server.get(server.admin, "/metrics")
    assert status == 200
    values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    assert values, name
    return sum(map(float, values))


def offer(**parameters):
    """Exactly one offer, with these parameters."""
    return {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**parameters)]}


def agreed(socket) -> str:
    return socket.response.headers.get("Sec-WebSocket-Extensions", "")


async def raw(socket, *frames):
    """Frames as they are given, whatever the library thinks of them; the masking key is 0."""
    for frame in frames:
        flags = frame.fin << 7 | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4
        size = len(frame.data)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        if size > 0xFFFF:
            length = b"\xff" + size.to_bytes(8, "big")
        socket.transport.write(bytes([flags | frame.opcode]) + length + bytes(4) + bytes(frame.data))
    await asyncio.sleep(0)


def deflated(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({}, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ({"compression": None}, ""),
        (offer(), "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        (
            offer(server_max_window_bits=9, client_max_window_bits=9),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
        ),
        (
            offer(server_no_context_takeover=True, client_no_context_takeover=True, client_max_window_bits=True),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
    ],
    ids=["default", "none", "plain", "small windows", "no takeover"],
)
def test_websockets_talks_whatever_it_offers(server, options, answer):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def enter(client, guest):
        return await client.ask("welcome", connect={"token": guest["token"], "device": "laptop"})

    async def walk():
        async with opened(server, **options) as a, opened(server, **options) as b:
            assert agreed(a.socket) == answer
            await enter(a, ada)
            await enter(b, bob)
            conv = await a.direct(bob["user"])
            for seq, text in enumerate([LONG, "short", "ü" * 500], 1):
                assert (await a.send(conv, text))["seq"] == seq
                entry = await b.hear("entry")
                assert (entry["seq"], entry["body"]["text"]) == (seq, text)
            page = await b.ask("page", history={"conv": conv, "after": 0, "limit": 10})
            assert [entry["body"]["text"] for entry in page["entries"]] == [LONG, "short", "ü" * 500]

    run(walk())


def test_what_was_agreed_on_is_used_in_both_directions(server):
    async def walk():
        async with connected(server, server.guest("Ada")["token"]) as a:
            conv = await a.direct(server.guest("Bob")["user"])
            before = metric(server, "roost_inflated_bytes_total")
            for _ in range(5):
                await a.send(conv, LONG)
            await a.ask("page", history={"conv": conv, "after": 0, "limit": 10})
            assert metric(server, "roost_inflated_bytes_total") - before > 5 * len(LONG)
            assert metric(server, "roost_deflate_saved_bytes_total") > 0

    run(walk())


@pytest.mark.parametrize("options", [{}, {"compression": None}], ids=["compressed", "plain"])
def test_echo_sends_back_fragments_texts_and_bytes(server, options):
    async def walk():
        async with opened(server, "/echo", max_queue=None, **options) as client:
            socket = client.socket
            for message in ["", "x", LONG, "ü" * 70_000, bytes(range(256)) * 2000, b"\0" * 3_000_000]:
                await socket.send(message)
                assert await socket.recv() == message
                # In fragments, which are one message when they come back.
                half = len(message) // 2
                await socket.send(iter([message[:half], message[half:]]))
                assert await socket.recv() == message
            # Several at once come back in their order.
            for number in range(500):
                await socket.send(f"{number} {LONG[:200]}")
            assert [int((await socket.recv()).split()[0]) for _ in range(500)] == list(range(500))

    run(walk())


def test_pings_are_answered_between_the_fragments_of_a_compressed_message(server):
    async def walk():
        async with opened(server, "/echo", ping_interval=None, **offer()) as client:
            data = deflated(LONG.encode())
            await raw(client.socket, Frame(Opcode.TEXT, data[:20], fin=False, rsv1=True))
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await (await client.socket.ping(b"between"))
            await raw(client.socket, Frame(Opcode.CONT, data[20:]))
            assert await client.socket.recv() == LONG

    run(walk())


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([Frame(Opcode.TEXT, b"no deflate", rsv1=True)], 1007),
        ([Frame(Opcode.TEXT, deflated(LONG.encode())[:-10], rsv1=True)], 1007),
        ([Frame(Opcode.TEXT, deflated(b"caf\xe9" * 20), rsv1=True)], 1007),
        ([Frame(Opcode.TEXT, b"caf\xe9")], 1007),
        ([Frame(Opcode.TEXT, b"\xc3", fin=False), Frame(Opcode.CONT, b"x", fin=False)], 1007),
        ([Frame(Opcode.TEXT, b"x", fin=False), Frame(Opcode.CONT, b"y", rsv1=True)], 1002),
        ([Frame(Opcode.PING, b"", rsv1=True)], 1002),
        ([Frame(Opcode.TEXT, b"x", rsv2=True)], 1002),
        ([Frame(Opcode.TEXT, b"x", rsv3=True)], 1002),
        ([Frame(Opcode.CONT, b"x")], 1002),
        ([Frame(Opcode.TEXT, deflated(b" " * 70_000), rsv1=True)], 1009),
        ([Frame(Opcode.BINARY, deflated(b"\0" * (64 << 20)), rsv1=True)], 1009),
        ([Frame(Opcode.BINARY, b"\0", rsv1=True)], 1003),
        ([Frame(Opcode.CLOSE, (3001).to_bytes(2, "big") + b"bye")], 3001),
    ],
)
def test_each_breach_closes_with_its_code_and_the_server_goes_on(server, frames, code):
    async def walk():
        async with opened(server, "/ws", ping_interval=None, **offer()) as client:
            await client.hear("hello")
            await client.ask("welcome", connect={"token": server.guest("Ada")["token"], "device": "laptop"})
            await raw(client.socket, *frames)
            assert await client.closed_with() == code

    run(walk())
    assert server.get(server.admin, "/livez")[0] == 200


def test_who_did_not_agree_may_not_compress(server):
    async def walk():
        async with opened(server, "/echo", ping_interval=None, compression=None) as client:
            await raw(client.socket, Frame(Opcode.TEXT, deflated(LONG.encode()), rsv1=True))
            assert await client.closed_with() == 1002

    run(walk())


def test_bombs_leave_memory_where_it_was(server):
    def resident_kib() -> int:
        with open(f"/proc/{server.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    bomb = Frame(Opcode.BINARY, deflated(b"\0" * (64 << 20)), rsv1=True)
    assert len(bomb.data) < 70_000

    async def walk():
        async with opened(server, "/ws", ping_interval=None, **offer()) as client:
            await client.hear("hello")
            await client.ask("welcome", connect={"token": server.guest("Ada")["token"], "device": "laptop"})
            await raw(client.socket, bomb)
            assert await client.closed_with() == 1009

    run(walk())
    before = resident_kib()
    for _ in range(20):
        run(walk())
    assert resident_kib() - before < 1024, "20 bombs of 64 MiB take less than 1 MiB together"


def test_compression_is_off_by_default(tmp_path):
    plain = Server(tmp_path)
    try:

        async def walk():
            async with opened(plain) as client:
                assert agreed(client.socket) == ""
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with opened(plain, "/echo"):
                    pass
            assert refused.value.response.status_code == 404

        run(walk())
    finally:
        plain.stop()
