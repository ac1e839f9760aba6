"""The collapsed vector is RouteLLM's bilinear form, and the shipped one scores as it did."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.embedding import Embedder
from pointsman.routers.log_odds import sigmoid
from pointsman.routers.mf import BilinearWeights, MatrixFactorizationRouter
from pointsman.routers.registry import LoadedRouter
from pointsman.routing import ModelPair

PAIR = ModelPair(strong="big", weak="small")


def random_weights(seed: int, *, dimension: int = 1536, scale: float = 1.0) -> BilinearWeights:
    """Weights of RouteLLM's shapes, drawn anew."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return generator.standard_normal(shape).astype(np.float32)

    return BilinearWeights(
        model_names=("other", "small", "big"),
        model_vectors=draw(3, 128),
        projection=draw(128, dimension) / np.float32(np.sqrt(dimension)),
        classifier=draw(128),
        scale=scale,
        bias=0.0 if scale == 1.0 else -0.5,
    )


@pytest.mark.parametrize("seed", range(5))
def test_collapsed_vector_equals_the_bilinear_form(seed: int) -> None:
    """One dot product serves what RouteLLM computes by two projections."""
    weights = random_weights(seed)
    embeddings = np.random.default_rng(seed + 100).standard_normal((50, 1536)).astype(np.float32)
    p = weights.model_vectors.astype(np.float64)
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    projected = embeddings.astype(np.float64) @ weights.projection.astype(np.float64).T
    strong = (p[2] * projected) @ weights.classifier.astype(np.float64)
    weak = (p[1] * projected) @ weights.classifier.astype(np.float64)
    expected = 1 / (1 + np.exp(-(strong - weak)))
    vector, bias = weights.collapse(PAIR)
    assert bias == 0.0
    assert np.abs(sigmoid(embeddings @ vector) - expected).max() < 1e-6


def test_calibration_is_part_of_the_collapse() -> None:
    """Scale and bias act on the difference of the deltas, in log-odds."""
    weights = random_weights(3, scale=2.5)
    embeddings = np.random.default_rng(1).standard_normal((5, 1536)).astype(np.float32)
    difference = weights.delta("big", embeddings) - weights.delta("small", embeddings)
    vector, bias = weights.collapse(PAIR)
    assert np.allclose(embeddings @ vector + bias, 2.5 * difference - 0.5, atol=1e-6)


def test_swapping_the_pair_mirrors_the_win_rate() -> None:
    """P(strong preferred) and P(weak preferred) add up to one in RouteLLM's form."""
    weights = random_weights(4)
    there, _ = weights.collapse(PAIR)
    back, _ = weights.collapse(ModelPair(strong="small", weak="big"))
    assert np.allclose(there, -back)


def test_weights_survive_the_disk_byte_for_byte() -> None:
    """Equal weights are equal files: the revision depends on it."""
    weights = random_weights(5, scale=2.0)
    data = weights.to_bytes()
    again = BilinearWeights.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.model_names, again.scale, again.bias) == (weights.model_names, 2.0, -0.5)


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    """RouteLLM answers a bare KeyError here."""
    with pytest.raises(ConfigError, match=r"'gpt-9'.*other, small, big"):
        random_weights(6).collapse(ModelPair(strong="gpt-9", weak="small"))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not an archive"])
def test_a_broken_archive_is_one_error(data: bytes) -> None:
    """Whatever numpy says, the operator reads which file it was."""
    with pytest.raises(ConfigError, match="mf weights"):
        BilinearWeights.from_bytes(data)


def test_another_dimension_is_refused_with_both_numbers(embedder: Embedder) -> None:
    """Weights are good for one embedding space only."""
    with pytest.raises(ConfigError, match=rf"7 numbers.*{embedder.settings.dimension}"):
        MatrixFactorizationRouter(embedder, random_weights(7, dimension=7), PAIR)


def test_neighbours_do_not_change_a_win_rate(shipped_router: LoadedRouter) -> None:
    """A prompt scores the same alone, in a batch and in any order."""
    prompts = ["What is 2 + 2?", "Prove that there are infinitely many primes.", "", "hi " * 400]
    router = shipped_router.router
    together = router.strong_win_rates(prompts).tolist()
    alone = [float(router.strong_win_rates([prompt])[0]) for prompt in prompts]
    backwards = router.strong_win_rates(prompts[::-1]).tolist()[::-1]
    assert together == alone == backwards


def test_no_prompts_give_no_rates(shipped_router: LoadedRouter) -> None:
    """An empty batch is a batch."""
    assert shipped_router.router.strong_win_rates([]).shape == (0,)
