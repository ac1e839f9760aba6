"""`train sw_ranking` end to end, and the arithmetic of its battles and its map."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.routers.bundle import load_bundle
from pointsman.routers.registry import load_router
from pointsman.routers.sw_ranking import SimilarityIndex
from pointsman.routing import ModelPair
from pointsman.training.datasets import Outcomes
from pointsman.training.projection import ProjectionSettings, fit_projection

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


@pytest.fixture
def train(quick_settings: Any) -> Any:
    """Train on the tiny data into the folder of bundles; return the bundle's folder."""
    from pointsman.training.sw_ranking import RankingRecipe, train_sw_ranking

    def run(**changes: Any) -> Path:
        recipe = RankingRecipe(projection=ProjectionSettings(dimension=8), max_tokens=32)
        return train_sw_ranking(replace(quick_settings, **changes), recipe)

    return run


def test_a_trained_bundle_is_served_and_right(train, separable) -> None:
    """Battles over like prompts tell unseen hard prompts from unseen easy ones."""
    folder = train()
    loaded = load_router("sw_ranking", bundles_dir=folder.parent)
    assert loaded.golden is not None
    assert loaded.golden.verdict == "ok", loaded.golden.message
    assert separable.area(loaded.router) > 0.8
    bundle = load_bundle(folder)
    assert set(bundle.manifest.files) == {"encoder", "tokenizer", "index", "training_prompts"}
    index = SimilarityIndex.from_bytes(bundle.read_file("index"))
    assert index.embeddings.shape == (120, 8)
    assert index.strong_tier < index.weak_tier < index.tier_count == 2
    assert b"integral" not in bundle.read_file("index")


def test_training_twice_gives_the_same_bundle(train, tmp_path: Path) -> None:
    """Data and machine decide every byte."""
    first, second = (train(out=tmp_path / name) / "manifest.json" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_a_pair_without_outcomes_is_refused(train) -> None:
    """Tiers come from outcomes, so an unknown model has none."""
    with pytest.raises(ConfigError, match=r"no outcome of 'oracle'; the data has: gpt-4o"):
        train(pair=ModelPair(strong="oracle", weak="mixtral-8x7b-instruct-v0.1"))


def _outcomes(sources: list[int], weak_scores: list[float]) -> Outcomes:
    """One outcome a prompt, all of one pair."""
    count = len(sources)
    return Outcomes(
        prompts=tuple(f"prompt {number}" for number in range(count)),
        roots=np.arange(count),
        prompt_index=np.arange(count),
        source_index=np.asarray(sources),
        sources=("easy ones", "hard ones"),
        strong_models=("s",) * count,
        weak_models=("w",) * count,
        strong_scores=np.ones(count),
        weak_scores=np.asarray(weak_scores),
    )


@given(rows=st.lists(st.tuples(st.integers(0, 1), st.floats(0.01, 0.99)), min_size=2, max_size=40))
def test_the_strong_models_win_the_same_share_of_each_source(torch_installed, rows) -> None:
    """Levelling keeps each source's weight and moves its share, not the order inside it."""
    from pointsman.training.sw_ranking import STRONG_SHARE, levelled_difficulty, soft_battles

    outcomes = _outcomes([source for source, _ in rows], [score for _, score in rows])
    battles = soft_battles(outcomes)
    total = battles.strong_weights + battles.weak_weights
    for source in {source for source, _ in rows}:
        inside = outcomes.source_index == source
        assert total[inside].sum() == pytest.approx(inside.sum())
        assert battles.strong_weights[inside].sum() == pytest.approx(STRONG_SHARE * inside.sum())
        assert levelled_difficulty(outcomes)[inside].mean() == pytest.approx(0, abs=1e-6)
        order = np.argsort(outcomes.weak_scores[inside], kind="stable")
        odds = battles.strong_weights[inside] / battles.weak_weights[inside]
        assert (np.diff(odds[order]) <= 1e-9 * odds.max()).all()


def test_a_source_where_weak_never_fails_stays_as_it_is(torch_installed) -> None:
    """Nothing can be levelled there, and nothing is divided by zero."""
    from pointsman.training.sw_ranking import STRONG_SHARE, soft_battles

    battles = soft_battles(_outcomes([0, 0, 1, 1], [1.0, 1.0, 0.0, 1.0]))
    assert battles.strong_weights[:2].tolist() == [0, 0]
    assert battles.weak_weights[:2].tolist() == [1, 1]
    assert battles.strong_weights[2:].sum() == pytest.approx(2 * STRONG_SHARE)


@given(seed=st.integers(0, 1000), dimension=st.integers(2, 12))
def test_the_map_whitens_and_points_at_difficulty(seed: int, dimension: int) -> None:
    """Components are uncorrelated with variance 1; the last one carries the difficulty."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(12, 12))
    embeddings = (generator.normal(size=(500, 12)) @ mixing + 3.0).astype(np.float32)
    difficulty = embeddings[:, 4].astype(np.float64)
    settings = ProjectionSettings(
        dimension=dimension, whitening_ridge=1e-9, regression_ridge=1e-6, supervision=2.0
    )
    found = fit_projection(embeddings, difficulty, settings)
    mapped = (embeddings - found.mean).astype(np.float64) @ found.matrix.T
    assert mapped.shape == (500, dimension)
    whitened, last = mapped[:, :-1], mapped[:, -1]
    assert np.abs(np.cov(whitened.T, bias=True) - np.eye(dimension - 1)).max() < 0.01
    assert np.corrcoef(last, difficulty)[0, 1] > 0.999
    assert last.std() == pytest.approx(2.0 * np.sqrt(dimension - 1), rel=0.01)


def test_a_map_without_supervision_or_difficulty_is_whitening_alone() -> None:
    """Difficulty that is the same everywhere has no direction."""
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(50, 6)).astype(np.float32)
    settings = ProjectionSettings(dimension=4)
    assert fit_projection(embeddings, np.ones(50), settings).matrix.shape == (3, 6)
    unsupervised = replace(settings, supervision=0.0)
    assert fit_projection(embeddings, embeddings[:, 0], unsupervised).matrix.shape == (4, 6)
    assert fit_projection(embeddings, embeddings[:, 0], settings).matrix.shape == (4, 6)


def test_own_data_alone_is_enough(train, separable, tmp_path: Path) -> None:
    """Rows of the user's, models of their naming, and a tenth of the prompts for percentiles."""
    rows = [
        {"prompt": prompt, "strong": "big", "weak": "small", "label": label}
        for easy, hard in zip(separable.easy, separable.hard, strict=True)
        for prompt, label in ((easy, "weak"), (hard, "strong"))
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair = ModelPair(strong="big", weak="small")
    folder = train(data=None, own_data=(path,), pair=pair, name="ours")
    assert folder.name == "ours"
    loaded = load_router("ours", bundles_dir=folder.parent)
    assert loaded.training_pair == pair
    assert loaded.calibration_count == 4
    assert separable.area(loaded.router) > 0.8


def test_a_prompt_of_two_data_sets_is_one(torch_installed) -> None:
    """Its outcomes are those of both, and it stays on one side of every split."""
    from pointsman.training.preparation import joined

    first, second = _outcomes([0, 1], [0.0, 1.0]), _outcomes([1, 0, 0], [0.5, 0.5, 0.25])
    both = joined(first, second)
    assert both.prompts == ("prompt 0", "prompt 1", "prompt 2")
    assert both.prompt_index.tolist() == [0, 1, 0, 1, 2]
    assert both.source_index.tolist() == [0, 1, 3, 2, 2]
    assert len(both.roots) == len({*both.roots}) == 3
    assert both.weak_scores.tolist() == [0.0, 1.0, 0.5, 0.5, 0.25]
