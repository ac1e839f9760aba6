"""Responses read from bytes, cut wherever a socket may cut them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.http1 import BadResponse, Connection, Response, ResponseReader, request_bytes

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Pointsman-Decision: strong\r\n\r\nhello"
EVENTS = [
    b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n',
    b"data: [DONE]\n\n",
]
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = (
    CHUNKED_HEAD + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in EVENTS) + b"0\r\n\r\n"
)


def read(*parts: bytes) -> Response | None:
    """Feeds the parts to a new reader and returns what the last one gave."""
    reader = ResponseReader()
    *first, last = parts
    for part in first:
        assert reader.feed(part) is None
    return reader.feed(last)


def test_a_body_with_a_length_is_read_to_its_end() -> None:
    """Status, headers in lower case, body."""
    response = read(WHOLE)
    assert response is not None
    assert response.status == 200
    assert response.headers["x-pointsman-decision"] == "strong"
    assert response.body == b"hello"


@pytest.mark.parametrize("wire", [WHOLE, CHUNKED], ids=["length", "chunked"])
@given(data=st.data())
def test_it_does_not_matter_where_the_bytes_are_cut(wire: bytes, data: st.DataObject) -> None:
    """The response is complete with the last byte, and not before."""
    cut = data.draw(st.integers(1, len(wire) - 1))
    halves = read(wire[:cut], wire[cut:])
    whole = read(wire)
    single = read(*(bytes([byte]) for byte in wire))
    assert halves is not None
    assert whole is not None
    assert single is not None
    assert halves.body == whole.body == single.body


def test_chunks_are_put_together() -> None:
    """The body is the events, without the sizes between them."""
    response = read(CHUNKED)
    assert response is not None
    assert response.body == b"".join(EVENTS)


def test_an_empty_body_is_complete_with_the_head() -> None:
    """Nothing more will come."""
    response = read(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
    assert response is not None
    assert response.status == 204


def test_the_first_token_is_the_first_text_and_not_the_role() -> None:
    """The role's delta comes at once, before a model has said anything."""
    role_only = CHUNKED_HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(EVENTS[0]), EVENTS[0])
    without = read(role_only)
    assert without is not None
    assert without.first_token_at is None
    response = read(CHUNKED)
    assert response is not None
    assert response.first_token_at is not None


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        CHUNKED_HEAD + b"five\r\nhello\r\n",
        WHOLE + b"more",
    ],
    ids=["not-http", "no-length", "no-chunk-size", "goes-on"],
)
def test_what_is_no_response_is_refused(wire: bytes) -> None:
    """A figure must not rest on bytes that nobody understood."""
    with pytest.raises(BadResponse):
        read(wire)


def test_a_request_states_host_and_length() -> None:
    """What HTTP/1.1 demands of a POST."""
    request = request_bytes("POST", "127.0.0.1:80", "/v1", b"{}")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.splitlines()[:2] == [b"POST /v1 HTTP/1.1", b"host: 127.0.0.1:80"]
    assert b"content-length: 2" in head.splitlines()
    assert body == b"{}"


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def served(serve: Serve) -> tuple[asyncio.Server, str]:
    """Returns a server on a port of the kernel's choice, and its `host:port`."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_connection_is_kept_for_the_next_request() -> None:
    """Clients ask one after another over one connection."""
    connections = 0

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(WHOLE)
        writer.close()

    server, host = await served(twice)
    async with server, await Connection.open(host) as connection:
        request = request_bytes("GET", host, "/")
        first, second = await connection.ask(request), await connection.ask(request)
    assert first.body == second.body == b"hello"
    assert connections == 1


async def test_a_server_that_hangs_up_is_an_error_and_not_a_wait() -> None:
    """Half an answer never becomes a whole one."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(WHOLE[:-2])
        writer.close()

    server, host = await served(half)
    async with server, await Connection.open(host) as connection:
        with pytest.raises(BadResponse, match="hung up"):
            await connection.ask(request_bytes("GET", host, "/"))
        with pytest.raises(BadResponse, match="between two requests"):
            await connection.ask(request_bytes("GET", host, "/"))
