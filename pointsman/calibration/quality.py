"""By quality: graded prompts → the cheapest threshold whose loss of quality can be promised.

The promise: with the confidence asked for, over the draw of the graded prompts, the mean loss on
prompts to come is at most `max_loss`. It assumes that the graded prompts were drawn independently
of each other from the prompts to come, and that router and models stay what they were.

The method is fixed-sequence testing (Angelopoulos, Bates, Candes, Jordan and Lei 2021, "Learn then
Test", arXiv:2110.01052): thresholds are tested in an order fixed beforehand, from all strong to
all weak, each at the full level, until the first one that fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointsman.calibration.share import checked_win_rates, strong_counts
from pointsman.errors import ConfigError
from pointsman.extras import needed_from

Method = Literal["clopper-pearson", "hoeffding-bentkus"]

EVEN_GRID: NDArray[np.float64] = np.linspace(0.0, 1.0, 1001)
"""The thresholds tested for a router of which no quantiles are known."""

UNIT_RANGE = (0.0, 1.0)
"""The range of scores unless another is given."""

DEFAULT_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What is to be promised about quality.

    Raises:
        ConfigError: no data could carry it, or any would.
    """

    max_loss: float
    """The mean loss not to be exceeded: in the scores' own unit, above 0, below their range."""

    confidence: float = DEFAULT_CONFIDENCE
    """How sure it has to be, in (0, 1)."""

    score_range: tuple[float, float] = UNIT_RANGE
    """The lowest and the highest score there can be."""

    def __post_init__(self) -> None:
        """Checks that it makes sense."""
        low, high = self.score_range
        if not 0.0 < self.width < math.inf:
            raise ConfigError(
                f"scores from {low:g} to {high:g} are no range; the lower end comes first"
            )
        if not 0.0 < self.max_loss < self.width:
            raise ConfigError(
                f"a loss of at most {self.max_loss:g} is no promise for scores from {low:g} to "
                f"{high:g}; it must be above 0 and below {self.width:g}, in the unit of the scores"
            )
        if not 0.0 < self.confidence < 1.0:
            raise ConfigError(
                f"a confidence of {self.confidence:g} is not between 0 and 1; try 0.95"
            )

    @property
    def width(self) -> float:
        """Of the scores' range, in their own unit: the largest loss there can be."""
        return self.score_range[1] - self.score_range[0]

    @property
    def max_fraction(self) -> float:
        """The largest mean loss as a fraction of the width, in (0, 1)."""
        return self.max_loss / self.width

    @property
    def level(self) -> float:
        """The probability with which it may fail."""
        return 1.0 - self.confidence


@dataclass(frozen=True, kw_only=True)
class QualityCalibration:
    """A threshold and the promise that goes with it; losses are in the scores' own unit."""

    threshold: float
    """Strong iff the win rate reaches it; 0 if nothing cheaper than all strong can be promised."""

    reached: float
    """The strong share of the graded prompts at this threshold, in [0, 1]."""

    rows: int
    """How many graded prompts there were."""

    max_loss: float
    """The mean loss that is not exceeded."""

    confidence: float
    """How sure that is, in (0, 1)."""

    loss: float
    """The mean loss of the graded prompts at this threshold."""

    bound: float
    """The upper confidence bound of the mean loss at this threshold."""

    method: Method
    """Clopper-Pearson where every loss is nothing or all, else Hoeffding-Bentkus."""

    @property
    def cheaper(self) -> bool:
        """Whether anything cheaper than all strong can be promised."""
        return self.reached < 1.0


def calibrate_quality(
    win_rates: ArrayLike,
    strong_scores: ArrayLike,
    weak_scores: ArrayLike,
    promise: Promise,
    *,
    grid: ArrayLike = EVEN_GRID,
) -> QualityCalibration:
    """Returns the largest threshold, tested from 0 upwards, for which the promise holds.

    A prompt's loss is max(0, strong score - score of the model it is routed to): where answers are
    right or wrong, 1 if the strong model is right and the routed answer is wrong. A weak answer
    that is better than the strong one makes up for nothing.

    Args:
        win_rates: n strong win rates, one a graded prompt.
        strong_scores: n scores of the strong model's answers.
        weak_scores: n scores of the weak model's answers, on the same scale.
        promise: what is to hold.
        grid: thresholds to test, chosen without a look at the graded prompts: a router's quantiles
            on its calibration prompts, or the default. 0 and 1 are added.

    Raises:
        ConfigError: there are too few rows for the promise even if none showed a loss (says how
            many are missing), or scipy is not installed.
        ValueError: the columns differ in length, or a win rate or score is out of range.
    """
    rates = checked_win_rates(win_rates)
    rows = len(rates)
    losses = _losses(rows, strong_scores, weak_scores, promise) / promise.width  # (n,) in [0, 1]
    require_rows(rows, promise)
    method: Method = "clopper-pearson" if _is_binary(losses) else "hoeffding-bentkus"
    order = np.argsort(rates, kind="stable")
    thresholds = np.unique(np.concatenate([[0.0], checked_win_rates(grid), [1.0]]))  # (m,)
    strong = strong_counts(rates[order], thresholds)  # (m,)
    lost_before = np.concatenate([[0.0], np.cumsum(losses[order])])  # (n + 1,)
    lost = lost_before[rows - strong]  # (m,): the sum over the prompts that go to weak
    passed = p_values(lost, rows, promise.max_fraction, method) <= promise.level
    last = max(0, int(np.argmin([*passed, False])) - 1)  # the one before the first that fails
    if strong[last] == rows:  # no row has shown what this threshold would do
        last = 0
    return QualityCalibration(
        threshold=float(thresholds[last]),
        reached=float(strong[last] / rows),
        rows=rows,
        max_loss=promise.max_loss,
        confidence=promise.confidence,
        loss=float(lost[last] / rows) * promise.width,
        bound=upper_bound(float(lost[last]), rows, promise.confidence, method) * promise.width,
        method=method,
    )


def require_rows(rows: int, promise: Promise) -> None:
    """Returns if so many rows can carry the promise; worth asking before they are scored.

    Raises:
        ConfigError: they cannot, or scipy is not installed.
    """
    needed = rows_needed(promise.max_fraction, promise.confidence)
    if rows < needed:
        raise ConfigError(
            f"{rows} labelled rows cannot carry this promise, even if none of them showed a loss: "
            f"it takes {needed}, so {needed - rows} are missing; label more prompts, or ask for a "
            "larger loss or less confidence"
        )
    _scipy_special()


def rows_needed(max_loss: float, confidence: float) -> int:
    """Returns how many rows carry a promise if none of them shows a loss.

    ln(1 - confidence) / ln(1 - max_loss), rounded up; by both methods, for without a loss
    Hoeffding's p-value is the binomial one, (1 - max_loss)^n.

    Args:
        max_loss: as a fraction of the width of the scores' range, in (0, 1).
        confidence: in (0, 1).
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-max_loss) - 1e-9)


def p_values(lost: ArrayLike, rows: int, max_loss: float, method: Method) -> NDArray[np.float64]:
    """Returns p-values of "the mean loss exceeds max_loss", one for each sum of losses.

    Clopper-Pearson: P(Bin(n, max_loss) <= sum), exact for losses of 0 or 1. Hoeffding-Bentkus, for
    losses in [0, 1]: the smaller of exp(-n KL(mean, max_loss)) and e P(Bin(n, max_loss) <=
    ceil(sum)) (Bates et al. 2021, arXiv:2101.02703).

    Args:
        lost: m sums of losses over the rows, each loss in [0, 1].
        rows: n.
        max_loss: in (0, 1).
        method: which of the two.
    """
    special = _scipy_special()
    sums = np.asarray(lost, dtype=np.float64)
    binomial = special.bdtr(np.minimum(np.ceil(sums), rows), rows, max_loss)
    if method == "clopper-pearson":
        return np.asarray(binomial, dtype=np.float64)
    means = np.minimum(sums / rows, max_loss)
    divergence = special.rel_entr(means, max_loss) + special.rel_entr(1 - means, 1 - max_loss)
    return np.asarray(np.minimum(np.exp(-rows * divergence), math.e * binomial), dtype=np.float64)


def upper_bound(lost: float, rows: int, confidence: float, method: Method) -> float:
    """Returns the upper confidence bound of the mean loss: where the p-value is 1 - confidence.

    Args:
        lost: sum of the losses over the rows, each in [0, 1].
        rows: n.
        confidence: in (0, 1), one-sided.
        method: as in `p_values`.
    """
    if lost >= rows:
        return 1.0
    if method == "clopper-pearson":
        return float(_scipy_special().betaincinv(lost + 1, rows - lost, confidence))
    low, high = lost / rows, 1.0
    while (middle := (low + high) / 2) not in {low, high}:
        if float(p_values(lost, rows, middle, method)) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def _losses(
    rows: int, strong_scores: ArrayLike, weak_scores: ArrayLike, promise: Promise
) -> NDArray[np.float64]:
    """Returns what each prompt loses if it goes to the weak model, float64[n]."""
    strong = np.asarray(strong_scores, dtype=np.float64)
    weak = np.asarray(weak_scores, dtype=np.float64)
    if not strong.shape == weak.shape == (rows,):
        raise ValueError(
            f"win rates and scores must be equally long, got {(rows,)}, {strong.shape} and "
            f"{weak.shape}"
        )
    low, high = promise.score_range
    for scores in (strong, weak):
        wrong = scores[~((scores >= low) & (scores <= high))]
        if len(wrong):
            raise ValueError(f"a score of {wrong[0]} is not in [{low:g}, {high:g}]")
    return np.maximum(0.0, strong - weak)


def _is_binary(losses: NDArray[np.float64]) -> bool:
    """Returns whether every loss is nothing or all: looked at for all rows, not per threshold."""
    return bool(np.all((losses == 0.0) | (losses == 1.0)))


def _scipy_special() -> ModuleType:
    with needed_from("eval", "a promise about quality"):
        from scipy import special
    module: ModuleType = special
    return module
