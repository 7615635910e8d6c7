"""What holds when the server stops, asked to or killed, and when it is started with other settings."""

import signal

import pytest
from conftest import connected, opened, run


def test_a_hangup_ends_no_server(server):
    server.process.send_signal(signal.SIGHUP)
    assert server.stop() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_f18_what_was_acknowledged_is_there_after_a_restart(server, how):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def before():
        async with connected(server, ada["token"]) as a:
            conv = await a.direct(bob["user"])
            for number in range(20):
                await a.send(conv, f"message {number}")
            return conv

    async def after():
        async with connected(server, bob["token"]) as b:
            rows = (await b.ask("changed", sync={"since": ""}))["rows"]
            assert [(row["conv"], row["head"], row["unread"]) for row in rows] == [(conv, 20, 20)]
            page = await b.ask("page", history={"conv": conv, "after": 0, "limit": 50})
            assert [entry["body"]["text"] for entry in page["entries"]] == [f"message {n}" for n in range(20)]
            assert [entry["seq"] for entry in page["entries"]] == list(range(1, 21))

    conv = run(before())
    assert server.stop(how) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    server.start()
    run(after())


def test_f14_a_resend_after_a_crash_gets_the_seq_it_had(server):
    ada, bob = server.guest("Ada"), server.guest("Bob")

    async def before():
        async with connected(server, ada["token"]) as a:
            conv = await a.direct(bob["user"])
            for number in range(5):
                sent = await a.send(conv, "x", cmid=f"cmid-{number}")
                assert (sent["seq"], sent["dup"]) == (number + 1, False)
            return conv

    async def after():
        async with connected(server, ada["token"]) as a:
            for number in range(5):
                sent = await a.send(conv, "x", cmid=f"cmid-{number}", attempt=1, seen=number)
                assert (sent["seq"], sent["dup"]) == (number + 1, True)
            # One that had never arrived is stored now.
            sent = await a.send(conv, "x", cmid="cmid-new", attempt=1, seen=5)
            assert (sent["seq"], sent["dup"]) == (6, False)

    conv = run(before())
    server.stop(signal.SIGKILL)
    server.start()
    run(after())


def test_f31_a_server_that_stops_asks_its_clients_to_leave(server):
    server.stop()
    server.start(drain_window="100ms", drain_deadline="1s")
    ada = server.guest("Ada")

    async def walk():
        async with connected(server, ada["token"]) as a:
            server.process.send_signal(signal.SIGTERM)
            goaway = await a.hear("goaway")
            assert (goaway["reason"], goaway["urls"]) == ("drain", [])
            assert goaway["slot_ms"] <= goaway["deadline_ms"]
            assert goaway["deadline_ms"] >= 1000
            assert await a.ask("pong", ping={}) == {}
            assert await a.closed_with() == 4000

    run(walk())
    assert server.process.wait(timeout=30) == 0


def test_f01_who_does_not_connect_in_time_is_closed(server):
    server.stop()
    server.start(connect_within="500ms")

    async def walk():
        async with opened(server) as client:
            assert (await client.hear("hello"))["connect_within_ms"] == 500
            assert await client.closed_with() == 4003

    run(walk())


def test_f11_only_a_service_publishes_where_the_server_is_set_so(server):
    server.stop()
    server.start(publish="service")
    publish = {"channel": "news", "body": {"text": "hello"}}

    async def walk():
        async with connected(server, server.guest("Ada")["token"]) as a:
            assert (await a.ask("error", publish=publish))["code"] == 203
            status, sent = server.post("/v1/publish", publish, server.service_token())
            assert (status, sent["seq"]) == (200, 1)

    run(walk())
