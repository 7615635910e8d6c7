"""Walks the protocol's documented examples with an independent client: Python's `websockets`, plain JSON, no
sub-protocol. It knows no more of Roost than PROTOCOL.md says."""

import json
import uuid

import websockets
from conftest import Client, connected, opened, run


def test_f01_the_documented_examples_hold_literally(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
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
            assert (again["seq"], again["ts"], again["dup"]) == (1, sent["ts"], True)

            await b.say(ack={"conv": conv, "seq": 1})
            assert await a.hear("receipt") == {"conv": conv, "user": bob["user"], "delivered": 1, "read": 0}
            changed = await b.ask("changed", sync={"since": ""})
            row = changed["rows"][0]
            assert (row["conv"], row["kind"], row["head"]) == (conv, "direct", 1)
            assert (row["read"], row["delivered"], row["unread"]) == (0, 1, 1)
            assert row["last"]["body"] == {"text": "hi"}
            assert changed["more"] is False and changed["sync"]
            await b.say(read={"conv": conv, "seq": 1})
            assert await a.hear("receipt") == {"conv": conv, "user": bob["user"], "delivered": 1, "read": 1}

            await b.say(rid=4, history={"conv": conv, "after": 0, "limit": 50})
            assert await b.hear("page", 4) == {"conv": conv, "entries": [entry], "head": 1}
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
            status, answer = server.post(
                "/v1/publish", {"channel": "news", "body": {"text": "doors close"}}, server.service_token()
            )
            assert (status, answer["seq"]) == (200, 2)

            await a.say(ping={})
            assert await a.hear("pong") == {}
            await a.say(rid=9, send={"conv": "c_nowhere", "cmid": "x", "body": {"text": "hi"}})
            error = await a.hear("error", 9)
            assert (error["code"], error["retryable"]) == (300, False) and error["message"]

    run(walk())


def test_f06_a_guest_enters_with_a_name_only(server):
    entered = server.guest("Ada")
    assert entered["user"].startswith("u_")
    assert entered["token"].count(".") == 2
    assert entered["expires"] > 1_700_000_000_000
    status, refused = server.post("/v1/guest", {"name": "  "})
    assert (status, refused["error"]["code"]) == (400, 104)


def test_f06_the_same_name_is_another_person(server):
    ada, bob, stranger = server.guest("Ada"), server.guest("Bob"), server.guest("Ada")
    assert stranger["user"] != ada["user"]

    async def walk():
        async with connected(server, ada["token"]) as a, connected(server, stranger["token"]) as s:
            conv = await a.direct(bob["user"])
            await a.send(conv, "for Bob alone")
            error = await s.ask("error", history={"conv": conv, "after": 0, "limit": 50})
            assert error["code"] in (300, 301)
            assert (await s.ask("changed", sync={"since": ""}))["rows"] == []

    run(walk())


def test_f01_a_guest_may_connect_without_http(server):
    async def walk():
        async with opened(server) as client:
            await client.hear("hello")
            welcome = await client.ask("welcome", connect={"guest": "Ada", "device": "laptop"})
            assert welcome["user"].startswith("u_")
            async with connected(server, welcome["token"], "phone") as other:
                assert other.welcome["user"] == welcome["user"]

    run(walk())


def test_f01_the_token_may_come_with_the_upgrade(server):
    ada = server.guest("Ada")

    async def walk():
        async with opened(server, additional_headers={"Authorization": f"Bearer {ada['token']}"}) as client:
            assert (await client.ask("welcome", connect={"device": "laptop"}))["user"] == ada["user"]

    run(walk())


def test_f01_the_sub_protocol_is_taken_from_the_offer(server):
    async def walk():
        for offer, taken in [(["roost.v1.json"], "roost.v1.json"), (["chat", "roost.v1.json"], "roost.v1.json")]:
            async with opened(server, subprotocols=offer) as client:
                assert client.socket.subprotocol == taken
                assert (await client.hear("hello"))["protocol"] == taken
        async with opened(server, subprotocols=["chat"]) as client:
            assert client.socket.subprotocol is None
            assert (await client.hear("hello"))["protocol"] == "roost.v1.json"

    run(walk())


def test_f01_fragments_and_pings_of_websocket_itself_are_understood(server):
    ada = server.guest("Ada")

    async def walk():
        async with connected(server, ada["token"]) as a:
            await a.socket.send(['{"rid":7,', '"pi', 'ng":{}}'])
            assert await a.hear("pong", 7) == {}
            await (await a.socket.ping(b"are you there"))

    run(walk())


def test_f07_a_message_reaches_every_device_of_both(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with (
            connected(server, ada["token"], "laptop") as a1,
            connected(server, ada["token"], "phone") as a2,
            connected(server, bob["token"], "laptop") as b1,
            connected(server, bob["token"], "phone") as b2,
        ):
            await a1.send(await a1.direct(bob["user"]), "everywhere")
            for other in (a2, b1, b2):
                assert (await other.hear("entry"))["body"]["text"] == "everywhere"
                await other.nothing("entry")
            await a1.nothing("entry")

    run(walk())


def test_f07_the_same_device_again_replaces_its_older_connection_only(server):
    ada = server.guest("Ada")

    async def walk():
        async with connected(server, ada["token"], "laptop") as old, connected(server, ada["token"], "phone") as phone:
            async with connected(server, ada["token"], "laptop") as new:
                assert await old.closed_with() == 4503
                for client in (new, phone):
                    assert await client.ask("pong", ping={}) == {}

    run(walk())


def test_f08_a_group_is_made_renamed_joined_and_left(server):
    ada, bob, eve = server.guest("Ada"), server.guest("Bob"), server.guest("Eve")

    async def walk():
        async with (
            connected(server, ada["token"]) as a,
            connected(server, bob["token"]) as b,
            connected(server, eve["token"]) as e,
        ):
            group = await a.ask("conversation", create={"kind": "group", "name": "Birds", "members": [bob["user"]]})
            conv = group["conv"]
            assert (group["kind"], group["name"]) == ("group", "Birds")
            assert roles(group) == {ada["user"]: "owner", bob["user"]: "member"}
            error = await e.ask("error", send={"conv": conv, "cmid": "x1", "body": {"text": "let me in"}})
            assert error == {"code": 301, "message": "not a member of this conversation", "retryable": False}
            assert (await e.ask("error", join={"conv": conv}))["code"] in (203, 300, 301)
            assert (await b.ask("error", update={"conv": conv, "name": "Mine"}))["code"] == 302

            await a.ask("conversation", members={"conv": conv, "add": [eve["user"]]})
            for other in (b, e):
                assert (await other.hear("entry"))["body"]["event"]["kind"] == "added"
            await e.send(conv, "thanks")
            await a.ask("conversation", update={"conv": conv, "name": "Wrens", "open": True})
            await e.ask("ok", leave={"conv": conv})
            assert (await e.ask("error", history={"conv": conv, "after": 0}))["code"] in (300, 301)
            await e.ask("conversation", join={"conv": conv})

            # The last who may manage it leaves: another is promoted.
            await a.ask("ok", leave={"conv": conv})
            left = await b.ask("conversation", get={"conv": conv})
            assert left["name"] == "Wrens"
            assert set(roles(left)) == {bob["user"], eve["user"]}
            assert {"owner", "admin"} & set(roles(left).values())
            page = await b.ask("page", history={"conv": conv, "after": 0})
            assert [entry["seq"] for entry in page["entries"]] == list(range(1, page["head"] + 1))

    run(walk())


def roles(conversation) -> dict[str, str]:
    return {member["user"]: member["role"] for member in conversation["members"]}


def test_f09_the_same_pair_has_one_conversation(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a, connected(server, bob["token"]) as b:
            assert await a.direct(bob["user"]) == await b.direct(ada["user"]) == await a.direct(bob["user"])

    run(walk())


def test_f10_a_publish_reaches_every_subscriber_once(server):
    async def walk():
        async with (
            connected(server, server.guest("Ada")["token"]) as a,
            connected(server, server.guest("Bob")["token"]) as b,
            connected(server, server.guest("Eve")["token"]) as e,
        ):
            for subscriber in (a, b):
                await subscriber.ask("ok", subscribe={"channel": "news"})
            for text in ("one", "two"):
                await e.ask("sent", publish={"channel": "news", "body": {"text": text}})
            for subscriber in (a, b):
                for text in ("one", "two"):
                    assert (await subscriber.hear("entry"))["body"] == {"text": text}
                await subscriber.nothing("entry")
            await e.nothing("entry")
            await a.ask("ok", unsubscribe={"channel": "news"})
            await e.ask("sent", publish={"channel": "news", "body": {"text": "three"}})
            assert (await b.hear("entry"))["seq"] == 3
            await a.nothing("entry")
            page = await a.ask("page", history={"conv": "news", "after": 0})
            assert [entry["body"]["text"] for entry in page["entries"]] == ["one", "two", "three"]

    run(walk())


def test_f11_a_backend_publishes_over_http(server):
    ada = server.guest("Ada")

    async def walk():
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


def test_f15_fresh_is_told_when_nothing_was_missed(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a, connected(server, bob["token"]) as b:
            conv = await a.direct(bob["user"])
            await a.send(conv, "one")
            await b.hear("entry")
            sync = (await b.ask("changed", sync={"since": ""}))["sync"]
        async with connected(server, bob["token"], sync=sync) as b:
            assert b.welcome["fresh"] is True
        async with connected(server, ada["token"]) as a:
            await a.send(conv, "two")
        async with connected(server, bob["token"], sync=sync) as b:
            assert b.welcome["fresh"] is False
            rows = (await b.ask("changed", sync={"since": sync}))["rows"]
            assert [(row["conv"], row["head"], row["unread"]) for row in rows] == [(conv, 2, 2)]
            await b.ask("ok", read={"conv": conv, "seq": 2})
            rows = (await b.ask("changed", sync={"since": sync}))["rows"]
            assert [(row["read"], row["delivered"], row["unread"]) for row in rows] == [(2, 2, 0)]

    run(walk())


def test_f16_typing_is_passed_on_and_stored_nowhere(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a, connected(server, bob["token"]) as b:
            conv = await a.direct(bob["user"])
            await a.ask("ok", typing={"conv": conv, "on": True})
            assert await b.hear("typing") == {"conv": conv, "user": ada["user"], "on": True}
            await a.ask("ok", typing={"conv": conv, "on": False})
            assert (await b.hear("typing"))["on"] is False
            await a.nothing("typing")
            assert (await b.ask("page", history={"conv": conv, "after": 0}))["head"] == 0

    run(walk())


def test_f17_presence_is_told_to_those_who_watch_and_nobody_else(server):
    ada, bob, eve = server.guest("Ada"), server.guest("Bob"), server.guest("Eve")

    async def walk():
        async with connected(server, ada["token"]) as a, connected(server, eve["token"]) as e:
            async with connected(server, bob["token"]):
                await a.direct(bob["user"])
                (seen,) = (await a.ask("presence", watch={"users": [bob["user"]]}))["users"]
                assert (seen["user"], seen["online"]) == (bob["user"], True)
                # Eve has nothing to do with him: to her he looks as if he had never been there.
                (seen,) = (await e.ask("presence", watch={"users": [bob["user"]]}))["users"]
                assert seen == {"user": bob["user"], "online": False, "last_seen": 0}
            (gone,) = (await a.hear("presence"))["users"]
            assert (gone["user"], gone["online"]) == (bob["user"], False)
            assert gone["last_seen"] > 1_700_000_000_000
            async with connected(server, bob["token"]):
                assert (await a.hear("presence"))["users"][0]["online"] is True
                await a.ask("ok", unwatch={"users": [bob["user"]]})
            await a.nothing("presence")
            await e.nothing("presence")

    run(walk())


def test_f22_people_are_found_by_the_beginning_of_their_name(server):
    ada, adam = server.guest("Ada"), server.guest("adam")
    server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a:
            found = (await a.ask("users", search={"prefix": "AD"}))["users"]
            assert [(user["user"], user["name"]) for user in found] == [(ada["user"], "Ada"), (adam["user"], "adam")]

    run(walk())


def test_f23_history_pages_both_ways_without_gaps(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with connected(server, ada["token"]) as a:
            conv = await a.direct(bob["user"])
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


def test_f27_the_server_serves_its_own_web_client(server):
    status, page = server.get(server.listen, "/")
    assert status == 200 and "<script" in page


def test_f41_health_metrics_and_version_are_served_apart(server):
    assert server.get(server.admin, "/livez")[0] == 200
    status, text = server.get(server.admin, "/readyz")
    assert (status, json.loads(text)["ready"]) == (200, True)
    status, text = server.get(server.admin, "/metrics")
    assert status == 200
    assert "# TYPE roost_connections_opened_total counter" in text
    assert json.loads(server.get(server.admin, "/version")[1])["name"] == "roost"
    assert server.get(server.listen, "/metrics")[0] == 404


def test_f37_nobody_learns_where_another_one_is(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def walk():
        async with (
            connected(server, ada["token"]) as a,
            opened(server, local_addr=("127.0.0.2", 0)) as b,
        ):
            port = b.socket.local_address[1]
            await b.ask("welcome", connect={"token": bob["token"], "device": "phone"})
            heard = [await a.ask("presence", watch={"users": [bob["user"]]})]
            heard.append(await a.ask("users", search={"prefix": "Bob"}))
            conv = await b.direct(ada["user"])
            await b.ask("ok", typing={"conv": conv, "on": True})
            await b.send(conv, "guess where I am")
            heard += [await a.hear("typing"), await a.hear("entry")]
            heard.append(await a.ask("conversation", get={"conv": conv}))
            heard.append(await a.ask("changed", sync={"since": ""}))
            await a.say(ack={"conv": conv, "seq": 1})
            heard += [await b.hear("receipt"), *a.seen, a.welcome]
            told = json.dumps(heard)
            assert "127.0.0" not in told and str(port) not in told

    run(walk())
