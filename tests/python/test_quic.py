"""Walks the protocol's examples over QUIC with independent clients: aioquic for the transport, protobuf for Python for the
frames. They know no more of Roost than PROTOCOL.md and roost.proto say."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import uuid
from pathlib import Path

import aioquic.asyncio
import pytest
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionState
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, StreamDataReceived
from conftest import ANSWER_WITHIN_S, Server, run

SCHEMA = Path(__file__).parents[2] / "wire" / "proto"


@pytest.fixture(scope="module")
def pb(tmp_path_factory):
    """The schema, compiled for Python."""
    out = tmp_path_factory.mktemp("schema")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SCHEMA}", f"--python_out={out}", "roost.proto"]
    subprocess.run(command, check=True)
    sys.path.insert(0, str(out))
    import roost_pb2

    yield roost_pb2
    sys.path.remove(str(out))


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path, dev_tls="true")
    yield server
    server.stop()


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def cut(bytes_: bytearray):
    """The first whole frame in `bytes_`, which loses it; None if it has not come."""
    length = shift = at = 0
    while True:
        if at == len(bytes_):
            return None
        length |= (bytes_[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if not bytes_[at - 1] & 128:
            break
    if len(bytes_) < at + length:
        return None
    frame = bytes(bytes_[at : at + length])
    del bytes_[: at + length]
    return frame


class Client(QuicConnectionProtocol):
    """One session: frames on the first stream, on those of pages, and in datagrams."""

    def __init__(self, *more, **options):
        super().__init__(*more, **options)
        self.stream = None
        self.inputs, self.pages = {}, []
        self.arrived = asyncio.Event()
        self.seen, self.datagrams = [], []
        self.ended = None
        self.rid = 0
        self.pb = None

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.heard_on_stream(event)
        elif isinstance(event, DatagramFrameReceived):
            self.heard_in_datagram(event.data)
        elif isinstance(event, ConnectionTerminated):
            self.ended = event
        self.arrived.set()

    def heard_on_stream(self, event: StreamDataReceived):
        input_ = self.inputs.setdefault(event.stream_id, bytearray())
        input_ += event.data
        while (frame := cut(input_)) is not None:
            self.seen.append(self.pb.Frame.FromString(frame))
            if event.stream_id != self.stream:
                self.pages.append((event.stream_id, self.seen[-1].WhichOneof("body")))
        assert not event.end_stream or not input_, "whole frames"

    def heard_in_datagram(self, data: bytes):
        data = bytearray(data)
        self.datagrams.append(self.pb.Frame.FromString(cut(data)))
        assert not data

    def bytes_of(self, rid: int = 0, **body) -> bytes:
        frame = self.pb.Frame(rid=rid, **body).SerializeToString()
        return varint(len(frame)) + frame

    def say(self, rid: int = 0, **body):
        if self.stream is None:
            self.stream = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(self.stream, self.bytes_of(rid, **body))
        self.transmit()

    def say_by_datagram(self, **body):
        self._quic.send_datagram_frame(self.bytes_of(**body))
        self.transmit()

    async def until(self, find):
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while (found := find()) is None:
                self.arrived.clear()
                await self.arrived.wait()
            return found

    async def hear(self, name: str, rid: int | None = None):
        """The next frame with a body `name` (and `rid`); others are kept for later."""

        def find():
            for at, frame in enumerate(self.seen):
                if frame.WhichOneof("body") == name and rid in (None, frame.rid):
                    return getattr(self.seen.pop(at), name)
                assert rid is None or frame.rid != rid, frame
            assert self.ended is None, self.ended
            return None

        return await self.until(find)

    async def ask(self, reply: str, **command):
        self.rid += 1
        self.say(self.rid, **command)
        return await self.hear(reply, self.rid)

    async def datagram(self):
        return await self.until(lambda: self.datagrams.pop(0) if self.datagrams else None)

    async def code(self) -> int:
        """What the connection was closed with."""
        return (await self.until(lambda: self.ended)).error_code


def configuration(server, alpn: str = "roost/1", **more) -> QuicConfiguration:
    settings = QuicConfiguration(alpn_protocols=[alpn], server_name="localhost", max_datagram_frame_size=65536, **more)
    settings.load_verify_locations(cafile=str(server.data / "dev-tls" / "cert.pem"))
    settings.verify_mode = ssl.CERT_REQUIRED
    return settings


@contextlib.asynccontextmanager
async def opened(server, pb, **more):
    """A connection on which nothing was said yet."""
    host, port = server.quic.rsplit(":", 1)
    options = {"configuration": configuration(server, **more), "create_protocol": Client}
    async with aioquic.asyncio.connect(host, int(port), **options) as client:
        client.pb = pb
        yield client


@contextlib.asynccontextmanager
async def connected(server, pb, token: str, device: str, **more):
    """A session."""
    async with opened(server, pb, **more) as client:
        client.welcome = await client.ask("welcome", connect={"token": token, "device": device})
        hello = await client.hear("hello")
        assert (hello.protocol, hello.connect_within_ms) == ("roost/1", 10000)
        yield client


async def walk_examples(pb, ada, bob, a, *bobs):
    """The exchanges that PROTOCOL.md documents, from a session of Ada's to those of Bob's."""
    made = await a.ask("conversation", create={"kind": pb.DIRECT, "members": [bob["user"]]})
    assert {member.user for member in made.members} == {ada["user"], bob["user"]}
    send = {"conv": made.conv, "cmid": str(uuid.uuid4()), "body": {"text": "hi"}}
    sent = await a.ask("sent", send=send)
    assert (sent.conv, sent.seq, sent.dup) == (made.conv, 1, False)
    for b in bobs:
        entry = await b.hear("entry")
        assert (entry.conv, entry.seq, entry.body.text, entry.ts) == (made.conv, 1, "hi", sent.ts)
    again = await a.ask("sent", send={**send, "attempt": 1, "seen": 0})
    assert (again.seq, again.ts, again.dup) == (1, sent.ts, True)
    b.say(ack={"conv": made.conv, "seq": 1})
    assert (await a.hear("receipt")).delivered == 1
    changed = await b.ask("changed", sync={"since": ""})
    assert [(row.conv, row.head, row.unread) for row in changed.rows] == [(made.conv, 1, 1)]
    b.say(read={"conv": made.conv, "seq": 1})
    assert (await a.hear("receipt")).read == 1
    page = await b.ask("page", history={"conv": made.conv, "after": 0, "limit": 50})
    assert (list(page.entries), page.head) == ([entry], 1)
    # The ephemeral lane: datagrams, both ways.
    a.say_by_datagram(typing={"conv": made.conv, "on": True})
    for b in bobs:
        typing = await b.datagram()
        assert (typing.typing.user, typing.typing.on) == (ada["user"], True)
    presence = await a.ask("presence", watch={"users": [bob["user"]]})
    assert (presence.users[0].user, presence.users[0].online) == (bob["user"], True)
    await a.ask("ok", subscribe={"channel": "news"})
    published = await a.ask("sent", publish={"channel": "news", "body": {"text": "doors open"}})
    assert (published.conv, published.seq) == ("news", 1)
    assert (await a.hear("entry")).body.text == "doors open"
    a.say(ping={})
    await a.hear("pong")
    error = await a.ask("error", send={"conv": "c_nowhere", "cmid": "x", "body": {"text": "hi"}})
    assert (error.code, error.retryable) == (300, False)


def test_f02_the_documented_examples_hold_over_quic(server, pb):
    assert server.quic.rsplit(":", 1)[1] == server.listen.rsplit(":", 1)[1], "one port number"
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with (
            connected(server, pb, ada["token"], "laptop") as a,
            connected(server, pb, bob["token"], "phone") as b,
        ):
            assert (a.welcome.user, a.welcome.device) == (ada["user"], "laptop")
            assert (a.welcome.heartbeat_ms, a.welcome.fresh) == (25000, False)
            assert a.welcome.limits.frame_bytes == 65536
            await walk_examples(pb, ada, bob, a, b)
            status, answer = server.post(
                "/v1/publish", {"channel": "news", "body": {"text": "doors close"}}, server.service_token()
            )
            assert (status, answer["seq"], (await a.hear("entry")).body.text) == (200, 2, "doors close")

    run(walk())


def test_f02_a_client_without_datagrams_gets_everything_by_the_stream(server, pb):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, pb, ada["token"], "a") as a:
            settings = configuration(server)
            settings.max_datagram_frame_size = None
            host, port = server.quic.rsplit(":", 1)
            async with aioquic.asyncio.connect(host, int(port), configuration=settings, create_protocol=Client) as b:
                b.pb = pb
                await b.ask("welcome", connect={"token": bob["token"], "device": "b"})
                made = await a.ask("conversation", create={"kind": pb.DIRECT, "members": [bob["user"]]})
                a.say(typing={"conv": made.conv, "on": True})
                assert (await b.hear("typing")).user == ada["user"]
                assert not b.datagrams

    run(walk())


def test_f02_a_client_moves_to_another_address_while_it_talks(server, pb):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, pb, ada["token"], "a") as a, connected(server, pb, bob["token"], "b") as b:
            conv = (await a.ask("conversation", create={"kind": pb.DIRECT, "members": [bob["user"]]})).conv
            for step in range(1, 11):
                # Another port, and from now on another connection id, as after a change of the network.
                moved = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                moved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                moved.bind(("::", 0, 0, 0))
                moved.setblocking(False)
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_datagram_endpoint(lambda: Relay(a), sock=moved)
                old, a._transport = a._transport, transport
                a.change_connection_id()
                sent = await a.ask("sent", send={"conv": conv, "cmid": str(uuid.uuid4()), "body": {"text": str(step)}})
                assert sent.seq == step
                assert (await b.hear("entry")).body.text == str(step)
                old.close()

    run(walk())


class Relay(asyncio.DatagramProtocol):
    """Hands what comes to another socket to a client."""

    def __init__(self, client):
        self.client = client

    def datagram_received(self, data, addr):
        self.client.datagram_received(data, addr)


def test_a_long_page_of_history_comes_on_a_stream_of_its_own(server, pb):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, pb, ada["token"], "laptop") as a:
            made = await a.ask("conversation", create={"kind": pb.DIRECT, "members": [bob["user"]]})
            conv = made.conv
            for number in range(40):
                text = f"{number} ".ljust(200, "x")
                await a.ask("sent", send={"conv": conv, "cmid": str(uuid.uuid4()), "body": {"text": text}})
            short = await a.ask("page", history={"conv": conv, "after": 0, "limit": 5})
            assert (len(short.entries), a.pages) == (5, [])
            page = await a.ask("page", history={"conv": conv, "after": 0, "limit": 50})
            assert [entry.seq for entry in page.entries] == list(range(1, 41))
            # Unidirectional, of the server, the first (RFC 9000, section 2.1).
            assert a.pages == [(3, "page")]
            await a.ask("page", history={"conv": conv, "before": 41, "limit": 50})
            assert a.pages == [(3, "page"), (7, "page")]

    run(walk())


def test_f02_a_wrong_alpn_is_refused(server, pb):
    async def walk():
        with pytest.raises(ConnectionError):
            async with opened(server, pb, alpn="h2"):
                pass

    run(walk())


def test_f02_codes_close_the_connection(server, pb):
    ada = server.guest("Ada")

    async def walk():
        async with opened(server, pb) as stranger:
            error = await stranger.ask("error", connect={"token": "forged", "device": "x"})
            assert error.code == 202 or error.code == 200
            assert await stranger.code() == 4500
        async with connected(server, pb, ada["token"], "same") as old:
            async with connected(server, pb, ada["token"], "same"):
                assert await old.code() == 4503
        async with connected(server, pb, ada["token"], "large") as large:
            large._quic.send_stream_data(large.stream, varint(65537))
            large.transmit()
            assert await large.code() == 1009
        async with connected(server, pb, ada["token"], "drained") as drained:
            server.process.terminate()
            assert (await drained.hear("goaway")).reason == "drain"
            assert await drained.code() in (4000, 1001)
            assert drained._quic._state in (QuicConnectionState.DRAINING, QuicConnectionState.TERMINATED)

    run(walk())


def test_f02_a_session_goes_on_after_many_signs_of_life(server, pb):
    ada = server.guest("Ada")

    async def walk():
        async with connected(server, pb, ada["token"], "a") as a:
            for _ in range(200):
                await a.ping()
            a.say(ping={})
            await a.hear("pong")

    run(walk())
