"""docs/reliability.md tells the truth: its file loads, and its scorecard has the wall's cases."""

import re
from pathlib import Path

import pytest

from bench.fault_wall.cases import cases
from bench.fault_wall.trial import Pace
from pointsman.models_file import read_models_file

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
ROWS = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \|", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("text", YAML)
def test_models_file_loads_and_has_fallbacks(tmp_path: Path, text: str) -> None:
    """Whoever copies it survives the loss of a provider."""
    path = tmp_path / "models.yaml"
    path.write_text(text)
    assert all(model.fallbacks for model in read_models_file(str(path)).models.values())


def test_scorecard_has_every_case_in_the_walls_own_words() -> None:
    """A case that is changed in the wall is changed where its result is claimed."""
    wall = [(str(case.number), case.fault, case.right) for case in cases(Pace())]
    assert [(number, fault, right) for number, fault, right in ROWS] == wall
