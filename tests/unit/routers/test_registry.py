"""One door to every router: by name, by bundle, by class, and a clear word when there is none."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pointsman.errors import ConfigError, RouterNotReady, UnknownRouter
from pointsman.routers.base import Router
from pointsman.routers.registry import SHIPPED_BUNDLES, LoadedRouter, load_router, router_names
from pointsman.routing import ModelPair


@pytest.fixture
def own_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A router of somebody else's, in a module of its own."""
    (tmp_path / "their_router.py").write_text(
        "import numpy as np\n"
        "from pointsman.routers.base import Router\n"
        "class Constant(Router):\n"
        "    def __init__(self, *, rate):\n"
        "        self.rate, self.revision = rate, f'constant-{rate}'\n"
        "    def strong_win_rates(self, prompts):\n"
        "        return np.full(len(prompts), self.rate, dtype=np.float32)\n"
        "class Stranger:\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "their_router:Constant"


def test_the_shipped_names() -> None:
    """What a fresh installation can serve."""
    names = router_names()
    assert {"mf", "random"} <= set(names)
    assert names == sorted(names)


def test_random_is_built_in() -> None:
    """No file is needed, and its percentile is the rate itself."""
    loaded = load_router("random", options={"seed": 7})
    assert loaded.revision == "random-seed-7"
    assert loaded.percentile(0.25) == pytest.approx(25.0)
    assert (loaded.training_pair, loaded.golden) == (None, None)


def test_the_shipped_mf_reproduces_its_golden_win_rates(shipped_router: LoadedRouter) -> None:
    """What was trained is what is served here."""
    golden = shipped_router.golden
    assert golden is not None
    assert golden.verdict == "ok", golden.message
    assert isinstance(shipped_router.training_pair, ModelPair)


def test_mf_win_rates_spread_over_the_calibration_prompts(shipped_router: LoadedRouter) -> None:
    """A threshold has something to cut."""
    low, high = np.quantile(shipped_router.quantiles, [0.05, 0.95])
    assert high - low > 0.05
    assert shipped_router.percentile(float(np.median(shipped_router.quantiles))) == pytest.approx(
        50.0, abs=0.2
    )


def test_mf_sends_hard_prompts_to_strong(shipped_router: LoadedRouter) -> None:
    """The direction is right on prompts anybody would agree about."""
    easy, hard = shipped_router.router.strong_win_rates(
        [
            "What is the capital of France?",
            "Evaluate the contour integral of exp(z) / (z^2 + pi^2)^2 around the circle |z| = 4, "
            "and justify each step.",
        ]
    )
    assert easy < hard


def test_an_unknown_name_lists_what_there_is() -> None:
    """The reader can correct the name at once."""
    with pytest.raises(UnknownRouter, match=f"'nope'; there are: {', '.join(router_names())}$"):
        load_router("nope")


@pytest.mark.parametrize("name", ["../mf", "", "blobs", "mf/", "MF"])
def test_a_name_is_not_a_path(name: str) -> None:
    """No name reaches outside the bundles folder or into its blobs."""
    with pytest.raises(UnknownRouter):
        load_router(name)


def test_a_bundle_may_be_named_by_its_folder() -> None:
    """A trained bundle is served from where it lies, under any name."""
    loaded = load_router("ours", bundle=SHIPPED_BUNDLES / "mf")
    assert (loaded.name, loaded.revision) == ("ours", load_router("mf").revision)


def test_an_empty_folder_has_random_alone(tmp_path: Path) -> None:
    """Another bundles folder replaces the shipped one."""
    assert router_names(tmp_path) == ["random"]
    with pytest.raises(UnknownRouter):
        load_router("mf", bundles_dir=tmp_path)


def test_a_class_of_ones_own(own_class: str) -> None:
    """Other people's routers need no change in ours."""
    loaded = load_router("theirs", factory=own_class, options={"rate": 0.5})
    assert isinstance(loaded.router, Router)
    assert loaded.router.strong_win_rates(["a", "b"]).tolist() == [0.5, 0.5]
    assert loaded.revision == "constant-0.5"
    assert np.isnan(loaded.percentile(0.5))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_such_package:Class", "cannot load"),
        ("their_router:Missing", "cannot load"),
        ("their_router", "cannot load"),
        (":", "cannot load"),
        (".their_router:Class", "cannot load"),
        ("their_router:Stranger", "is neither a pointsman"),
    ],
)
def test_a_wrong_class_is_a_config_error(own_class: str, factory: str, message: str) -> None:
    """Each mistake in the configuration is one sentence."""
    with pytest.raises(ConfigError, match=message):
        load_router("theirs", factory=factory)


def test_wrong_options_are_named(own_class: str) -> None:
    """An option that does not exist is not ignored."""
    with pytest.raises(ConfigError, match="'speed'"):
        load_router("theirs", factory=own_class, options={"speed": 1})
    with pytest.raises(ConfigError, match="takes no options"):
        load_router("mf", options={"seed": 1})
    with pytest.raises(ConfigError, match="keep one"):
        load_router("x", factory=own_class, bundle=SHIPPED_BUNDLES / "mf")


def test_a_router_that_scores_otherwise_is_refused(tmp_path: Path) -> None:
    """Golden win rates that are far off stop the router, by name and numbers."""
    shutil.copytree(SHIPPED_BUNDLES, tmp_path / "bundles")
    path = tmp_path / "bundles" / "mf" / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes())
    case = manifest["golden"]["cases"][0]
    case["strong_win_rate"] = (case["strong_win_rate"] + 0.5) % 1.0
    path.write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(RouterNotReady, match="'mf' is refused: golden prompt 0"):
        load_router("mf", bundles_dir=tmp_path / "bundles")
