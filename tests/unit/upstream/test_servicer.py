"""The rpcs, over real gRPC and against a provider that really listens."""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import grpc
import pytest
from prometheus_client import CollectorRegistry

from pointsman.chassis.config import convert
from pointsman.chassis.grpc_server import ErrorsAsStatus
from pointsman.models_file import ModelsFile
from pointsman.upstream.v1 import upstream_pb2 as pb
from pointsman.upstream.v1 import upstream_pb2_grpc
from services.upstream.client import ProviderClient
from services.upstream.failover import Failover
from services.upstream.metrics import UpstreamMetrics
from services.upstream.models import Catalogue
from services.upstream.servicer import UpstreamServicer
from tests.fakes.provider import (
    Behaviour,
    FakeProvider,
    chunk,
    event,
    gated_stream,
    raw_stream,
    refuse,
    silent,
    stream,
    whole,
)

MESSAGES = [{"role": "user", "content": "12345678"}]
FIRST = event(chunk("s-1", {"content": "First."}))
FINISH = event(chunk("s-1", {}, "stop"))
DONE = b"data: [DONE]\n\n"
PRICES = {"input_price_per_million": 1e6, "output_price_per_million": 2e6}
MODELS = {
    "strong": {"provider": "p", "model": "s-1", "fallbacks": ["weak"], **PRICES},
    "weak": {"provider": "p", "model": "w-1", "input_price_per_million": 1e3},
    "alone": {"provider": "p", "model": "a-1", **PRICES},
}


class Lines(logging.Handler):
    """The upstream's log lines, to be waited for: one is written when an rpc is over."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a line."""
        self.queue.put_nowait(vars(record))


class Upstream:
    """An upstream that can be called."""

    def __init__(self, stub: Any, registry: CollectorRegistry) -> None:
        self.stub = stub
        self.registry = registry
        self.lines = Lines()

    async def complete(self, model: str = "strong") -> pb.CompleteResponse:
        """Asks for a whole answer."""
        asked = pb.CompleteRequest(envelope=envelope(model))
        answer: pb.CompleteResponse = await self.stub.Complete(asked, wait_for_ready=True)
        return answer

    def begin(self, model: str = "strong", **fields: Any) -> Any:
        """Asks for a streamed answer."""
        asked = pb.StreamCompleteRequest(envelope=envelope(model, stream=True, **fields))
        return self.stub.StreamComplete(asked, wait_for_ready=True)

    async def stream(
        self, model: str = "strong", **fields: Any
    ) -> tuple[pb.StreamHead, bytes, pb.StreamTail]:
        """Returns a whole stream's head, frames and tail."""
        parts = [part async for part in self.begin(model, **fields)]
        assert [part.WhichOneof("part") for part in (parts[0], parts[-1])] == ["head", "tail"]
        return parts[0].head, b"".join(part.frames for part in parts[1:-1]), parts[-1].tail

    async def line(self) -> dict[str, Any]:
        """Returns the log line of the rpc that is over next."""
        return await self.lines.queue.get()

    def counted(self, name: str, **labels: str) -> float | None:
        """Returns a sample, None if there is none."""
        return self.registry.get_sample_value(f"pointsman_upstream_{name}", labels)


def envelope(model: str, *, stream: bool = False, **fields: Any) -> pb.Envelope:
    """Returns a client's request."""
    body = {"model": "router-mf-0.5", "messages": MESSAGES, **fields}
    if stream:
        body["stream"] = True
    return pb.Envelope(model=model, stream=stream, request_id="r1", body=json.dumps(body).encode())


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    """A provider that does as it is told."""
    async with FakeProvider() as fake:
        yield fake


@pytest.fixture
async def start(provider: FakeProvider) -> AsyncIterator[Any]:
    """Starts an upstream before that provider; nobody waits between two tries."""
    async with AsyncExitStack() as stack:

        async def start(**reliability: Any) -> Upstream:
            file = {
                "providers": {"p": {"base_url": provider.url}},
                "models": MODELS,
                "reliability": {"retries": {"max_retries": 1, "backoff_seconds": 0}, **reliability},
            }
            models = Catalogue(convert(file, ModelsFile, source="models.yaml"), "models.yaml", {})
            registry = CollectorRegistry()
            metrics = UpstreamMetrics(registry)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            failover = Failover(
                models,
                metrics,
                clock=time.monotonic,
                sleep=asyncio.sleep,
                chance=random.Random(0),
            )
            server = grpc.aio.server(interceptors=[ErrorsAsStatus()])
            upstream_pb2_grpc.add_UpstreamServiceServicer_to_server(
                UpstreamServicer(models, ProviderClient(session, 100_000), failover, metrics),
                server,
            )
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            )
            one = Upstream(upstream_pb2_grpc.UpstreamServiceStub(channel), registry)
            logger = logging.getLogger("services.upstream.account")
            level = logger.level
            logger.addHandler(one.lines)
            logger.setLevel(logging.INFO)
            stack.callback(logger.setLevel, level)
            stack.callback(logger.removeHandler, one.lines)
            return one

        yield start


@pytest.fixture
async def upstream(start: Any) -> Upstream:
    """An upstream whose streams end with an error where they break."""
    one: Upstream = await start()
    return one


async def test_a_whole_answer_comes_with_its_bill(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """Model, usage and dollars are what the gateway's headers and budgets are made of."""
    answer = await upstream.complete()
    assert (answer.status, answer.model, answer.fallback) == (200, "strong", 0)
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "An answer."
    assert answer.usage == pb.Usage(input_tokens=7, output_tokens=3)
    assert answer.cost_dollars == 7 + 3 * 2
    (attempt,) = answer.attempts
    assert (attempt.provider, attempt.provider_model, attempt.status) == ("p", "s-1", 200)
    assert attempt.outcome == pb.ATTEMPT_OUTCOME_OK
    assert provider.calls[0].json == {"model": "s-1", "messages": MESSAGES}
    assert upstream.counted("requests_total", model="strong", outcome="ok") == 1
    assert upstream.counted("requests_in_flight") == 0


async def test_a_fallbacks_answer_says_whose_it_is_and_why(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """Nobody is billed for a model, or believes to have heard one, that did not answer."""
    provider.behaviours["s-1"] = refuse(500, b"down")
    answer = await upstream.complete()
    assert (answer.status, answer.model) == (200, "weak")
    assert answer.fallback == pb.FALLBACK_REASON_PROVIDER_UNAVAILABLE
    assert [(one.model, one.status) for one in answer.attempts] == [
        ("strong", 500),
        ("strong", 500),
        ("weak", 200),
    ]
    assert answer.cost_dollars == pytest.approx(0.007)
    line = await upstream.line()
    assert (line["model"], line["answered_by"], line["attempts"]) == ("strong", "weak", 3)
    assert line["fallback"] == "provider_unavailable"


async def test_a_failure_is_free_and_says_that_it_was_tried(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """The client's own retries would multiply ours."""
    provider.behaviours["a-1"] = refuse(503, b'{"error": {"message": "overloaded"}}')
    answer = await upstream.complete("alone")
    assert (answer.status, answer.model, answer.cost_dollars) == (503, "alone", 0.0)
    assert json.loads(answer.body)["error"]["message"] == "overloaded"
    assert answer.headers["x-should-retry"] == "false"
    assert not answer.HasField("usage")
    assert upstream.counted("requests_total", model="alone", outcome="unavailable") == 1


async def test_a_stream_is_a_head_frames_and_a_tail(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """Usage is asked for, counted, and kept from a client that did not ask for it."""
    head, frames, tail = await upstream.stream()
    assert (head.status, head.model, head.fallback) == (200, "strong", 0)
    assert head.attempts[0].outcome == pb.ATTEMPT_OUTCOME_STREAMING
    assert frames.endswith(FINISH + DONE)
    assert b"prompt_tokens" not in frames
    assert (tail.complete, tail.error) == (True, b"")
    assert tail.usage == pb.Usage(input_tokens=7, output_tokens=2)
    assert tail.cost_dollars == 7 + 2 * 2
    assert tail.attempts[0].outcome == pb.ATTEMPT_OUTCOME_OK
    assert provider.calls[0].json["stream_options"] == {"include_usage": True}
    assert upstream.counted("first_token_seconds_count", model="strong") == 1


async def test_a_stream_that_fails_before_its_first_token_fails_over_unseen(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """The role that the first model sent is nowhere in the answer."""
    provider.behaviours["s-1"] = raw_stream(event(chunk("s-1", {"role": "assistant"})), cut=False)
    head, frames, tail = await upstream.stream()
    assert (head.status, head.model) == (200, "weak")
    assert head.fallback == pb.FALLBACK_REASON_PROVIDER_UNAVAILABLE
    assert b"s-1" not in frames
    assert tail.complete
    assert tail.cost_dollars == pytest.approx(0.007)


async def test_a_stream_that_never_begins_is_its_head(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """There is still a status to say it with, and nothing else to come."""
    provider.behaviours["a-1"] = refuse(400, b'{"error": {"message": "no"}}')
    (part,) = [part async for part in upstream.begin("alone")]
    assert (part.head.status, part.head.model) == (400, "alone")
    assert json.loads(part.head.body)["error"]["message"] == "no"
    assert upstream.counted("requests_total", model="alone", outcome="rejected") == 1


async def test_a_stream_that_is_cut_is_billed_as_far_as_it_came(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """8 characters were sent and 6 came: 2 tokens and 2 tokens, and it is called an estimate."""
    provider.behaviours["s-1"] = raw_stream(FIRST, b"", cut=False, gated=True)
    call = upstream.begin()
    parts = []
    async for part in call:
        parts.append(part)
        if part.frames:
            provider.release.set()
    tail = parts[-1].tail
    assert b"".join(part.frames for part in parts) == FIRST
    assert not tail.complete
    assert json.loads(tail.error)["error"]["code"] == "provider_unavailable"
    assert tail.usage == pb.Usage(input_tokens=2, output_tokens=2, estimated=True)
    assert tail.cost_dollars == 2 + 2 * 2
    assert tail.attempts[0].outcome == pb.ATTEMPT_OUTCOME_UNAVAILABLE
    line = await upstream.line()
    assert (line["outcome"], line["cost_dollars"]) == ("unavailable", 6.0)
    assert upstream.counted("cost_dollars_total", model="strong", estimated="true") == 6.0
    assert len(provider.calls) == 1


async def test_a_stream_whose_client_leaves_is_stopped_and_billed(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """The provider hears of it, and what had come is paid for."""
    provider.behaviours["s-1"] = gated_stream()
    call = upstream.begin()
    async for part in call:
        if part.frames:
            break
    call.cancel()
    await provider.hung_up.wait()
    line = await upstream.line()
    assert (line["outcome"], line["estimated"], line["cost_dollars"]) == ("cancelled", True, 6.0)
    assert upstream.counted("requests_total", model="strong", outcome="cancelled") == 1
    labels = {"model": "strong", "provider": "p", "outcome": "cancelled"}
    assert upstream.counted("attempts_total", **labels) == 1


async def test_who_leaves_before_the_answer_stops_the_provider(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """The call is on the record, and free: nothing was delivered."""
    provider.behaviours["s-1"] = silent()
    call = upstream.stub.Complete(pb.CompleteRequest(envelope=envelope("strong")))
    await provider.called.wait()
    call.cancel()
    await provider.hung_up.wait()
    line = await upstream.line()
    assert (line["outcome"], line["attempts"], line["cost_dollars"]) == ("cancelled", 1, 0.0)


async def test_a_deadline_ends_the_call_to_the_provider(
    upstream: Upstream, provider: FakeProvider
) -> None:
    """No call outlives the client that waits for it."""
    provider.behaviours["s-1"] = silent()
    asked = pb.CompleteRequest(envelope=envelope("strong"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await upstream.stub.Complete(asked, timeout=0.5, wait_for_ready=True)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await provider.hung_up.wait()
    assert (await upstream.line())["outcome"] == "cancelled"


def then(*behaviours: Behaviour) -> Behaviour:
    """Does one after the other."""
    left = list(behaviours)

    async def answer(provider: FakeProvider, request: Any, asked: dict[str, Any]) -> Any:
        return await left.pop(0)(provider, request, asked)

    return answer


async def test_a_stream_that_breaks_may_be_begun_again_where_nobody_saw_it(
    start: Any, provider: FakeProvider
) -> None:
    """`on_stream_failure: restart` gives up the first token for a whole answer."""
    upstream = await start(on_stream_failure="restart")
    provider.release.set()
    provider.behaviours["s-1"] = then(raw_stream(FIRST, cut=True), stream(["Whole."]))
    head, frames, tail = await upstream.stream()
    assert (head.status, head.model) == (200, "strong")
    assert b"First." not in frames
    assert b"Whole." in frames
    assert tail.complete
    assert [one.outcome for one in tail.attempts] == [
        pb.ATTEMPT_OUTCOME_UNAVAILABLE,
        pb.ATTEMPT_OUTCOME_OK,
    ]


async def test_several_answers_are_waited_for(upstream: Upstream, provider: FakeProvider) -> None:
    """With n=2 the end of one is not the end, however the provider puts it."""
    both = [{"index": index, "delta": {"content": "Hi"}} for index in (0, 1)]
    begun = event({**chunk("a-1", {}), "choices": both})
    provider.behaviours["a-1"] = raw_stream(begun, FINISH + DONE, cut=False, gated=True)
    parts = []
    async for part in upstream.begin("alone", n=2):
        parts.append(part)
        if part.frames:
            provider.release.set()
    assert DONE not in b"".join(part.frames for part in parts)
    assert not parts[-1].tail.complete


@pytest.mark.parametrize(("n", "is_whole"), [(1, True), (2, False)])
async def test_a_line_that_breaks_between_two_answers_has_cut_the_second(
    upstream: Upstream, provider: FakeProvider, n: int, is_whole: bool
) -> None:
    """Some servers write one answer after the other: how many were asked for says what is all."""
    provider.behaviours["a-1"] = raw_stream(FIRST + FINISH, cut=True)
    parts = []
    async for part in upstream.begin("alone", n=n):
        parts.append(part)
        provider.release.set()
    assert parts[-1].tail.complete is is_whole
    assert (DONE in b"".join(part.frames for part in parts)) is is_whole


@pytest.mark.parametrize(
    ("asked", "code", "said", "model", "outcome"),
    [
        (
            envelope("gpt-99"),
            grpc.StatusCode.NOT_FOUND,
            "`gpt-99`; there are: strong, weak, alone",
            "other",
            "unknown_model",
        ),
        (
            envelope("strong", stream=True),
            grpc.StatusCode.INVALID_ARGUMENT,
            "envelope.stream is True in the wrong rpc",
            "strong",
            "invalid_request",
        ),
        (
            pb.Envelope(model="strong", body=b"[]"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "the body is not a JSON object",
            "strong",
            "invalid_request",
        ),
    ],
)
async def test_a_callers_mistake_is_a_status(
    upstream: Upstream,
    provider: FakeProvider,
    asked: pb.Envelope,
    code: grpc.StatusCode,
    said: str,
    model: str,
    outcome: str,
) -> None:
    """No provider is asked, and the message says what is wrong."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await upstream.stub.Complete(pb.CompleteRequest(envelope=asked), wait_for_ready=True)
    assert caught.value.code() == code
    assert said in (caught.value.details() or "")
    assert provider.calls == []
    assert upstream.counted("requests_total", model=model, outcome=outcome) == 1
    assert upstream.counted("request_seconds_count", model=model, outcome=outcome) is None


async def test_models_are_listed_with_all_their_prices(upstream: Upstream) -> None:
    """The gateway's savings and the tools' budgets are calculated from them."""
    listed = await upstream.stub.ListModels(pb.ListModelsRequest(), wait_for_ready=True)
    assert listed.source == "models.yaml"
    assert [model.name for model in listed.models] == ["strong", "weak", "alone"]
    strong = listed.models[0]
    assert (strong.provider, strong.input_price_per_million) == ("p", 1e6)
    assert strong.cached_input_price_per_million == strong.input_price_per_million
    assert strong.reasoning_price_per_million == strong.output_price_per_million


async def test_requests_do_not_mix(upstream: Upstream, provider: FakeProvider) -> None:
    """Two at once are two answers, and nothing is left in flight."""
    provider.behaviours["s-1"] = then(whole("one"), whole("two"))
    answers = await asyncio.gather(upstream.complete(), upstream.complete())
    texts = {json.loads(one.body)["choices"][0]["message"]["content"] for one in answers}
    assert texts == {"one", "two"}
    assert [len(one.attempts) for one in answers] == [1, 1]
    assert upstream.counted("requests_in_flight") == 0
