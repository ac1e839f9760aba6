"""A kernel of known points: the formula, what far prompts get, and what its file must hold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.routers.kernel import KernelWeights

DIMENSION = 6


def kernel(seed: int = 0, count: int = 5) -> KernelWeights:
    """Points in three of six directions, drawn anew."""
    generator = np.random.default_rng(seed)
    return KernelWeights(
        projection=generator.standard_normal((3, DIMENSION)).astype(np.float32),
        points=generator.standard_normal((count, 3)).astype(np.float32),
        coefficients=generator.standard_normal(count).astype(np.float32),
        reach=1.5,
        scale=2.0,
        bias=0.25,
    )


def test_each_point_counts_by_its_distance() -> None:
    """The formula, written out."""
    weights = kernel()
    row = np.random.default_rng(1).standard_normal(DIMENSION)
    place = weights.projection @ row
    expected = 0.25 + 2.0 * sum(
        coefficient * math.exp(-sum((place - point) ** 2) / (2 * 1.5**2))
        for point, coefficient in zip(weights.points, weights.coefficients, strict=True)
    )
    assert weights.log_odds(row) == pytest.approx(expected, abs=1e-6)


def test_far_from_every_point_only_the_bias_is_left() -> None:
    """What resembles nothing known gets no opinion, however far away it is."""
    assert kernel().log_odds(np.full(DIMENSION, 1e30)) == 0.25


def test_a_kernel_survives_its_file() -> None:
    """The same bytes for the same kernel, and the same kernel from the bytes."""
    before = kernel(3)
    after = KernelWeights.from_bytes(before.to_bytes())
    assert after.to_bytes() == before.to_bytes()
    row = np.random.default_rng(2).standard_normal(DIMENSION)
    assert after.log_odds(row) == before.log_odds(row)


@given(st.binary(max_size=200))
def test_what_is_no_kernel_is_refused(data: bytes) -> None:
    """One error of ours, whatever the bytes."""
    with pytest.raises(ConfigError, match="kernel"):
        KernelWeights.from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"points": np.zeros((5, 2), dtype=np.float32)},
        {"coefficients": np.zeros(4, dtype=np.float32)},
        {"projection": np.zeros(DIMENSION, dtype=np.float32)},
        {"reach": 0.0},
        {"reach": math.nan},
        {"reach": math.inf},
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    """At the start, and not at the first prompt."""
    with pytest.raises(ConfigError, match="do not fit together"):
        replace(kernel(), **change)
