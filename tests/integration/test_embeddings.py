"""A router whose prompts an endpoint embeds, in a scorer that is a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pointsman.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from services.process import Process
from tests.fakes.embeddings import FakeEmbeddings, rate_of, refuse, remote_bundle

pytestmark = pytest.mark.integration

PROMPTS = [f"Prompt number {number}" for number in range(100)] + ["", "Grüße 🙂"]
RANDOM = {"options": {"seed": 0}}


@asynccontextmanager
async def scorer(folder: Path, routers: dict[str, Any]) -> AsyncIterator[grpc.aio.Channel]:
    """Yields a channel to a scorer with these routers, two workers, no queue, and a key."""
    path = folder / "scorer.yaml"
    settings = {"port": 0, "metrics_port": 0, "workers": 2, "queue_limit": 0, "routers": routers}
    path.write_text(yaml.safe_dump(settings))
    with (folder / "scorer.log").open("wb") as log:
        process = Process(
            "scorer",
            {"POINTSMAN_SCORER_CONFIG": str(path), "SOME_KEY": "sk-secret"},
            log=log.fileno(),
        )
        try:
            await process.start()
            async with grpc.aio.insecure_channel(process.announcement.address) as channel:
                yield channel
        finally:
            assert await process.stop() == 0


def imported(folder: Path, fake: FakeEmbeddings, **embeddings: object) -> dict[str, Any]:
    """Returns the settings of a router by an imported bundle."""
    bundle, _ = remote_bundle(folder)
    where = {"base_url": fake.url, "api_key_env": "SOME_KEY", "retries": 0, **embeddings}
    return {"bundle": str(bundle), "embeddings": where}


async def health(channel: grpc.aio.Channel) -> int:
    """Returns the scorer's health."""
    request = health_pb2.HealthCheckRequest(service="")
    return int((await health_pb2_grpc.HealthStub(channel).Check(request)).status)


async def test_win_rates_are_the_formula_on_the_endpoints_embeddings(tmp_path: Path) -> None:
    """One by one and in a batch, which fills the endpoint's requests and not the workers' queue."""
    async with FakeEmbeddings() as fake:
        _, weights = remote_bundle(tmp_path)
        async with scorer(tmp_path, {"mf": imported(tmp_path, fake)}) as channel:
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            one = await stub.Score(scorer_pb2.ScoreRequest(router="mf", prompt="Hello"))
            assert one.strong_win_rate == pytest.approx(rate_of(weights, "Hello"), abs=1e-6)
            many = await stub.ScoreBatch(scorer_pb2.ScoreBatchRequest(router="mf", prompts=PROMPTS))
            expected = [rate_of(weights, prompt or " ") for prompt in PROMPTS]
            found = [rate.strong_win_rate for rate in many.win_rates]
            assert found == pytest.approx(expected, abs=1e-6)
            assert len(fake.asked) < 10
            assert {one.headers["Authorization"] for one in fake.asked} == {"Bearer sk-secret"}
    assert "sk-secret" not in (tmp_path / "scorer.log").read_text()


async def test_an_endpoint_that_fails_is_an_error_the_gateway_falls_back_on(
    tmp_path: Path,
) -> None:
    """At once, with the reason; a caller's deadline is kept, and other routers do not notice."""
    async with FakeEmbeddings() as fake:
        routers = {"mf": imported(tmp_path, fake, timeout_seconds=60, retries=1), "random": RANDOM}
        async with scorer(tmp_path, routers) as channel:
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            fake.replies = [refuse(503), refuse(503)]
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Score(scorer_pb2.ScoreRequest(router="mf", prompt="a"))
            assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "status 503" in (failed.value.details() or "")
            fake.replies = [refuse(429, {"retry-after": "40"})]  # beyond the caller's deadline
            with pytest.raises(grpc.aio.AioRpcError) as throttled:
                await stub.Score(scorer_pb2.ScoreRequest(router="mf", prompt="a"), timeout=30)
            assert throttled.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "status 429" in (throttled.value.details() or "")
            fake.open.clear()
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await stub.Score(scorer_pb2.ScoreRequest(router="mf", prompt="b"), timeout=0.1)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await fake.hung_up.wait()
            scored = await stub.Score(scorer_pb2.ScoreRequest(router="random", prompt="b"))
            assert 0.0 <= scored.strong_win_rate <= 1.0


async def test_a_scorer_comes_up_without_its_endpoint_and_serves_when_it_is_there(
    tmp_path: Path,
) -> None:
    """Nobody has to restart anything."""
    async with FakeEmbeddings() as fake:
        pass
    async with scorer(tmp_path, {"mf": imported(tmp_path, fake)}) as channel:
        stub = scorer_pb2_grpc.ScorerServiceStub(channel)
        (router,) = (await stub.ListRouters(scorer_pb2.ListRoutersRequest())).routers
        assert not router.ready
        assert "cannot be reached" in router.not_ready_reason
        assert await health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        async with FakeEmbeddings(port=fake.port) as back:
            await back.arrived.wait()
            watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            async for seen in watching:
                if seen.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            (router,) = (await stub.ListRouters(scorer_pb2.ListRoutersRequest())).routers
            assert router.ready
            await stub.Score(scorer_pb2.ScoreRequest(router="mf", prompt="Hello"))


async def test_a_scorer_with_nothing_but_a_wrong_dimension_does_not_start(tmp_path: Path) -> None:
    """Both numbers stand in the one line that it leaves."""
    async with FakeEmbeddings(dimension=7) as fake:
        path = tmp_path / "scorer.yaml"
        routers = {"mf": imported(tmp_path, fake)}
        path.write_text(yaml.safe_dump({"port": 0, "metrics_port": 0, "routers": routers}))
        ran = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.scorer"),
            env={"POINTSMAN_SCORER_CONFIG": str(path), "SOME_KEY": "sk-secret"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await ran.communicate()
        assert ran.returncode == 2
        assert said.count(b"\n") == 1
        assert b"7 numbers and the bundle names 4" in said
