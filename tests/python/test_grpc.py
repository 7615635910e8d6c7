"""The API for backends, called by another implementation of gRPC with nothing but the schema."""

import importlib
import sys
from pathlib import Path

import grpc
import pytest
from conftest import Server, connected, run
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 10


@pytest.fixture(scope="session")
def schema(tmp_path_factory):
    """The modules made from link/proto/api.proto: messages, and the service."""
    out = tmp_path_factory.mktemp("schema")
    command = ["protoc", f"-I{ROOT}/link/proto", f"-I{ROOT}/wire/proto", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main([*command, "api.proto", "roost.proto"]) == 0
    sys.path.insert(0, str(out))
    return importlib.import_module("api_pb2"), importlib.import_module("api_pb2_grpc"), importlib.import_module("roost_pb2")


@pytest.fixture
def node(tmp_path):
    server = Server(tmp_path, grpc="127.0.0.1:0")
    yield server
    server.stop()


class Backend:
    """The API of a node, with a service token."""

    def __init__(self, node, schema, token=None):
        self.messages, services, self.roost = schema
        self.channel = grpc.insecure_channel(node.grpc)
        self.stub = services.RoostStub(self.channel)
        self.token = node.service_token() if token is None else token

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def call(self, name, **fields):
        request = getattr(self.messages, f"{name}Request")(**fields)
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else []
        return getattr(self.stub, name)(request, timeout=WITHIN_S, metadata=metadata)

    def refused(self, name, **fields):
        """The status of a call that fails, and the code of the protocol in it."""
        with pytest.raises(grpc.RpcError) as failed:
            self.call(name, **fields)
        found = dict(failed.value.trailing_metadata())
        return failed.value.code(), found.get("roost-code"), found.get("roost-retryable")


def test_a_backend_makes_a_conversation_sends_reads_and_sees_who_is_there(node, schema):
    ada, bob, carl = (node.guest(name) for name in ("Ada", "Bob", "Carl"))

    async def walk():
        async with connected(node, ada["token"]) as a, connected(node, bob["token"]) as b:
            with Backend(node, schema) as backend:
                body = backend.roost.Body
                made = backend.call(
                    "CreateConversation",
                    user=ada["user"],
                    create=backend.roost.Create(kind="GROUP", name="Birds", members=[bob["user"]]),
                )
                assert made.name == "Birds" and {member.user for member in made.members} == {ada["user"], bob["user"]}
                send = backend.roost.Send(conv=made.conv, cmid="one", body=body(text="from behind"))
                sent = backend.call("Send", user=ada["user"], send=send)
                again = backend.call("Send", user=ada["user"], send=send)
                assert (again.seq, again.dup) == (sent.seq, True)
                for client in (a, b):
                    entry = await client.hear("entry")
                    while entry["body"]["text"] != "from behind":
                        entry = await client.hear("entry")
                    assert (entry["conv"], entry["seq"], entry["from"]) == (made.conv, sent.seq, ada["user"])
                replied = await b.send(made.conv, "and back")
                history = backend.roost.History(conv=made.conv, after=sent.seq - 1)
                page = backend.call("History", user=bob["user"], history=history)
                assert [entry.body.text for entry in page.entries] == ["from behind", "and back"]
                assert page.head == replied["seq"]
                members = backend.roost.Members(conv=made.conv, add=[carl["user"]])
                grown = backend.call("UpdateMembers", user=ada["user"], members=members)
                listed = backend.call("ListMembers", user=ada["user"], conv=made.conv).members
                assert len(grown.members) == len(listed) == 3
                got = backend.call("GetConversation", user=carl["user"], conv=made.conv)
                assert got.head >= replied["seq"]
                seen = backend.call("Presence", users=[user["user"] for user in (ada, bob, carl)]).users
                assert [user.online for user in seen] == [True, True, False]
                backend.call("Disconnect", user=bob["user"])
                assert await b.closed_with() == 4505

    run(walk())


def test_f11_a_publish_by_grpc_reaches_who_subscribed(node, schema):
    ada = node.guest("Ada")

    async def walk():
        async with connected(node, ada["token"]) as a:
            await a.ask("ok", subscribe={"channel": "news"})
            with Backend(node, schema) as backend:
                publish = backend.roost.Publish(channel="news", cmid="p1", body=backend.roost.Body(text="extra"))
                sent = backend.call("Publish", publish=publish)
            entry = await a.hear("entry")
            assert (entry["conv"], entry["seq"], entry["body"]["text"]) == ("news", sent.seq, "extra")

    run(walk())


def test_errors_tell_the_code_of_the_protocol_and_whether_to_try_again(node, schema):
    ada = node.guest("Ada")
    with Backend(node, schema) as backend:
        for name, fields, code, roost in [
            ("Presence", {"users": ["no id"]}, grpc.StatusCode.INVALID_ARGUMENT, "104"),
            ("GetConversation", {"user": ada["user"], "conv": "c_nowhere"}, grpc.StatusCode.NOT_FOUND, "300"),
            ("Publish", {}, grpc.StatusCode.INVALID_ARGUMENT, "104"),
        ]:
            assert backend.refused(name, **fields) == (code, roost, "false"), name
    for token, code, roost in [
        (ada["token"], grpc.StatusCode.PERMISSION_DENIED, "203"),
        ("nonsense", grpc.StatusCode.UNAUTHENTICATED, "200"),
        ("", grpc.StatusCode.UNAUTHENTICATED, "200"),
    ]:
        with Backend(node, schema, token) as backend:
            assert backend.refused("Presence", users=[ada["user"]]) == (code, roost, "false")


def test_health_and_reflection_answer_without_a_token(node):
    with grpc.insecure_channel(node.grpc) as channel:
        # The messages by hand: status SERVING is 1 in field 1, the list of services is asked for by field 7.
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=WITHIN_S) == b"\x08\x01"
        reflect = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        listed = next(reflect(iter([b"\x3a\x00"]), timeout=WITHIN_S))
        assert b"roost.api.v1.Roost" in listed and b"grpc.health.v1.Health" in listed
