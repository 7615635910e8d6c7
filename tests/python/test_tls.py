"""TLS on the public port, to Python's own TLS (OpenSSL) and `websockets`."""

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request

import pytest
import websockets
from conftest import ANSWER_WITHIN_S, Client, Server, connected, run

ROOST = os.environ["ROOST_BIN"]


def port(server: Server) -> int:
    return int(server.listen.rsplit(":", 1)[1])


def trusting(server: Server) -> ssl.SSLContext:
    """A context that trusts the server's self-made certificate, and nobody else."""
    context = ssl.create_default_context(cafile=server.data / "dev-tls" / "cert.pem")
    context.set_alpn_protocols(["http/1.1"])
    return context


def metric(server: Server, name: str) -> float:
    _, page = server.get(server.admin, "/metrics")
    [line] = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(line.rsplit(" ", 1)[1])


def until(what):
    """Waits until `what` holds."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def certificate(server: Server, context: ssl.SSLContext) -> bytes:
    """What the server shows, in DER."""
    with socket.create_connection(("127.0.0.1", port(server))) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secret:
            return secret.getpeercert(binary_form=True)


@pytest.fixture
def dev(tmp_path):
    server = Server(tmp_path, dev_tls="true")
    yield server
    server.stop()


@pytest.fixture
def files(tmp_path):
    """A folder with cert.pem and key.pem, and a server that was given them."""
    for name in ["made", "server"]:
        (tmp_path / name).mkdir()
    made = Server(tmp_path / "made", dev_tls="true")
    made.stop()
    for name in ["cert.pem", "key.pem"]:
        shutil.copy(made.data / "dev-tls" / name, tmp_path / name)
    server = Server(tmp_path / "server", tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")
    yield tmp_path, server
    server.stop()


async def enter(name: str, socket):
    client = Client(socket)
    await client.hear("hello")
    client.welcome = await client.ask("welcome", connect={"guest": name, "device": "laptop"})
    return client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_exchange_by_wss_with_somebody_who_came_without_tls(dev, version):
    context = trusting(dev)
    context.minimum_version = context.maximum_version = version

    async def walk():
        bob = dev.guest("Bob")
        url = f"wss://localhost:{port(dev)}/ws"
        async with connected(dev, bob["token"]) as plain, websockets.connect(url, ssl=context, max_size=None) as socket:
            transport = socket.transport.get_extra_info("ssl_object")
            assert transport.selected_alpn_protocol() == "http/1.1"
            assert transport.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
            ada = await enter("Ada", socket)
            conv = await ada.direct(plain.welcome["user"])
            for text in ["hello", "x" * 5000]:
                sent = await ada.send(conv, text)
                entry = await plain.hear("entry")
                assert (entry["body"]["text"], entry["seq"]) == (text, sent["seq"])
                await plain.send(conv, f"{text}, too")
                assert (await ada.hear("entry"))["body"]["text"] == f"{text}, too"
            assert metric(dev, "roost_tls_sessions_open") == 1
            assert 100 < metric(dev, "roost_tls_session_bytes") < 1000
        until(lambda: metric(dev, "roost_tls_sessions_open") == 0)

    run(walk())


def test_pages_come_by_https_and_a_certificate_is_for_its_names(dev):
    context = trusting(dev)
    for host in ["localhost", "127.0.0.1"]:
        with urllib.request.urlopen(f"https://{host}:{port(dev)}/", context=context, timeout=ANSWER_WITHIN_S) as answer:
            assert answer.status == 200 and b"<title>" in answer.read()
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate(dev, ssl.create_default_context())
    until(lambda: 'roost_tls_handshakes_failed_total{reason="refused"} 1' in dev.get(dev.admin, "/metrics")[1])


def test_openssl_resumes_a_session(dev):
    context = trusting(dev)
    session = None
    for reused in [False, True]:
        with socket.create_connection(("127.0.0.1", port(dev))) as plain:
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as secret:
                secret.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while secret.recv(65536):
                    pass
                assert secret.session_reused == reused
                session = secret.session


def test_plain_http_to_a_port_of_tls_is_told_so(files):
    _, server = files
    asking = http.client.HTTPConnection(server.listen, timeout=ANSWER_WITHIN_S)
    asking.request("GET", "/")
    answer = asking.getresponse()
    assert (answer.status, answer.read()) == (400, b"this port speaks TLS: use https:// or wss://\n")


def test_a_new_certificate_is_taken_at_once_by_sighup_and_soon_without_and_a_broken_one_leaves_the_old(files, tmp_path):
    folder, server = files
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    taken, failed = (f'roost_tls_reloads_total{{result="{result}"}}' for result in ["taken", "failed"])
    first = certificate(server, context)
    assert 8 * 86_400 < metric(server, "roost_tls_certificate_left_seconds") < 11 * 86_400

    (folder / "cert.pem").write_text("no certificate")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: metric(server, failed) >= 1)
    assert certificate(server, context) == first

    (folder / "other").mkdir()
    other = Server(folder / "other", dev_tls="true")
    other.stop()
    for name in ["key.pem", "cert.pem"]:
        shutil.copy(other.data / "dev-tls" / name, folder / name)
    server.process.send_signal(signal.SIGHUP)
    until(lambda: metric(server, taken) >= 1)
    second = certificate(server, context)
    assert second != first

    shutil.rmtree(other.data)
    other.start(dev_tls="true")
    other.stop()
    for name in ["key.pem", "cert.pem"]:
        shutil.copy(other.data / "dev-tls" / name, folder / name)
    until(lambda: certificate(server, context) not in [first, second])


def test_a_certificate_that_cannot_be_used_is_refused_by_its_file_before_the_start(tmp_path):
    (tmp_path / "cert.pem").write_text("nothing")
    command = [ROOST, "check-config", "--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode != 0 and "cert.pem has no certificate" in told.stderr
    told = subprocess.run(command[:4], capture_output=True, text=True)
    assert told.returncode == 78 and "tls_key" in told.stderr


def test_chat_and_publish_come_by_https_and_trust_only_whom_they_are_told_to(dev, tmp_path):
    url, ca = f"https://localhost:{port(dev)}", dev.data / "dev-tls" / "cert.pem"
    publish = [ROOST, "publish", "news", "hello", "--data", dev.data, "--server", url]
    assert subprocess.run([*publish, "--ca", ca], capture_output=True, text=True).returncode == 0
    told = subprocess.run(publish, capture_output=True, text=True)
    assert told.returncode == 1 and "cannot be trusted" in told.stderr and "--ca" in told.stderr
    bob = dev.guest("Bob")
    home = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    chat = [ROOST, "chat", "--as", "Ada", "--to", bob["user"], "--server", url]
    said = subprocess.run([*chat, "--ca", ca], input="by https\n", capture_output=True, text=True, env=home)
    assert said.returncode == 0, said.stderr
    said = subprocess.run(chat, input="by https\n", capture_output=True, text=True, env=home)
    assert said.returncode == 1 and "cannot be trusted" in said.stderr and "--ca" in said.stderr
