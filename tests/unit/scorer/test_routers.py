"""The configured routers: those that can score, those that cannot, and why."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from pointsman.errors import ConfigError, RouterNotReady, ScorerUnavailable, UnknownRouter
from pointsman.routers.endpoint_settings import EmbeddingsSettings
from pointsman.routers.mf import BilinearWeights
from pointsman.routers.registry import SHIPPED_BUNDLES
from pointsman.routers.settings import RouterSettings
from services.scorer.embedders import open_embedders
from services.scorer.metrics import ScorerMetrics
from services.scorer.routers import RouterTable, percentile
from tests.fakes.embeddings import FakeEmbeddings, rate_of, remote_bundle

RANDOM = RouterSettings(options={"seed": 0})
GONE = RouterSettings(bundle="/no/such/bundle")


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another team's module of routers."""
    (tmp_path / "their_routers.py").write_text(
        "import numpy as np\n"
        "from pointsman.routers.base import Router\n"
        "scored = []\n"
        "class Constant(Router):\n"
        "    revision = 'constant-1'\n"
        "    def strong_win_rates(self, prompts):\n"
        "        scored.extend(prompts)\n"
        "        return np.full(len(prompts), 0.25, dtype=np.float32)\n"
        "class Broken(Router):\n"
        "    def strong_win_rates(self, prompts):\n"
        "        raise RuntimeError('no weights')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "their_routers", raising=False)
    return "their_routers"


async def loaded(metrics: ScorerMetrics, **routers: RouterSettings) -> RouterTable:
    """Returns a table that has loaded these routers."""
    table = RouterTable(routers, metrics)
    await table.load()
    return table


def ready(registry: CollectorRegistry, router: str) -> float | None:
    """Returns the readiness that Prometheus sees."""
    labels = {"router": router}
    return registry.get_sample_value("pointsman_scorer_router_ready", labels)


def test_while_loading_every_router_is_listed_as_loading(metrics: ScorerMetrics) -> None:
    """A caller learns that it is too early, not that the router does not exist."""
    table = RouterTable({"random": RANDOM, "mf": RouterSettings()}, metrics)
    assert [(one.name, one.ready, one.not_ready_reason) for one in table.listing()] == [
        ("random", False, "still loading"),
        ("mf", False, "still loading"),
    ]
    for name in ("random", "made-up"):
        with pytest.raises(ScorerUnavailable, match="still loading"):
            table[name]


async def test_a_loaded_router_scores_and_is_listed(
    metrics: ScorerMetrics, registry: CollectorRegistry
) -> None:
    """What the listing says is what a request finds."""
    table = await loaded(metrics, random=RANDOM)
    (rate,) = table["random"].router.strong_win_rates(["Hello"])
    assert 0.0 <= rate <= 1.0
    (one,) = table.listing()
    assert (one.name, one.ready, one.revision) == ("random", True, "random-seed-0")
    assert (one.not_ready_reason, one.warning) == ("", "")
    assert not one.HasField("training_pair")
    assert ready(registry, "random") == 1


async def test_the_listing_has_a_win_rate_for_every_percentile(metrics: ScorerMetrics) -> None:
    """The entry at 100 - s is the threshold for s percent of strong calls."""
    (one,) = (await loaded(metrics, random=RANDOM)).listing()
    assert list(one.win_rate_percentiles) == pytest.approx(np.linspace(0.0, 1.0, 101))
    assert one.calibration_prompts


async def test_a_router_that_cannot_be_loaded_leaves_the_others_serving(
    metrics: ScorerMetrics, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """One damaged bundle must not stop the whole scorer."""
    table = await loaded(metrics, mf=GONE, random=RANDOM)
    assert [(one.name, one.ready) for one in table.listing()] == [("mf", False), ("random", True)]
    reason = table.listing()[0].not_ready_reason
    assert "/no/such/bundle" in reason
    with pytest.raises(RouterNotReady) as caught:
        table["mf"]
    assert "mf" in caught.value.message
    assert reason in caught.value.message
    assert (ready(registry, "mf"), ready(registry, "random")) == (0, 1)
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert vars(record)["router"] == "mf"


async def test_a_router_that_fails_its_warm_up_leaves_the_others_serving(
    metrics: ScorerMetrics, registry: CollectorRegistry, theirs: str
) -> None:
    """Another team's bug is that team's trouble, told where its router is listed."""
    table = await loaded(metrics, broken=RouterSettings(factory=f"{theirs}:Broken"), random=RANDOM)
    broken, random = table.listing()
    assert (broken.ready, random.ready) == (False, True)
    assert "no weights" in broken.not_ready_reason
    assert ready(registry, "broken") == 0


async def test_a_scorer_without_a_single_usable_router_does_not_start(
    metrics: ScorerMetrics,
) -> None:
    """It would look alive and turn every request into a fallback."""
    with pytest.raises(ConfigError, match="/no/such/bundle"):
        await loaded(metrics, mf=GONE)


async def test_a_router_is_warm_before_it_is_ready(metrics: ScorerMetrics, theirs: str) -> None:
    """The first request must not pay for caches and threads that were never touched."""
    table = await loaded(metrics, theirs=RouterSettings(factory=f"{theirs}:Constant"))
    module = __import__(theirs)
    assert len(module.scored) == 1
    assert table["theirs"].revision == "constant-1"


async def test_a_router_without_calibration_has_no_percentiles(
    metrics: ScorerMetrics, theirs: str
) -> None:
    """NaN on the wire would poison whatever adds it up."""
    table = await loaded(metrics, theirs=RouterSettings(factory=f"{theirs}:Constant"))
    (one,) = table.listing()
    assert list(one.win_rate_percentiles) == []
    assert one.calibration_prompts == ""
    assert percentile(table["theirs"], 0.25) == 0.0


async def test_a_percentile_is_among_the_calibration_prompts(metrics: ScorerMetrics) -> None:
    """`random` is calibrated on the uniform distribution, so the rate is its own percentile."""
    table = await loaded(metrics, random=RANDOM)
    assert percentile(table["random"], 0.25) == pytest.approx(25.0)


async def test_an_unknown_router_is_refused_with_those_there_are(metrics: ScorerMetrics) -> None:
    """Whoever mistypes a name reads the right one."""
    table = await loaded(metrics, random=RANDOM, control=GONE)
    with pytest.raises(UnknownRouter) as caught:
        table["fm\n"]
    assert "`fm\\n`" in caught.value.message
    assert "random, control" in caught.value.message


def test_a_label_is_a_configured_name_or_other(metrics: ScorerMetrics) -> None:
    """A caller must not be able to make metric series, and needs no loaded table for it."""
    table = RouterTable({"random": RANDOM}, metrics)
    assert (table.label("random"), table.label("made-up")) == ("random", "other")


class Sleeps:
    """Waits that end when the test lets them."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[float] = asyncio.Queue()
        self.wake = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        """Waits until the test wakes it."""
        self.begun.put_nowait(seconds)
        await self.wake.acquire()


class Remote:
    """A table with an `mf` whose prompts an endpoint embeds, and what a test needs of it."""

    def __init__(self, table: RouterTable, sleeps: Sleeps, weights: BilinearWeights) -> None:
        self.table = table
        self.sleeps = sleeps
        self.weights = weights


@asynccontextmanager
async def remote(
    folder: Path, metrics: ScorerMetrics, base_url: str, **others: RouterSettings
) -> AsyncIterator[Remote]:
    """Yields a table that has not been loaded; no request is tried twice."""
    bundle, weights = remote_bundle(folder)
    embeddings = EmbeddingsSettings(base_url=base_url, retries=0)
    settings = {**others, "mf": RouterSettings(bundle=str(bundle), embeddings=embeddings)}
    sleeps = Sleeps()
    async with open_embedders(settings, {}, metrics) as embedders:
        yield Remote(RouterTable(settings, metrics, embedders, sleeps), sleeps, weights)


async def test_an_endpoints_router_is_ready_once_the_endpoint_has_answered(
    tmp_path: Path, metrics: ScorerMetrics
) -> None:
    """One text is asked for, so that a wrong address shows before the first request."""
    async with FakeEmbeddings() as fake, remote(tmp_path, metrics, fake.url) as one:
        await one.table.load()
        assert [len(batch) for batch in fake.batches] == [1]
        assert one.table.can_score
        client = one.table.embedder("mf")
        assert client is not None
        rates = one.table["mf"].router.win_rates_of((await client.embed("Hello"))[np.newaxis])
        assert rates[0] == pytest.approx(rate_of(one.weights, "Hello"), abs=1e-6)


async def test_an_endpoint_of_another_dimension_is_refused_with_both_numbers(
    tmp_path: Path, metrics: ScorerMetrics
) -> None:
    """Its win rates would be noise; and it is nothing that waiting mends."""
    async with (
        FakeEmbeddings(dimension=1536) as fake,
        remote(tmp_path, metrics, fake.url, random=RANDOM) as one,
    ):
        await one.table.load()
        assert "1536 numbers and the bundle names 4" in one.table.listing()[1].not_ready_reason
        await one.table.ask_again(_never)
        assert one.sleeps.begun.empty()


async def test_an_endpoint_that_is_down_is_asked_again_until_it_is_up(
    tmp_path: Path,
    metrics: ScorerMetrics,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its router is listed with the reason meanwhile, and the others serve."""
    async with FakeEmbeddings() as fake:
        pass
    async with remote(tmp_path, metrics, fake.url, random=RANDOM) as one:
        await one.table.load()
        assert one.table.can_score
        assert "cannot be reached" in one.table.listing()[1].not_ready_reason
        with pytest.raises(RouterNotReady, match="cannot be reached"):
            one.table["mf"]
        assert ready(registry, "mf") == 0
        came = asyncio.Event()

        async def on_ready() -> None:
            came.set()

        asking = asyncio.ensure_future(one.table.ask_again(on_ready))
        for seconds in (1, 2, 4, 8, 16, 30):
            assert await one.sleeps.begun.get() == seconds
            one.sleeps.wake.release()
        assert await one.sleeps.begun.get() == 30
        assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1
        async with FakeEmbeddings(port=fake.port):
            one.sleeps.wake.release()
            await asking
        assert came.is_set()
        assert one.table["mf"].name == "mf"
        assert ready(registry, "mf") == 1


async def test_a_table_whose_only_endpoint_is_down_waits_for_it(
    tmp_path: Path, metrics: ScorerMetrics
) -> None:
    """Nothing here is wrong; nothing can score yet either."""
    async with FakeEmbeddings() as fake:
        pass
    async with remote(tmp_path, metrics, fake.url) as one:
        await one.table.load()
        assert not one.table.can_score
        assert not one.table.listing()[0].ready


async def test_an_embedder_that_cannot_be_made_is_its_routers_trouble(
    tmp_path: Path, metrics: ScorerMetrics
) -> None:
    """A key that is not set, or a bundle with an encoder of its own."""
    bundle, _ = remote_bundle(tmp_path)
    settings = {
        "random": RANDOM,
        "keyless": RouterSettings(bundle=str(bundle), embeddings=EmbeddingsSettings()),
        "local": RouterSettings(
            bundle=str(SHIPPED_BUNDLES / "mf"), embeddings=EmbeddingsSettings(api_key_env="KEY")
        ),
        "unsaid": RouterSettings(bundle=str(bundle)),
    }
    async with open_embedders(settings, {"KEY": "sk-1"}, metrics) as embedders:
        table = RouterTable(settings, metrics, embedders)
        await table.load()
        _, keyless, local, unsaid = (one.not_ready_reason for one in table.listing())
        assert "OPENAI_API_KEY, which is not set" in keyless
        assert "an encoder of its own" in local
        assert "embeddings" in unsaid


async def test_routers_of_one_model_share_what_is_kept(
    tmp_path: Path, metrics: ScorerMetrics
) -> None:
    """A prompt that two routers score is paid for once."""
    bundle, _ = remote_bundle(tmp_path)
    async with FakeEmbeddings() as fake:
        router = RouterSettings(
            bundle=str(bundle), embeddings=EmbeddingsSettings(base_url=fake.url)
        )
        settings = {"mf": router, "mf2": router}
        async with open_embedders(settings, {}, metrics) as embedders:
            assert embedders["mf"] is embedders["mf2"]
            await RouterTable(settings, metrics, embedders).load()
            assert len(fake.asked) == 1


async def _never() -> None:
    raise AssertionError("nothing became ready")
