"""Graded prompts come in whole, or the bad row is named."""

from pathlib import Path

import pytest

from pointsman.calibration.labelled import LabelledFields, read_labelled
from pointsman.errors import ConfigError


def test_true_and_false_count_as_one_and_zero(tmp_path: Path) -> None:
    """Right or wrong is how most people grade."""
    path = tmp_path / "graded.jsonl"
    path.write_text('{"prompt": "a", "strong_score": true, "weak_score": false}\n' * 2)
    rows = read_labelled(str(path), LabelledFields())
    assert rows.prompts == ("a", "a")
    assert (rows.strong_scores.tolist(), rows.weak_scores.tolist()) == ([1, 1], [0, 0])
    assert rows.repeated == 1


def test_fields_may_be_named_otherwise(tmp_path: Path) -> None:
    """Exports of other tools have names of their own, and are CSV."""
    path = tmp_path / "graded.csv"
    path.write_text("question,gpt,llama\nhow?,8,3.5\n")
    fields = LabelledFields(prompt="question", strong_score="gpt", weak_score="llama")
    rows = read_labelled(str(path), fields, (1, 10))
    assert (rows.prompts, rows.strong_scores[0], rows.weak_scores[0]) == (("how?",), 8, 3.5)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"prompt": "a", "strong_score": 7, "weak_score": 1}', "line 2.*7, outside 0 to 1"),
        ('{"prompt": "a", "strong_score": -1, "weak_score": 1}', "--score-range"),
        ('{"prompt": "a", "strong_score": 1}', "line 2.*no field `weak_score`"),
        ('{"prompt": "a", "strong_score": "good", "weak_score": 1}', "line 2.*`strong_score`"),
        ("nonsense", "line 2: not a JSON object"),
    ],
)
def test_bad_row_is_named_by_line_and_reason(tmp_path: Path, line: str, told: str) -> None:
    """A file of ten thousand rows is mended only by line number."""
    path = tmp_path / "graded.jsonl"
    path.write_text('{"prompt": "a", "strong_score": 1, "weak_score": 0}\n' + line)
    with pytest.raises(ConfigError, match=told):
        read_labelled(str(path), LabelledFields())
