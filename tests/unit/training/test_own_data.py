"""Own data: files to columns, no good row lost, and every bad one named."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.routers.bradley_terry import FIRST_WON, SECOND_WON, TIE
from pointsman.routing import ModelPair
from pointsman.training.own_data import (
    BadRows,
    battles_of,
    held_out_benchmark,
    read_own_outcomes,
    read_own_rows,
)
from pointsman.training.own_rows import Comparison

PAIR = ModelPair(strong="big", weak="small")


def labelled(prompt: str, label: str = "strong") -> dict[str, Any]:
    """A row of the first shape."""
    return {"prompt": prompt, "strong": "big", "weak": "small", "label": label}


def battle(prompt: str, first: str, second: str, winner: str) -> dict[str, Any]:
    """A row of the third shape."""
    return {"prompt": prompt, "model_a": first, "model_b": second, "winner": winner}


def write(path: Path, *rows: Any) -> Path:
    """Write rows, or text as it is, a line each."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_three_shapes_become_one_table(tmp_path: Path) -> None:
    """Mixed in one file; a prompt that comes twice is one prompt with two outcomes."""
    path = write(
        tmp_path / "logs.jsonl",
        labelled("one", "weak"),
        {"prompt": "two", "strong_score": 1.0, "weak_score": 0.25},
        "",
        battle("one", "small", "big", "model_b"),
    )
    outcomes = read_own_outcomes([path], PAIR)
    assert outcomes.prompts == ("one", "two")
    assert outcomes.prompt_index.tolist() == [0, 1, 0]
    assert outcomes.strong_models == ("big",) * 3
    assert outcomes.weak_models == ("small",) * 3
    assert outcomes.strong_scores.tolist() == [0.0, 1.0, 1.0]
    assert outcomes.weak_scores.tolist() == [1.0, 0.25, 0.0]
    (source,) = outcomes.describe()
    assert (source.name, source.rows, source.prompts) == ("own data: logs", 3, 2)


def test_prompts_that_differ_in_form_share_a_root(tmp_path: Path) -> None:
    """A split must not learn one and be asked the other."""
    rows = [labelled("What now?"), labelled("what  NOW? "), labelled("else")]
    assert read_own_outcomes([write(tmp_path / "a.jsonl", *rows)], PAIR).roots.tolist() == [0, 0, 1]


def test_files_and_folders_zipped_or_not(tmp_path: Path) -> None:
    """Each file is a source; files of other endings in a folder are let be."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "b.jsonl.gz", labelled("b"))
    write(folder / "a.jsonl", "\ufeff" + json.dumps(labelled("a")))
    write(folder / "notes.txt", "not a row")
    single = write(tmp_path / "any.log", labelled("c"))
    outcomes = read_own_outcomes([folder, single], PAIR)
    assert outcomes.prompts == ("a", "b", "c")
    assert outcomes.sources == ("own data: a", "own data: b", "own data: any.log")


def test_of_a_battle_the_pair_says_who_is_strong_else_the_ratings(tmp_path: Path) -> None:
    """The weaker of the pair by rating is still its strong model, for the user says so."""
    rows = [battle(f"p{n}", "third", "big", "model_a") for n in range(5)]
    rows += [battle("p6", "small", "big", "model_a"), battle("p7", "small", "third", "tie")]
    outcomes = read_own_outcomes([write(tmp_path / "arena.jsonl", *rows)], PAIR)
    assert outcomes.strong_models == ("third",) * 5 + ("big", "third")
    assert outcomes.weak_models == ("big",) * 5 + ("small", "small")
    assert outcomes.weak_scores.tolist() == [0.0] * 5 + [1.0, 0.5]


def test_battles_in_columns() -> None:
    """Rows that say who is strong are none."""
    rows = [
        Comparison(prompt="p", models=("b", "a"), scores=(1.0, 0.0), is_battle=True),
        Comparison(prompt="q", models=("a", "b"), scores=(1.0, 0.0)),
        Comparison(prompt="r", models=("a", "c"), scores=(0.5, 0.5), is_battle=True),
        Comparison(prompt="p", models=("c", "b"), scores=(0.0, 1.0), is_battle=True),
    ]
    battles = battles_of(rows)
    assert (battles.prompts, battles.models) == (("p", "r"), ("a", "b", "c"))
    assert battles.prompt_index.tolist() == [0, 1, 0]
    assert (battles.first.tolist(), battles.second.tolist()) == ([1, 0, 2], [0, 2, 1])
    assert battles.outcome.tolist() == [FIRST_WON, TIE, SECOND_WON]
    ratings = battles.ratings()
    assert ratings["b"] > max(ratings["a"], ratings["c"])
    assert battles_of(rows[1:2]).ratings() == {}


def test_bad_rows_stop_everything_and_are_named(tmp_path: Path) -> None:
    """The first twenty by file, line and reason; of the others the number."""
    bad = write(tmp_path / "bad.jsonl", labelled("good"), *["{}"] * 25)
    with pytest.raises(BadRows) as raised:
        read_own_outcomes([bad], PAIR)
    told = str(raised.value)
    assert told.startswith("25 bad rows:")
    assert f"{bad}, line 2: there is neither `label`" in told
    assert f"{bad}, line 21: " in told
    assert ", line 22: " not in told
    assert "and 5 more" in told
    assert "--skip-bad-rows" in told


def test_bad_rows_may_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a warning that names them all the same."""
    bad = write(tmp_path / "bad.jsonl", labelled("good"), "{}")
    assert read_own_outcomes([bad], PAIR, skip_bad_rows=True).prompts == ("good",)
    assert f"{bad}, line 2" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{}\n"])
def test_without_a_good_row_there_is_nothing_to_train_on(tmp_path: Path, content: bytes) -> None:
    """Skipped or not there."""
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"empty\.jsonl: there is no row to train on"):
        read_own_outcomes([path], PAIR, skip_bad_rows=True)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """No file, no rows in a folder, no gzip."""
    with pytest.raises(ConfigError, match=r"absent\.jsonl cannot be read.*--data"):
        read_own_rows([tmp_path / "absent.jsonl"])
    with pytest.raises(ConfigError, match="holds neither preferences/"):
        read_own_rows([tmp_path])
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b"{}" * 99)[:-9])
    with pytest.raises(ConfigError, match=r"torn\.jsonl\.gz cannot be read"):
        read_own_rows([tmp_path / "torn.jsonl.gz"])


@given(
    st.lists(
        st.one_of(
            st.text(min_size=1, max_size=8).map(lambda text: json.dumps(labelled("p" + text))),
            st.binary(max_size=12).map(lambda data: data.replace(b"\n", b" ").decode("latin-1")),
        ),
        max_size=12,
    )
)
def test_no_good_row_is_lost(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """Whatever stands between them: each line that is not empty is good or bad, in its place."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_bytes(b"\n".join(line.encode("latin-1", "replace") for line in lines))
    rows = read_own_rows([path])
    good = [json.loads(line)["prompt"] for line in lines if line.startswith('{"prompt"')]
    assert [row.prompt for _, row in rows.good] == good
    empty = [line for line in lines if not line.encode("latin-1", "replace").strip()]
    assert len(rows.good) + len(rows.bad) + len(empty) == len(lines)


def test_held_out_prompts_are_a_test_set(tmp_path: Path) -> None:
    """Each once, by the mean of its outcomes, in percent where answers are right or wrong."""
    rows = [labelled("a"), labelled("b", "weak"), labelled("a", "weak"), labelled("c")]
    outcomes = read_own_outcomes([write(tmp_path / "rows.jsonl", *rows)], PAIR)
    test = held_out_benchmark(outcomes, np.array([True, False, True]))
    assert (test.prompts, test.unit, test.pair) == (("a", "c"), "percent right", PAIR)
    assert test.strong_scores.tolist() == [50.0, 100.0]
    assert test.weak_scores.tolist() == [50.0, 0.0]
    with pytest.raises(ConfigError, match="3 prompts are too few"):
        held_out_benchmark(outcomes, np.zeros(3, dtype=bool))
