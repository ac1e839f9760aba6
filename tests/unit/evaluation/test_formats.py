"""Results as text: each format is read back by what reads it."""

import csv
import io
import json

import numpy as np
import pytest

from pointsman.evaluation.benchmarks import JUDGES_SCORE, PERCENT_RIGHT, Benchmark
from pointsman.evaluation.costs import Costs
from pointsman.evaluation.formats import (
    RESULT_FORMATS,
    ResultFormat,
    formatted,
    interval_text,
    prompts_text,
    score_text,
    share_text,
)
from pointsman.evaluation.metrics import Interval
from pointsman.evaluation.notes import ScoredRouter
from pointsman.evaluation.results import Result
from pointsman.evaluation.study import StudySettings, study
from pointsman.routing import ModelPair

NAN = float("nan")


def result_of(weak: list[float], *, name: str = "own", costs: bool = False) -> Result:
    """A small study."""
    count = len(weak)
    benchmark = Benchmark(
        name=name,
        prompts=tuple("secret" * (1 + n) for n in range(count)),
        pair=ModelPair(strong="a|b", weak="<small>"),
        unit=PERCENT_RIGHT,
        weak_scores=np.asarray(weak),
        strong_scores=np.full(count, 100.0),
    )
    router = ScoredRouter(name="mf", revision="abc", rates=np.linspace(0.0, 1.0, count))
    known = Costs(weak=np.zeros(count), strong=np.ones(count), source="by hand") if costs else None
    return study(benchmark, [router], StudySettings(samples=20), costs=known).result


NORMAL = result_of([0.0, 100.0, 0.0, 100.0])
UNDEFINED = result_of([100.0] * 4)


@pytest.mark.parametrize(
    ("score", "unit", "text"),
    [
        (63.73374139, PERCENT_RIGHT, "63.7337"),
        (80.58702, PERCENT_RIGHT, "80.5870"),
        (8.28125, JUDGES_SCORE, "8.28125"),
        (9.2118055, JUDGES_SCORE, "9.21181"),
        (NAN, PERCENT_RIGHT, "-"),
    ],
)
def test_scores_read_as_in_routellms_tables(score: float, unit: str, text: str) -> None:
    """So that they can be compared by eye."""
    assert score_text(score, unit) == text


def test_what_is_undefined_is_a_dash() -> None:
    """Never the word nan."""
    assert share_text(NAN) == "-"
    assert interval_text(Interval(value=NAN, low=NAN, high=NAN)) == "-"
    assert interval_text(Interval(value=0.5, low=NAN, high=NAN)) == "0.500"
    assert "nan" not in formatted(UNDEFINED, "table")


def test_one_prompt_is_not_plural() -> None:
    """Small things are read first."""
    assert (prompts_text(1), prompts_text(1307)) == ("1 prompt", "1,307 prompts")


def test_json_has_the_promised_keys() -> None:
    """Programs read these names."""
    found = json.loads(formatted(NORMAL, "json"))
    assert found.keys() >= {
        *("benchmark", "weak_score", "strong_score", "routers", "controls", "pair", "unit"),
        *("prompts", "mode", "seed", "notes"),
    }
    router = found["routers"][0]
    assert router.keys() >= {"name", "revision", "apgr", "cpt", "auc", "verdicts", "thresholds"}
    assert router["apgr"].keys() == {"value", "low", "high"}
    assert len(router["thresholds"]) == 11


def test_json_is_strict() -> None:
    """NaN is not JSON; null is."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(formatted(UNDEFINED, "json"), parse_constant=refuse)
    assert found["routers"][0]["apgr"] == {"value": None, "low": None, "high": None}


def test_csv_reads_back() -> None:
    """A row for each router and control, numbers exact, nothing where nothing is known."""
    rows = list(csv.DictReader(io.StringIO(formatted(NORMAL, "csv"))))
    assert [row["kind"] for row in rows] == ["router"] + ["control"] * 6
    assert float(rows[0]["apgr"]) == NORMAL.routers[0].apgr.value
    assert rows[2]["apgr"] == ""
    assert rows[0]["strong_model"] == "a|b"


def test_markdown_cells_stay_cells() -> None:
    """A bar in a name does not make a column, nor a bracket a tag."""
    text = formatted(NORMAL, "markdown")
    assert "a\\|b" in text
    assert "\\<small\\>" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {7}


@pytest.mark.parametrize("result_format", RESULT_FORMATS)
def test_no_format_shows_a_prompt(result_format: ResultFormat) -> None:
    """Prompts may be private."""
    assert "secret" not in formatted(NORMAL, result_format)


@pytest.mark.parametrize("result_format", RESULT_FORMATS)
def test_every_format_can_be_encoded(result_format: ResultFormat) -> None:
    """A file name that is no text is shown as well as can be."""
    text = formatted(result_of([0.0, 100.0], name="b\udcffd"), result_format)
    assert "b?d" in text
    assert text.encode().endswith(b"\n")


def test_costs_add_a_column_and_a_sentence() -> None:
    """Only where they are known."""
    assert "AIQ" not in formatted(NORMAL, "table")
    text = formatted(result_of([0.0, 100.0, 0.0], costs=True), "table")
    assert "AIQ" in text
    assert "costs are by hand" in text
