"""HTTP body → the three fields that routing needs, or a refusal that says what is wrong."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.errors import InvalidRequest, RequestTooLarge
from services.gateway.request import accepted_request_id, parse_chat_request, read_body

LIMIT_BYTES = 2_000_000
HELLO = b'{"model": "router-mf-0.5", "messages": [{"role": "user", "content": "Hello"}]}'

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
CHATS = st.fixed_dictionaries(
    {},
    optional={
        "model": ANY_TEXT | JSON,
        "messages": st.lists(st.dictionaries(ANY_TEXT, JSON, max_size=2), max_size=2) | JSON,
        "stream": st.booleans() | JSON,
        "extra": JSON,
    },
)


def test_model_messages_and_stream_are_read() -> None:
    """All that routing needs to know."""
    chat = parse_chat_request(HELLO[:-1] + b', "stream": true, "n": 2}')
    assert (chat.model, chat.stream) == ("router-mf-0.5", True)
    assert chat.messages == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("stream", [b"", b', "stream": null', b', "stream": false'])
def test_nothing_null_and_false_are_no_stream(stream: bytes) -> None:
    """The official client sends `stream: null` for "not given" in some versions."""
    assert not parse_chat_request(HELLO[:-1] + stream + b"}").stream


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages": [{}]}', "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": null}', "messages"),
        (b'{"model": "m", "messages": "Hello"}', "messages"),
        (b'{"model": "m", "messages": {"role": "user"}}', "messages"),
        (b'{"model": "m", "messages": ["Hello"]}', "messages"),
        (b'{"model": "m", "messages": [null]}', "messages"),
        (b'{"model": null, "messages": [{}]}', "model"),
        (b'{"model": 5, "messages": [{}]}', "model"),
        (b'{"model": ["m"], "messages": [{}]}', "model"),
        (b'{"model": "m", "messages": [{}], "stream": "true"}', "stream"),
        (b'{"model": "m", "messages": [{}], "stream": 1}', "stream"),
        (rb'{"model": 5, "messages": [{"content": "\ud83d"}]}', "model"),
        (rb'{"model": "\ud83d"}', "messages"),
    ],
)
def test_a_wrong_field_is_named(body: bytes, param: str) -> None:
    """`e.param` is where the official client looks for the culprit."""
    with pytest.raises(InvalidRequest) as caught:
        parse_chat_request(body)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'"x"',
        b"null",
        HELLO[:-1],
        HELLO + b"{",
        HELLO[:-1] + b', "temperature": NaN}',
        HELLO[:-1] + rb', "user": "\ud83d", "temperature": NaN}',
        HELLO.replace(b"Hello", b"\xff"),
        HELLO[:-1] + b', "user": "\xc3"}',
        HELLO.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + HELLO,
    ],
)
def test_what_is_no_json_object_is_the_clients_mistake(body: bytes) -> None:
    """A 400 that says so, whatever the bytes are; the provider would refuse them as well."""
    with pytest.raises(InvalidRequest, match="not a chat completion request"):
        parse_chat_request(body)


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00"])
def test_half_an_emoji_is_let_through(half: bytes) -> None:
    """JavaScript cuts strings in the middle of emoji."""
    chat = parse_chat_request(HELLO.replace(b"Hello", half))
    assert chat.messages[0]["content"] == "\ufffd"


def test_of_two_models_the_last_counts() -> None:
    """The provider, who reads JSON as everybody does, sees the same one."""
    assert parse_chat_request(HELLO[:-1] + b', "model": "last"}').model == "last"


def test_a_bottomless_nest_is_the_clients_mistake() -> None:
    """RecursionError would be a 500."""
    for nest in (b"[" * 100_000, b'{"a":' * 100_000, rb'"\ud83d", ' + b"[" * 100_000):
        with pytest.raises(InvalidRequest):
            parse_chat_request(b'{"model": "m", "messages": [{"content": [' + nest)


@given(st.binary() | CHATS.map(json.dumps).map(str.encode) | JSON.map(json.dumps).map(str.encode))
@example(rb'{"model": "\ud83d", "messages": [{"": 1e400}]}')
def test_no_body_is_a_fault_of_ours(body: bytes) -> None:
    """Whatever arrives is read or refused."""
    try:
        chat = parse_chat_request(body)
    except InvalidRequest as error:
        assert error.message.encode()
        return
    assert chat.messages


@given(CHATS)
def test_what_is_read_is_what_was_sent(sent: dict[str, Any]) -> None:
    """Routing decides on the very values that the provider will see."""
    try:
        chat = parse_chat_request(json.dumps(sent).encode())
    except InvalidRequest:
        return
    assert chat.model == sent["model"]
    assert json.dumps(chat.messages) == json.dumps(sent["messages"])
    assert chat.stream == sent.get("stream")


@pytest.mark.parametrize("value", ["a", "req-1_2.3", "A" * 128])
def test_a_decent_request_id_is_kept(value: str) -> None:
    """Whoever has an id can follow the request through all logs."""
    assert accepted_request_id(value) == value


@pytest.mark.parametrize("value", [None, "", "A" * 129, "a b", "a\n", "a\r\nx: y", "é", "a/b"])
def test_any_other_request_id_is_not(value: str | None) -> None:
    """It stands in headers and logs: no line breaks, no floods."""
    assert accepted_request_id(value) is None


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    """A server that reads bodies as the gateway does and answers with their size."""

    async def handle(request: web.Request) -> web.Response:
        try:
            body = await read_body(request, LIMIT_BYTES)
        except RequestTooLarge as error:
            return web.Response(status=413, text=error.message)
        except InvalidRequest as error:
            return web.Response(status=400, text=error.message)
        return web.Response(text=str(len(body)))

    app = web.Application(client_max_size=LIMIT_BYTES + 1)  # as build_app has it
    app.router.add_post("/", handle)
    async with TestServer(app) as server:
        yield server


async def chunks(size: int) -> AsyncIterator[bytes]:
    """A body whose length is not known beforehand."""
    for start in range(0, size, 65_536):
        yield b"x" * min(65_536, size - start)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_exactly_the_limit_is_read(server: TestServer, chunked: bool) -> None:
    """Aiohttp's own limit of 1 MiB, and its "greater or equal", must not show."""
    data = chunks(LIMIT_BYTES) if chunked else io.BytesIO(b"x" * LIMIT_BYTES)
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.make_url("/"), data=data) as response,
    ):
        assert await response.text() == str(LIMIT_BYTES)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(server: TestServer, chunked: bool) -> None:
    """The message names the limit, so the client knows by how much to shorten."""
    data = chunks(LIMIT_BYTES + 1) if chunked else io.BytesIO(b"x" * (LIMIT_BYTES + 1))
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.make_url("/"), data=data) as response,
    ):
        assert response.status == 413
        assert str(LIMIT_BYTES) in await response.text()


async def test_a_body_over_the_limit_is_refused_before_it_is_read(server: TestServer) -> None:
    """A terabyte is refused by its announcement alone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_cannot_be_unpacked_is_the_clients_mistake(
    server: TestServer, encoding: str
) -> None:
    """Aiohttp unpacks compressed bodies by itself; a broken one is no fault of ours."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            server.make_url("/"), data=b"\xffnot packed", headers={"content-encoding": encoding}
        ) as response,
    ):
        assert response.status == 400
