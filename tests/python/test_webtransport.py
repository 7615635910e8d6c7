"""Walks the protocol's examples by WebTransport with an independent client: HTTP/3 by aioquic, protobuf for Python. And says over
HTTP/3 what must not be said."""

import asyncio
import contextlib
import struct

import aioquic.asyncio
import pylsqpack
import pytest
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived, StreamReset
from conftest import Server, run
from test_quic import Client, configuration, connected, pb, server, varint, walk_examples  # noqa: F401 (fixtures)

# CLOSE_WEBTRANSPORT_SESSION, as a varint of QUIC.
CLOSE = b"\x68\x43"
FRAME_DATA, FRAME_HEADERS = b"\x00", b"\x01"


def number(value: int) -> bytes:
    """A varint of QUIC (RFC 9000 §16)."""
    if value < 1 << 6:
        return bytes([value])
    if value < 1 << 14:
        return struct.pack("!H", value | 1 << 14)
    return struct.pack("!I", value | 2 << 30)


class WebClient(Client):
    """A session by WebTransport, or a connection on its way there."""

    def __init__(self, *more, **options):
        super().__init__(*more, **options)
        self.h3 = None
        self.session = None
        self.answers = {}
        self.capsules = bytearray()
        self.resets, self.heard = {}, set()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.heard.add(event.stream_id)
        if isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        if isinstance(event, ConnectionTerminated):
            self.ended = event
        if isinstance(event, StreamDataReceived) and event.stream_id == self.stream:
            # aioquic takes the answers on a stream of its own for frames of HTTP/3; they are the session's as they are.
            self.heard_on_stream(event)
        elif self.h3:
            self.h3_events(event)
        self.arrived.set()

    def h3_events(self, event):
        for event in self.h3.handle_event(event):
            if isinstance(event, HeadersReceived):
                self.answers[event.stream_id] = dict(event.headers)
            elif isinstance(event, DatagramReceived):
                assert event.stream_id == self.session
                self.heard_in_datagram(event.data)
            elif isinstance(event, DataReceived):
                self.capsules += event.data

    def request(self, **changed) -> int:
        """Sends a request for a session, `changed` by fields with `_` for `:`; returns its stream."""
        stream = self._quic.get_next_available_stream_id()
        fields = {
            ":method": "CONNECT",
            ":protocol": "webtransport",
            ":scheme": "https",
            ":authority": "localhost",
            ":path": "/wt",
        }
        fields.update({name.replace("_", ":", 1): value for name, value in changed.items()})
        headers = [(name.encode(), value.encode()) for name, value in fields.items() if value is not None]
        self.h3.send_headers(stream, headers)
        self.transmit()
        return stream

    async def answer(self, stream: int) -> int:
        """The status that a request on `stream` got."""

        def find():
            assert self.ended is None or stream in self.answers, self.ended
            return self.answers.get(stream)

        return int((await self.until(find))[b":status"])

    def say(self, rid: int = 0, **body):
        if self.stream is None:
            self.stream = self.h3.create_webtransport_stream(self.session)
        super().say(rid, **body)

    def say_by_datagram(self, **body):
        self.h3.send_datagram(self.session, self.bytes_of(**body))
        self.transmit()

    async def begin(self, **changed):
        """Makes the session."""
        self.session = self.request(**changed)
        assert await self.answer(self.session) == 200

    async def close_code(self) -> int:
        """What the session was closed with, in its last capsule."""

        def find():
            if not self.capsules.startswith(CLOSE) or len(self.capsules) < 7:
                assert self.ended is None, self.ended
                return None
            return struct.unpack_from("!I", self.capsules, 3)[0]

        return await self.until(find)

    def raw(self, stream: int, data: bytes, end: bool = False):
        self._quic.send_stream_data(stream, data, end)
        self.transmit()

    def uni(self, data: bytes, end: bool = False) -> int:
        """A new stream that goes one way, with `data`."""
        stream = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self.raw(stream, data, end)
        return stream


@contextlib.asynccontextmanager
async def opened(server, pb, h3: bool = True):
    """A connection on which SETTINGS were said at most."""
    host, port = server.quic.rsplit(":", 1)
    options = {"configuration": configuration(server, alpn="h3"), "create_protocol": WebClient}
    async with aioquic.asyncio.connect(host, int(port), **options) as client:
        client.pb = pb
        if h3:
            client.h3 = H3Connection(client._quic, enable_webtransport=True)
            client.transmit()
        yield client


@contextlib.asynccontextmanager
async def web(server, pb, token: str, device: str):
    """A session with its WELCOME."""
    async with opened(server, pb) as client:
        await client.begin()
        client.welcome = await client.ask("welcome", connect={"token": token, "device": device})
        hello = await client.hear("hello")
        assert (hello.protocol, hello.connect_within_ms) == ("roost/1", 10000)
        yield client


def test_f02_the_documented_examples_hold_by_webtransport(server, pb):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with (
            web(server, pb, ada["token"], "laptop") as a,
            connected(server, pb, bob["token"], "phone") as b,
            web(server, pb, bob["token"], "page") as page,
        ):
            assert (a.welcome.user, a.welcome.device) == (ada["user"], "laptop")
            # To Bob by QUIC and by WebTransport.
            await walk_examples(pb, ada, bob, a, b, page)

    run(walk())


def test_f02_codes_of_a_session_by_webtransport_are_told_in_it(server, pb):
    ada = server.guest("Ada")

    async def walk():
        async with opened(server, pb) as stranger:
            await stranger.begin()
            error = await stranger.ask("error", connect={"token": "forged", "device": "x"})
            assert error.code in (200, 202)
            assert await stranger.close_code() == 4500
            # The connection goes once that has arrived, without a fault.
            assert await stranger.code() == 0x100
        async with web(server, pb, ada["token"], "same") as old:
            async with web(server, pb, ada["token"], "same"):
                assert await old.close_code() == 4503
        async with web(server, pb, ada["token"], "large") as large:
            large.raw(large.stream, varint(65537))
            assert await large.close_code() == 1009
        # The client's end, in both ways it may say so.
        for last in (b"\x00\x07" + CLOSE + b"\x04" + struct.pack("!I", 1000), b""):
            async with web(server, pb, ada["token"], "leaves") as leaves:
                leaves.raw(leaves.session, last, end=True)
                assert await leaves.code() == 0x100
        async with web(server, pb, ada["token"], "drained") as drained:
            server.process.terminate()
            assert (await drained.hear("goaway")).reason == "drain"
            assert await drained.close_code() in (4000, 1001)

    run(walk())


def test_a_request_that_makes_no_session_is_answered_with_its_status(server, pb):
    async def walk():
        for status, changed in [
            (404, {"_path": "/ws"}),
            (404, {"_path": "/wt/x"}),
            (405, {"_method": "GET", "_protocol": None}),
            (501, {"_protocol": "connect-udp"}),
            (501, {"_protocol": None}),
            (403, {"origin": "https://evil.example"}),
            (403, {"origin": "null"}),
            (400, {"_scheme": "http"}),
            (400, {"_authority": None}),
            (431, {"x": "y" * 20000}),
        ]:
            async with opened(server, pb) as client:
                assert await client.answer(client.request(**changed)) == status, changed
                # It may ask again, as it should have.
                await client.begin(_path="/wt?from=page", origin="https://localhost")
                assert (await client.ask("error", sync={"since": ""})).code == 102, "CONNECT comes first"
        total = {}
        for line in server.get(server.admin, "/metrics")[1].splitlines():
            if line.startswith("roost_webtransport_refused_total{"):
                total[line.split('"')[1]] = int(line.split()[-1])
        assert total == {"path": 2, "method": 3, "origin": 2, "malformed": 3, "stream": 0, "datagram": 0}

    run(walk())


# Frames and streams as bytes (RFC 9114 §7, §6.2).
def settings(*pairs: tuple[int, int]) -> bytes:
    body = b"".join(number(id_) + number(value) for id_, value in pairs)
    return b"\x04" + number(len(body)) + body


GOOD = settings((0x33, 1), (0x08, 1), (0x2B603742, 1))
CONTROL, PUSH, ENCODER, DECODER = b"\x00", b"\x01", b"\x02", b"\x03"
BREACHES = [
    ("SETTINGS that end in the middle of one", CONTROL + b"\x04\x01\x33", 0x106),
    ("one setting twice", CONTROL + settings((0x33, 1), (0x33, 1)), 0x109),
    ("a setting of HTTP/2", CONTROL + settings((0x02, 0)), 0x109),
    ("a datagram setting that is neither 0 nor 1", CONTROL + settings((0x33, 2)), 0x109),
    ("something before SETTINGS", CONTROL + b"\x07\x01\x00", 0x10A),
    ("SETTINGS twice", CONTROL + GOOD + GOOD, 0x105),
    ("a request's frame on the control stream", CONTROL + GOOD + b"\x01\x00", 0x105),
    ("huge SETTINGS", CONTROL + b"\x04" + number(100_000) + b"\x21\x00" * 2000, 0x107),
    ("a push", PUSH, 0x103),
    ("words about a table that has no room", ENCODER + b"\x3f\xe1\x1f", 0x201),
    ("frames without end that say nothing", CONTROL + GOOD + (b"\x21" + number(1000) + bytes(1000)) * 70, 0x107),
]


@pytest.mark.parametrize("data, code", [breach[1:] for breach in BREACHES], ids=[breach[0] for breach in BREACHES])
def test_breaches_of_http3_end_the_connection_with_their_code(web_server, pb, data, code):
    async def walk():
        async with opened(web_server, pb, h3=False) as client:
            client.uni(data)
            assert await client.code() == code

    run(walk())


@pytest.fixture(scope="module")
def web_server(tmp_path_factory):
    """One server for all that is said wrongly: it must outlive each."""
    server = Server(tmp_path_factory.mktemp("server"), dev_tls="true")
    yield server
    server.stop()


def test_streams_that_must_stay_open_end_the_connection_when_they_close(web_server, pb):
    async def walk():
        for data in (CONTROL + GOOD, ENCODER, DECODER):
            async with opened(web_server, pb, h3=False) as client:
                client.uni(data, end=True)
                assert await client.code() == 0x104
        for data in (CONTROL, ENCODER, DECODER):
            async with opened(web_server, pb) as client:
                client.uni(data)
                assert await client.code() == 0x103, "a second one"

    run(walk())


def test_breaches_on_a_request_end_the_connection_with_their_code(web_server, pb):
    async def walk():
        for name, data, code in [
            ("a field of the table that has no room", FRAME_HEADERS + b"\x03\x00\x00\x80", 0x200),
            ("a field section that is none", FRAME_HEADERS + b"\x01\x00", 0x200),
            ("a body before a head", FRAME_DATA + b"\x01x", 0x105),
            ("SETTINGS as a request", GOOD, 0x105),
            ("a stream of what cannot be a session", b"\x40\x41\x01", 0x108),
        ]:
            async with opened(web_server, pb) as client:
                if code == 0x108:
                    await client.begin()
                client.raw(client._quic.get_next_available_stream_id(), data)
                assert await client.code() == code, name
        ada = web_server.guest("Ada")
        for name, data, code in [
            ("a second head", FRAME_HEADERS + b"\x00", 0x105),
            ("GOAWAY on a request", b"\x07\x01\x00", 0x105),
            ("a close without a code", b"\x00\x04" + CLOSE + b"\x01x", 0x10E),
            ("a close with a long reason", b"\x00\x45\x00" + CLOSE + b"\x44\x05", 0x10E),
            ("capsules without end", (b"\x00\x44\x00" + b"\x17\x43\xfd" + bytes(1021)) * 70, 0x107),
        ]:
            async with web(web_server, pb, ada["token"], "a") as client:
                client.raw(client.session, data)
                assert await client.code() == code, name

    run(walk())


def test_what_is_not_known_is_ignored_and_what_is_too_much_is_refused(server, pb):
    ada = server.guest("Ada")

    async def walk():
        async with web(server, pb, ada["token"], "a") as client:
            # Frames, capsules and streams with types that mean nothing (RFC 9114 §7.2.8, RFC 9297 §5.4).
            client.raw(client.session, b"\x21\x02hi" + b"\x00\x04\x17\x02hi" + b"\x00\x02\x17\x00")
            for kind in (b"\x21", number(0x21 + 0x1F * 1000), b"\x40\x54\x00"):
                client.uni(kind + b"nothing", end=True)
            # A second session and a second stream of the one there is.
            second = client.request()
            extra = client.h3.create_webtransport_stream(client.session)
            client.raw(extra, b"x")
            reset = await client.until(lambda: client.resets if {second, extra} <= client.resets.keys() else None)
            assert (reset[second], reset[extra]) == (0x10B, 0x10B)
            # As many more as it likes, one after the other.
            for _ in range(20):
                another = client.request()
                await client.until(lambda another=another: client.resets.get(another))
            # Datagrams of another session, and of none.
            for data in (b"\x05hi", b"\x40", b""):
                client._quic.send_datagram_frame(data)
            client.transmit()
            client.say(ping={})
            await client.hear("pong")
        text = server.get(server.admin, "/metrics")[1]
        assert 'roost_webtransport_refused_total{reason="stream"} 25' in text
        assert 'roost_webtransport_refused_total{reason="datagram"} 3' in text
        assert "roost_webtransport_broken_total 0" in text

    run(walk())


def test_whatever_comes_first_a_session_comes_about(server, pb):
    """Packets overtake each other: SETTINGS, request and stream may come in any order."""
    ada = server.guest("Ada")

    async def walk():
        async with opened(server, pb, h3=False) as client:
            request = client._quic.get_next_available_stream_id()
            client._quic.send_stream_data(request, b"")
            lane = request + 4
            connect = client.bytes_of(1, connect={"token": ada["token"], "device": "d"})
            for byte in b"\x40\x41" + number(request):
                client.raw(lane, bytes([byte]))
                await asyncio.sleep(0)
            client.raw(lane, connect)
            await client.ping()
            encoder = pylsqpack.Encoder()
            fields = [(b":method", b"CONNECT"), (b":protocol", b"webtransport"), (b":scheme", b"https")]
            fields += [(b":authority", b"localhost"), (b":path", b"/wt")]
            _, section = encoder.encode(request, fields)
            for byte in FRAME_HEADERS + number(len(section)) + section:
                client.raw(request, bytes([byte]))
                await asyncio.sleep(0)
            await client.ping()
            assert not client.heard & {request, lane}, "nothing is answered before SETTINGS"
            client.stream = lane
            control = client.uni(CONTROL)
            for byte in GOOD:
                client.raw(control, bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.hear("welcome", 1)).device == "d"

    run(walk())
