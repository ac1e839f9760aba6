"""As much HTTP/1.1 as the load needs: a keep-alive connection, one request at a time.

A raw asyncio protocol, because the load generator shares the cores with what it measures: aiohttp's
client takes about 100 µs of CPU a request, this one with its checks about 30.
"""

import asyncio
import re
import time
from typing import Self

import msgspec

_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3})\b")
_FIRST_TOKEN = re.compile(rb'"content":\s*"[^"]')
"""The first delta with text; the one before it, with the role, has an empty content."""
_LINE_END = b"\r\n"
_HEAD_END = b"\r\n\r\n"


class BadResponse(Exception):
    """What came is not the HTTP that our servers speak, or broke off."""


class Response(msgspec.Struct, kw_only=True):
    """A whole response."""

    status: int
    headers: dict[str, str]
    """Name in lower case → value."""
    body: bytes
    first_token_at: float | None = None
    """When the first text of a streamed answer came, on `time.perf_counter`'s clock."""


def request_bytes(method: str, host: str, path: str, body: bytes = b"") -> bytes:
    """Returns a request as it goes over the wire."""
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class ResponseReader:
    """Bytes as a socket brings them → one response; no I/O."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body = bytearray()
        self._head: Response | None = None
        self._chunked = False
        self._missing = 0
        """Bytes that a body with a length still lacks."""
        self._first_token_at: float | None = None

    def feed(self, data: bytes) -> Response | None:
        """Takes what came; returns the response once it is complete.

        Raises:
            BadResponse: It is not HTTP/1.1, has no length, or goes on after its end.
        """
        self._buffer += data
        if self._head is None and not self._read_head():
            return None
        complete = self._read_chunks() if self._chunked else self._read_length()
        if self._first_token_at is None and _FIRST_TOKEN.search(self._body):
            self._first_token_at = time.perf_counter()
        return self._response() if complete else None

    def _read_head(self) -> bool:
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return False
        status_line, *lines = bytes(self._buffer[:end]).split(_LINE_END)
        del self._buffer[: end + len(_HEAD_END)]
        match = _STATUS_LINE.match(status_line)
        if match is None:
            raise BadResponse(f"not an HTTP/1.1 response: {status_line[:80]!r}")
        headers = {}
        for line in lines:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        self._head = Response(status=int(match[1]), headers=headers, body=b"")
        self._chunked = headers.get("transfer-encoding") == "chunked"
        if not self._chunked:
            if "content-length" not in headers:
                raise BadResponse("a response without a length")
            self._missing = int(headers["content-length"])
        return True

    def _read_length(self) -> bool:
        self._body += self._buffer[: self._missing]
        taken = min(self._missing, len(self._buffer))
        del self._buffer[:taken]
        self._missing -= taken
        return self._missing == 0

    def _read_chunks(self) -> bool:
        while True:
            end = self._buffer.find(_LINE_END)
            if end < 0:
                return False
            try:
                size = int(bytes(self._buffer[:end]).partition(b";")[0], 16)
            except ValueError:
                raise BadResponse(f"not a chunk size: {bytes(self._buffer[:80])!r}") from None
            begin = end + len(_LINE_END)
            if len(self._buffer) < begin + size + len(_LINE_END):
                return False
            self._body += self._buffer[begin : begin + size]
            del self._buffer[: begin + size + len(_LINE_END)]
            if size == 0:  # our servers send no trailers
                return True

    def _response(self) -> Response:
        if self._head is None or self._buffer:
            raise BadResponse(f"bytes after the response: {bytes(self._buffer[:80])!r}")
        self._head.body = bytes(self._body)
        self._head.first_token_at = self._first_token_at
        return self._head


class Connection(asyncio.Protocol):
    """A keep-alive connection; an async context manager that closes it."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._reader = ResponseReader()
        self._waiter: asyncio.Future[Response] | None = None

    @classmethod
    async def open(cls, host: str) -> Self:
        """Returns a connection to `host:port`.

        Raises:
            OSError: Nobody listens there.
        """
        name, _, port = host.rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, name, int(port))
        return connection

    async def ask(self, request: bytes) -> Response:
        """Sends a request and returns its response.

        Raises:
            BadResponse: What came is no response, or the server hung up.
        """
        if self._transport is None or self._transport.is_closing():
            raise BadResponse("the server hung up between two requests")
        self._reader = ResponseReader()
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """Closes it."""
        if self._transport is not None:
            self._transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.close()  # nothing was asked: the next request will say that we hung up
            return
        try:
            if (response := self._reader.feed(data)) is not None:
                waiter.set_result(response)
        except BadResponse as error:
            waiter.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(BadResponse(f"the server hung up: {exc or 'end of file'}"))
