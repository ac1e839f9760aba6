"""Something is down, slow, full or leaving: what the client sees is decided, never accidental."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pointsman.scorer.v1 import scorer_pb2
from pointsman.upstream.v1 import upstream_pb2
from tests.fakes.cluster import RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider, gated_stream, refuse, silent, stream

pytestmark = pytest.mark.integration

FALLBACKS = 'pointsman_gateway_fallbacks_total{reason="scorer_unavailable"}'


class Gate:
    """Holds the `GatedRouter` of a scorer until opened."""

    def __init__(self, folder: Path) -> None:
        self.started, self.gate = folder / "started", folder / "gate"
        os.mkfifo(self.started)
        os.mkfifo(self.gate)

    def scorer(self, **settings: Any) -> dict[str, Any]:
        """Returns a scorer's configuration with a `gated` router and one worker."""
        options = {"started": str(self.started), "gate": str(self.gate)}
        router = {"class": "tests.fakes.routers:GatedRouter", "options": options}
        return {"routers": {"gated": router}, "workers": 1, **settings}

    async def wait_until_inferring(self) -> None:
        """Returns once an inference has begun."""
        await asyncio.to_thread(self.started.read_bytes)

    async def open(self) -> None:
        """Lets the inference that has begun go on."""
        await asyncio.to_thread(self.gate.write_bytes, b"")


async def test_full_queue_is_refused_at_once_and_the_gateway_decides_without_it(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Overload of the scorer costs money, not requests: the strong model answers."""
    gate = Gate(tmp_path)
    settings = {"scorer": {"timeout_seconds": 50}}
    scorer = gate.scorer(queue_limit=0)
    async with cluster(
        tmp_path, models_of(provider.url), scorer=scorer, gateway=settings
    ) as running:
        first = asyncio.ensure_future(_status(running, "router-gated-0.5"))
        await gate.wait_until_inferring()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await running.score.Score(scorer_pb2.ScoreRequest(router="gated", prompt="x"))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with running.chat("router-gated-0.5") as response:
            assert response.status == 200
            assert response.headers["x-pointsman-fallback"] == "scorer_unavailable"
            assert response.headers["x-pointsman-decision"] == "strong"
            assert "x-pointsman-strong-win-rate" not in response.headers
        await gate.open()
        assert await first == (200, "weak", None)
        assert (await running.metrics(running.gateway))[FALLBACKS] == 1


async def test_caller_that_left_is_dropped_before_anything_is_computed(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """A queue of the departed must not hold up the living; deadlines count as departures."""
    gate = Gate(tmp_path)
    async with cluster(tmp_path, models_of(provider.url), scorer=gate.scorer()) as running:
        request = scorer_pb2.ScoreRequest(router="gated", prompt="x")
        first = asyncio.ensure_future(_score(running, request))
        await gate.wait_until_inferring()
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await running.score.Score(request, timeout=0.05)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        left = asyncio.ensure_future(_score(running, request))
        while (await running.metrics(running.scorer))["pointsman_scorer_queue_depth"] < 1:
            pass
        left.cancel()
        while (await running.metrics(running.scorer))["pointsman_scorer_dropped_total"] < 2:
            pass
        await gate.open()
        await first
        scorer = await running.metrics(running.scorer)
    assert scorer['pointsman_scorer_stage_seconds_count{stage="infer"}'] == 1


async def test_slow_scorer_does_not_fail_the_request(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """The win rate's own time limit passes, and the request goes to the configured choice."""
    gate = Gate(tmp_path)
    settings = {"scorer": {"timeout_seconds": 0.05}, "on_scorer_failure": "weak"}
    async with cluster(
        tmp_path, models_of(provider.url), scorer=gate.scorer(), gateway=settings
    ) as running:
        expected = (200, "weak", "scorer_unavailable")
        assert await _status(running, "router-gated-0") == expected
        await gate.wait_until_inferring()
        await gate.open()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("strong", (200, "strong", "scorer_unavailable")),
        ("weak", (200, "weak", "scorer_unavailable")),
        ("error", (503, None, None)),
    ],
)
async def test_killed_scorer(
    tmp_path: Path,
    provider: FakeProvider,
    policy: str,
    expected: tuple[int, str | None, str | None],
) -> None:
    """What happens without a scorer is the operator's decision, and everybody is told."""
    settings = {"on_scorer_failure": policy}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        assert (await _status(running, "router-random-0"))[2] is None
        running.scorer.signal(signal.SIGKILL)
        await running.scorer.wait()
        assert await _status(running, "router-random-0.5") == expected
        async with running.chat("router-nobody-0.5") as response:
            assert response.status == 404
        async with running.chat("weak") as response:
            assert response.status == 200
        metrics = await running.metrics(running.gateway)
        assert metrics.get(FALLBACKS, 0) == (policy != "error")
    assert ("decided without a win rate" in running.log("gateway")) == (policy != "error")


@pytest.mark.parametrize("value", [None, float("nan"), 1.5])
async def test_router_that_misbehaves_is_a_failure_of_the_scorer(
    tmp_path: Path, provider: FakeProvider, value: float | None
) -> None:
    """Another team's router raises or returns nonsense: logged there, decided without here."""
    router = {"class": "tests.fakes.routers:BrokenRouter", "options": {"value": value}}
    scorer = {"routers": {"broken": router}}
    async with cluster(tmp_path, models_of(provider.url), scorer=scorer) as running:
        expected = (200, "strong", "scorer_unavailable")
        assert await _status(running, "router-broken-0.5") == expected
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await running.score.Score(scorer_pb2.ScoreRequest(router="broken", prompt="x"))
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert "broken on purpose" not in str(failed.value.details())
    assert "traceback" in running.log("scorer")


@pytest.mark.parametrize("streamed", [True, False])
async def test_deadline_ends_a_silent_provider(
    tmp_path: Path, provider: FakeProvider, streamed: bool
) -> None:
    """The gateway's limit reaches the provider's connection: the client hears 504."""
    provider.behaviours["fake-strong"] = silent()
    settings = {"request_timeout_seconds": 0.2}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        async with running.chat(stream=streamed) as response:
            assert response.status == 504
            assert (await response.json())["error"]["code"] == "timeout"
        await provider.hung_up.wait()


async def test_deadline_in_mid_stream_ends_in_an_error_frame(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Half an answer whose time is up is not an answer."""
    provider.behaviours["fake-strong"] = gated_stream()
    settings = {"request_timeout_seconds": 0.5}
    async with (
        cluster(tmp_path, models_of(provider.url), gateway=settings) as running,
        running.chat(stream=True) as response,
    ):
        body = await response.read()
    assert b"First." in body
    assert b"[DONE]" not in body
    assert json.loads(body.split(b"\n\n")[-2][6:])["error"]["code"] == "timeout"


async def test_client_that_stops_reading_does_not_hold_its_request_for_ever(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """The limit covers writing too: the connection is cut, and the provider's call with it."""
    provider.behaviours["fake-strong"] = stream(["x" * 100_000] * 1_000)
    settings = {"request_timeout_seconds": 0.5}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        async with running.growth(running.gateway) as grown:
            response = await running.chat(stream=True)
            await provider.hung_up.wait()
            await running.until_idle()
            response.close()
        label = 'outcome="broken_stream",router="random"'
        assert grown[f"pointsman_gateway_requests_total{{{label}}}"] == 1


async def test_odd_bytes_in_a_providers_header_do_not_cost_the_answer(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """A paid answer is delivered; what no header may hold is left out."""
    headers = {"retry-after": "3", "x-ratelimit-note": "café"}
    provider.behaviours["fake-strong"] = refuse(200, b"{}", headers)
    async with cluster(tmp_path, models_of(provider.url)) as running, running.chat() as response:
        assert response.status == 200
        assert response.headers["retry-after"] == "3"
        assert "x-ratelimit-note" not in response.headers


async def test_compressed_body_is_refused_in_openais_shape(running: RunningCluster) -> None:
    """Nobody unpacks what a stranger packed; and the next request is not read out of the rest."""
    url = f"{running.url}/v1/chat/completions"
    for encoding in ("gzip", "br", "nonsense"):
        headers = {"content-encoding": encoding}
        async with running.http.post(url, data=b"\x1f\x8b", headers=headers) as response:
            assert response.status == 400
            assert "content-encoding" in (await response.json())["error"]["message"]
            assert response.headers["x-request-id"]
        async with running.chat() as response:
            assert response.status == 200


async def test_provider_that_reads_too_slowly_is_given_up(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """A provider's own read limit ends the call before the request's does."""
    provider.behaviours["fake-strong"] = silent()
    models = models_of(provider.url, total_timeout_seconds=0.05)
    async with cluster(tmp_path, models) as running, running.chat() as response:
        assert response.status == 504
        assert (await response.json())["error"]["code"] == "provider_timeout"


async def test_upstream_gone_is_503_and_the_gateway_lives(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Its absence is told in OpenAI's shape; readiness is not a way to tell it."""
    settings = {"upstream": {"wait_seconds": 0.1}}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        running.upstream.signal(signal.SIGKILL)
        await running.upstream.wait()
        for fields in ({}, {"stream": True}):
            async with running.chat(**fields) as response:
                assert response.status == 503
                assert (await response.json())["error"]["code"] == "upstream_unavailable"
        for probe in ("healthz", "readyz"):
            async with running.http.get(f"{running.url}/{probe}") as response:
                assert response.status == 200


@pytest.mark.parametrize(
    ("status", "body", "told", "message"),
    [
        (400, b'{"error": {"message": "bad n", "code": "x"}}', 400, "bad n"),
        (422, b'{"detail": "no such field"}', 422, "no such field"),
        (404, b"<html>nothing</html>", 404, "nothing"),
        (429, b'{"error": "slow down"}', 429, "slow down"),
        (401, b'{"error": {"message": "bad key sk-operator"}}', 502, "operator's credentials"),
        (403, b"sk-operator", 502, "operator's credentials"),
        (400, b"key sk-operator is odd", 400, "key *** is odd"),
        (500, b"", 500, "The provider answered 500."),
        (503, b'{"error": {"message": "busy"}}', 503, "busy"),
    ],
)
async def test_providers_refusal_reaches_the_client_in_openais_shape(
    keyed: RunningCluster,
    keyed_provider: FakeProvider,
    status: int,
    body: bytes,
    told: int,
    message: str,
) -> None:
    """Status and body pass; trouble with the operator's credentials is told as a 502."""
    keyed_provider.behaviours["fake-strong"] = refuse(status, body, {"retry-after": "7"})
    for fields in ({}, {"stream": True}):
        async with keyed.chat(**fields) as response:
            text = await response.text()
            assert response.status == told
            assert response.headers["retry-after"] == "7"
            assert message in json.loads(text)["error"]["message"]
            assert "sk-operator" not in text


@pytest.fixture(scope="module")
async def keyed_provider() -> AsyncIterator[FakeProvider]:
    """A provider for `keyed`."""
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
async def keyed(
    tmp_path_factory: pytest.TempPathFactory, keyed_provider: FakeProvider
) -> AsyncIterator[RunningCluster]:
    """A cluster whose operator has a key."""
    models = models_of(keyed_provider.url, api_key_env="KEY")
    folder = tmp_path_factory.mktemp("keyed")
    async with cluster(folder, models, environ={"KEY": "sk-operator"}) as running:
        yield running


async def test_unknown_model_and_wrong_envelope_over_grpc(running: RunningCluster) -> None:
    """Callers over gRPC get a status that tells their fault from ours, and a message that helps."""
    envelope = upstream_pb2.Envelope(model="nobody", body=b"{}")
    for sent, code, words in (
        (envelope, grpc.StatusCode.NOT_FOUND, "strong, weak"),
        (
            upstream_pb2.Envelope(model="weak", body=b"{}", stream=True),
            grpc.StatusCode.INVALID_ARGUMENT,
            "stream",
        ),
        (
            upstream_pb2.Envelope(model="weak", body=b"[]"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "JSON object",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await running.complete.Complete(upstream_pb2.CompleteRequest(envelope=sent))
        assert failed.value.code() is code
        assert words in str(failed.value.details())


async def _score(running: RunningCluster, request: scorer_pb2.ScoreRequest) -> Any:
    return await running.score.Score(request)


async def _status(running: RunningCluster, model: str) -> tuple[int, str | None, str | None]:
    """Returns a request's status, the model that answered, and why it was not the router's."""
    async with running.chat(model) as response:
        headers = response.headers
        return (
            response.status,
            headers.get("x-pointsman-model"),
            headers.get("x-pointsman-fallback"),
        )
