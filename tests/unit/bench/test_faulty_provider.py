"""The wall's provider breaks as its faults say: seen over a raw socket and by the wall's client."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bench.fault_wall.client import Answer, ask, read_event
from bench.fault_wall.faults import CUT_AFTER, EMOJI, FAULTS, PREFILL_REFUSAL
from bench.fault_wall.provider import TOKENS, FaultyProvider


@pytest.fixture
async def provider() -> AsyncIterator[FaultyProvider]:
    """One provider, not yet asked anything."""
    async with FaultyProvider("primary", FAULTS) as serving:
        yield serving


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client's session."""
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.mark.parametrize("stream", [True, False])
async def test_name_without_a_fault_is_answered_properly(
    provider: FaultyProvider, session: aiohttp.ClientSession, stream: bool
) -> None:
    """What is compared with a broken answer must itself be right."""
    answer = await ask(session, provider.url, "gpt", stream=stream)
    assert answer.is_whole([provider.text])
    assert answer.usage == provider.usage
    assert answer.pieces == (TOKENS if stream else 1)
    assert [(one.model, one.number, one.said) for one in provider.asked] == [("gpt", 1, "200")]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "flaw"),
    [
        ("reset", "reset by peer"),
        ("hangs-up", "disconnected"),
        ("cut", "payload"),
        ("cut-by-reset", "reset by peer"),
        ("half-closed", "payload"),
        ("garbled", "not "),
    ],
)
async def test_broken_answer_is_seen_as_one(
    provider: FaultyProvider, session: aiohttp.ClientSession, fault: str, flaw: str, stream: bool
) -> None:
    """If the client took any of these for a success, the wall would."""
    answer = await ask(session, provider.url, f"{fault}@x", stream=stream)
    assert flaw in answer.flaw.lower()
    assert not answer.is_whole([provider.text])
    assert not answer.fails_clearly


async def test_stream_that_is_cut_has_had_its_forty_tokens(
    provider: FaultyProvider, session: aiohttp.ClientSession
) -> None:
    """A provider that dies earlier than it says would be the easier case of failing over."""
    answer = await ask(session, provider.url, "cut@x")
    assert answer.text == "".join(provider.tokens[:CUT_AFTER])
    assert answer.pieces == CUT_AFTER


@pytest.mark.parametrize("fault", ["no-done", "unfinished", "throttled", "too-long"])
async def test_incomplete_answer_is_not_whole(
    provider: FaultyProvider, session: aiohttp.ClientSession, fault: str
) -> None:
    """Each lacks something that a success has: `[DONE]`, a finish reason, a status of 200."""
    assert not (await ask(session, provider.url, f"{fault}@x")).is_whole([provider.text])


@pytest.mark.parametrize(
    ("stream", "after"), [(False, 0), (True, 0), (True, 5)], ids=["whole", "first", "middle"]
)
async def test_error_after_200_is_an_error(
    provider: FaultyProvider, session: aiohttp.ClientSession, stream: bool, after: int
) -> None:
    """A status of 200 says nothing yet."""
    answer = await ask(session, provider.url, f"error-body:{after}@x", stream=stream)
    assert (answer.status, answer.pieces, answer.fails_clearly) == (200, after, True)


@pytest.mark.parametrize("fault", ["mute", "late:60", "late-after-role:60", "stalls:60"])
async def test_silence_ends_when_the_caller_leaves(
    provider: FaultyProvider, session: aiohttp.ClientSession, fault: str
) -> None:
    """And the log has it: whoever should time out was seen to hang up."""
    answer = await ask(session, provider.url, f"{fault}@x", patience_seconds=0.2)
    assert "does not end" in answer.flaw
    await provider.hung_up.wait()
    assert provider.asked[0].left


@pytest.mark.parametrize("fault", ["late:0.01", "late-after-role:0.01", "stalls:0.01"])
@pytest.mark.parametrize("stream", [True, False])
async def test_silence_that_is_over_is_followed_by_the_rest(
    provider: FaultyProvider, session: aiohttp.ClientSession, fault: str, stream: bool
) -> None:
    """Late is not broken: whoever waits gets everything."""
    answer = await ask(session, provider.url, f"{fault}@x", stream=stream)
    assert answer.is_whole([provider.text])


async def test_fault_of_the_first_attempt_is_counted_by_name(
    provider: FaultyProvider, session: aiohttp.ClientSession
) -> None:
    """Cases side by side do not use up each other's faults."""
    asked = ["failing-once:500@a", "failing-once:500@b", "failing-once:500@a"]
    statuses = [(await ask(session, provider.url, model)).status for model in asked]
    assert statuses == [500, 500, 200]
    assert [one.number for one in provider.asked_for("failing-once:500@a")] == [1, 2]


async def test_outage_ends(provider: FaultyProvider, session: aiohttp.ClientSession) -> None:
    """Counted from the first request for the name, so that a late start loses nothing."""
    statuses = [(await ask(session, provider.url, f"down:{s}@x")).status for s in ("", "60", "0")]
    assert statuses == [503, 503, 200]


@pytest.mark.parametrize(
    ("asked", "said"), [("throttled:2@x", "2"), ("throttled:Wed,_1_Jan@x", "Wed, 1 Jan")]
)
async def test_retry_after_is_what_the_name_says(
    provider: FaultyProvider, session: aiohttp.ClientSession, asked: str, said: str
) -> None:
    """Dates have blanks and colons, which names should not need."""
    answer = await ask(session, provider.url, asked)
    assert (answer.status, answer.headers["retry-after"]) == (429, said)


@pytest.mark.parametrize("fault", ["gzip", "split-utf8", "huge:1"])
@pytest.mark.parametrize("stream", [True, False])
async def test_odd_encoding_is_still_an_answer(
    provider: FaultyProvider, session: aiohttp.ClientSession, fault: str, stream: bool
) -> None:
    """A client that decodes what it is told reads them all."""
    texts = {
        "gzip": provider.text,
        "split-utf8": EMOJI * 4,
        "huge:1": "x" * 1024 * 1024,
    }
    answer = await ask(session, provider.url, f"{fault}@x", stream=stream)
    assert answer.is_whole([texts[fault]])


async def test_prefill_is_refused_and_nothing_else(
    provider: FaultyProvider, session: aiohttp.ClientSession
) -> None:
    """Case 14 turns on who would send a half answer back."""
    assert (await ask(session, provider.url, "no-prefill@x")).is_whole([provider.text])
    body = {"model": "no-prefill@x", "messages": [{"role": "assistant", "content": "p00 p01 "}]}
    async with session.post(f"{provider.url}/chat/completions", json=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"] == PREFILL_REFUSAL


async def test_caller_that_does_not_read_stops_the_provider(provider: FaultyProvider) -> None:
    """Bytes are counted once the connection took them: that is how back-pressure is seen."""
    host, port = provider.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = json.dumps({"model": "flood:64@x", "stream": True}).encode()
    writer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await provider.hung_up.wait()
    assert provider.asked[0].left
    assert provider.asked[0].sent_bytes < 32 * 1024 * 1024


@pytest.mark.parametrize(
    ("events", "right"),
    [
        ([b"data: [DONE]"], True),
        ([b"data: [DONE]", b"data: {}"], False),
        ([b'data: {"error": {"message": "no"}}', b"data: [DONE]"], False),
    ],
)
def test_nothing_may_follow_the_end(events: list[bytes], right: bool) -> None:
    """An error after `[DONE]`, or `[DONE]` after an error, is no clean end of either kind."""
    answer = Answer(asked_at=0.0)
    for event in events:
        read_event(event, answer)
    assert (answer.flaw == "") is right
