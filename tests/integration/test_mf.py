"""The shipped `mf` router, on prompts that it never saw, through all three services."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pointsman.evaluation.benchmarks import load_benchmark
from pointsman.scorer.v1 import scorer_pb2
from tests.fakes.cluster import RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.integration

PROMPTS = [
    "What is the capital of France?",
    "Prove that there are infinitely many primes congruent to 3 modulo 4.",
    "Schreibe ein Gedicht über den Herbst.",
    "def f(x): return x + 1  # what does this do?",
    "",
]


@pytest.fixture(scope="module")
async def mf(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningCluster]:
    """A cluster whose scorer has the shipped bundle and keeps no win rate."""
    scorer = {"routers": {"mf": {}}, "workers": 2, "cache_entries": 0}
    folder = tmp_path_factory.mktemp("mf")
    async with (
        FakeProvider() as provider,
        cluster(folder, models_of(provider.url), scorer=scorer) as running,
    ):
        yield running


async def rates_over_grpc(running: RunningCluster, prompts: list[str]) -> list[float]:
    """Returns the win rates of a batch."""
    request = scorer_pb2.ScoreBatchRequest(router="mf", prompts=prompts)
    response = await running.score.ScoreBatch(request)
    return [one.strong_win_rate for one in response.win_rates]


async def test_shipped_router_is_ready_and_calibrated(mf: RunningCluster) -> None:
    """Golden win rates are reproduced here, and the percentiles are there to choose from."""
    listing = await mf.score.ListRouters(scorer_pb2.ListRoutersRequest())
    (router,) = listing.routers
    assert router.ready, router.not_ready_reason
    assert router.training_pair.strong
    assert router.training_pair.weak
    assert len(router.win_rate_percentiles) == 101
    assert list(router.win_rate_percentiles) == sorted(router.win_rate_percentiles)
    assert "arena_bench_v1" in router.calibration_prompts
    metrics = await mf.metrics(mf.scorer)
    assert metrics['pointsman_scorer_golden_difference{router="mf"}'] < 0.05


async def test_batch_and_single_calls_agree_in_order(mf: RunningCluster) -> None:
    """A prompt's win rate does not depend on its neighbours, and results keep their places."""
    batch = await rates_over_grpc(mf, PROMPTS)
    for prompt, expected in zip(PROMPTS, batch, strict=True):
        response = await mf.score.Score(scorer_pb2.ScoreRequest(router="mf", prompt=prompt))
        assert response.strong_win_rate == expected
        assert 0 <= response.percentile <= 100
        assert response.inference_seconds > 0
        assert not response.cached
    assert len(set(batch)) == len(batch)


async def test_mt_bench_first_turns_are_decided_as_grpc_rates_say(
    mf: RunningCluster, data: Path
) -> None:
    """Over HTTP, each of the 72 decisions is its rate against the threshold; the share falls."""
    prompts = list(load_benchmark("mt-bench", data).prompts)
    assert len(prompts) == 72
    rates = await rates_over_grpc(mf, prompts)
    ordered = sorted(rates)
    shares = []
    for threshold in (0.0, ordered[18], ordered[36], ordered[54], 1.0):
        decisions = []
        for prompt in prompts:
            turn = [{"role": "user", "content": prompt}]
            async with mf.chat(f"router-mf-{threshold!r}", turn) as response:
                assert response.status == 200
                assert "x-pointsman-fallback" not in response.headers
                decisions.append(response.headers["x-pointsman-decision"])
        assert decisions == ["strong" if rate >= threshold else "weak" for rate in rates]
        shares.append(decisions.count("strong") / len(decisions))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert 0 < shares[-2] < shares[1] < 1


async def test_a_strong_share_is_decided_by_the_calibrated_threshold(mf: RunningCluster) -> None:
    """`router-mf-p30` is the threshold at the 70th percentile, and the headers say which."""
    listing = await mf.score.ListRouters(scorer_pb2.ListRoutersRequest())
    (percentiles,) = (r.win_rate_percentiles for r in listing.routers if r.name == "mf")
    rates = await rates_over_grpc(mf, PROMPTS)
    for percent in (0, 10, 30, 50, 90, 100):
        threshold = {0: 1.0, 100: 0.0}.get(percent, percentiles[100 - percent])
        for prompt, rate in zip(PROMPTS, rates, strict=True):
            async with mf.chat(f"router-mf-p{percent}", [{"role": "user", "content": prompt}]) as r:
                assert r.status == 200
                assert float(r.headers["x-pointsman-threshold"]) == threshold
                choice = "strong" if rate >= threshold else "weak"
                assert r.headers["x-pointsman-decision"] == choice


async def test_huge_prompt_is_cut_before_it_is_tokenised(mf: RunningCluster) -> None:
    """A megabyte costs no more than what the model can read of it."""
    start = "Explain the proof. "
    long, longer = (await rates_over_grpc(mf, [start * 5_000, start * 50_000]))[:2]
    assert long == longer
