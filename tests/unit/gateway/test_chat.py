"""The chat handler's own duty: who answered and why, what it cost, and always an answer in time."""

import asyncio
import json
import logging
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway.admission import Admission
from services.gateway.app import build_app
from services.gateway.callers import ANYBODY
from services.gateway.chat import ChatCompletions
from services.gateway.config import AdmissionSettings
from services.gateway.deadlines import Deadlines
from services.gateway.explaining import Explanations
from services.gateway.listing import ModelListing
from services.gateway.metrics import GatewayMetrics
from services.gateway.probes import Probes
from tests.unit.gateway.running import FakeUpstream, Parts, gateway_of

NEVER_ASKED = cast(Any, None)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
USAGE = pb.Usage(input_tokens=1000, output_tokens=500)
BIG_DOLLARS = (1000 * 2.0 + 500 * 8.0) / 1e6
FRAMES = b'data: {"choices": []}\n\ndata: [DONE]\n\n'


@pytest.fixture
async def upstream() -> FakeUpstream:
    """The upstream's behaviour."""
    return FakeUpstream()


def streamed(head: pb.StreamHead, tail: pb.StreamTail) -> Parts:
    """Returns a stream's parts."""
    return (
        pb.StreamCompleteResponse(head=head),
        pb.StreamCompleteResponse(frames=FRAMES),
        pb.StreamCompleteResponse(tail=tail),
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "label", "always_strong"),
    [("router-mf-0.5", "mf", BIG_DOLLARS), ("small", "direct", None)],
)
async def test_an_answer_by_a_fallback_says_so_and_is_billed(
    upstream: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
    stream: bool,
    asked: str,
    label: str,
    always_strong: float | None,
) -> None:
    """Whoever reads the header, the metrics or the log must find the same model and reason."""
    caplog.set_level(logging.INFO)
    fields: Any = {"status": 200, "model": "big", "fallback": pb.FALLBACK_REASON_THROTTLED}
    upstream.answer = pb.CompleteResponse(body=b"{}", usage=USAGE, cost_dollars=0.5, **fields)
    upstream.parts = streamed(
        pb.StreamHead(**fields), pb.StreamTail(complete=True, usage=USAGE, cost_dollars=0.5)
    )
    async with gateway_of(upstream) as gateway, gateway.chat(asked, stream=stream) as response:
        await response.read()
        assert response.headers["x-pointsman-model"] == "big"
        assert response.headers["x-pointsman-fallback"] == "throttled"
    assert upstream.asked.get_nowait() == "small"
    assert gateway.value("fallbacks_total", reason="throttled") == 1
    assert gateway.value("cost_dollars_total", router=label) == 0.5
    found = gateway.value("always_strong_dollars_total", router=label)
    assert found == (None if always_strong is None else pytest.approx(always_strong))
    (line,) = [vars(one) for one in caplog.records if one.getMessage() == "request"]
    assert (line["model"], line["fallback"], line["cost_dollars"]) == ("big", "throttled", 0.5)
    assert line["tokens"]["input"] == 1000


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_names_the_model_that_was_asked_for(
    upstream: FakeUpstream, stream: bool
) -> None:
    """Its status, body and headers are the upstream's; nothing was saved by it."""
    fields: Any = {"status": 503, "model": "small", "headers": {"retry-after": "7"}}
    upstream.answer = pb.CompleteResponse(body=b'{"error":{}}', **fields)
    upstream.parts = [pb.StreamCompleteResponse(head=pb.StreamHead(body=b'{"error":{}}', **fields))]
    async with (
        gateway_of(upstream) as gateway,
        gateway.chat("router-mf-0.5", stream=stream) as response,
    ):
        assert (response.status, response.headers["retry-after"]) == (503, "7")
        assert response.headers["x-pointsman-model"] == "small"
        assert "x-pointsman-fallback" not in response.headers
    assert gateway.value("requests_total", router="mf", outcome="provider_error") == 1
    assert gateway.value("always_strong_dollars_total", router="mf") is None


async def test_a_broken_stream_is_billed_and_saves_nothing(upstream: FakeUpstream) -> None:
    """The provider is paid for what came; the client has no answer for it."""
    tail = pb.StreamTail(error=b'{"error":{}}', usage=USAGE, cost_dollars=0.5)
    upstream.parts = streamed(pb.StreamHead(status=200, model="small"), tail)
    async with (
        gateway_of(upstream) as gateway,
        gateway.chat("router-mf-0.5", stream=True) as response,
    ):
        assert (await response.read()).endswith(b'data: {"error":{}}\n\n')
    assert gateway.value("requests_total", router="mf", outcome="broken_stream") == 1
    assert gateway.value("cost_dollars_total", router="mf") == 0.5
    assert gateway.value("always_strong_dollars_total", router="mf") is None


async def test_one_request_too_many_is_refused_in_openais_shape(upstream: FakeUpstream) -> None:
    """Before its body is read, on a connection that stays, with word of when to come back."""
    upstream.may_answer.clear()
    async with gateway_of(upstream, max_unanswered=1) as gateway:
        waiting = asyncio.ensure_future(gateway.chat("small"))
        await upstream.asked.get()
        for _ in range(2):
            async with gateway.chat("small") as response:
                assert (response.status, response.headers["retry-after"]) == (503, "1")
                assert (await response.json())["error"]["code"] == "overloaded"
                assert "connection" not in response.headers
        upstream.may_answer.set()
        async with await waiting as response:
            assert response.status == 200
        async with gateway.chat("small") as response:
            assert response.status == 200
    assert gateway.value("refused_total", reason="unanswered") == 2
    assert gateway.value("requests_total", router="none", outcome="overloaded") == 2
    assert gateway.value("requests_total", router="direct", outcome="ok") == 2


async def test_a_stream_that_has_begun_leaves_its_place_to_others(upstream: FakeUpstream) -> None:
    """Streams live for minutes; they must not fill a limit for requests that wait."""
    upstream.may_answer.clear()
    upstream.parts = streamed(
        pb.StreamHead(status=200, model="small"), pb.StreamTail(complete=True)
    )
    async with gateway_of(upstream, max_unanswered=1) as gateway:
        streams = [await gateway.chat("small", stream=True) for _ in range(5)]
        assert [stream.status for stream in streams] == [200] * 5
        upstream.may_answer.set()
        assert [await stream.read() for stream in streams] == [FRAMES] * 5


@pytest.mark.parametrize(("provider_seconds", "limit"), [(3600.0, 100), (0.0, 100), (1e-6, 1)])
async def test_time_at_the_provider_is_no_delay_and_all_other_time_is(
    upstream: FakeUpstream, provider_seconds: float, limit: int
) -> None:
    """A slow model is no overload, a request that waited for us is; 0 is that nobody measured."""
    upstream.answer = pb.CompleteResponse(status=200, body=b"{}", model="small")
    upstream.answer.attempts.add(model="small", seconds=provider_seconds)
    async with gateway_of(upstream, max_delay_seconds=1e-9) as gateway:
        async with gateway.chat("small") as response:
            assert response.status == 200
        assert gateway.value("unanswered_limit") == limit
        assert gateway.value("unanswered") == 0


async def test_several_calls_to_providers_are_no_delay(upstream: FakeUpstream) -> None:
    """Between them the upstream waits on purpose, as Retry-After says."""
    upstream.answer = pb.CompleteResponse(status=200, body=b"{}", model="small")
    for _ in range(2):
        upstream.answer.attempts.add(model="small", seconds=1e-6)
    async with gateway_of(upstream, max_delay_seconds=1e-9) as gateway:
        async with gateway.chat("small") as response:
            assert response.status == 200
        assert gateway.value("unanswered_limit") == 100


async def test_a_body_that_never_ends_is_not_waited_for_for_ever() -> None:
    """A client that stalls, or breaks its own framing, holds a request no longer than any other."""
    metrics = GatewayMetrics(CollectorRegistry())
    chat = ChatCompletions(
        NEVER_ASKED,
        NEVER_ASKED,
        metrics,
        body_limit_bytes=1000,
        deadlines=Deadlines(0.05),
        admission=Admission(AdmissionSettings(), metrics),
        savings=NEVER_ASKED,
    )
    app = build_app(
        chat,
        Explanations(
            NEVER_ASKED,
            NEVER_ASKED,
            metrics,
            body_limit_bytes=1000,
            deadlines=Deadlines(0.05),
            admission=NEVER_ASKED,
        ),
        ModelListing(NEVER_ASKED, {}, 0),
        Probes(NEVER_ASKED),
        metrics,
        identify=lambda authorization: ANYBODY,
    )
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(HEAD + b"content-length: 10\r\n\r\n{")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 504 ")
            body = await reader.readuntil(b"}}")
            assert json.loads(body)["error"]["code"] == "timeout"
        finally:
            writer.close()
            await writer.wait_closed()
