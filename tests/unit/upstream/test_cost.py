"""Dollars by the models file, to the last token."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models_file import ModelSettings
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.cost import estimated

USAGE = pb.Usage(
    input_tokens=1000, output_tokens=500, cached_input_tokens=400, reasoning_tokens=200
)


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ({}, 0.0),
        (
            {"input_price_per_million": 2.0, "output_price_per_million": 8.0},
            (1000 * 2 + 500 * 8) / 1e6,
        ),
        (
            {"input_price_per_million": 2.0, "cached_input_price_per_million": 0.5},
            (600 * 2 + 400 * 0.5) / 1e6,
        ),
        (
            {"output_price_per_million": 8.0, "reasoning_price_per_million": 10.0},
            (300 * 8 + 200 * 10) / 1e6,
        ),
        ({"input_price_per_million": 2.0, "cached_input_price_per_million": 0.0}, 600 * 2 / 1e6),
        ({"reasoning_price_per_million": 10.0}, 200 * 10 / 1e6),
    ],
)
def test_every_kind_of_token_has_its_price(prices: dict[str, Any], expected: float) -> None:
    """Cached and reasoning tokens are parts of the others; without prices they cost like them."""
    assert ModelSettings(provider="p", **prices).prices().dollars(USAGE) == pytest.approx(expected)


TOKENS = st.integers(0, 2**40)
PRICE = st.floats(0, 1e4)


@given(TOKENS, TOKENS, TOKENS, TOKENS, PRICE, PRICE, st.none() | PRICE, st.none() | PRICE)
def test_no_usage_makes_money(
    inputs: int,
    outputs: int,
    cached: int,
    reasoning: int,
    input_price: float,
    output_price: float,
    cached_price: float | None,
    reasoning_price: float | None,
) -> None:
    """Some providers state more cached tokens than tokens; a bill is never below nothing."""
    usage = pb.Usage(
        input_tokens=inputs,
        output_tokens=outputs,
        cached_input_tokens=cached,
        reasoning_tokens=reasoning,
    )
    settings: dict[str, Any] = {
        "input_price_per_million": input_price,
        "output_price_per_million": output_price,
        "cached_input_price_per_million": cached_price,
        "reasoning_price_per_million": reasoning_price,
    }
    highest = max(input_price, output_price, cached_price or 0.0, reasoning_price or 0.0)
    cost = ModelSettings(provider="p", **settings).prices().dollars(usage)
    assert 0 <= cost <= highest * (inputs + outputs) / 1e6 * 1.000001


@pytest.mark.parametrize(
    ("sent", "came", "tokens"),
    [(0, 0, (0, 0)), (1, 4, (1, 1)), (4, 5, (1, 2)), (400, 40, (100, 10))],
)
def test_an_estimate_is_four_characters_a_token_and_says_so(
    sent: int, came: int, tokens: tuple[int, int]
) -> None:
    """It is rounded up, as a provider would, and marked: a guess is not a bill."""
    usage = estimated(sent, came)
    assert (usage.input_tokens, usage.output_tokens) == tokens
    assert usage.estimated
