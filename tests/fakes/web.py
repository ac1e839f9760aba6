"""A small web server in a thread of its own, for clients that bring their own event loop.

What it answers is a function of the request; a chat model is such a function.
"""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What goes back; `cut` promises more bytes than are sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the standard library's 5 refuses clients that come together


class FakeWeb:
    """Serves on a port of the kernel's choice while its context is open."""

    def __init__(self, respond: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # http.server's own name
                asked = Asked(
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(int(self.headers.get("Content-Length", 0))),
                )
                fake.asked.append(asked)
                reply = respond(asked)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) + 9 * reply.cut))
                if reply.cut:
                    self.close_connection = True
                with suppress(ConnectionError):  # a client that was stopped, as a test wants it
                    self.end_headers()
                    self.wfile.write(reply.body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def said(text: str | None) -> Reply:
    """Returns a chat completion that says this."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
    }
    return Reply(body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def failed(status: int, message: str = "no") -> Reply:
    """Returns OpenAI's error; whoever tries again need not wait."""
    body = json.dumps({"error": {"message": message}}).encode()
    return Reply(status, body, headers={"Content-Type": "application/json", "retry-after-ms": "1"})
