"""Holds sessions by aioquic that do nothing but heartbeat, and tells the server's memory once a minute: whether it is flat.

ROOST_BIN=target/release/roost python heartbeats.py --sessions 20 --every 3 --for 3660
"""

import argparse
import asyncio
import importlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from conftest import Server
from test_quic import SCHEMA, connected


def schema(out: str):
    """The schema, compiled for Python."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SCHEMA}", f"--python_out={out}", "roost.proto"]
    subprocess.run(command, check=True)
    sys.path.insert(0, out)
    return importlib.import_module("roost_pb2")


def anonymous_kb(pid: int) -> int:
    """Memory of a process that no file stands for."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def guest(server: Server, name: str) -> str:
    """The token of a new guest."""
    body = json.dumps({"name": name}).encode()
    request = urllib.request.Request(f"http://{server.listen}/v1/guest", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["token"]


async def beat(server, pb, token: str, device: str, every_s: float, until: float, answered: list[int]):
    async with connected(server, pb, token, device) as session:
        while time.monotonic() < until:
            await session.ask("pong", ping={})
            session.seen.clear()
            answered[0] += 1
            await asyncio.sleep(every_s)


async def hold(server, pb, args):
    begun, answered = time.monotonic(), [0]
    until = begun + args.seconds
    tokens = [guest(server, f"Guest {number}") for number in range(args.sessions)]
    beats = [beat(server, pb, token, f"d{number}", args.every, until, answered) for number, token in enumerate(tokens)]
    sessions = asyncio.gather(*beats)
    while time.monotonic() < until:
        await asyncio.sleep(min(60, max(0, until - time.monotonic())))
        kb = anonymous_kb(server.process.pid)
        print(f"{time.monotonic() - begun:6.0f} s  {answered[0]} answered  {kb} kB anonymous", flush=True)
    await sessions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--every", type=float, default=3, help="seconds between heartbeats of a session")
    parser.add_argument("--for", dest="seconds", type=float, default=3660, help="how long, in seconds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pb = schema(folder)
        server = Server(Path(folder), dev_tls="true", plaintext="true")
        try:
            asyncio.run(hold(server, pb, args))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
