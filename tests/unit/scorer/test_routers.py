"""The configured routers: those that can score, those that cannot, and why."""

import logging
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from pointsman.errors import ConfigError, RouterNotReady, ScorerUnavailable, UnknownRouter
from pointsman.routers.settings import RouterSettings
from services.scorer.metrics import ScorerMetrics
from services.scorer.routers import RouterTable, percentile

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


def loaded(metrics: ScorerMetrics, **routers: RouterSettings) -> RouterTable:
    """Returns a table that has loaded these routers."""
    table = RouterTable(routers, metrics)
    table.load()
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


def test_a_loaded_router_scores_and_is_listed(
    metrics: ScorerMetrics, registry: CollectorRegistry
) -> None:
    """What the listing says is what a request finds."""
    table = loaded(metrics, random=RANDOM)
    (rate,) = table["random"].router.strong_win_rates(["Hello"])
    assert 0.0 <= rate <= 1.0
    (one,) = table.listing()
    assert (one.name, one.ready, one.revision) == ("random", True, "random-seed-0")
    assert (one.not_ready_reason, one.warning) == ("", "")
    assert not one.HasField("training_pair")
    assert ready(registry, "random") == 1


def test_the_listing_has_a_win_rate_for_every_percentile(metrics: ScorerMetrics) -> None:
    """The entry at 100 - s is the threshold for s percent of strong calls."""
    (one,) = loaded(metrics, random=RANDOM).listing()
    assert list(one.win_rate_percentiles) == pytest.approx(np.linspace(0.0, 1.0, 101))
    assert one.calibration_prompts


def test_a_router_that_cannot_be_loaded_leaves_the_others_serving(
    metrics: ScorerMetrics, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """One damaged bundle must not stop the whole scorer."""
    table = loaded(metrics, mf=GONE, random=RANDOM)
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


def test_a_router_that_fails_its_warm_up_leaves_the_others_serving(
    metrics: ScorerMetrics, registry: CollectorRegistry, theirs: str
) -> None:
    """Another team's bug is that team's trouble, told where its router is listed."""
    table = loaded(metrics, broken=RouterSettings(factory=f"{theirs}:Broken"), random=RANDOM)
    broken, random = table.listing()
    assert (broken.ready, random.ready) == (False, True)
    assert "no weights" in broken.not_ready_reason
    assert ready(registry, "broken") == 0


def test_a_scorer_without_a_single_usable_router_does_not_start(metrics: ScorerMetrics) -> None:
    """It would look alive and turn every request into a fallback."""
    with pytest.raises(ConfigError, match="/no/such/bundle"):
        loaded(metrics, mf=GONE)


def test_a_router_is_warm_before_it_is_ready(metrics: ScorerMetrics, theirs: str) -> None:
    """The first request must not pay for caches and threads that were never touched."""
    table = loaded(metrics, theirs=RouterSettings(factory=f"{theirs}:Constant"))
    module = __import__(theirs)
    assert len(module.scored) == 1
    assert table["theirs"].revision == "constant-1"


def test_a_router_without_calibration_has_no_percentiles(
    metrics: ScorerMetrics, theirs: str
) -> None:
    """NaN on the wire would poison whatever adds it up."""
    table = loaded(metrics, theirs=RouterSettings(factory=f"{theirs}:Constant"))
    (one,) = table.listing()
    assert list(one.win_rate_percentiles) == []
    assert one.calibration_prompts == ""
    assert percentile(table["theirs"], 0.25) == 0.0


def test_a_percentile_is_among_the_calibration_prompts(metrics: ScorerMetrics) -> None:
    """`random` is calibrated on the uniform distribution, so the rate is its own percentile."""
    table = loaded(metrics, random=RANDOM)
    assert percentile(table["random"], 0.25) == pytest.approx(25.0)


def test_an_unknown_router_is_refused_with_those_there_are(metrics: ScorerMetrics) -> None:
    """Whoever mistypes a name reads the right one."""
    table = loaded(metrics, random=RANDOM, control=GONE)
    with pytest.raises(UnknownRouter) as caught:
        table["fm\n"]
    assert "`fm\\n`" in caught.value.message
    assert "random, control" in caught.value.message


def test_a_label_is_a_configured_name_or_other(metrics: ScorerMetrics) -> None:
    """A caller must not be able to make metric series, and needs no loaded table for it."""
    table = RouterTable({"random": RANDOM}, metrics)
    assert (table.label("random"), table.label("made-up")) == ("random", "other")
