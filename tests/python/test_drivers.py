"""Which driver a server takes, and what it says where io_uring is forbidden, as container runtimes do by default."""

import contextlib
import ctypes
import json
import os
import struct
import subprocess
import time

import pytest

NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
LOAD_NUMBER, AT_LEAST, ABOVE, RETURN = 0x20, 0x35, 0x25, 0x06
ALLOW, EPERM = 0x7FFF0000, 0x00050000 | 1


def forbid_io_uring():
    """Makes io_uring_setup, _enter and _register (425 to 427 everywhere) fail with EPERM in this process."""
    program = b"".join(
        struct.pack("HBBI", *line)
        for line in [
            (LOAD_NUMBER, 0, 0, 0),
            (AT_LEAST, 0, 2, 425),
            (ABOVE, 1, 0, 427),
            (RETURN, 0, 0, EPERM),
            (RETURN, 0, 0, ALLOW),
        ]
    )
    lines = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(lines))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(SECCOMP, FILTER, ctypes.create_string_buffer(header), 0, 0) == 0


@contextlib.contextmanager
def started(folder, driver, forbidden):
    """The process of a server, and its log once it is ready or has ended."""
    ready, log = folder / "ready.json", folder / "log"
    command = [os.environ["ROOST_BIN"], "serve", "--data", folder / "data", "--listen", "127.0.0.1:0"]
    command += ["--admin", "127.0.0.1:0", "--ready-file", ready, "--log-format", "json", "--driver", driver]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*map(str, command)], stdout=out, stderr=subprocess.STDOUT, preexec_fn=forbid_io_uring if forbidden else None
        )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists() and process.poll() is None:
            assert time.monotonic() < deadline, "neither ready nor ended"
            time.sleep(0.02)
        yield process, log.read_text()
    finally:
        process.kill()
        process.wait()


def told(log):
    """Driver and reason of the line that says so."""
    lines = [json.loads(line)["fields"] if "fields" in line else json.loads(line) for line in log.splitlines()]
    [line] = [line for line in lines if "driver" in line]
    return line["driver"], line["reason"]


def test_where_io_uring_is_forbidden_poll_is_taken_and_the_log_says_why(tmp_path):
    with started(tmp_path, "auto", forbidden=True) as (process, log):
        assert process.poll() is None, log
        driver, reason = told(log)
        assert driver == "poll" and "io_uring is forbidden here" in reason and "seccomp" in reason


def test_where_io_uring_is_forbidden_asking_for_it_is_refused(tmp_path):
    with started(tmp_path, "uring", forbidden=True) as (process, log):
        assert process.poll() == 1, log
        assert "driver uring: io_uring is forbidden here" in log and "poll" in log
    assert not (tmp_path / "data").exists(), "nothing was touched"


@pytest.mark.parametrize("driver", ["poll", "uring"])
def test_a_driver_that_is_asked_for_is_taken(tmp_path, driver):
    with started(tmp_path, driver, forbidden=False) as (process, log):
        assert process.poll() is None, log
        assert told(log) == (driver, "it was asked for")
