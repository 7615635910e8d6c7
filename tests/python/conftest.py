"""A real server for each test that asks for one, and a plain WebSocket client that knows no more than the JSON form."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
import websockets

ANSWER_WITHIN_S = 10


def run(coroutine):
    """Runs a walk to its end."""
    return asyncio.run(coroutine)


class Server:
    """`roost serve` on free ports."""

    def __init__(self, folder: Path, **settings: str):
        self.folder = folder
        self.data = folder / "data"
        self.process = None
        self.start(**settings)

    def start(self, **settings: str):
        """Starts it, again after a stop; `settings` are flags with `_` for `-`."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        settings = {"drain_window": "0s", "drain_deadline": "1s", "log": "warn", "shards": "2", **settings}
        command = [os.environ["ROOST_BIN"], "serve", "--data", self.data, "--listen", "127.0.0.1:0"]
        command += ["--admin", "127.0.0.1:0", "--ready-file", ready]
        for name, value in settings.items():
            command += [f"--{name.replace('_', '-')}", value]
        self.process = subprocess.Popen([*map(str, command)])
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.02)
        told = json.loads(ready.read_text())
        self.listen, self.admin, self.quic = told["listen"], told["admin"], told.get("quic")
        self.grpc = told.get("grpc")

    def stop(self, how=signal.SIGTERM):
        """Ends it; returns its exit code, the signal's number negative if that ended it."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=30)

    def post(self, path: str, body, token: str | None = None):
        """Status and JSON answer of a POST."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.listen}{path}", data, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def get(self, address: str, path: str):
        """Status and text of a GET."""
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=ANSWER_WITHIN_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def guest(self, name: str):
        status, entered = self.post("/v1/guest", {"name": name})
        assert status == 200, entered
        return entered

    def service_token(self) -> str:
        command = [os.environ["ROOST_BIN"], "token", "--service", "--data", str(self.data)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Client:
    """A socket and what has arrived on it."""

    def __init__(self, socket):
        self.socket = socket
        self.seen = []
        self.rid = 0

    async def say(self, **frame):
        await self.socket.send(json.dumps(frame))

    async def hear(self, name: str, rid: int | None = None):
        """The next frame with a body `name` (and `rid`); others are kept for later."""

        def fits(frame):
            return name in frame and (rid is None or frame.get("rid") == rid)

        for at, frame in enumerate(self.seen):
            if fits(frame):
                return self.seen.pop(at)[name]
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                frame = json.loads(await self.socket.recv())
                if fits(frame):
                    return frame[name]
                if rid is not None and frame.get("rid") == rid:
                    raise AssertionError(f"wanted {name}, got {frame}")
                self.seen.append(frame)

    async def ask(self, reply: str, **command):
        """Sends a command with a fresh rid and returns the body of its reply."""
        self.rid += 1
        await self.say(rid=self.rid, **command)
        return await self.hear(reply, self.rid)

    async def send(self, conv: str, text: str, **more):
        cmid = more.pop("cmid", None) or str(uuid.uuid4())
        return await self.ask("sent", send={"conv": conv, "cmid": cmid, "body": {"text": text}, **more})

    async def nothing(self, name: str, for_s: float = 0.3):
        """Fails if a frame with a body `name` is there or comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                while True:
                    self.seen.append(json.loads(await self.socket.recv()))
        assert not [frame for frame in self.seen if name in frame]


    async def direct(self, user: str) -> str:
        """The direct conversation with a user."""
        return (await self.ask("conversation", create={"kind": "direct", "members": [user]}))["conv"]

    async def closed_with(self) -> int:
        """The close code, whatever comes before it; 1006 if there is none."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            try:
                while True:
                    self.seen.append(json.loads(await self.socket.recv()))
            except websockets.ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006


@contextlib.asynccontextmanager
async def opened(server: Server, path: str = "/ws", **options):
    """A socket on which nothing was said yet."""
    async with websockets.connect(f"ws://{server.listen}{path}", max_size=None, **options) as socket:
        yield Client(socket)


@contextlib.asynccontextmanager
async def connected(server: Server, token: str, device: str = "laptop", **more):
    """A session."""
    async with opened(server) as client:
        await client.hear("hello")
        client.welcome = await client.ask("welcome", connect={"token": token, "device": device, **more})
        yield client


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.stop()
