"""Servers on loopback for the tests: S3, the head of a Ray cluster with its job server, and an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from pyarrow import fs

START_S = 300
"""Seconds that a server is given to start; the machine may be busy."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, none of those that the system gives to connections: a server may take a while to get there."""
    free: list[int] = []
    while len(free) < count:
        port = 20000 + secrets.randbelow(10000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            free.append(port)
    return free


def answers(url: str) -> bool:
    """Whether a server is there, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def serving(words: list[str], url: str, variables: dict[str, str], log: int | None = subprocess.DEVNULL) -> Iterator[None]:
    """A process that serves at a URL, and the environment that its clients need."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    server = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
    try:
        ends = time.monotonic() + START_S
        while not answers(url):
            assert not server.poll() and time.monotonic() < ends, f"{words[0]} does not start"
            time.sleep(0.2)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def s3_server() -> Iterator[None]:
    """An empty S3; the environment says where it is."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    variables = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
    with serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], url, variables):
        yield


def bucket(name: str) -> fs.S3FileSystem:
    """The file system of `s3_server`, with a new bucket."""
    host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    system = fs.S3FileSystem(endpoint_override=host, scheme="http", region="us-east-1", allow_bucket_creation=True)
    system.create_dir(name)
    return system


@contextmanager
def ray_head(folder: Path, resources: str = "{}") -> Iterator[tuple[str, str]]:
    """A cluster of one node with two cores that wants a token, as Ray's clusters do: the URLs of its job server and of its metrics."""
    gcs, dashboard, metrics, client, agent = free_ports(5)
    words = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--num-cpus=2", "--disable-usage-stats"]
    words += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--metrics-export-port={metrics}", f"--resources={resources}"]
    words += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}"]
    words += ["--node-ip-address=127.0.0.1", "--object-store-memory=150000000"]
    url = f"http://127.0.0.1:{dashboard}"
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "OMP_NUM_THREADS": "1"}
    try:  # not with --block: that ends all when the client server, which nobody uses, gives up on a busy machine
        with serving(words, url, variables):
            yield url, f"http://127.0.0.1:{metrics}/metrics"
    finally:
        ours = [process for process in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(process.info["cmdline"] or ())]
        for process in ours:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


Reply = str | dict[str, Any] | tuple[int, dict[str, str], str]
"""What an endpoint replies to a chat: the text, a whole choice, or a status with headers and a body."""


class ChatServer(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint.

    Attributes:
        rule: makes the reply to a request's body.
        models: the names that it lists.
        bodies, keys: what it has been asked, with the `Authorization` header.
        hold_after: number of requests after which it holds back its replies until `release` is set; `holding` is set then.
    """

    daemon_threads = True

    def __init__(self, rule: Callable[[dict[str, Any]], Reply], models: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), _ChatHandler)
        self.rule, self.models = rule, list(models)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.hold_after: int | None = None
        self.holding, self.release, self._lock = threading.Event(), threading.Event(), threading.Lock()

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def asked(self, body: dict[str, Any], key: str | None) -> int:
        """Note a request; the number of requests so far."""
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            return len(self.bodies)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve in a thread of this process."""
        thread = threading.Thread(target=self.serve_forever, args=[0.01])
        thread.start()
        try:
            yield
        finally:
            self.release.set()
            self.shutdown()
            self.server_close()
            thread.join()


class _ChatHandler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_GET(self) -> None:
        listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]}
        self._send(200 if self.path == "/v1/models" else 404, {}, json.dumps(listed))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = self.server.asked(body, self.headers["Authorization"])
        if self.server.hold_after is not None and number > self.server.hold_after:
            self.server.holding.set()
            self.server.release.wait(60)
        reply = self.server.rule(body)
        if isinstance(reply, tuple):
            self._send(*reply)
            return
        choice = reply if isinstance(reply, dict) else {"message": {"role": "assistant", "content": reply}}
        self._send(200, {}, json.dumps({"choices": [{"index": 0, "finish_reason": "stop", **choice}]}))

    def _send(self, status: int, headers: dict[str, str], text: str) -> None:
        data = text.encode()
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:
            pass  # the client was killed

    def log_message(self, format: str, *args: Any) -> None:
        pass
