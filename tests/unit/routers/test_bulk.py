"""Whole data sets through a router: in order, lazily, and with every failure in sight."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from threading import Barrier

import numpy as np
import pytest
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.base import EmbeddingRouter, Router
from pointsman.routers.bulk import cores, threads_for, win_rates
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.random_baseline import RandomRouter
from pointsman.routers.registry import LoadedRouter


class Fixed(Router):
    """Says the prompt itself, which is a number, or fails where it is none."""

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the prompts as numbers."""
        return np.asarray([float(prompt) for prompt in prompts], dtype=np.float32)


class Meeting(Router):
    """Answers only once two threads are in it."""

    def __init__(self) -> None:
        self._barrier = Barrier(2)

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Returns 0.5 for each prompt."""
        self._barrier.wait()
        return np.full(len(prompts), 0.5, dtype=np.float32)


class Gathering:
    """Embeds a text only once sixteen threads ask; its model is an endpoint's, or its own."""

    def __init__(self, model: str) -> None:
        self.settings = EmbedderSettings(max_tokens=9, dimension=1, model=model)
        self._barrier = Barrier(16)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the texts as numbers."""
        self._barrier.wait()
        return np.asarray([[float(text)] for text in texts], dtype=np.float32)


class Embedded(EmbeddingRouter):
    """Says the embedding itself."""

    def win_rates_of(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the only column."""
        return embeddings[:, 0]


@pytest.mark.parametrize("threads", [1, 3, None])
def test_results_keep_the_order_of_the_prompts(threads: int | None) -> None:
    """As many as there were prompts, each the one that serving would give."""
    router = RandomRouter(seed=0)
    prompts = [str(number) for number in range(500)]
    expected = router.strong_win_rates(prompts).tolist()
    assert list(win_rates(router, prompts, threads=threads)) == expected


def test_the_trained_router_scores_as_alone(shipped_router: LoadedRouter) -> None:
    """Threads share one session, and no prompt feels another."""
    prompts = ["What is 2+2?", "", "Prove Fermat's last theorem."] * 5
    alone = [float(shipped_router.router.strong_win_rates([each])[0]) for each in prompts]
    assert list(win_rates(shipped_router.router, prompts, threads=2)) == alone


def test_threads_work_at_the_same_time() -> None:
    """Two prompts are in the router at once; otherwise this would never end."""
    assert list(win_rates(Meeting(), ["", ""], threads=2)) == [0.5, 0.5]


def test_an_endpoint_is_asked_by_many_threads() -> None:
    """They wait for it; with one a core this would never end."""
    router = Embedded(Gathering("text-embedding-3-small"), "mf", 1)
    prompts = [str(number / 32) for number in range(32)]
    assert list(win_rates(router, prompts)) == [number / 32 for number in range(32)]


def test_an_encoder_here_gets_a_thread_a_core() -> None:
    """More would only fight for them."""
    assert threads_for(Embedded(Gathering(""), "mf", 1)) == threads_for(Fixed()) == cores()


def test_an_endless_stream_is_read_no_further_than_needed() -> None:
    """Memory stays constant, whatever the size of the file."""
    taken = count()

    def prompts() -> Iterator[str]:
        for number in taken:
            yield str(number)

    rates = win_rates(RandomRouter(seed=0), prompts(), threads=2)
    assert len(list(islice(rates, 10))) == 10
    assert next(taken) < 10 + 2 * 2 * 64


def test_no_prompts_give_no_rates() -> None:
    """An empty file is a file."""
    assert list(win_rates(Fixed(), [])) == []


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan"])
def test_what_is_no_rate_is_refused(value: str) -> None:
    """Somebody else's router may return anything."""
    rates = win_rates(Fixed(), ["0.25", value])
    assert next(rates) == 0.25
    with pytest.raises(ValueError, match="not a rate in"):
        next(rates)


def test_a_failing_router_is_not_hidden() -> None:
    """Its own exception arrives, at its place."""
    with pytest.raises(ValueError, match="could not convert"):
        list(win_rates(Fixed(), ["0.5", "x"]))


def test_a_failing_source_ends_it() -> None:
    """The error of a bad row comes through, and no thread stays behind."""

    def prompts() -> Iterator[str]:
        yield "0.5"
        raise ConfigError("rows.jsonl, line 2: no")

    with pytest.raises(ConfigError, match="line 2"):
        list(win_rates(Fixed(), prompts()))


def test_there_is_at_least_one_core() -> None:
    """What threads default to."""
    assert cores() >= 1
