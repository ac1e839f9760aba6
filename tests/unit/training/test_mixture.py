"""Forms of prompts: who learns from what, and that exam and problem only rank anew."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pointsman.routing import ModelPair
from pointsman.training.datasets import Outcomes

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]

PAIR = ModelPair(strong="s", weak="w")
OPEN, EXAM, PROBLEM = 0, 1, 2
SOURCES = ("zeroeval_crux", "mmlu_pro_gpt4o_mixtral", "gsm8k_train", "mmlu")
FORM_OF = (OPEN, EXAM, PROBLEM, EXAM)


def outcomes(
    sources: NDArray[np.int64], weak_scores: NDArray[np.float64], **fields: Any
) -> Outcomes:
    """One outcome a prompt, all of one pair; later prompts are longer."""
    count = len(sources)
    columns: dict[str, Any] = {
        "prompts": tuple("word " * (1 + number % 29) + str(number) for number in range(count)),
        "roots": np.arange(count),
        "prompt_index": np.arange(count),
        "source_index": sources,
        "sources": SOURCES,
        "strong_models": ("s",) * count,
        "weak_models": ("w",) * count,
        "strong_scores": np.ones(count),
        "weak_scores": weak_scores,
    }
    return Outcomes(**{**columns, **fields})


def curriculum(seed: int, *, labels: bool, judgements: NDArray[np.float64] | None = None) -> Any:
    """What a mixture learns from 600 prompts whose first number tells how hard they are."""
    from pointsman.training.bilinear import FitSettings
    from pointsman.training.mf import _examples
    from pointsman.training.mixture import curriculum_of

    generator = np.random.default_rng(seed)
    sources = generator.integers(0, len(SOURCES) if labels else len(SOURCES) - 1, 600)
    embeddings = generator.standard_normal((600, 6)).astype(np.float32)
    embeddings[np.arange(600), 3 + np.asarray(FORM_OF)[sources]] += 6.0
    weak_scores = (embeddings[:, 0] < generator.standard_normal(600)).astype(np.float64)
    found = outcomes(sources, weak_scores)
    examples = _examples(found, embeddings, "none")
    return curriculum_of(found, examples, FitSettings(ridge=0.1, rank=2), judgements)


@pytest.mark.parametrize("labels", [False, True])
def test_the_gate_tells_forms_apart(labels: bool) -> None:
    """Prompts of the three forms go to their own."""
    found = curriculum(0, labels=labels)
    embeddings = found.examples[OPEN].embeddings.astype(np.float64)
    shares = np.stack([found.gate.shares(row) for row in embeddings])
    assert (shares.argmax(axis=1) == found.forms).mean() > 0.95


@pytest.mark.parametrize("labels", [False, True])
def test_exam_and_problem_keep_the_open_forms_level_and_spread(labels: bool) -> None:
    """Over the prompts of each form, so that forms can be compared."""
    from pointsman.training.mixture import log_odds_of

    found = curriculum(1, labels=labels)
    mixture = found.fit(PAIR, "test")
    embeddings = found.examples[OPEN].embeddings
    values = [log_odds_of(weights, PAIR, embeddings) for weights in mixture.weights]
    for form in (EXAM, PROBLEM):
        inside = found.forms == form
        assert values[form][inside].mean() == pytest.approx(values[OPEN][inside].mean(), abs=1e-4)
        assert values[form][inside].std() == pytest.approx(values[OPEN][inside].std(), rel=1e-3)
    assert values[OPEN].mean() == pytest.approx(0.0, abs=1e-4)


def test_exam_learns_from_labels_of_the_exam_where_there_are_any() -> None:
    """Then from nothing else, and who of the two is right; else from questions of its form."""
    with_labels = curriculum(2, labels=True)
    exam = with_labels.examples[EXAM]
    assert set(exam.source_index.tolist()) == {SOURCES.index("mmlu")}
    assert set(exam.targets.tolist()) <= {0.5, 1.0}  # the strong model is always right here
    without = curriculum(2, labels=False)
    assert set(without.examples[EXAM].source_index.tolist()) == {1}


def test_exam_is_a_kernel_where_there_are_labels_and_a_vector_where_there_are_none() -> None:
    """Labels say which neighbourhoods are hard; without them only directions carry over."""
    from pointsman.routers.kernel import KernelWeights

    for labels in (True, False):
        mixture = curriculum(5, labels=labels).fit(PAIR, "test")
        assert isinstance(mixture.weights[EXAM], KernelWeights) == labels


def test_platts_line_is_on_every_form() -> None:
    """Or prompts of unlike forms could no longer be compared."""
    from pointsman.routers.log_odds import Platt
    from pointsman.training.mixture import log_odds_of

    found = curriculum(6, labels=True)
    before, line = found.fit(PAIR, "test"), Platt(scale=0.5, bias=-1.0)
    rows = found.examples[OPEN].embeddings[:20]
    for old, new in zip(before.weights, before.calibrated(line).weights, strict=True):
        expected = line.apply(log_odds_of(old, PAIR, rows))
        assert np.abs(log_odds_of(new, PAIR, rows) - expected).max() < 1e-9


def test_what_the_tuned_head_says_is_mixed_into_problems_alone() -> None:
    """It has learned from outcomes, which the step signal has not."""
    judgements = np.random.default_rng(7).standard_normal(600)
    with_head = curriculum(7, labels=False, judgements=judgements)
    without = curriculum(7, labels=False)
    for form in (OPEN, EXAM):
        assert np.array_equal(with_head.examples[form].targets, without.examples[form].targets)
    problem = with_head.examples[PROBLEM]
    said = judgements[problem.prompt_index]
    assert np.corrcoef(said, problem.targets)[0, 1] > 0.4
    assert abs(np.corrcoef(said, without.examples[PROBLEM].targets)[0, 1]) < 0.2


def test_long_problems_are_hard() -> None:
    """Length is mixed into the step signal, and targets stay in [0, 1]."""
    found = curriculum(3, labels=False)
    problem = found.examples[PROBLEM]
    lengths = 1.0 + problem.prompt_index % 29
    assert np.corrcoef(lengths, problem.targets)[0, 1] > 0.5
    assert ((problem.targets >= 0) & (problem.targets <= 1)).all()


def test_one_form_alone_needs_no_gate() -> None:
    """As with data of one's own."""
    from pointsman.training.bilinear import FitSettings
    from pointsman.training.mf import _examples
    from pointsman.training.mixture import curriculum_of

    found = outcomes(np.zeros(20, dtype=np.int64), np.arange(20) % 2.0)
    embeddings = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    alone = curriculum_of(found, _examples(found, embeddings, "none"), FitSettings())
    assert alone.gate is None
    assert len(alone.examples) == 1


def test_the_control_has_the_same_targets_in_another_order() -> None:
    """Within each source."""
    found = curriculum(4, labels=False)
    control = found.shuffled(0)
    for before, after in zip(found.examples, control.examples, strict=True):
        assert not np.array_equal(before.targets, after.targets)
        for source in np.unique(before.source_index):
            rows = before.source_index == source
            assert np.array_equal(np.sort(before.targets[rows]), np.sort(after.targets[rows]))
        assert replace(after, targets=before.targets).model_names == before.model_names
