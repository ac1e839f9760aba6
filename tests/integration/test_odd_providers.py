"""Providers that are broken, slow or odd beyond the sixteen; and clients that do not read."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from openai import APIError, AsyncOpenAI, InternalServerError

from bench.fault_wall.client import ask
from bench.fault_wall.faults import EMOJI
from bench.fault_wall.wall import PRIMARY, SECONDARY, Route, Wall, running

pytestmark = pytest.mark.integration

IDLE_SECONDS = 1.0
MIB = 1024 * 1024
FLOOD_MIB = 160
SOCKETS_MIB = 112
"""What the kernel may hold on the way to a client that does not read: three connections, each with
up to 32 MiB at its receiver and 4 at its sender, as Linux is mostly configured."""
HELD_MIB = 24
"""What a service may hold of it: HTTP/2's window, and what was read and not yet written."""
FAR = "Fri,_31_Dec_2100_23:59:59_GMT"
FAULTS = [
    "half-closed",
    "hangs-up",
    "leaves-quietly",
    "error-body:0",
    "error-body:5",
    "gzip",
    "split-utf8",
    "huge:1",
    "huge:17",
    "huge:40",
    "unfinished",
    "cut-after-done",
    "cut-after-done:reset",
    "no-done:cut",
    f"flood:{FLOOD_MIB}",
]
RETRY_AFTERS = [
    "Wed,_21_Oct_2015_07:28:00_GMT",
    FAR,
    "soon",
    "-5",
    "1e9",
    "0.01",
    "99999999999999999999",
]
ROUTES = {
    **{_name: Route(_name) for _name in FAULTS},
    **{f"retry {said}": Route(f"throttled-once:{said}") for said in RETRY_AFTERS},
    "alone": Route(f"throttled:{FAR}", ()),
    "all-down": Route("down", ("down",)),
}


@pytest.fixture(scope="module")
async def wall() -> AsyncIterator[Wall]:
    """A wall whose models have these faults; breakers that stay closed, as all share one."""
    limits = {"idle_timeout_seconds": IDLE_SECONDS}
    reliability = {"retries": {"backoff_seconds": 0.01}}
    async with running(
        ROUTES, limits=limits, reliability=reliability, token_seconds=0.0005
    ) as started:
        yield started


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("fault", "provider"),
    [
        ("hangs-up", SECONDARY),
        ("leaves-quietly", PRIMARY),
        ("error-body:0", SECONDARY),
        ("gzip", PRIMARY),
        ("cut-after-done", PRIMARY),
        ("cut-after-done:reset", PRIMARY),
    ],
)
async def test_oddity_before_or_after_the_answer_is_not_seen(
    wall: Wall, fault: str, provider: str, stream: bool
) -> None:
    """What can be mended without a guess is mended, and the client gets one whole answer."""
    texts = {PRIMARY: wall.primary.text, SECONDARY: wall.secondary.text}
    for _ in range(3):  # connections that are kept have their own ways to break
        answer = await ask(wall.session, wall.url, fault, stream=stream)
        assert answer.is_whole([texts[provider]]), answer.summary()


@pytest.mark.parametrize("fault", ["half-closed", "error-body:5", "unfinished"])
async def test_stream_that_breaks_after_its_first_token_ends_in_an_error(
    wall: Wall, fault: str
) -> None:
    """Neither a half closed connection, nor an error in the stream, nor `[DONE]` is an end."""
    answer = await ask(wall.session, wall.url, fault)
    assert answer.fails_clearly, answer.summary()
    assert answer.pieces
    assert wall.primary.text.startswith(answer.text)


async def test_finished_answer_without_an_end_is_whole_or_an_error(wall: Wall) -> None:
    """The provider finished, and then its connection was cut: nothing may be in between."""
    answer = await ask(wall.session, wall.url, "no-done:cut")
    assert answer.is_whole([wall.primary.text]) or answer.fails_clearly, answer.summary()


async def test_half_closed_whole_answer_is_asked_for_elsewhere(wall: Wall) -> None:
    """Nothing of it has reached the client: half a body is as good as none."""
    answer = await ask(wall.session, wall.url, "half-closed", stream=False)
    assert answer.is_whole([wall.secondary.text]), answer.summary()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("fault", "text"), [("split-utf8", EMOJI * 4), ("huge:1", "x" * MIB)], ids=["utf-8", "1 MiB"]
)
async def test_text_arrives_to_the_last_byte(
    wall: Wall, fault: str, text: str, stream: bool
) -> None:
    """However it was cut, and however long its line is."""
    answer = await ask(wall.session, wall.url, fault, stream=stream)
    assert answer.is_whole([text]), answer.summary()


@pytest.mark.parametrize(("fault", "stream"), [("huge:17", True), ("huge:40", False)])
async def test_answer_over_the_limit_is_refused_or_replaced(
    wall: Wall, fault: str, stream: bool
) -> None:
    """A provider decides neither how much memory the upstream takes, nor whether it answers."""
    answer = await ask(wall.session, wall.url, fault, stream=stream)
    assert answer.is_whole([wall.secondary.text]) or answer.fails_clearly, answer.summary()


@pytest.mark.parametrize("said", RETRY_AFTERS)
async def test_odd_retry_after_neither_hangs_nor_hammers(wall: Wall, said: str) -> None:
    """Dates of the past, of another century, and what is no date: one or two attempts, no wait."""
    answer = await ask(wall.session, wall.url, f"retry {said}")
    assert answer.is_whole([wall.primary.text, wall.secondary.text]), answer.summary()
    assert wall.primary.counts[f"throttled-once:{said}@retry {said}"] <= 2


async def test_retry_after_that_nobody_can_wait_for_reaches_the_client(wall: Wall) -> None:
    """Without another model to go to, the client learns what the provider wants, at once."""
    answer = await ask(wall.session, wall.url, "alone")
    assert (answer.status, answer.fails_clearly) == (429, True), answer.summary()
    assert answer.headers["retry-after"] == FAR.replace("_", " ")
    assert wall.primary.counts[f"throttled:{FAR}@alone"] == 1


async def test_client_that_does_not_read_stops_the_provider(wall: Wall) -> None:
    """Back-pressure goes all the way: a slow client costs nobody's memory, and loses nothing.

    The idle limit passes meanwhile: it is the client that is slow, not the provider.
    """
    services = {process.service: process.pid for process in (wall.gateway, wall.upstream)}
    before = {name: _rss_bytes(pid) for name, pid in services.items()}
    model = f"flood:{FLOOD_MIB}"
    async with _unread(wall, model) as response:
        asked = await _blocked(wall, f"{model}@{model}")
        assert asked < SOCKETS_MIB * MIB
        for name, pid in services.items():
            assert _rss_bytes(pid) - before[name] < HELD_MIB * MIB, name
        size, last = 0, b""
        async for data in response.content.iter_any():
            size += len(data)
            last = data
        assert size > FLOOD_MIB * MIB
        assert last.endswith(b"data: [DONE]\n\n")


async def test_official_client_raises_where_a_stream_breaks(wall: Wall) -> None:
    """A program that iterates over a truncated answer must not come to its end as if all was well.

    What had arrived before is not lost to it.
    """
    async with AsyncOpenAI(base_url=wall.url, api_key="none", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="half-closed", messages=[{"role": "user", "content": "Go on."}], stream=True
        )
        text = ""
        with pytest.raises(APIError, match="hung up"):
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
        assert text
        assert wall.primary.text.startswith(text)


async def test_official_client_does_not_multiply_the_attempts(wall: Wall) -> None:
    """Every model was tried as often as it should be: the client is told not to begin again."""
    async with AsyncOpenAI(base_url=wall.url, api_key="none", max_retries=5) as client:
        with pytest.raises(InternalServerError):
            await client.chat.completions.create(
                model="all-down", messages=[{"role": "user", "content": "Go on."}]
            )
    asked = (
        wall.primary.counts["down@all-down"],
        wall.secondary.counts["down@all-down-fallback-0"],
    )
    assert asked == (3, 3)


def _unread(wall: Wall, model: str) -> aiohttp.client._RequestContextManager:
    """Returns a request for a stream whose body is read by nobody but its caller."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Go on."}]}
    return wall.session.post(f"{wall.url}/chat/completions", json=body)


async def _blocked(wall: Wall, model: str) -> int:
    """Returns the bytes a provider could send, once three idle limits have passed."""
    now = asyncio.get_running_loop().time
    until = now() + 3 * IDLE_SECONDS
    while now() < until:
        await wall.metrics(wall.upstream)  # it must still answer others
    return wall.primary.asked_for(model)[0].sent_bytes


def _rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
