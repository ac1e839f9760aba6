"""Ratings from cells are what a regression over every battle gives, and tiers are the best cut."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.bradley_terry import (
    FIRST_WON,
    LOG_ODDS_PER_POINT,
    SECOND_WON,
    TIE,
    cell_table,
    fit_cells,
    global_ratings,
    tiers_of,
)

Battles = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def battles_of(seed: int, *, count: int = 5, battles: int = 400) -> Battles:
    """First, second, outcome and weight of battles where low numbers tend to win."""
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, count, (2, battles))
    ahead = 1 / (1 + np.exp(-0.5 * (second - first)))
    outcome = np.where(generator.random(battles) < ahead, FIRST_WON, SECOND_WON)
    outcome[generator.random(battles) < 0.2] = TIE
    return first, second, outcome, generator.random(battles) + 0.1


def row_by_row(battles: Battles, count: int) -> NDArray[np.float64]:
    """Elo ratings as RouteLLM's regression has them: each battle twice, one row a copy.

    A tie is won in one copy and lost in the other; the second -1 overwrites the first +1 where
    both tiers are one.
    """
    first, second, outcome, weights = (np.concatenate([column, column]) for column in battles)
    rows = np.arange(len(first))
    design = np.zeros((len(first), count))
    design[rows, first] = np.log(10)
    design[rows, second] = -np.log(10)
    won = (outcome == FIRST_WON).astype(float)
    ties = outcome == TIE
    ties[len(ties) // 2 :] = False
    won[ties] = 1.0
    found = np.zeros(count)
    for _ in range(50):
        rates = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (weights * (rates - won))
        curvature = design.T @ (design * (weights * rates * (1 - rates))[:, None])
        found -= np.linalg.lstsq(curvature, gradient, rcond=1e-12)[0]
    return 400 * found + 1000


def win_rate(ratings: NDArray[np.float64], one: int, other: int) -> float:
    """The formula of the paper."""
    return 1 - 1 / (1 + 10 ** ((ratings[one] - ratings[other]) / 400))


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_of_cells_is_routellms_regression_over_rows(seed: int) -> None:
    """With the same-tier quirk, whose ratings have no freedom left to shift."""
    battles = battles_of(seed)
    ours = fit_cells(cell_table(*battles[:3], 5, battles[3]), compat=True)
    assert ours == pytest.approx(row_by_row(battles, 5), abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_without_battles_inside_a_tier_both_forms_agree(seed: int) -> None:
    """The quirk and the prior are all that tells them apart."""
    first, second, outcome, weights = battles_of(seed)
    apart = first != second
    battles = (first[apart], second[apart], outcome[apart], weights[apart])
    table = cell_table(*battles[:3], 5, battles[3])
    theirs = row_by_row(battles, 5)
    for compat, tolerance in ((True, 1e-6), (False, 2e-3)):
        ours = fit_cells(table, compat=compat)
        for one, other in combinations(range(5), 2):
            expected = win_rate(theirs, one, other)
            assert win_rate(ours, one, other) == pytest.approx(expected, abs=tolerance)


def test_battles_inside_a_tier_say_nothing_in_the_clean_form() -> None:
    """RouteLLM lets them pull ratings together."""
    first, second, outcome, weights = battles_of(1)
    apart = first != second
    table = cell_table(first, second, outcome, 5, weights)
    alone = cell_table(first[apart], second[apart], outcome[apart], 5, weights[apart])
    scaled = alone * table.sum() / alone.sum()
    assert fit_cells(table) == pytest.approx(fit_cells(scaled), abs=0.5)
    assert np.abs(fit_cells(table, compat=True) - fit_cells(alone, compat=True)).max() > 1


TABLES = st.integers(1, 4).flatmap(
    lambda count: st.lists(
        st.one_of(st.just(0.0), st.floats(1e-6, 1e6)),
        min_size=count * count * 3,
        max_size=count * count * 3,
    ).map(lambda numbers: np.asarray(numbers).reshape(count, count, 3))
)


@settings(deadline=None)
@given(TABLES, st.booleans())
def test_any_table_has_finite_ratings(table: NDArray[np.float64], compat: bool) -> None:
    """Nobody fought, somebody never lost, weights of a million: a fit still ends."""
    ratings = fit_cells(table, compat=compat)
    assert ratings.shape == (len(table),)
    assert np.isfinite(ratings).all()


@settings(deadline=None)
@given(TABLES, st.floats(0.01, 100))
def test_only_proportions_matter(table: NDArray[np.float64], factor: float) -> None:
    """Twice the weight everywhere is the same evidence."""
    assert fit_cells(table * factor) == pytest.approx(fit_cells(table), abs=1e-2)


@settings(deadline=None)
@given(TABLES)
def test_turning_every_battle_round_changes_nothing(table: NDArray[np.float64]) -> None:
    """Who is written first does not matter in the clean form."""
    turned = table.transpose(1, 0, 2)[..., ::-1]
    assert fit_cells(turned) == pytest.approx(fit_cells(table), abs=1e-2)


@pytest.mark.parametrize("compat", [False, True])
def test_one_more_win_raises_the_winner(compat: bool) -> None:
    """And lowers the loser."""
    table = cell_table(*battles_of(3)[:3], 5)
    before = fit_cells(table, compat=compat)
    table[1, 3, FIRST_WON] += 10
    after = fit_cells(table, compat=compat)
    assert win_rate(after, 1, 3) > win_rate(before, 1, 3)


def test_two_tiers_have_the_logarithm_of_their_odds() -> None:
    """Three wins to one are 3 to 1; a tie is half a win each."""
    table = np.zeros((2, 2, 3))
    table[0, 1] = (2, 2, 0)
    ratings = fit_cells(table, compat=True)
    assert LOG_ODDS_PER_POINT * (ratings[0] - ratings[1]) == pytest.approx(np.log(3), abs=1e-6)
    assert ratings.mean() == pytest.approx(1000)


def test_a_tier_without_battles_stays_in_the_middle() -> None:
    """Nothing is known of it."""
    table = np.zeros((3, 3, 3))
    table[0, 1] = (9, 0, 1)
    for compat in (False, True):
        assert fit_cells(table, compat=compat)[2] == pytest.approx(1000)


@pytest.mark.parametrize(
    ("first", "second", "outcome", "said"),
    [(5, 0, 0, "first"), (0, -1, 0, "second"), (0, 0, 3, "outcome")],
)
def test_a_battle_out_of_range_is_refused(first: int, second: int, outcome: int, said: str) -> None:
    """A wrong number would land in somebody else's cell."""
    columns = (np.asarray([value]) for value in (first, second, outcome))
    with pytest.raises(ValueError, match=said):
        cell_table(*columns, 5)


def test_global_ratings_order_the_models() -> None:
    """Low numbers win in these battles, whatever the order of the battles."""
    first, second, outcome, weights = battles_of(7, battles=4000)
    ratings = global_ratings(first, second, outcome, 5, weights=weights)
    assert (np.diff(ratings) < 0).all()
    mixed = np.random.default_rng(0).permutation(len(first))
    again = global_ratings(first[mixed], second[mixed], outcome[mixed], 5, weights=weights[mixed])
    assert again == pytest.approx(ratings, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(0, 2000), min_size=1, max_size=8, unique=True), st.data())
def test_no_other_cut_has_less_variance(ratings: list[float], data: st.DataObject) -> None:
    """Against every possible cut."""
    count = data.draw(st.integers(1, len(ratings)))
    tiers = tiers_of(np.asarray(ratings), count)
    assert sorted(set(tiers.tolist())) == list(range(count))
    order = sorted(range(len(ratings)), key=lambda model: -ratings[model])
    assert [tiers[model] for model in order] == sorted(tiers)
    falling = np.asarray([ratings[model] for model in order])
    least = min(
        sum(part.var() for part in np.split(falling, cuts))
        for cuts in combinations(range(1, len(ratings)), count - 1)
    )
    found = sum(np.asarray(ratings)[tiers == tier].var() for tier in range(count))
    assert found == pytest.approx(least, abs=1e-6)


@pytest.mark.parametrize("count", [0, 4])
def test_more_tiers_than_models_are_refused(count: int) -> None:
    """An empty tier has no rating."""
    with pytest.raises(ConfigError, match=f"3 models cannot be sorted into {count} tiers"):
        tiers_of(np.asarray([1.0, 2.0, 3.0]), count)
