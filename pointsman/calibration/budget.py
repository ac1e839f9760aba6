"""By money: an average price of a million tokens → the cheapest threshold that keeps to it.

Prices are averages over input and output tokens, as budgets are made. Both models are taken to
read and write the same number of tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pointsman.calibration.share import checked_win_rates, strong_counts
from pointsman.errors import ConfigError
from pointsman.models_file import read_models_file
from pointsman.routing import ModelPair, quote

INPUT_TOKENS = 95
"""Of a request, on average; as in RouteLLM's cost analysis (Ong et al. 2024, arXiv:2406.18665)."""

OUTPUT_TOKENS = 264
"""Of an answer, on average; same source. With INPUT_TOKENS, $10 and $30 make the $24.7 there."""


@dataclass(frozen=True, kw_only=True)
class PairPrices:
    """What a million tokens cost with each model, in any one unit.

    Raises:
        ConfigError: a price is negative or not finite, the strong model is free, or the weak model
            is the dearer one.
    """

    strong: float
    weak: float

    def __post_init__(self) -> None:
        """Checks that routing can save anything."""
        for price in (self.strong, self.weak):
            if not (math.isfinite(price) and price >= 0.0):
                raise ConfigError(f"a price of {price} is no price; give a number from 0 on")
        if self.strong == 0.0:
            raise ConfigError("the strong model is free: no budget says when to use the weak one")
        if self.weak > self.strong:
            raise ConfigError(
                f"the weak model is dearer than the strong one, {shown(self.weak)} against "
                f"{shown(self.strong)} a million tokens; is the pair the wrong way round?"
            )


@dataclass(frozen=True, kw_only=True)
class BudgetCalibration:
    """A threshold that keeps to a budget on the sample."""

    threshold: float
    """Strong iff the win rate reaches it."""

    reached: float
    """The strong share of the sample at this threshold, in [0, 1]."""

    budget: float
    """The average price asked for."""

    expected_price: float
    """The average price of the sample; never above the budget."""

    saving: float
    """The fraction of the strong model's price that is saved, in [0, 1]."""

    prices: PairPrices
    """The prices it was computed with, in the budget's unit."""


def blended_price(
    input_price: float,
    output_price: float,
    *,
    input_tokens: float = INPUT_TOKENS,
    output_tokens: float = OUTPUT_TOKENS,
) -> float:
    """Returns the average price of a token of a request, in the unit of the two prices.

    Raises:
        ConfigError: a number of tokens is negative or not finite, or both are 0.
    """
    tokens = input_tokens + output_tokens
    if not (min(input_tokens, output_tokens) >= 0.0 and 0.0 < tokens < math.inf):
        raise ConfigError(
            f"{shown(input_tokens)} input and {shown(output_tokens)} output tokens are no request; "
            "neither may be negative, nor both be 0"
        )
    # In this form two equal prices blend to exactly that price.
    return input_price + (output_price - input_price) * (output_tokens / tokens)


def read_prices(
    path: str,
    pair: ModelPair,
    *,
    input_tokens: float = INPUT_TOKENS,
    output_tokens: float = OUTPUT_TOKENS,
) -> PairPrices:
    """Returns what a million tokens cost with each model of the pair, in US dollars.

    Args:
        path: the models file.
        pair: names of its models.
        input_tokens: of an average request.
        output_tokens: of an average answer.

    Raises:
        ConfigError: the file is wrong, lacks a model or the strong model's price, or the weak model
            is the dearer one.
    """
    models = read_models_file(path).models
    blended: list[float] = []
    for name in (pair.strong, pair.weak):
        if name not in models:
            known = ", ".join(map(quote, models))
            raise ConfigError(f"{path}: there is no model {quote(name)}, only {known}")
        model = models[name]
        blended.append(
            blended_price(
                model.input_price_per_million,
                model.output_price_per_million,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
            )
        )
    strong, weak = blended
    if strong == 0.0:
        raise ConfigError(
            f"{path}: model {quote(pair.strong)} has no price; give its input_price_per_million "
            "and output_price_per_million"
        )
    return PairPrices(strong=strong, weak=weak)


def calibrate_budget(win_rates: ArrayLike, prices: PairPrices, budget: float) -> BudgetCalibration:
    """Returns the smallest threshold whose strong share of the sample costs at most the budget.

    The share that the budget pays for is (budget - weak) / (strong - weak), within [0, 1]. Of the
    thresholds 0, the win rates themselves and 1 the smallest is taken that reaches no more than
    that, so where win rates are equal, they go to the weak model together.

    Args:
        win_rates: n strong win rates of prompts, or evenly spaced quantiles of such, in any order.
        prices: what each model costs.
        budget: the average price, in the same unit.

    Raises:
        ConfigError: the budget is below the weak model's price, or win rates of exactly 1, which
            no threshold sends to the weak model, cost more than it.
        ValueError: a win rate is not in [0, 1], or there are none.
    """
    ordered = np.sort(checked_win_rates(win_rates))
    check_budget(prices, budget)
    thresholds = np.unique(np.concatenate([[0.0], ordered, [1.0]]))
    strong = strong_counts(ordered, thresholds)
    averages = prices.weak + (prices.strong - prices.weak) * strong / len(ordered)
    # All strong costs exactly the strong model's price, without a rounding error.
    averages[strong == len(ordered)] = prices.strong
    affordable = np.flatnonzero(averages <= budget)
    if not len(affordable):
        raise ConfigError(
            f"{strong[-1] / len(ordered):.1%} of the prompts have a win rate of exactly 1 and go "
            f"to the strong model at any threshold: on average {shown(averages[-1])} a million "
            f"tokens, over the budget of {shown(budget)}"
        )
    smallest = affordable[0]
    expected = float(averages[smallest])
    return BudgetCalibration(
        threshold=float(thresholds[smallest]),
        reached=float(strong[smallest] / len(ordered)),
        budget=budget,
        expected_price=expected,
        saving=1.0 - expected / prices.strong,
        prices=prices,
    )


def check_budget(prices: PairPrices, budget: float) -> None:
    """Returns if the budget pays for the weak model; worth asking before prompts are scored.

    Raises:
        ConfigError: it does not, or is not finite.
    """
    if not math.isfinite(budget):
        raise ConfigError(f"a budget of {budget} is no budget; give a number")
    if budget < prices.weak:
        raise ConfigError(
            f"the budget of {shown(budget)} is below the weak model's price of "
            f"{shown(prices.weak)} a million tokens: even all weak costs more than that"
        )


def shown(price: float) -> str:
    """Returns a price as messages show it: no more digits than matter."""
    return f"{price:.8g}"
