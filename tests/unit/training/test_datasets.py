"""Cleaning: what is read, cut, renamed and left out before anything is trained."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.training.augmentation import question_alone, with_four_options, with_question_forms
from pointsman.training.datasets import (
    CALIBRATION_SOURCES,
    HELD_OUT_SOURCES,
    SOURCES,
    Outcomes,
    calibration_prompts,
    read_outcomes,
    source_weights,
    without_protected,
)

QUESTION = "Which is red?\nSay one.\n" + "\n".join(
    f"{letter}. colour {letter}" for letter in "ABCDEFG"
)
EXAM = QUESTION + "\nAnswer:"


def test_rows_that_overlap_a_benchmark_are_not_read(tiny_data: Path) -> None:
    """The data names exact overlaps itself."""
    outcomes = read_outcomes(tiny_data, ["mmlu_pro_gpt4o_mixtral"])
    assert len(outcomes.prompts) == 120
    assert "an overlapping prompt" not in outcomes.prompts
    (source,) = outcomes.describe()
    assert (source.licence, source.rows, source.prompts) == ("Apache-2.0", 120, 120)


def test_the_last_turn_is_trained_and_the_first_calibrates(tiny_data: Path) -> None:
    """Outcomes belong to the last turn; the calibration set is named as first turns."""
    assert read_outcomes(tiny_data, ["arena_bench_v1"]).prompts[0] == "and apple?"
    assert calibration_prompts(tiny_data)[0] == "add apple"
    assert len(calibration_prompts(tiny_data)) == 5


def test_nothing_held_out_is_a_training_source() -> None:
    """The calibration prompts, and a source that shares them, are never trained on."""
    assert not {source.name for source in SOURCES} & set(HELD_OUT_SOURCES)
    assert set(CALIBRATION_SOURCES) < set(HELD_OUT_SOURCES)


def test_a_bad_row_is_named_by_file_and_line(tiny_data: Path) -> None:
    """Whoever made the file can open it at the right place."""
    import gzip

    path = tiny_data / "preferences" / "bad.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": 1}\n'))
    with pytest.raises(ConfigError, match=r"bad\.jsonl\.gz, line 1"):
        read_outcomes(tiny_data, ["bad"])
    with pytest.raises(ConfigError, match="--data"):
        read_outcomes(tiny_data, ["absent"])


def _bag(texts: list[str] | tuple[str, ...]) -> NDArray[np.float32]:
    """Letter counts: a toy embedding in which copies with small changes are near."""
    rows = np.zeros((len(texts), 128), dtype=np.float32)
    for index, text in enumerate(texts):
        for letter in text:
            rows[index, ord(letter) % 128] += 1
    return rows


def test_equal_and_near_equal_prompts_are_dropped(tiny_data: Path) -> None:
    """Case, spaces and a changed word do not hide a test prompt."""
    outcomes = read_outcomes(tiny_data, ["mmlu_pro_gpt4o_mixtral"])
    equal = "  " + outcomes.prompts[0].upper()
    near = outcomes.prompts[1] + "!"
    kept, dropped = without_protected(outcomes, [equal, near], _bag)
    assert dropped >= 2
    assert not set(outcomes.prompts[:2]) & set(kept.prompts)
    assert len(kept.prompts) == 120 - dropped
    assert kept.prompt_index.max() == len(kept.prompts) - 1


def test_without_protected_prompts_everything_stays(tiny_data: Path) -> None:
    """A data folder need not hold benchmarks."""
    outcomes = read_outcomes(tiny_data, ["mmlu_pro_gpt4o_mixtral"])
    assert without_protected(outcomes, [], _bag) == (outcomes, 0)


def test_forms_of_an_exam_question() -> None:
    """The question alone, and four of its options in their order under new letters."""
    assert question_alone(EXAM) == "Which is red?\nSay one."
    short = with_four_options(EXAM)
    assert short is not None
    assert short == with_four_options(EXAM)
    lines = short.splitlines()
    assert lines[:2] == ["Which is red?", "Say one."]
    assert [line[:3] for line in lines[2:]] == ["A. ", "B. ", "C. ", "D. ", "Ans"]
    originals = [line.rsplit(" ", 1)[1] for line in lines[2:6]]
    assert originals == sorted(originals)


@pytest.mark.parametrize("text", ["", "hello", "A. one\nB. two", "What?\nA. x\nno cue"])
def test_other_texts_have_no_forms(text: str) -> None:
    """A list in a chat is not an exam question."""
    assert question_alone(text) is None
    assert with_four_options(text) is None


def test_forms_carry_the_outcomes_of_their_question(tmp_path: Path) -> None:
    """Each form is a prompt with the same scores, the same root and a source of its own."""
    import gzip
    import json

    row = {"prompt": EXAM, "strong": "s", "weak": "w", "strong_score": 1.0, "weak_score": 0.25}
    path = tmp_path / "preferences" / "exam.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(json.dumps(row).encode()))
    forms = with_question_forms(read_outcomes(tmp_path, ["exam"]))
    assert len(forms.prompts) == 3
    assert forms.roots.tolist() == [0, 0, 0]
    assert forms.weak_scores.tolist() == [0.25] * 3
    assert forms.sources == ("exam", "exam (question alone)", "exam (four options)")
    assert forms.source_index.tolist() == [0, 1, 2]
    assert without_protected(forms, ["which is RED? say one."], _bag)[0].prompts == ()


def _of_sources(*prompts_of_source: list[int]) -> Outcomes:
    """Outcomes over five prompts, one for each mention."""
    mentions = [(source, p) for source, found in enumerate(prompts_of_source) for p in found]
    count = len(mentions)
    return Outcomes(
        prompts=tuple("abcde"),
        roots=np.arange(5),
        prompt_index=np.asarray([prompt for _, prompt in mentions]),
        source_index=np.asarray([source for source, _ in mentions]),
        sources=tuple(f"source {number}" for number in range(len(prompts_of_source))),
        strong_models=("s",) * count,
        weak_models=("w",) * count,
        strong_scores=np.ones(count),
        weak_scores=np.zeros(count),
    )


def test_sources_weigh_by_their_prompts_not_their_outcomes() -> None:
    """Four prompts and one, the latter asked of three pairs of models."""
    outcomes = _of_sources([0, 1, 2, 3], [4, 4, 4])
    assert source_weights(outcomes, "none").tolist() == [1.0, 1.0]
    equal = source_weights(outcomes, "equal")
    assert (4 * equal[0], 1 * equal[1]) == (pytest.approx(2.5), pytest.approx(2.5))
    root = source_weights(outcomes, "sqrt")
    assert 4 * root[0] / root[1] == pytest.approx(2.0)
    assert 4 * root[0] + root[1] == pytest.approx(5.0)


def test_a_source_without_prompts_weighs_nothing() -> None:
    """Cleaning may leave none; nothing is divided by zero."""
    assert source_weights(_of_sources([], [0]), "equal").tolist() == [0.0, 1.0]
    assert source_weights(_of_sources([], [0]), "none").tolist() == [0.0, 1.0]
