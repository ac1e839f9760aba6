"""Mixed by form: with the gate shut on all but one form, each is RouteLLM's bilinear form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.forms import FORMS, FormGate, FormRouter
from pointsman.routers.kernel import KernelWeights
from pointsman.routers.mf import BilinearWeights, MatrixFactorizationRouter
from pointsman.routing import ModelPair

PAIR = ModelPair(strong="big", weak="small")
DIMENSION = 6


class Given:
    """An embedder that nobody asks: rows are handed in."""

    settings = EmbedderSettings(max_tokens=8, dimension=DIMENSION)

    def embed(self, texts: object) -> NDArray[np.float32]:
        """Fails: these tests embed nothing."""
        raise AssertionError(texts)


def weights(seed: int, bias: float = 0.0) -> BilinearWeights:
    """A bilinear form, drawn anew."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return generator.standard_normal(shape).astype(np.float32)

    return BilinearWeights(
        model_names=("small", "big"),
        model_vectors=draw(2, 4),
        projection=draw(4, DIMENSION),
        classifier=draw(4),
        bias=bias,
    )


def gate(bias: tuple[float, ...] = (0.0, 0.0, 0.0), seed: int | None = None) -> FormGate:
    """A gate that looks at the embedding only if it has a seed."""
    rows = np.zeros((len(bias), DIMENSION), dtype=np.float32)
    if seed is not None:
        rows = np.random.default_rng(seed).standard_normal(rows.shape).astype(np.float32)
    return FormGate(weights=rows, bias=np.asarray(bias, dtype=np.float32))


def kernel(dimension: int = DIMENSION) -> KernelWeights:
    """Two points in two directions."""
    generator = np.random.default_rng(9)
    return KernelWeights(
        projection=generator.standard_normal((2, dimension)).astype(np.float32),
        points=generator.standard_normal((2, 2)).astype(np.float32),
        coefficients=np.asarray([3.0, -3.0], dtype=np.float32),
        reach=1.0,
        bias=0.1,
    )


def rows(seed: int, count: int = 20) -> NDArray[np.float32]:
    """Embeddings."""
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_a_gate_that_is_sure_leaves_one_form(form: int) -> None:
    """Then the win rates are those of that form alone."""
    forms = [weights(seed, bias=0.1 * seed) for seed in range(3)]
    sure = gate(tuple(60.0 * (number == form) for number in range(3)))
    found = FormRouter(Given(), sure, forms, PAIR).win_rates_of(rows(0))
    alone = MatrixFactorizationRouter(Given(), forms[form], PAIR).win_rates_of(rows(0))
    assert np.abs(found - alone).max() < 1e-6


def test_log_odds_are_mixed_by_the_softmax_of_the_gate() -> None:
    """The formula, written out."""
    forms = [weights(seed, bias=0.2) for seed in range(3)]
    mixing = gate((0.5, -0.5, 0.0), seed=7)
    embeddings = rows(1).astype(np.float64)
    logits = embeddings @ mixing.weights.T.astype(np.float64) + mixing.bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    deltas = np.stack(
        [one.delta("big", rows(1)) - one.delta("small", rows(1)) + one.bias for one in forms],
        axis=1,
    )
    expected = 1 / (1 + np.exp(-(shares * deltas).sum(axis=1)))
    found = FormRouter(Given(), mixing, forms, PAIR).win_rates_of(rows(1))
    assert np.abs(found - expected).max() < 1e-6


def test_a_form_may_be_a_kernel() -> None:
    """With the gate shut on all but its form, the win rates are the kernel's."""
    sure = gate((0.0, 60.0, 0.0))
    router = FormRouter(Given(), sure, [weights(0), kernel(), weights(2)], PAIR)
    expected = [1 / (1 + np.exp(-kernel().log_odds(row))) for row in rows(4).astype(np.float64)]
    assert np.abs(router.win_rates_of(rows(4)) - expected).max() < 1e-6


def test_a_form_of_other_embeddings_is_refused() -> None:
    """The message has both dimensions."""
    with pytest.raises(ConfigError, match="embeddings of 5 numbers and its gate on 6"):
        FormRouter(Given(), gate(), [weights(0), kernel(5), weights(2)], PAIR)


@given(st.lists(st.floats(-1e6, 1e6), min_size=DIMENSION, max_size=DIMENSION), st.integers(0, 99))
def test_whatever_the_embedding_the_rate_is_one(values: list[float], seed: int) -> None:
    """In [0, 1], and the shares add up to 1."""
    row = np.asarray([values], dtype=np.float32)
    mixing = gate((0.0, 1.0, -1.0), seed=seed)
    router = FormRouter(Given(), mixing, [weights(0), kernel(), weights(2)], PAIR)
    assert 0.0 <= router.win_rates_of(row)[0] <= 1.0
    assert mixing.shares(row[0].astype(np.float64)).sum() == pytest.approx(1.0)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """To the last bit."""
    router = FormRouter(Given(), gate(seed=3), [weights(0), kernel(), weights(2)], PAIR)
    together = router.win_rates_of(rows(5))
    apart = [router.win_rates_of(rows(5)[number : number + 1])[0] for number in range(20)]
    assert together.tolist() == [float(rate) for rate in apart]


def test_a_gate_survives_its_file() -> None:
    """The same bytes for the same gate, and the same gate from the bytes."""
    before = gate((1.0, 2.0, 3.0), seed=1)
    after = FormGate.from_bytes(before.to_bytes())
    assert after.to_bytes() == before.to_bytes()
    assert np.array_equal(after.weights, before.weights)


@given(st.binary(max_size=200))
def test_what_is_no_gate_is_refused(data: bytes) -> None:
    """One error of ours, whatever the bytes."""
    with pytest.raises(ConfigError, match="gate"):
        FormGate.from_bytes(data)


def test_a_gate_of_other_forms_is_refused() -> None:
    """The message has both numbers."""
    with pytest.raises(ConfigError, match="the gate has 3 forms and mf has 2"):
        FormRouter(Given(), gate(), [weights(0), weights(1)], PAIR)
