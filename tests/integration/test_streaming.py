"""Streams through all three services: as they come, whole or honestly broken."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.process import Process
from tests.fakes.cluster import RunningCluster, cluster, models_of
from tests.fakes.provider import (
    FakeProvider,
    chunk,
    event,
    gated_stream,
    raw_stream,
    refuse,
    silent,
    stream,
)

pytestmark = pytest.mark.integration

DONE = b"data: [DONE]\n\n"
WORD = event(chunk("fake-strong", {"content": "Hi"}))
STOP = event(chunk("fake-strong", {}, "stop"))
ERROR = b'data: {"error": {"message": "boom", "type": "t", "param": null, "code": "c"}}\n\n'


async def read(running: RunningCluster, **fields: Any) -> list[bytes]:
    """Returns the events of a streamed answer."""
    async with running.chat(stream=True, **fields) as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        body = await response.read()
    assert body.endswith(b"\n\n")
    return [part + b"\n\n" for part in body.split(b"\n\n")[:-1]]


def error_of(events: list[bytes]) -> dict[str, Any]:
    """Returns the error in the last event."""
    error: dict[str, Any] = json.loads(events[-1].removeprefix(b"data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_frames_pass_unchanged_and_usage_only_if_asked(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """We ask for usage to count tokens; a client that did not ask must not see the chunk."""
    async with running.growth(running.upstream) as grown:
        plain = await read(running)
        asked = await read(running, stream_options={"include_usage": True, "other": 1})
    assert plain[-1] == asked[-1] == DONE
    assert plain == [one for one in asked if b'"usage"' not in one]
    assert len(asked) == len(plain) + 1
    assert provider.calls[0].json["stream_options"] == {"include_usage": True}
    assert provider.calls[1].json["stream_options"] == {"include_usage": True, "other": 1}
    tokens = 'pointsman_upstream_tokens_total{direction="output",model="strong"}'
    assert grown[tokens] == 4


async def test_provider_that_may_not_be_asked_for_usage_gets_the_body_as_it_is(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Some servers answer 422 to fields they do not know."""
    async with cluster(tmp_path, models_of(provider.url, include_usage=False)) as running:
        assert (await read(running))[-1] == DONE
    assert "stream_options" not in provider.calls[0].json


async def test_first_chunk_arrives_while_the_provider_still_thinks(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """Nothing is held back: the first frame is with the client before the second exists."""
    provider.behaviours["fake-strong"] = gated_stream()
    async with (
        running.chat(stream=True) as response,
    ):
        first = await response.content.readuntil(b"\n\n")
        assert b"First." in first
        provider.release.set()
        assert (await response.read()).endswith(STOP.replace(b"Hi", b"") + DONE)


async def test_error_before_the_first_byte_is_an_ordinary_http_error(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """A client must not find an error inside a stream that began with 200."""
    body = b'{"error": {"message": "slow down", "type": "t", "param": null, "code": "rate"}}'
    provider.behaviours["fake-strong"] = refuse(429, body, {"retry-after": "3"})
    async with (
        running.chat(stream=True) as response,
    ):
        assert (response.status, response.headers["retry-after"]) == (429, "3")
        assert response.headers["x-pointsman-model"] == "strong"
        assert await response.read() == body


@pytest.mark.parametrize(
    ("pieces", "cut"),
    [
        pytest.param([WORD], True, id="reset"),
        pytest.param([WORD, WORD[:-20]], True, id="reset-inside-an-event"),
        pytest.param([WORD], False, id="tidy-end-without-finish"),
        pytest.param([WORD, b"data: not json\n\n", STOP, DONE], False, id="not-json"),
    ],
)
async def test_broken_answer_ends_in_an_error_and_never_in_done(
    running: RunningCluster, provider: FakeProvider, pieces: list[bytes], cut: bool
) -> None:
    """A truncated answer is never presented as a success."""
    provider.behaviours["fake-strong"] = raw_stream(*pieces, cut=cut, gated=True)
    async with (
        running.growth(running.gateway) as grown,
        running.chat(stream=True) as response,
    ):
        assert await response.content.readuntil(b"\n\n") == WORD
        provider.release.set()
        assert error_of([await response.read()])["message"]
    label = 'outcome="broken_stream",router="random"'
    assert grown[f"pointsman_gateway_requests_total{{{label}}}"] == 1


async def test_error_inside_the_providers_stream_reaches_the_client(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """The provider knows best what went wrong; nothing follows its word."""
    provider.behaviours["fake-strong"] = raw_stream(WORD, ERROR, DONE, cut=False, gated=True)
    async with running.chat(stream=True) as response:
        assert await response.content.readuntil(b"\n\n") == WORD
        provider.release.set()
        assert error_of([await response.read()])["message"] == "boom"


async def test_error_before_the_first_token_is_an_ordinary_http_error(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """The provider began with 200, but nobody has seen that yet."""
    provider.behaviours["fake-strong"] = raw_stream(ERROR, DONE, cut=False)
    async with running.chat(stream=True) as response:
        assert response.status == 502
        assert (await response.json())["error"]["message"] == "boom"


async def test_finished_answer_without_done_is_completed(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """`transformers serve` never sends `[DONE]`; the answer is whole all the same."""
    provider.behaviours["fake-strong"] = raw_stream(WORD, STOP, cut=False)
    assert await read(running) == [WORD, STOP, DONE]


async def test_json_instead_of_a_stream_is_an_error(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """Clients read a 200 with JSON as an empty stream and notice nothing."""
    provider.behaviours["fake-strong"] = refuse(200, b"{}", {"content-type": "application/json"})
    async with (
        running.chat(stream=True) as response,
    ):
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "provider_nonsense"


@pytest.mark.parametrize("streamed", [True, False])
async def test_client_that_hangs_up_cancels_the_providers_call(
    running: RunningCluster, provider: FakeProvider, streamed: bool
) -> None:
    """Nobody pays for tokens that nobody reads, streamed or not; and all gauges return to zero."""
    provider.behaviours["fake-strong"] = gated_stream() if streamed else silent()
    async with (
        running.growth(running.gateway) as grown,
        running.growth(running.upstream) as upstream,
    ):
        sending = asyncio.ensure_future(_send(running, streamed))
        await provider.called.wait()
        if streamed:
            (await sending).close()
        else:
            sending.cancel()
        await provider.hung_up.wait()
        await running.until_idle()
    label = 'outcome="cancelled",router="random"'
    assert grown[f"pointsman_gateway_requests_total{{{label}}}"] == 1
    label = '{model="strong",outcome="cancelled"}'
    assert upstream[f"pointsman_upstream_requests_total{label}"] == 1
    assert upstream[f"pointsman_upstream_request_seconds_count{label}"] == 1


async def _send(running: RunningCluster, streamed: bool) -> aiohttp.ClientResponse:
    response: aiohttp.ClientResponse = await running.chat(stream=streamed)
    await response.content.readuntil(b"\n\n")
    return response


async def test_provider_killed_in_mid_stream(tmp_path: Path) -> None:
    """A provider's process dies: the client gets an error frame, and the next request a 502."""
    environ = {"POINTSMAN_DEMO_PORT": "0", "POINTSMAN_DEMO_CHUNK_SECONDS": "0.05"}
    with (tmp_path / "demo.log").open("wb") as log:
        demo = Process("demo_provider", environ, log=log.fileno())
        announced = await demo.start()
        async with cluster(tmp_path, models_of(f"http://{announced.address}/v1")) as running:
            async with running.chat(stream=True) as response:
                await response.content.readuntil(b"\n\n")
                demo.signal(signal.SIGKILL)
                rest = await response.read()
            await demo.wait()
            assert b"[DONE]" not in rest
            last = rest.split(b"\n\n")[-2].removeprefix(b"data: ")
            assert json.loads(last)["error"]["code"] == "provider_unavailable"
            async with running.chat() as response:
                assert response.status == 502
                assert (await response.json())["error"]["code"] == "provider_unavailable"


async def test_events_without_data_are_not_passed_on(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """The official client fails on `event: ping`; comments keep connections alive."""
    provider.behaviours["fake-strong"] = raw_stream(
        b": keep-alive\n\n", b"event: ping\n\n", b"retry: 100\r\n\r\n", WORD, STOP, DONE, cut=False
    )
    assert await read(running) == [b": keep-alive\n\n", WORD, STOP, DONE]


async def test_stream_options_null_is_as_good_as_none(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """Clients that serialise absent options as null are served too."""
    provider.behaviours["fake-strong"] = stream()
    events = await read(running, stream_options=None)
    assert events[-1] == DONE
    assert all(b'"usage"' not in one for one in events)
