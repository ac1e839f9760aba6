"""RouteLLM's data sets, in every format, row for row."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.importing.battles import read_battles
from pointsman.importing.tables import read_vectors, table_files

LONG = "a prompt of sixteen and more"


def battle(prompt: str, winner: str = "model_a", **changes: Any) -> dict[str, Any]:
    """One row as LMSYS has it."""
    row = {
        "id": 7,
        "model_a": "big",
        "model_b": "small",
        "prompt": json.dumps([prompt, "a second turn"]),
        "response_a": '["yes"]',
        **{f"winner_{end}": int(end == winner) for end in ("model_a", "model_b", "tie")},
    }
    return {**row, **changes}


ROWS = [
    battle(LONG),
    battle(f"  {LONG} two \n", "model_b"),
    battle("short"),
    battle("   fifteen chars.   "),
    battle("exactly sixteen!", "tie"),
    battle(LONG, "none"),
    battle("lone surrogate \ud83d in it", "model_b", model_a="other"),
]
EXPECTED = [
    (LONG, "big", "small", 0),
    (f"{LONG} two", "big", "small", 2),
    ("exactly sixteen!", "big", "small", 1),
    (LONG, "big", "small", 1),
    ("lone surrogate \ud83d in it", "other", "small", 2),
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes rows in the format that the name tells."""
    if path.name.endswith(".csv"):
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif path.name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        lines = "\n".join(map(json.dumps, rows)).encode()
        path.write_bytes(gzip.compress(lines) if path.name.endswith(".gz") else lines)
    return path


@pytest.mark.parametrize("name", ["b.csv", "b.json", "b.jsonl", "b.jsonl.gz", "b.parquet"])
def test_battles_are_those_routellm_keeps(
    tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    """First turns, stripped, of sixteen characters and more; what nobody won is a tie."""
    if name.endswith(".parquet"):
        request.getfixturevalue("parquet_installed")
    battles = read_battles([write(tmp_path / name, ROWS)])
    rows = zip(battles.prompts, battles.model_a, battles.model_b, battles.outcome, strict=True)
    assert list(rows) == EXPECTED


def test_several_data_sets_follow_one_another(tmp_path: Path) -> None:
    """In the order they are named, as the embeddings do."""
    second = write(tmp_path / "a.jsonl", ROWS[:1])
    first = write(tmp_path / "b.jsonl", ROWS[1:2])
    assert read_battles([first, second]).prompts == (f"{LONG} two", LONG)


def test_a_winner_may_have_a_column_of_its_own(tmp_path: Path) -> None:
    """As the arena writes it; both bad is a tie."""
    rows = [
        {"prompt": f"{LONG} {winner}", "model_a": "x", "model_b": "y", "winner": winner}
        for winner in ("model_a", "model_b", "tie", "tie (bothbad)")
    ]
    assert read_battles([write(tmp_path / "b.jsonl", rows)]).outcome.tolist() == [0, 2, 1, 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": "[]"}, "no first turn"),
        ({"prompt": "[null]"}, "no first turn"),
        ({"prompt": 7}, "is not text"),
        ({"prompt": None}, "no field `prompt`|not text"),
        ({"winner": "both"}, "winner is `both`"),
        ({"winner_model_a": "x"}, "not a number"),
        ({"model_b": 3}, "is not text"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """File, row and value, in one line."""
    path = write(tmp_path / "b.jsonl", [ROWS[0], {**battle(LONG), **changes}])
    with pytest.raises(ConfigError, match=said) as refused:
        read_battles([path])
    assert f"{path}, line 2" in str(refused.value)


def test_no_battles_at_all_is_an_error(tmp_path: Path) -> None:
    """All too short, or an empty folder."""
    with pytest.raises(ConfigError, match="there are no battles"):
        read_battles([write(tmp_path / "b.jsonl", [battle("hi")])])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no data here; these can be read: \.parquet"):
        read_battles([tmp_path / "empty"])


@given(
    st.text(max_size=40).filter(lambda text: not text.startswith("["))
    | st.lists(st.text(max_size=40), min_size=1, max_size=3)
)
def test_any_text_or_list_of_texts_is_a_prompt(prompt: str | list[str]) -> None:
    """Plain text, a list, or a list as text: the first turn is found in each."""
    import tempfile

    first = prompt if isinstance(prompt, str) else prompt[0]
    written = [prompt] if isinstance(prompt, str) else [prompt, json.dumps(prompt)]
    rows = [{"prompt": each, "model_a": "a", "model_b": "b", "winner": "tie"} for each in written]
    padding = {"prompt": LONG, "model_a": "a", "model_b": "b", "winner": "tie"}
    with tempfile.TemporaryDirectory() as folder:
        found = read_battles([write(Path(folder) / "b.jsonl", [*rows, padding])]).prompts
    kept = first.strip() if len(first.strip()) >= 16 else None
    assert found == (*([kept] * len(written) if kept else []), LONG)


@pytest.mark.parametrize("name", ["e.npy", "e.json", "e.jsonl", "e.parquet"])
def test_embeddings_in_every_format(
    tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    """float32[n, d], in order."""
    if name.endswith(".parquet"):
        request.getfixturevalue("parquet_installed")
    vectors = np.random.default_rng(0).normal(size=(7, 5))
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, vectors)
    else:
        write(path, [{"embeddings": vector} for vector in vectors.tolist()])
    found = read_vectors(tmp_path, "embeddings")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, vectors, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"embeddings": [1.0, 2.0]}, {"embeddings": [1.0]}], "row 2: a vector of 1 numbers"),
        ([{"embeddings": "x"}], "no list of numbers"),
        ([{"vectors": [1.0]}], "there are vectors"),
        ([{"embeddings": [1.0, 1e300]}], "not finite"),
    ],
)
def test_wrong_embeddings_are_named(tmp_path: Path, rows: Any, said: str) -> None:
    """File, row and what is wrong."""
    path = write(tmp_path / "e.jsonl", rows)
    with pytest.raises(ConfigError, match=said) as refused:
        read_vectors(path, "embeddings")
    assert str(path) in str(refused.value)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    """NumPy's own pickles are refused too."""
    path = tmp_path / "e.npy"
    np.save(path, np.asarray([object()]), allow_pickle=True)
    with pytest.raises(ConfigError, match="cannot be read as an array"):
        read_vectors(path, "embeddings")


def test_training_files_alone_are_read_where_there_are_some(tmp_path: Path) -> None:
    """RouteLLM reads the split `train`; JSON that describes the data set is no data."""
    for name in ("test.csv", "train-00001-of-00002.csv", "train-00000-of-00002.csv", "info.json"):
        (tmp_path / name).write_text("x\n")
    assert [path.name for path in table_files(tmp_path)] == [
        "train-00000-of-00002.csv",
        "train-00001-of-00002.csv",
    ]
