"""A provider that breaks on demand: HTTP/1.1 by hand, as no web framework resets a socket.

The model's name says what it does: `FAULT:ARGUMENT@ROUTE` is answered by that fault of
`bench.fault_wall.faults`; a name without one is answered properly. Every attempt is noted.
"""

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

TOKENS = 60
"""Tokens of a proper answer."""
_LINGER_NOT = struct.pack("ii", 1, 0)


class ClientLeft(Exception):
    """The caller hung up before the answer was complete."""


@dataclass(slots=True)
class Asked:
    """One request as it arrived, and what was said to it."""

    provider: str
    model: str
    number: int
    """Of the requests for this name, from 1."""
    at_seconds: float
    """On the event loop's clock."""
    body: dict[str, Any]
    headers: Mapping[str, str]
    said: str = "nothing"
    sent_bytes: int = 0
    """Of the answer, as far as the connection took them."""
    left: bool = False
    """Whether the caller hung up before the answer was complete."""


class Exchange:
    """One request, and the means to answer it properly or not."""

    def __init__(
        self,
        provider: "FaultyProvider",
        asked: Asked,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.provider = provider
        self.asked = asked
        self.over = False
        """Whether the connection takes no further request."""
        self.token_seconds = provider.token_seconds
        self._reader = reader
        self._writer = writer

    @property
    def streamed(self) -> bool:
        """Whether a stream was asked for."""
        return bool(self.asked.body.get("stream"))

    async def whole(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answers in one piece."""
        self.asked.said = str(status)
        fields = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **(headers or {}),
        }
        await self.write(_head(status, fields) + body)

    async def begin(self, headers: Mapping[str, str] | None = None) -> None:
        """Begins a stream: the head, and nothing of the body."""
        self.asked.said = "200"
        fields = {
            "content-type": "text/event-stream",
            "transfer-encoding": "chunked",
            **(headers or {}),
        }
        await self.write(_head(200, fields))

    async def send(self, data: bytes) -> None:
        """Sends a piece of the body."""
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def send_event(self, value: Mapping[str, Any]) -> None:
        """Sends a server-sent event."""
        await self.send(b"data: " + json.dumps(value).encode() + b"\n\n")

    async def end(self) -> None:
        """Ends the body as HTTP wants it."""
        await self.write(b"0\r\n\r\n")

    async def write(self, data: bytes) -> None:
        """Writes bytes as they are, once the caller takes them.

        Raises:
            ClientLeft: Nobody does.
        """
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            raise ClientLeft from None
        self.asked.sent_bytes += len(data)

    async def cut(self) -> None:
        """Closes the connection, whatever was promised."""
        self._end_with("cut")
        self._writer.close()

    async def reset(self) -> None:
        """Closes the connection by a TCP reset."""
        self._end_with("reset")
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._writer.transport.abort()

    async def half_close(self) -> None:
        """Ends what is written and goes on reading, until the caller hangs up."""
        self._end_with("half closed")
        self._writer.write_eof()
        await self.silence()

    async def silence(self, seconds: float | None = None) -> None:
        """Says nothing for so long; without `seconds` until the caller hangs up.

        Raises:
            ClientLeft: It did.
        """
        try:
            async with asyncio.timeout(seconds):
                if await self._reader.read(1):
                    self.provider.unread += 1
        except TimeoutError:
            return
        except ConnectionError:
            pass  # hanging up rudely is hanging up
        raise ClientLeft

    def _end_with(self, what: str) -> None:
        said = self.asked.said
        self.asked.said = what if said == "nothing" else f"{said} {what}"
        self.over = True


Fault = Callable[[Exchange, str], Awaitable[None]]


@dataclass
class FaultyProvider:
    """Serves on a port of the kernel's choice while its context is open."""

    name: str
    faults: Mapping[str, Fault]
    prompt_tokens: int = 11
    """What it says that every prompt has."""
    token_seconds: float = 0.0
    """Between two tokens of a stream."""
    remember: bool = True
    """Whether `asked` is kept; counting is done in any case."""
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    """What faults that come by chance draw from."""
    asked: list[Asked] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Name of a model → requests so far."""
    unread: int = 0
    """Requests on connections that it had half closed: its callers wrote before they noticed."""
    began_at: dict[str, float] = field(default_factory=dict)
    """Name of a model → when it was first asked, on the event loop's clock."""
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a caller leaves before its answer is complete."""
    url: str = ""
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def tokens(self) -> list[str]:
        """Its answer; no other provider's begins with the same letter."""
        return [f"{self.name[0]}{number:02d} " for number in range(TOKENS)]

    @property
    def text(self) -> str:
        """Its answer in one piece."""
        return "".join(self.tokens)

    @property
    def usage(self) -> dict[str, int]:
        """What it says that an answer used."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": TOKENS,
            "total_tokens": self.prompt_tokens + TOKENS,
        }

    def asked_for(self, model: str) -> list[Asked]:
        """Returns the requests for a model, in order."""
        return [asked for asked in self.asked if asked.model == model]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (request := await _request(reader)) is not None:
                exchange = Exchange(self, self._noted(*request), reader, writer)
                await self._answer(exchange)
                if exchange.over:
                    return
        except ClientLeft:
            pass
        except asyncio.CancelledError:
            pass  # the provider is being stopped; asyncio would report this task as failed
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, exchange: Exchange) -> None:
        fault, _, argument = exchange.asked.model.partition("@")[0].partition(":")
        try:
            await self.faults.get(fault, self.faults[""])(exchange, argument)
        except ClientLeft:
            if not exchange.over:
                exchange.asked.left = True
                self.hung_up.set()
            raise

    def _noted(self, headers: dict[str, str], body: bytes) -> Asked:
        parsed = json.loads(body)
        model = parsed["model"]
        self.counts[model] += 1
        now = asyncio.get_running_loop().time()
        self.began_at.setdefault(model, now)
        asked = Asked(self.name, model, self.counts[model], now, parsed, headers)
        if self.remember:
            self.asked.append(asked)
        return asked


async def _request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes] | None:
    """Returns a request's headers and body, or None once the caller has left."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        _, *lines = head.decode("latin-1").strip().split("\r\n")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        return headers, await reader.readexactly(int(headers["content-length"]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _head(status: int, fields: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode("latin-1")
