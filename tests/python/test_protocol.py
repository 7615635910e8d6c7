"""Walks the protocol's examples with an independent client: Python's `websockets`, plain JSON, no sub-protocol."""

import asyncio
import json
import signal
import socket
import uuid

import pytest
import websockets
from conftest import Client, connected


def run(coroutine):
    asyncio.run(coroutine)


async def pair(server):
    """Ada and Bob, as guests, and their direct conversation."""
    ada, bob = server.guest("Ada"), server.guest("Bob")
    return ada, bob


def test_f06_a_guest_enters_with_a_name_only(server):
    entered = server.guest("Ada")
    assert entered["user"].startswith("u_")
    assert entered["token"].count(".") == 2
    assert entered["expires"] > 1_700_000_000_000
    status, refused = server.post("/v1/guest", {"name": "  "})
    assert (status, refused["error"]["code"]) == (400, 104)


def test_f06_the_same_name_is_another_person(server):
    async def walk():
        ada, bob = await pair(server)
        stranger = server.guest("Ada")
        assert stranger["user"] != ada["user"]
        async with connected(server, ada["token"]) as a, connected(server, stranger["token"]) as s:
            made = await a.ask("conversation", create={"kind": "direct", "members": [bob["user"]]})
            await a.send(made["conv"], "for Bob alone")
            error = await s.ask("error", history={"conv": made["conv"], "after": 0, "limit": 50})
            assert error["code"] in (300, 301)
            assert (await s.ask("changed", sync={"since": ""}))["rows"] == []

    run(walk())


def test_f01_the_documented_examples_hold_literally(server):
    async def walk():
        ada, bob = await pair(server)
        async with (
            websockets.connect(f"ws://{server.listen}/ws") as first,
            websockets.connect(f"ws://{server.listen}/ws") as second,
        ):
            a, b = Client(first), Client(second)
            hello = json.loads(await first.recv())["hello"]
            assert hello["protocol"] == "roost.v1.json"
            assert hello["connect_within_ms"] == 10000
            assert hello["node"]
            await first.send(json.dumps({"rid": 1, "connect": {"token": ada["token"], "device": "laptop"}}))
            reply = json.loads(await first.recv())
            assert reply["rid"] == 1
            welcome = reply["welcome"]
            assert (welcome["user"], welcome["device"]) == (ada["user"], "laptop")
            assert welcome["heartbeat_ms"] == 25000
            assert welcome["fresh"] is False
            assert welcome["limits"]["frame_bytes"] == 65536
            assert welcome["session"] and welcome["token"] and isinstance(welcome["sync"], str)
            await b.hear("hello")
            await b.say(rid=1, connect={"token": bob["token"], "device": "phone"})
            await b.hear("welcome", 1)

            await a.say(rid=2, create={"kind": "direct", "members": [bob["user"]]})
            made = await a.hear("conversation", 2)
            conv = made["conv"]
            assert conv.startswith("c_")
            assert (made["kind"], made["name"], made["head"]) == ("direct", "", 0)
            assert {member["user"] for member in made["members"]} == {ada["user"], bob["user"]}
            assert all(member["role"] for member in made["members"])

            cmid = str(uuid.uuid4())
            send = {"conv": conv, "cmid": cmid, "body": {"text": "hi"}}
            await a.say(rid=3, send=send)
            sent = await a.hear("sent", 3)
            assert (sent["conv"], sent["seq"], sent["dup"]) == (conv, 1, False)
            entry = await b.hear("entry")
            assert entry["body"] == {"text": "hi"}
            assert {key: entry[key] for key in ("conv", "seq", "from", "cmid", "ts")} == {
                "conv": conv, "seq": 1, "from": ada["user"], "cmid": cmid, "ts": sent["ts"],
            }
            await a.say(rid=31, send={**send, "attempt": 1, "seen": 0})
            again = await a.hear("sent", 31)
            assert (again["seq"], again["dup"]) == (1, True)

            await b.say(ack={"conv": conv, "seq": 1})
            receipt = await a.hear("receipt")
            assert receipt == {"conv": conv, "user": bob["user"], "delivered": 1, "read": 0}
            changed = await b.ask("changed", sync={"since": ""})
            row = changed["rows"][0]
            assert (row["conv"], row["kind"], row["head"]) == (conv, "direct", 1)
            assert (row["read"], row["delivered"], row["unread"]) == (0, 1, 1)
            assert row["last"]["body"] == {"text": "hi"}
            assert changed["more"] is False and changed["sync"]
            await b.say(read={"conv": conv, "seq": 1})
            receipt = await a.hear("receipt")
            assert receipt == {"conv": conv, "user": bob["user"], "delivered": 1, "read": 1}

            await b.say(rid=4, history={"conv": conv, "after": 0, "limit": 50})
            page = await b.hear("page", 4)
            assert (page["conv"], page["head"]) == (conv, 1)
            assert page["entries"] == [entry]
            page = await b.ask("page", history={"conv": conv, "before": 2})
            assert page["entries"] == [entry]

            await a.say(typing={"conv": conv, "on": True})
            assert await b.hear("typing") == {"conv": conv, "user": ada["user"], "on": True}

            await a.say(rid=6, watch={"users": [bob["user"]]})
            presence = await a.hear("presence", 6)
            assert presence["users"][0]["user"] == bob["user"]
            assert presence["users"][0]["online"] is True
            assert "last_seen" in presence["users"][0]

            await a.say(rid=7, subscribe={"channel": "news"})
            assert await a.hear("ok", 7) == {}
            await a.say(rid=8, publish={"channel": "news", "body": {"text": "doors open"}})
            published = await a.hear("sent", 8)
            assert (published["conv"], published["seq"]) == ("news", 1)
            entry = await a.hear("entry")
            assert (entry["conv"], entry["seq"], entry["body"]) == ("news", 1, {"text": "doors open"})

            await a.say(ping={})
            assert await a.hear("pong") == {}

    run(walk())


def test_f01_a_guest_may_connect_without_http(server):
    async def walk():
        async with websockets.connect(f"ws://{server.listen}/ws") as socket:
            client = Client(socket)
            await client.hear("hello")
            welcome = await client.ask("welcome", connect={"guest": "Ada", "device": "laptop"})
            assert welcome["user"].startswith("u_")
            async with connected(server, welcome["token"], "phone") as other:
                assert other.welcome["user"] == welcome["user"]

    run(walk())


def test_f07_a_message_reaches_every_device_of_both(server):
    async def walk():
        ada, bob = await pair(server)
        async with (
            connected(server, ada["token"], "laptop") as a1,
            connected(server, ada["token"], "phone") as a2,
            connected(server, bob["token"], "laptop") as b1,
            connected(server, bob["token"], "phone") as b2,
        ):
            made = await a1.ask("conversation", create={"kind": "direct", "members": [bob["user"]]})
            await a1.send(made["conv"], "everywhere")
            for other in (a2, b1, b2):
                assert (await other.hear("entry"))["body"]["text"] == "everywhere"
            await a1.nothing("entry")

    run(walk())


def test_f08_f09_groups_and_the_same_direct_conversation(server):
    async def walk():
        ada, bob = await pair(server)
        eve = server.guest("Eve")
        async with (
            connected(server, ada["token"]) as a,
            connected(server, bob["token"]) as b,
            connected(server, eve["token"]) as e,
        ):
            direct = await a.ask("conversation", create={"kind": "direct", "members": [bob["user"]]})
            same = await b.ask("conversation", create={"kind": "direct", "members": [ada["user"]]})
            assert same["conv"] == direct["conv"]

            group = await a.ask("conversation", create={"kind": "group", "name": "Birds", "members": [bob["user"]]})
            conv = group["conv"]
            assert group["kind"] == "group" and group["name"] == "Birds"
            assert {member["user"]: member["role"] for member in group["members"]} == {
                ada["user"]: "owner", bob["user"]: "member",
            }
            error = await e.ask("error", send={"conv": conv, "cmid": "x1", "body": {"text": "let me in"}})
            assert error == {"code": 301, "message": "not a member of this conversation", "retryable": False}
            await a.ask("conversation", members={"conv": conv, "add": [eve["user"]]})
            assert (await b.hear("entry"))["body"]["event"]["kind"] == "added"
            await e.send(conv, "thanks")
            await a.ask("conversation", update={"conv": conv, "name": "Wrens"})
            await a.ask("ok", leave={"conv": conv})
            left = await b.ask("conversation", get={"conv": conv})
            assert left["name"] == "Wrens"
            assert "owner" in {member["role"] for member in left["members"]} or "admin" in {
                member["role"] for member in left["members"]
            }

    run(walk())


def test_f11_a_backend_publishes_over_http(server):
    async def walk():
        ada = server.guest("Ada")
        async with connected(server, ada["token"]) as a:
            await a.ask("ok", subscribe={"channel": "news"})
            publish = {"channel": "news", "body": {"text": "hello"}}
            assert server.post("/v1/publish", publish)[0] == 401
            assert server.post("/v1/publish", publish, ada["token"])[0] == 403
            status, answer = server.post("/v1/publish", publish, server.service_token())
            assert (status, answer["seq"]) == (200, 1)
            assert (await a.hear("entry"))["body"] == {"text": "hello"}
            await a.nothing("entry")

    run(walk())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_f18_what_was_acknowledged_is_there_after_a_restart(server, how):
    async def before():
        ada, bob = await pair(server)
        async with connected(server, ada["token"]) as a:
            made = await a.ask("conversation", create={"kind": "direct", "members": [bob["user"]]})
            for number in range(20):
                await a.send(made["conv"], f"message {number}")
        return bob, made["conv"]

    async def after(bob, conv):
        async with connected(server, bob["token"]) as b:
            rows = (await b.ask("changed", sync={"since": ""}))["rows"]
            assert [(row["conv"], row["head"], row["unread"]) for row in rows] == [(conv, 20, 20)]
            page = await b.ask("page", history={"conv": conv, "after": 0, "limit": 50})
            assert [entry["body"]["text"] for entry in page["entries"]] == [f"message {n}" for n in range(20)]
            assert [entry["seq"] for entry in page["entries"]] == list(range(1, 21))

    bob, conv = asyncio.run(before())
    code = server.stop(how)
    assert code == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    server.start()
    run(after(bob, conv))


def test_f15_fresh_is_told_when_nothing_was_missed(server):
    async def walk():
        ada, bob = await pair(server)
        async with connected(server, ada["token"]) as a, connected(server, bob["token"]) as b:
            made = await a.ask("conversation", create={"kind": "direct", "members": [bob["user"]]})
            await a.send(made["conv"], "one")
            await b.hear("entry")
            sync = (await b.ask("changed", sync={"since": ""}))["sync"]
        async with connected(server, bob["token"], sync=sync) as b:
            assert b.welcome["fresh"] is True
        async with connected(server, ada["token"]) as a:
            await a.send(made["conv"], "two")
        async with connected(server, bob["token"], sync=sync) as b:
            assert b.welcome["fresh"] is False
            rows = (await b.ask("changed", sync={"since": sync}))["rows"]
            assert [(row["conv"], row["head"]) for row in rows] == [(made["conv"], 2)]

    run(walk())


def test_f23_history_pages_both_ways_without_gaps(server):
    async def walk():
        ada, bob = await pair(server)
        async with connected(server, ada["token"]) as a:
            conv = (await a.ask("conversation", create={"kind": "direct", "members": [bob["user"]]}))["conv"]
            for number in range(1, 31):
                await a.send(conv, str(number))
            forward, after = [], 0
            while page := (await a.ask("page", history={"conv": conv, "after": after, "limit": 7}))["entries"]:
                forward += page
                after = page[-1]["seq"]
            backward, before = [], 31
            while page := (await a.ask("page", history={"conv": conv, "before": before, "limit": 7}))["entries"]:
                backward = page + backward
                before = page[0]["seq"]
            assert [entry["seq"] for entry in forward] == list(range(1, 31))
            assert forward == backward

    run(walk())


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"send": {"conv": "c_nope", "cmid": "1", "body": {"text": "x"}}}, 300),
        ({"send": {"conv": "c nope", "cmid": "1", "body": {"text": "x"}}}, 104),
        ({"history": {"conv": "c_nope", "after": 0}}, 300),
        ({"get": {"conv": ""}}, 104),
        ({"create": {"kind": "direct", "members": ["u_nobody"]}}, 304),
        ({"create": {"kind": "direct", "members": []}}, 104),
        ({"welcome": {}}, 101),
        ({"dance": {}}, 101),
        ({"connect": {"guest": "again"}}, 103),
        ({"subscribe": {"channel": "c_looks_like_an_id"}}, 104),
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


def test_f14_the_same_cmid_with_another_body_is_refused(server):
    async def walk():
        ada, bob = await pair(server)
        async with connected(server, ada["token"]) as a:
            conv = (await a.ask("conversation", create={"kind": "direct", "members": [bob["user"]]}))["conv"]
            await a.send(conv, "one", cmid="same")
            command = {"conv": conv, "cmid": "same", "body": {"text": "two"}, "attempt": 1, "seen": 0}
            assert (await a.ask("error", send=command))["code"] == 303
            assert (await a.send(conv, "one", cmid="same"))["dup"] is True

    run(walk())


async def closed_with(socket) -> int:
    """The close code, whatever comes before it."""
    async with asyncio.timeout(10):
        try:
            while True:
                await socket.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([json.dumps({"rid": 1, "connect": {"token": "no.such.token"}})], 4500),
        (["{" for _ in range(20)], 4502),
        (["x" * 70_000], 1009),
        ([b"binary on a JSON session"], 1003),
    ],
)
def test_f01_what_cannot_go_on_is_closed_with_a_code(server, messages, code):
    async def walk():
        async with websockets.connect(f"ws://{server.listen}/ws", max_size=None) as socket:
            for message in messages:
                await socket.send(message)
            assert await closed_with(socket) == code

    run(walk())


def test_f01_nothing_is_answered_before_connect(server):
    async def walk():
        async with websockets.connect(f"ws://{server.listen}/ws") as socket:
            client = Client(socket)
            await client.hear("hello")
            assert (await client.ask("error", history={"conv": "c_1", "after": 0}))["code"] == 102

    run(walk())


def test_f01_an_unmasked_frame_is_a_protocol_error(server):
    host, port = server.listen.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {server.listen}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        received = b""
        while b"connect_within_ms" not in received:
            received += raw.recv(4096)
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in received
        raw.sendall(b"\x81\x02{}")
        received = b""
        while part := raw.recv(4096):
            received += part
        assert received[0] == 0x88 and int.from_bytes(received[2:4]) == 1002


def test_f01_a_page_of_another_origin_may_not_open_a_socket(server):
    async def walk():
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"ws://{server.listen}/ws", origin="https://elsewhere.example")
        assert refused.value.response.status_code == 403
        async with websockets.connect(f"ws://{server.listen}/ws", origin=f"http://{server.listen}"):
            pass

    run(walk())


def test_f41_health_metrics_and_version_are_served_apart(server):
    assert server.get(server.admin, "/livez")[0] == 200
    status, text = server.get(server.admin, "/readyz")
    assert (status, json.loads(text)["ready"]) == (200, True)
    status, text = server.get(server.admin, "/metrics")
    assert status == 200
    assert "# TYPE roost_connections_opened_total counter" in text
    assert json.loads(server.get(server.admin, "/version")[1])["name"] == "roost"
    assert server.get(server.listen, "/metrics")[0] == 404


def test_f27_the_server_serves_its_own_web_client(server):
    status, page = server.get(server.listen, "/")
    assert status == 200 and "<script" in page
