"""What may be trained on: two data sets made one, splits that keep copies together, no data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.routing import ModelPair
from pointsman.training.datasets import Outcomes

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

PAIR = ModelPair(strong="s", weak="w")


def outcomes(*prompts: str, roots: list[int] | None = None) -> Outcomes:
    """One outcome a prompt, all of one source."""
    count = len(prompts)
    return Outcomes(
        prompts=prompts,
        roots=np.asarray(roots or range(count)),
        prompt_index=np.arange(count),
        source_index=np.zeros(count, dtype=np.int64),
        sources=("a source",),
        strong_models=(PAIR.strong,) * count,
        weak_models=(PAIR.weak,) * count,
        strong_scores=np.ones(count),
        weak_scores=np.zeros(count),
    )


def test_copies_in_two_data_sets_stay_on_one_side_of_a_split(torch_installed: None) -> None:
    """Other case or spaces: not the same prompt, but no other question either."""
    from pointsman.training.preparation import joined

    first = outcomes("What now?", "question", "its other form", roots=[0, 5, 5])
    second = outcomes("WHAT  now?", "its OTHER form", "new", "NEW", roots=[0, 1, 2, 2])
    both = joined(first, second)
    assert both.prompts == first.prompts + second.prompts
    root = dict(zip(both.prompts, both.roots.tolist(), strict=True))
    assert root["WHAT  now?"] == root["What now?"]
    assert root["its OTHER form"] == root["its other form"] == root["question"]
    assert root["new"] == root["NEW"]
    assert len(set(root.values())) == 3


def test_a_data_folder_without_known_sources_is_refused(
    quick_settings: Any, tmp_path: Path
) -> None:
    """The message says what the folder may hold, and where own data go."""
    from pointsman.training.preparation import prepare

    empty = tmp_path / "empty"
    (empty / "preferences").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"has no row to train on; it may hold mmlu_pro.*--data"):
        prepare(replace(quick_settings, data=empty))


@pytest.mark.parametrize("pair", [ModelPair("big", "absent"), ModelPair("absent", "small")])
def test_a_pair_that_own_data_do_not_know_is_refused(
    quick_settings: Any, tmp_path: Path, pair: ModelPair
) -> None:
    """Before hours of training for win rates of somebody else's models."""
    from pointsman.training.preparation import prepare

    own = tmp_path / "own.jsonl"
    row = '{"prompt": "p%d", "strong": "big", "weak": "small", "label": "tie"}\n'
    own.write_text("".join(row % number for number in range(20)))
    settings = replace(quick_settings, data=None, own_data=(own,), pair=pair)
    with pytest.raises(ConfigError, match="`absent`; the data has: `big`, `small`; name the pair"):
        prepare(settings)
    material = prepare(replace(settings, pair=ModelPair("big", "small")))
    assert (len(material.outcomes.prompts), len(material.calibration)) == (18, 2)
    assert not {*material.outcomes.prompts} & {*material.calibration}


def test_without_any_data_there_is_nothing_to_train_on(quick_settings: Any) -> None:
    """Neither a folder nor own data."""
    from pointsman.training.preparation import prepare

    with pytest.raises(ConfigError, match="nothing to train on"):
        prepare(replace(quick_settings, data=None))
