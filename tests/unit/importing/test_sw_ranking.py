"""RouteLLM's `sw_ranking`: the bundle gives its numbers, quirk and all, and holds no text.

The reference below is RouteLLM's computation, row by row: a logistic regression over every battle,
twice, for each prompt. The solver is scipy's instead of scikit-learn's, taken to its end.
"""

import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pointsman.errors import ConfigError
from pointsman.importing.sw_ranking import import_sw_ranking
from pointsman.routers.bundle import load_bundle, prompt_digest, read_manifest
from pointsman.routers.registry import load_router
from pointsman.routing import ModelPair

from .conftest import EndpointEmbedder, files_in, unit_vector

MODELS = (
    "gpt-4-1106-preview",
    *(f"model-{number}" for number in range(6)),
    "mixtral-8x7b-instruct-v0.1",
    *(f"model-{number}" for number in range(6, 12)),
)
STRENGTHS = np.linspace(1.6, -1.6, len(MODELS))
DIMENSION = 24
TIERS = 5
PROMPTS = ["Prove that there is no largest prime.", "write a poem about rain", "hi", ""]


def make_rows(count: int) -> list[dict[str, Any]]:
    """Battles over prompts of which some are too short and some come twice."""
    generator = np.random.default_rng(11)
    rows = []
    for number in range(count):
        a, b = generator.choice(len(MODELS), 2, replace=False)
        chance = 1 / (1 + math.exp(STRENGTHS[b] - STRENGTHS[a]))
        draw = generator.random()
        won = (
            "model_a" if draw < 0.8 * chance else "tie" if draw < 0.8 * chance + 0.2 else "model_b"
        )
        words = "short" if number % 9 == 0 else f"a prompt, the {number % 80}th of them all"
        rows.append(
            {
                "model_a": MODELS[a],
                "model_b": MODELS[b],
                "prompt": json.dumps([f" {words} ", "and then?"]),
                **{f"winner_{end}": int(end == won) for end in ("model_a", "model_b", "tie")},
            }
        )
    return rows


def kept(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """RouteLLM's preprocessing: first turn, winner, at least sixteen characters."""
    found = []
    for row in rows:
        turn = json.loads(row["prompt"])[0].strip()
        winner = next((end for end in ("model_a", "model_b") if row[f"winner_{end}"] == 1), "tie")
        if len(turn) >= 16:
            found.append((turn, row["model_a"], row["model_b"], winner))
    return found


def elo(
    a: Sequence[Any], b: Sequence[Any], winner: Sequence[str], weights: NDArray[np.float64]
) -> dict[Any, float]:
    """RouteLLM's fit: battles twice, a tie won once, the second side written over the first."""
    players = list(dict.fromkeys([*a, *b]))
    column = {player: number for number, player in enumerate(players)}
    n = len(a)
    x = np.zeros((2 * n, len(players)))
    rows = np.arange(2 * n)
    x[rows, [column[player] for player in [*a, *a]]] = math.log(10)
    x[rows, [column[player] for player in [*b, *b]]] = -math.log(10)
    y = np.asarray([end == "model_a" for end in [*winner, *winner]], dtype=np.float64)
    y[:n][np.asarray(winner) == "tie"] = 1.0
    twice = np.concatenate([weights, weights]) / weights.sum()
    sign = 2 * y - 1

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = sign * (x @ coefficients)
        gradient = -(x.T @ (twice * sign * expit(-margins)))
        return float(twice @ np.logaddexp(0.0, -margins)), gradient

    fit = minimize(loss, np.zeros(len(players)), jac=True, options={"gtol": 1e-10, "maxiter": 1000})
    ratings = 400 * fit.x + 1000
    return dict(sorted(zip(players, ratings.tolist(), strict=True), key=lambda pair: -pair[1]))


def tiers(ratings: dict[str, float], count: int) -> dict[str, int]:
    """RouteLLM's dynamic programme, over ratings from best to worst."""
    names, values = list(ratings), list(ratings.values())
    n = len(names)
    best, cut = np.zeros((n, n, count)), np.zeros((n, n, count), dtype=int)
    for i in range(n):
        for j in range(i + 1, n):
            best[i, j, 0] = np.var(values[i : j + 1])
    for tier in range(1, count):
        for i in range(n):
            for j in range(i + 1, n):
                best[i, j, tier] = 1e9
                for middle in range(i, j):
                    total = best[i, middle, tier - 1] + best[middle + 1, j, 0]
                    if best[i, j, tier] > total:
                        cut[i, j, tier], best[i, j, tier] = middle, total
    ends, end = [n - 1], n - 1
    for tier in range(count - 1, 0, -1):
        end = int(cut[0, end, tier])
        ends.insert(0, end)
    return {name: int(np.searchsorted(ends, place)) for place, name in enumerate(names)}


def routellm(
    rows: Sequence[dict[str, Any]],
    vectors: NDArray[np.float32],
    pair: ModelPair,
    queries: Sequence[NDArray[np.float32]],
) -> list[float]:
    """The strong win rate of each query's prompt, as RouteLLM's router computes it."""
    battles = kept(rows)
    _, a, b, winner = (list(column) for column in zip(*battles, strict=True))
    tier = tiers(elo(a, b, winner, np.ones(len(battles))), TIERS)
    stored = vectors.astype(np.float64)
    rates = []
    for query in queries:
        similarities = stored @ query / (np.linalg.norm(stored, axis=1) * np.linalg.norm(query))
        weights = 10 * 10 ** (similarities / similarities.max())
        ratings = elo([tier[name] for name in a], [tier[name] for name in b], winner, weights)
        gap = ratings[tier[pair.strong]] - ratings[tier[pair.weak]]
        rates.append(1 - 1 / (1 + 10 ** (gap / 400)))
    return rates


@pytest.fixture
def data(tmp_path: Path) -> tuple[list[dict[str, Any]], NDArray[np.float32], Path, Path]:
    """Rows, embeddings of those kept (of any length), and the files of both."""
    rows = make_rows(600)
    vectors = np.stack([3 * unit_vector(turn, DIMENSION) for turn, *_ in kept(rows)])
    battles, embeddings = tmp_path / "battles.jsonl", tmp_path / "embeddings.npy"
    battles.write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.save(embeddings, vectors)
    return rows, vectors, battles, embeddings


Data = tuple[list[dict[str, Any]], NDArray[np.float32], Path, Path]


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize(("strong", "weak"), [(MODELS[0], MODELS[7]), (MODELS[3], MODELS[12])])
def test_the_bundle_gives_routellms_numbers(
    data: Data, settings: Callable[..., Any], precision: str, strong: str, weak: str
) -> None:
    """To 1e-3, battles within a tier counted as RouteLLM counts them."""
    rows, vectors, battles, embeddings = data
    pair = ModelPair(strong=strong, weak=weak)
    folder = import_sw_ranking(
        settings(
            battles, embeddings=(str(embeddings),), pair=pair, precision=precision, tiers=TIERS
        )
    )
    embedder = EndpointEmbedder(read_manifest(folder).embedder)
    router = load_router("imported", bundle=folder, embedder=embedder).router
    expected = routellm(rows, vectors, pair, [*embedder.embed(PROMPTS)])
    np.testing.assert_allclose(router.strong_win_rates(PROMPTS), expected, atol=1e-3)
    assert min(expected) > 0.5
    assert len({round(rate, 4) for rate in expected}) == len(expected)


def test_the_clean_form_counts_no_battle_within_a_tier(
    data: Data, settings: Callable[..., Any]
) -> None:
    """Which moves win rates: RouteLLM's quirk draws them together."""
    _, _, battles, embeddings = data
    rates = []
    for compat in (True, False):
        folder = import_sw_ranking(
            settings(battles, embeddings=(str(embeddings),), compat=compat, tiers=TIERS)
        )
        embedder = EndpointEmbedder(read_manifest(folder).embedder)
        loaded = load_router("imported", bundle=folder, embedder=embedder)
        rates.append(loaded.router.strong_win_rates(PROMPTS))
    assert (rates[1] > rates[0] + 1e-3).all()


def test_a_bundle_holds_no_text(data: Data, settings: Callable[..., Any]) -> None:
    """Embeddings, outcomes and digests: prompts of others' do not travel."""
    rows, vectors, battles, embeddings = data
    folder = import_sw_ranking(settings(battles, embeddings=(str(embeddings),), tiers=TIERS))
    for path in folder.parent.rglob("*"):
        if path.is_file():
            assert b"a prompt, the" not in path.read_bytes()
    bundle = load_bundle(folder)
    with np.load(io.BytesIO(bundle.read_file("index"))) as archive:
        assert all(archive[name].dtype.kind in "fib" for name in archive.files)
        assert len(archive["embeddings"]) == len(np.unique(vectors, axis=0)) < len(vectors)
    texts = {turn for turn, *_ in kept(rows)}
    assert bundle.training_prompt_digests() == {prompt_digest(text) for text in texts}
    (source,) = bundle.manifest.data
    assert (source.rows, source.prompts) == (len(kept(rows)), len(texts))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embeddings": ()}, "name their data sets with --embeddings"),
        ({"pair": ModelPair(strong="gpt-5", weak=MODELS[7])}, "gpt-5 was in no battle; name a"),
        ({"tiers": 20}, "14 models cannot be sorted into 20 tiers"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(
    data: Data, tmp_path: Path, settings: Callable[..., Any], changes: dict[str, Any], said: str
) -> None:
    """It says what does."""
    _, _, battles, embeddings = data
    options = {"embeddings": (str(embeddings),), "tiers": TIERS, **changes}
    with pytest.raises(ConfigError, match=said):
        import_sw_ranking(settings(battles, **options))
    assert files_in(tmp_path / "bundles") == []


def test_battles_and_embeddings_must_be_as_many(
    data: Data, tmp_path: Path, settings: Callable[..., Any]
) -> None:
    """Both numbers are named: one of the data sets is not whole, or another's."""
    _, vectors, battles, embeddings = data
    np.save(embeddings, vectors[:-1])
    with pytest.raises(ConfigError, match=f"{len(vectors)} battles .* {len(vectors) - 1} embed"):
        import_sw_ranking(settings(battles, embeddings=(str(embeddings),), tiers=TIERS))
    assert files_in(tmp_path / "bundles") == []
