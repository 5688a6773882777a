"""An OpenAI-compatible endpoint on loopback that judges by a stated rule, and faces and descriptions to show it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from pipeline.evaluation.judge.prompts import CRITERIA, JudgeItem


def by_words(body: dict[str, Any]) -> str:
    """The server's rule. A description of n words gets n on everything, 1 to 5; of two, the one of more words is better."""
    texts = [json.loads(found) for found in re.findall(r'^Description(?: [AB])?: (".*")$', body["messages"][1]["content"][0]["text"], re.M)]
    words = [len(text.split()) for text in texts]
    if len(words) == 1:
        return json.dumps({"reason": f"{words[0]} words", **dict.fromkeys(CRITERIA, min(5, max(1, words[0])))})
    return json.dumps({"reason": "length", "better": "tie" if words[0] == words[1] else "AB"[words[1] > words[0]]})


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint in small."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rule: Callable[[dict[str, Any]], str | tuple[int, dict[str, str], str]] = by_words
        self.models = ["judge-7b"]
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.hold_after: int | None = None
        self.holding, self.release, self._lock = threading.Event(), threading.Event(), threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def asked(self, body: dict[str, Any], key: str | None) -> int:
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            return len(self.bodies)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]}
        self._send(200 if self.path == "/v1/models" else 404, {}, json.dumps(listed))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = self.server.asked(body, self.headers["Authorization"])
        if self.server.hold_after is not None and number > self.server.hold_after:
            self.server.holding.set()
            self.server.release.wait(60)
        said = self.server.rule(body)
        if isinstance(said, tuple):
            self._send(*said)
        else:
            message = {"role": "assistant", "content": said}
            self._send(200, {}, json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))

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


def items(count: int) -> list[JudgeItem]:
    """Faces that differ, so that each question is its own."""
    return [
        JudgeItem(np.full((112, 112, 3), 10 + i, np.uint8), (30, 60, 82, 90), "mouth", ["AU12"], "happiness", 30 + i) for i in range(count)
    ]


def said(*counts: int) -> list[str]:
    return [" ".join(["word"] * count) for count in counts]
