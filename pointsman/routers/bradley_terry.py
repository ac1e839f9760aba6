"""Battles → Bradley-Terry ratings, and ratings → tiers: the arithmetic of `sw_ranking`.

``P(a beats b) = 1 / (1 + 10^((R[b] - R[a]) / 400))``, a tie is half a win each. The likelihood
depends on the battles only through the weight of each (first, second, outcome), a cell of a
[T, T, 3] table, so Newton's method on that table gives in a millisecond what a logistic regression
over all battles gives in a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.log_odds import sigmoid

FIRST_WON, TIE, SECOND_WON = 0, 1, 2
"""Outcomes of a battle: the last axis of a table of cells."""

OUTCOMES = 3

ELO_SCALE = 400.0
ELO_MIDDLE = 1000.0

LOG_ODDS_PER_POINT = float(np.log(10.0)) / ELO_SCALE
"""Natural log-odds of winning per point of rating ahead."""

_PRIOR = 1e-4
"""Weight of the pull towards the middle, as a share of all battles' weight. A competitor without
battles stays in the middle, and one that never lost ends some 1,000 points above it."""

_COMPAT_PRIOR = 1e-9
"""RouteLLM has none; this much changes no win rate in its sixth digit and keeps the fit finite."""

_NEARLY_THERE = 1e-12
"""Twice the loss that a last step can still save: Newton's next error is about its square."""

_ITERATIONS = 100
_HALVINGS = 40


def fit_cells(weights: NDArray[np.float64], *, compat: bool = False) -> NDArray[np.float64]:
    """Return float64[T], the Elo ratings that make the weighted battles most likely.

    Args:
        weights: float64[T, T, 3], at least 0: ``weights[a, b, o]`` is the total weight of battles
            between a (first) and b (second) with outcome o, see `FIRST_WON`. Only their
            proportions matter.
        compat: fit as RouteLLM does, where a battle within one tier counts as a win (by its
            outcome) of a player rated at the middle over that tier. Otherwise such battles, which
            say nothing of either side, are left out.

    Returns:
        Ratings round 1,000, in points of which 400 are odds of 10 to 1. Finite whatever the
        battles: without any, all are 1,000.
    """
    strengths = CellFit.of(weights, compat=compat).strengths()
    return strengths / LOG_ODDS_PER_POINT + ELO_MIDDLE


@dataclass(frozen=True, kw_only=True, eq=False)
class CellFit:
    """The weighted battles as one concave problem in T strengths, natural log-odds."""

    wins: NDArray[np.float64]
    """float64[T, T]: weight of a's wins over b, ties counted half each way; diagonal 0."""

    below: NDArray[np.float64]
    """float64[T]: weight of each one's losses to a player of strength 0; RouteLLM's quirk alone
    has them."""

    above: NDArray[np.float64]
    """float64[T]: weight of each one's wins over a player of strength 0."""

    prior: float
    """Weight of the quadratic pull towards strength 0."""

    @classmethod
    def of(cls, weights: NDArray[np.float64], *, compat: bool) -> CellFit:
        """Return the problem that a table of cells poses, its weights scaled to sum to 1."""
        cells = np.asarray(weights, dtype=np.float64)
        total = cells.sum()
        cells = cells / total if total > 0 else cells
        first = cells[..., FIRST_WON] + 0.5 * cells[..., TIE]  # (T, T)
        second = cells[..., SECOND_WON] + 0.5 * cells[..., TIE]
        wins = first + second.T
        np.fill_diagonal(wins, 0.0)
        # RouteLLM writes +1 at the first tier of a battle and then -1 at the second; where both
        # are one tier only the -1 stays, so the tier's own strength counts against "first won".
        none = np.zeros(len(wins))
        return cls(
            wins=wins,
            below=first.diagonal().copy() if compat else none,
            above=second.diagonal().copy() if compat else none,
            prior=_COMPAT_PRIOR if compat else _PRIOR,
        )

    def strengths(self) -> NDArray[np.float64]:
        """Return float64[T], the maximum, by Newton's method with step halving."""
        found = np.zeros(len(self.wins))
        loss = self.loss(found)
        for _ in range(_ITERATIONS):
            gradient, curvature = self._derivatives(found)
            step = np.linalg.solve(curvature, gradient)
            promised = float(gradient @ step)
            if promised < _NEARLY_THERE:
                return found - step
            for _ in range(_HALVINGS):
                candidate = found - step
                reached = self.loss(candidate)
                if reached <= loss - 1e-4 * promised:
                    break
                step, promised = 0.5 * step, 0.5 * promised
            else:
                return found  # rounding is all that is left
            found, loss = candidate, reached
        return found

    def loss(self, strengths: NDArray[np.float64]) -> float:
        """Return the negative log-likelihood of float64[T] strengths, prior included."""
        ahead = strengths[:, np.newaxis] - strengths  # (T, T)
        battles = (self.wins * np.logaddexp(0.0, -ahead)).sum()
        anchors = self.below * np.logaddexp(0.0, strengths)
        anchors = anchors + self.above * np.logaddexp(0.0, -strengths)
        return float(battles + anchors.sum() + 0.5 * self.prior * strengths @ strengths)

    def _derivatives(
        self, strengths: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the loss's gradient float64[T] and curvature float64[T, T] there."""
        ahead = sigmoid(strengths[:, np.newaxis] - strengths)  # (T, T): P(a beats b)
        missed = self.wins * (1.0 - ahead)
        won = sigmoid(strengths)
        gradient = missed.sum(axis=0) - missed.sum(axis=1)
        gradient += self.below * won - self.above * (1.0 - won) + self.prior * strengths
        spread = (self.wins + self.wins.T) * ahead * (1.0 - ahead)
        own = spread.sum(axis=1) + (self.below + self.above) * won * (1.0 - won) + self.prior
        return gradient, np.diag(own) - spread


def cell_table(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    outcome: NDArray[np.integer],
    count: int,
    weights: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Return float64[count, count, 3], the battles' weight in each cell.

    Args:
        first: int[n], in [0, count): who came first in each battle.
        second: int[n], in [0, count).
        outcome: int[n], see `FIRST_WON`.
        count: how many competitors there are.
        weights: float[n]; 1 each by default.
    """
    cells = cell_ids(first, second, outcome, count)
    size = count * count * OUTCOMES
    return np.bincount(cells, weights, size).astype(np.float64).reshape(count, count, OUTCOMES)


def cell_ids(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    outcome: NDArray[np.integer],
    count: int,
) -> NDArray[np.int64]:
    """Return int64[n]: the flat index of each battle's cell, see `cell_table`.

    Raises:
        ValueError: a competitor or an outcome is out of range.
    """
    for name, values, limit in (
        ("first", first, count),
        ("second", second, count),
        ("outcome", outcome, OUTCOMES),
    ):
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            raise ValueError(f"{name} has {values.min()} to {values.max()}, not 0 to {limit - 1}")
    pair = np.asarray(first, dtype=np.int64) * count + second
    result: NDArray[np.int64] = pair * OUTCOMES + outcome
    return result


def global_ratings(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    outcome: NDArray[np.integer],
    count: int,
    *,
    weights: NDArray[np.floating] | None = None,
    compat: bool = False,
) -> NDArray[np.float64]:
    """Return float64[count]: the models' Elo ratings over all battles, arguments as `cell_table`.

    ``compat`` is `fit_cells`'s; RouteLLM then shifts all ratings alike, which no tier feels.
    """
    return fit_cells(cell_table(first, second, outcome, count, weights), compat=compat)


def tiers_of(ratings: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return int64[m], each model's tier; tier 0 has the highest ratings and none is empty.

    Tiers are neighbours in rating, cut so that the sum of their variances is smallest (not
    weighted by size, as in Ong et al. 2024, appendix A).

    Args:
        ratings: float64[m], finite.
        count: how many tiers, at least 1.

    Raises:
        ConfigError: there are fewer models than tiers.
    """
    models = len(ratings)
    if not 1 <= count <= models:
        raise ConfigError(
            f"{models} models cannot be sorted into {count} tiers; ask for 1 to {models}"
        )
    order = np.argsort(-np.asarray(ratings, dtype=np.float64), kind="stable")
    falling = np.asarray(ratings, dtype=np.float64)[order]
    variances = np.full((models, models + 1), np.inf)  # [i, j]: of falling[i:j]
    for start in range(models):
        for end in range(start + 1, models + 1):
            variances[start, end] = falling[start:end].var()
    best = variances[0].copy()  # [j]: the first j models in the tiers so far
    cuts = []
    for _ in range(1, count):
        totals = best[:models, np.newaxis] + variances  # (cut, j)
        cuts.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    bounds = [models]
    for cut in reversed(cuts):
        bounds.append(int(cut[bounds[-1]]))
    tiers = np.empty(models, dtype=np.int64)
    tiers[order] = np.searchsorted(bounds[:0:-1], np.arange(models), side="right")
    return tiers
