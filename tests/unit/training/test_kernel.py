"""Kernel ridge regression: against the textbook's formula, and on what no vector can say."""

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]


def rings(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Embeddings of six numbers; hard (1) is what lies far out in the first two of them."""
    embeddings = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    embeddings[:, :2] *= 4.0
    outside = np.square(embeddings[:, :2]).sum(axis=1) > 20.0
    return embeddings, outside.astype(np.float64)


def test_with_a_point_for_each_label_it_is_kernel_ridge_regression() -> None:
    """Coefficients are (K + ridge)^-1 (y - mean), over all directions."""
    from pointsman.training.kernel import KernelSettings, fit_kernel

    embeddings, targets = rings(0, 80)
    found = fit_kernel(embeddings, targets, KernelSettings(directions=6, ridge=2.0))
    away = ((embeddings[:, None] - embeddings[None]).astype(np.float64) ** 2).sum(axis=2)
    assert found.reach == pytest.approx(0.5 * np.sqrt(np.median(away)), rel=1e-4)
    gram = np.exp(-away / (2 * found.reach**2))
    expected = gram @ np.linalg.solve(gram + 2.0 * np.eye(80), targets - targets.mean())
    values = [found.log_odds(row) for row in embeddings.astype(np.float64)]
    assert np.abs(np.asarray(values) - targets.mean() - expected).max() < 1e-3


@pytest.mark.parametrize("most_points", [2048, 100])
def test_it_learns_what_no_vector_can(most_points: int) -> None:
    """Hard in every direction away from the middle, with a point for each label or fewer."""
    from pointsman.training.kernel import KernelSettings, fit_kernel

    embeddings, targets = rings(1, 400)
    settings = KernelSettings(directions=3, ridge=1.0, most_points=most_points)
    found = fit_kernel(embeddings, targets, settings)
    assert len(found.points) == min(400, most_points)
    unseen, truth = rings(2, 200)
    values = np.asarray([found.log_odds(row) for row in unseen.astype(np.float64)])
    assert ((values > 0.5) == (truth > 0.5)).mean() > 0.9


def test_the_same_labels_and_seed_give_the_same_bytes() -> None:
    """And another seed keeps other points."""
    from pointsman.training.kernel import KernelSettings, fit_kernel

    embeddings, targets = rings(3, 60)
    first, again, other = (
        fit_kernel(embeddings, targets, KernelSettings(directions=4, most_points=20, seed=seed))
        for seed in (0, 0, 1)
    )
    assert first.to_bytes() == again.to_bytes()
    assert first.to_bytes() != other.to_bytes()


def test_fewer_labels_than_directions_are_enough() -> None:
    """Ten labelled questions of one's own are few, and no error."""
    from pointsman.training.kernel import KernelSettings, fit_kernel

    embeddings, targets = rings(4, 10)
    found = fit_kernel(embeddings, targets, KernelSettings())
    assert np.isfinite(found.log_odds(embeddings[0].astype(np.float64)))
