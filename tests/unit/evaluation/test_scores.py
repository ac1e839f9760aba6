"""Win rates are computed once, kept whole, and never mistaken for another router's."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.evaluation.scores import CHUNK, cached_win_rates
from pointsman.routers.base import Router
from pointsman.routers.registry import LoadedRouter, load_router

PROMPTS = [f"prompt {number}" for number in range(2 * CHUNK + 100)]


class Counting(Router):
    """Scores a prompt by its last digit, and counts; breaks at one prompt if told to."""

    def __init__(self) -> None:
        """Nothing scored yet."""
        self.scored = 0
        self.fatal: str | None = None
        self.error: BaseException = KeyboardInterrupt()
        self.add = 0.0
        self._lock = threading.Lock()

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Returns one rate a prompt."""
        with self._lock:
            self.scored += len(prompts)
        if self.fatal in prompts:
            raise self.error
        return np.asarray([self.add + int(p[-1]) / 10 for p in prompts], dtype=np.float32)


@pytest.fixture
def counting() -> Counting:
    """A router that counts."""
    return Counting()


@pytest.fixture
def loaded(counting: Counting) -> LoadedRouter:
    """It, as the registry would hand it out with a revision of its own."""
    return LoadedRouter(
        name="counting",
        router=counting,
        revision="1",
        training_pair=None,
        quantiles=np.empty(0),
        calibration_prompts="",
    )


def expected() -> NDArray[np.float32]:
    """Returns the rates of `PROMPTS`."""
    return np.asarray([int(p[-1]) / 10 for p in PROMPTS], dtype=np.float32)


def test_rates_are_in_order_and_read_the_second_time(
    loaded: LoadedRouter, counting: Counting, tmp_path: Path
) -> None:
    """A second evaluation scores nothing and says the same to the last bit."""
    first = cached_win_rates(loaded, PROMPTS, cache=tmp_path)
    assert first.dtype == np.float64
    assert first.tolist() == expected().tolist()
    again = cached_win_rates(loaded, PROMPTS, cache=tmp_path)
    assert again.tobytes() == first.tobytes()
    assert counting.scored == len(PROMPTS)
    assert len(list((tmp_path / "win_rates").iterdir())) == 3


def test_an_interrupted_run_goes_on_where_it_stopped(
    loaded: LoadedRouter, counting: Counting, tmp_path: Path
) -> None:
    """Ctrl-C costs the chunk that was being scored, and leaves no broken file."""
    counting.fatal = PROMPTS[CHUNK + 300]
    with pytest.raises(KeyboardInterrupt):
        cached_win_rates(loaded, PROMPTS, cache=tmp_path, threads=1)
    assert len(list((tmp_path / "win_rates").iterdir())) == 1
    counting.fatal, counting.scored = None, 0
    found = cached_win_rates(loaded, PROMPTS, cache=tmp_path)
    assert found.tolist() == expected().tolist()
    assert counting.scored == len(PROMPTS) - CHUNK


@pytest.mark.parametrize(
    "change",
    [
        lambda loaded: replace(loaded, revision="2"),
        lambda loaded: replace(loaded, name="counting1", revision=""),
        lambda loaded: replace(loaded, name="other"),
    ],
)
def test_another_router_or_revision_reads_nothing_of_it(
    change: Callable[[LoadedRouter], LoadedRouter], loaded: LoadedRouter, tmp_path: Path
) -> None:
    """A retrained router never shows its predecessor's figures."""
    router = Counting()
    cached_win_rates(loaded, PROMPTS[:5], cache=tmp_path)
    cached_win_rates(change(replace(loaded, router=router)), PROMPTS[:5], cache=tmp_path)
    assert router.scored == 5


@pytest.mark.parametrize(
    ("one", "other"), [(["a1", "b2"], ["a1b2", "2"]), (["1", ""], ["", "1"]), (["1"], ["1", "1"])]
)
def test_other_prompts_are_other_keys(
    one: list[str], other: list[str], loaded: LoadedRouter, tmp_path: Path
) -> None:
    """Neither order nor where one prompt ends and the next begins can be confused."""
    constant = replace(loaded, router=load_router("random", options={"seed": 1}).router)
    cached_win_rates(constant, one, cache=tmp_path)
    cached_win_rates(constant, other, cache=tmp_path)
    assert len(list((tmp_path / "win_rates").iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: b"PK" + data[2:],
        lambda data: data[:-8] + np.float64("nan").tobytes(),
        lambda data: data[:-8] + np.float64(1.5).tobytes(),
        lambda data: data.replace(b"(5,)", b"(9,)"),
        lambda data: data.replace(b"<f8", b"|O8"),
    ],
)
def test_a_damaged_file_is_computed_again(
    damage: Callable[[bytes], bytes], loaded: LoadedRouter, counting: Counting, tmp_path: Path
) -> None:
    """Whatever a full disk or another program left, no wrong figure comes of it."""
    cached_win_rates(loaded, PROMPTS[:5], cache=tmp_path)
    (path,) = (tmp_path / "win_rates").iterdir()
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))
    assert cached_win_rates(loaded, PROMPTS[:5], cache=tmp_path).tolist() == (
        expected()[:5].tolist()
    )
    assert counting.scored == 10
    assert path.read_bytes() == whole


def test_overwriting_scores_anew_and_replaces(
    loaded: LoadedRouter, counting: Counting, tmp_path: Path
) -> None:
    """For a router whose author forgot to change the revision."""
    cached_win_rates(loaded, PROMPTS[:5], cache=tmp_path)
    counting.add = 0.1
    new = cached_win_rates(loaded, PROMPTS[:5], cache=tmp_path, overwrite=True)
    assert new == pytest.approx(expected()[:5] + 0.1)
    assert cached_win_rates(loaded, PROMPTS[:5], cache=tmp_path).tolist() == new.tolist()


def test_a_router_without_a_revision_is_never_kept(
    loaded: LoadedRouter, counting: Counting, tmp_path: Path
) -> None:
    """Nor is anything where there is no cache."""
    for _ in range(2):
        cached_win_rates(replace(loaded, cacheable=False), PROMPTS[:5], cache=tmp_path)
        cached_win_rates(loaded, PROMPTS[:5], cache=None)
    assert counting.scored == 20
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_costs_one_warning(
    loaded: LoadedRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only home is no reason not to measure."""
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        found = cached_win_rates(loaded, PROMPTS, cache=tmp_path / "file")
    assert found.tolist() == expected().tolist()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--cache" in caplog.text


def test_what_is_no_rate_names_the_router(loaded: LoadedRouter, counting: Counting) -> None:
    """Somebody's router is at fault, and the line says which."""
    counting.add = 2.0
    with pytest.raises(ConfigError, match=r"router counting cannot score: .* not a rate"):
        cached_win_rates(loaded, PROMPTS[:5], cache=None)


def test_no_prompts_have_no_rates(loaded: LoadedRouter, tmp_path: Path) -> None:
    """Nothing is written either."""
    assert cached_win_rates(loaded, [], cache=tmp_path).shape == (0,)
    assert not list(tmp_path.iterdir())


def test_the_shipped_router_scores_as_it_serves(tmp_path: Path) -> None:
    """Threads and the cache change no bit of a win rate."""
    router = load_router("mf")
    prompts = ["hello", "prove it", "", "half an emoji \ud83d"] * 3
    served = [float(router.router.strong_win_rates([prompt])[0]) for prompt in prompts]
    for _ in range(2):
        assert cached_win_rates(router, prompts, cache=tmp_path).tolist() == served
