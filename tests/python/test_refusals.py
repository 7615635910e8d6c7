"""Bad input: each gets a coded error or close, and the server goes on."""

import base64
import json
import socket

import pytest
import websockets
from conftest import Server, connected, opened, run


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One for all tests here: whatever it is sent, it goes on."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"send": {"conv": "c_nope", "cmid": "1", "body": {"text": "x"}}}, 300),
        ({"send": {"conv": "c nope", "cmid": "1", "body": {"text": "x"}}}, 104),
        ({"history": {"conv": "c_nope", "after": 0}}, 300),
        ({"get": {"conv": ""}}, 104),
        ({"create": {"kind": "direct", "members": ["u_nobody"]}}, 304),
        ({"create": {"kind": "direct", "members": []}}, 104),
        ({"create": {"kind": "group", "name": "n" * 200, "members": []}}, 104),
        ({"welcome": {}}, 101),
        ({"dance": {}}, 101),
        ({"connect": {"guest": "again"}}, 103),
        ({"subscribe": {"channel": "c_looks_like_an_id"}}, 104),
        ({"publish": {"channel": "news", "body": {"text": ""}}}, 104),
        ({"refresh": {"token": "no.such.token"}}, 200),
    ],
)
def test_f01_each_bad_command_gets_its_code_and_the_session_lives(server, command, code):
    async def walk():
        async with connected(server, server.guest("Ada")["token"]) as a:
            error = await a.ask("error", **command)
            assert error["code"] == code, error
            assert isinstance(error["retryable"], bool) and error["message"]
            assert await a.ask("pong", ping={}) == {}

    run(walk())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"cmid": ""}, 104),
        ({"cmid": "c" * 65}, 104),
        ({"body": {"text": ""}}, 104),
        ({"body": {"text": "x" * 40_000}}, 403),
        ({"body": {"event": {"kind": "removed", "users": ["u_x"]}}}, 104),
    ],
)
def test_f14_a_send_that_cannot_be_stored_says_why(server, change, code):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a:
            conv = await a.direct(bob["user"])
            error = await a.ask("error", send={"conv": conv, "cmid": "1", "body": {"text": "x"}, **change})
            assert (error["code"], error["retryable"]) == (code, False), error
            assert (await a.send(conv, "well"))["seq"] == 1

    run(walk())


def test_f14_the_same_cmid_with_another_body_is_refused(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a:
            conv = await a.direct(bob["user"])
            await a.send(conv, "one", cmid="same")
            command = {"conv": conv, "cmid": "same", "body": {"text": "two"}, "attempt": 1, "seen": 0}
            assert (await a.ask("error", send=command))["code"] == 303
            assert (await a.send(conv, "one", cmid="same", attempt=2, seen=0))["dup"] is True

    run(walk())


def test_f01_who_sends_too_fast_is_told_how_long_to_wait(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a:
            conv = await a.direct(bob["user"])
            for rid in range(1000, 1100):
                await a.say(rid=rid, send={"conv": conv, "cmid": str(rid), "body": {"text": "x"}})
            replies = {}
            while len(replies) < 100:
                frame = json.loads(await a.socket.recv())
                if frame.get("rid", 0) >= 1000:
                    replies[frame["rid"]] = frame
            refused = [frame["error"] for frame in replies.values() if "error" in frame]
            assert {error["code"] for error in refused} == {400}
            assert all(error["retryable"] and error["retry_after_ms"] > 0 for error in refused)
            stored = [frame["sent"]["seq"] for frame in replies.values() if "sent" in frame]
            assert sorted(stored) == list(range(1, len(stored) + 1)) and len(stored) >= 60

    run(walk())


def test_f01_a_malformed_frame_is_an_error_and_not_the_end(server):
    async def walk():
        async with connected(server, server.guest("Ada")["token"]) as a:
            for text in ("{", "[]", "null", '{"send":{"conv":7}}', '{"ping":{},"pong":{}}', '{"rid":-1,"ping":{}}'):
                await a.socket.send(text)
                error = await a.hear("error")
                assert error["code"] == 100, (text, error)
            assert await a.ask("pong", ping={}) == {}

    run(walk())


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([json.dumps({"rid": 1, "connect": {"token": "no.such.token"}})], 4500),
        ([json.dumps({"rid": 1, "connect": {}})], 4500),
        (["{" for _ in range(20)], 4502),
        (["x" * 70_000], 1009),
        ([b"binary on a JSON session"], 1003),
    ],
)
def test_f01_what_cannot_go_on_is_closed_with_a_code(server, messages, code):
    async def walk():
        async with opened(server) as client:
            try:
                for message in messages:
                    await client.socket.send(message)
            except websockets.ConnectionClosed:
                pass  # The code is what counts.
            assert await client.closed_with() == code
        assert server.guest("Ada")

    run(walk())


def forged(token: str) -> list[str]:
    """Tokens that nobody signed."""
    head, claims, signature = token.split(".")

    def encoded(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    decoded = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).decode()
    other = encoded(decoded.replace("u_", "u_x", 1))
    return [
        "",
        "x",
        f"{head}.{claims}.",
        f"{head}.{claims}.{signature[:-2]}",
        f"{head}.{other}.{signature}",
        f"{encoded(json.dumps({'alg': 'none', 'typ': 'JWT'}))}.{claims}.",
        f"{encoded(json.dumps({'alg': 'HS512', 'typ': 'JWT'}))}.{claims}.{signature}",
        "x" * 5000,
    ]


def test_f01_a_forged_token_lets_nobody_in(server):
    token = server.guest("Ada")["token"]

    async def walk():
        for bad in forged(token):
            async with opened(server) as client:
                error = await client.ask("error", connect={"token": bad, "device": "laptop"})
                assert error["code"] in (104, 200), (bad, error)
                assert await client.closed_with() == 4500
        async with connected(server, token):
            pass

    run(walk())


def test_f01_a_token_in_the_url_counts_for_nothing(server):
    async def walk():
        async with opened(server, f"/ws?token={server.guest('Ada')['token']}") as client:
            await client.ask("error", connect={"device": "laptop"})
            assert await client.closed_with() == 4500

    run(walk())


def test_f01_nothing_is_answered_before_connect(server):
    async def walk():
        async with opened(server) as client:
            for command in ({"history": {"conv": "c_1", "after": 0}}, {"search": {"prefix": ""}}, {"sync": {}}):
                assert (await client.ask("error", **command))["code"] == 102

    run(walk())


def masked(first: int, payload: bytes, announced: int | None = None) -> bytes:
    """A frame as a client sends it, with the mask 0; `announced` lies about its length."""
    length = len(payload) if announced is None else announced
    if length < 126:
        head = bytes([first, 0x80 | length])
    elif length < 1 << 16:
        head = bytes([first, 0x80 | 126]) + length.to_bytes(2)
    else:
        head = bytes([first, 0x80 | 127]) + length.to_bytes(8)
    return head + bytes(4) + payload


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(b"\x81\x02{}", 1002, id="unmasked"),
        pytest.param(masked(0xC1, b"{}"), 1002, id="reserved bit"),
        pytest.param(masked(0x83, b"{}"), 1002, id="unknown opcode"),
        pytest.param(masked(0x80, b"{}"), 1002, id="continuation of nothing"),
        pytest.param(masked(0x01, b"{") + masked(0x81, b"}"), 1002, id="message inside a message"),
        pytest.param(masked(0x09, b"x"), 1002, id="fragmented ping"),
        pytest.param(masked(0x89, b"x" * 126), 1002, id="long ping"),
        pytest.param(masked(0x88, b"\x03"), 1002, id="close of one byte"),
        pytest.param(masked(0x88, (1005).to_bytes(2)), 1002, id="close with a code that may not be sent"),
        pytest.param(masked(0x81, b"\xff\xfe"), 1007, id="not UTF-8"),
        pytest.param(masked(0x81, b"", announced=1 << 30), 1009, id="a GiB announced"),
        pytest.param(masked(0x81, b"", announced=1 << 63), 1002, id="a length with its top bit set"),
    ],
)
def test_f01_what_breaks_rfc_6455_is_closed_with_its_code(server, sent, code):
    host, port = server.listen.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {server.listen}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        received = b""
        while b"connect_within_ms" not in received:
            received += raw.recv(4096)
        # The answer to RFC 6455's own sample key.
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in received
        raw.sendall(sent)
        received = b""
        while part := raw.recv(4096):
            received += part
        assert received[0] == 0x88 and int.from_bytes(received[2:4]) == code
    assert server.guest("Ada")


def test_f01_a_page_of_another_origin_may_not_open_a_socket(server):
    async def walk():
        for origin in ("https://elsewhere.example", "null", f"http://{server.listen}.example"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with opened(server, origin=origin):
                    pass
            assert refused.value.response.status_code == 403
        async with opened(server, origin=f"http://{server.listen}"):
            pass

    run(walk())
