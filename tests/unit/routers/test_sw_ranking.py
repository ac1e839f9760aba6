"""Similar battles decide: RouteLLM's numbers where asked for, and sane ones whatever comes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.bradley_terry import FIRST_WON, SECOND_WON, TIE
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.log_odds import Platt
from pointsman.routers.sw_ranking import SimilarityIndex, SimilarityRouter
from tests.unit.routers.test_bradley_terry import row_by_row, win_rate

DIMENSION = 6


class Numbers:
    """An embedder for prompts that are seeds."""

    def __init__(self, dimension: int = DIMENSION) -> None:
        self.settings = EmbedderSettings(max_tokens=8, dimension=dimension)

    def embed(self, texts):
        """Return the draw of each seed."""
        return np.asarray(
            [np.random.default_rng(int(t)).standard_normal(self.settings.dimension) for t in texts],
            dtype=np.float32,
        ).reshape(len(texts), self.settings.dimension)


def battles_of(seed: int, *, prompts: int = 40, battles: int = 300, tiers: int = 4):
    """Arguments of `SimilarityIndex.build`, battles in no order."""
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, tiers, (2, battles))
    return {
        "embeddings": generator.standard_normal((prompts, DIMENSION)) + 0.5,
        "prompt_index": generator.integers(0, prompts, battles),
        "first_tier": first,
        "second_tier": second,
        "outcome": generator.choice([FIRST_WON, TIE, SECOND_WON], battles, p=(0.5, 0.2, 0.3)),
        "tier_count": tiers,
        "strong_tier": 0,
        "weak_tier": 2,
        "dtype": np.float32,
    }


def rates_of(index: SimilarityIndex, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Win rates of embeddings."""
    return SimilarityRouter(Numbers(index.dimension), index).win_rates_of(embeddings)


@pytest.mark.parametrize("seed", range(5))
def test_compat_is_routellms_code(seed: int) -> None:
    """Cosine, 10 * 10^(s / max s) and a regression over every battle, the same-tier quirk too."""
    battles = battles_of(seed)
    query = np.random.default_rng(seed + 50).standard_normal(DIMENSION) + 0.5
    rows = battles["embeddings"][battles["prompt_index"]]
    cosine = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    weights = 10 * 10 ** (cosine / cosine.max())
    columns = (battles["first_tier"], battles["second_tier"], battles["outcome"], weights)
    expected = win_rate(row_by_row(columns, 4), 0, 2)
    index = SimilarityIndex.build(**battles, compat=True)
    (found,) = rates_of(index, query[np.newaxis].astype(np.float32))
    assert found == pytest.approx(expected, abs=1e-5)
    (halved,) = rates_of(
        SimilarityIndex.build(**{**battles, "dtype": np.float16}, compat=True),
        query[np.newaxis].astype(np.float32),
    )
    assert halved == pytest.approx(expected, abs=1e-3)


INDEX = SimilarityIndex.build(**battles_of(0))


@settings(deadline=None)
@given(
    arrays(np.float32, (2, DIMENSION), elements=st.floats(-1e6, 1e6, width=32)),
    st.booleans(),
    st.sampled_from([0.0, 1.0, 5.0, 50.0]),
)
def test_a_win_rate_is_in_its_range(embeddings, compat: bool, sharpness: float) -> None:
    """Whatever the embedding, the zero vector and one opposite to all prompts included."""
    rates = rates_of(replace(INDEX, compat=compat, sharpness=sharpness), embeddings)
    assert rates.dtype == np.float32
    assert ((rates >= 0) & (rates <= 1)).all()


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(60)), st.booleans())
def test_the_order_of_battles_does_not_matter(order: list[int], compat: bool) -> None:
    """To the byte."""
    battles = battles_of(3, battles=60)
    mixed = {
        **battles,
        **{
            name: battles[name][order]
            for name in ("prompt_index", "first_tier", "second_tier", "outcome")
        },
    }
    one, other = (
        SimilarityIndex.build(**each, compat=compat).to_bytes() for each in (battles, mixed)
    )
    assert one == other


@settings(deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_swapping_strong_and_weak_mirrors_the_win_rate(seed: int, compat: bool) -> None:
    """Both add up to one."""
    embedding = Numbers().embed([str(seed)])
    there = replace(INDEX, compat=compat)
    back = replace(there, strong_tier=INDEX.weak_tier, weak_tier=INDEX.strong_tier)
    total = rates_of(there, embedding)[0] + rates_of(back, embedding)[0]
    assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("compat", [False, True])
def test_more_wins_of_the_strong_tier_raise_the_rate(compat: bool) -> None:
    """And most where the prompt is the one that was fought over."""
    battles = battles_of(5)
    more = {
        **battles,
        "prompt_index": np.append(battles["prompt_index"], [7] * 5),
        "first_tier": np.append(battles["first_tier"], [0] * 5),
        "second_tier": np.append(battles["second_tier"], [2] * 5),
        "outcome": np.append(battles["outcome"], [FIRST_WON] * 5),
    }
    queries = np.asarray([battles["embeddings"][7], -battles["embeddings"][7]], dtype=np.float32)
    before = rates_of(SimilarityIndex.build(**battles, compat=compat), queries)
    after = rates_of(SimilarityIndex.build(**more, compat=compat), queries)
    assert after[0] > before[0]
    if not compat:  # RouteLLM's quotient turns round where no prompt is similar
        assert after[0] - before[0] > after[1] - before[1] > 0


def test_weights_stand_for_that_many_battles() -> None:
    """Three equal rows, or one of weight three; none, or weight zero."""
    battles = battles_of(6)
    columns = ("prompt_index", "first_tier", "second_tier", "outcome")
    tripled = {**battles, **{name: np.repeat(battles[name], 3) for name in columns}}
    weighted = SimilarityIndex.build(**battles, weights=np.full(300, 3.0))
    assert SimilarityIndex.build(**tripled).to_bytes() == weighted.to_bytes()
    fewer = {**battles, **{name: battles[name][:200] for name in columns}}
    halved = SimilarityIndex.build(**battles, weights=np.arange(300) < 200)
    assert SimilarityIndex.build(**fewer).to_bytes() == halved.to_bytes()


def test_the_projection_is_part_of_the_comparison() -> None:
    """Mean and map are applied to prompts and queries alike."""
    battles = battles_of(8)
    generator = np.random.default_rng(1)
    mean, projection = generator.standard_normal(DIMENSION), generator.standard_normal((3, 6))
    index = SimilarityIndex.build(**battles, mean=mean, projection=projection)
    assert (index.dimension, index.embeddings.shape) == (DIMENSION, (40, 3))
    queries = generator.standard_normal((5, DIMENSION))
    by_hand = {**battles, "embeddings": (battles["embeddings"] - mean) @ projection.T}
    expected = rates_of(
        SimilarityIndex.build(**by_hand), ((queries - mean) @ projection.T).astype(np.float32)
    )
    assert rates_of(index, queries.astype(np.float32)) == pytest.approx(expected, abs=1e-5)


def test_platts_line_acts_on_log_odds() -> None:
    """As for every other router."""
    queries = Numbers().embed(["1", "2"])
    rates = rates_of(INDEX, queries).astype(np.float64)
    expected = 1 / (1 + np.exp(-(2.0 * np.log(rates / (1 - rates)) - 1.0)))
    lined = replace(INDEX, platt=Platt(scale=2.0, bias=-1.0))
    assert rates_of(lined, queries) == pytest.approx(expected, abs=1e-6)


def test_neighbours_do_not_change_a_win_rate() -> None:
    """A prompt scores the same alone, and none is a batch too."""
    router = SimilarityRouter(Numbers(), INDEX)
    prompts = ["1", "2", "3"]
    alone = [float(router.strong_win_rates([prompt])[0]) for prompt in prompts]
    assert router.strong_win_rates(prompts).tolist() == alone
    assert len(set(alone)) == 3
    assert router.strong_win_rates([]).shape == (0,)


def test_an_index_survives_the_disk_byte_for_byte() -> None:
    """With and without its optional parts."""
    full = SimilarityIndex.build(
        **battles_of(9),
        weights=np.linspace(0.1, 2, 300),
        mean=np.ones(DIMENSION),
        projection=np.eye(DIMENSION)[:4],
        sharpness=3.0,
        compat=True,
        platt=Platt(scale=0.5, bias=0.1),
    )
    queries = Numbers().embed(["1", "2", "3"])
    for index in (INDEX, full):
        again = SimilarityIndex.from_bytes(index.to_bytes())
        assert again.to_bytes() == index.to_bytes()
        assert (rates_of(again, queries) == rates_of(index, queries)).all()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not an archive"])
def test_a_broken_archive_is_one_error(data: bytes) -> None:
    """Whatever numpy says, the operator reads which file it was."""
    with pytest.raises(ConfigError, match="sw_ranking index cannot be read"):
        SimilarityIndex.from_bytes(data)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weak_tier": 4}, "4 tiers has no strong tier 0 or no weak tier 4"),
        ({"prompt_index": INDEX.prompt_index + 1}, "do not fit"),
        ({"prompt_index": INDEX.prompt_index[1:]}, "do not fit"),
        ({"cell": INDEX.cell + 1}, "cell 48 of 48"),
        ({"weights": np.ones(2, np.float32)}, "do not fit"),
        ({"projection": np.zeros((5, 9), np.float32)}, "projects to 5 numbers .* of 6"),
        ({"embeddings": INDEX.embeddings[:0]}, "at least one prompt"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, said: str) -> None:
    """At the start, and never in the middle of a request."""
    with pytest.raises(ConfigError, match=said):
        replace(INDEX, **changes)


def test_another_dimension_is_refused_with_both_numbers() -> None:
    """The battles' embedder and the prompts' are one."""
    with pytest.raises(ConfigError, match=r"sw_ranking was trained on .* 6 numbers .* 7;"):
        SimilarityRouter(Numbers(7), INDEX)
