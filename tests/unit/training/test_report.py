"""Pictures of a training: one page or one PNG, the same bytes each time, and no prompt in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import Benchmark
from pointsman.evaluation.metrics import apgr
from pointsman.routing import ModelPair
from pointsman.training.calibrate import HeldOut

pytest.importorskip("matplotlib")

from pointsman.training.report import Losses, TrainingReport, write_report

GENERATOR = np.random.default_rng(0)
RATES = GENERATOR.random(200)
OUTCOMES = (GENERATOR.random(200) < RATES).astype(np.float64)
REPORT = TrainingReport(
    name="mine",
    revision="0123456789ab",
    held_out=HeldOut(rates=RATES, outcomes=OUTCOMES),
    calibration="held-out prompts of <own> data",
    calibration_rates=RATES,
    tests=[
        (
            Benchmark(
                name="own data, held out",
                prompts=tuple(f"a secret prompt {number}" for number in range(200)),
                pair=ModelPair(strong="big & bold", weak="small"),
                unit="percent right",
                weak_scores=100.0 * (1.0 - OUTCOMES),
                strong_scores=np.full(200, 100.0),
            ),
            RATES,
        )
    ],
    figures={"APGR toy": "0.700 (0.600-0.800)"},
)


def test_a_page_has_every_chart_and_no_prompt(tmp_path: Path) -> None:
    """Reliability, histogram, cost and quality; then the figures as text."""
    path = tmp_path / "report.html"
    write_report(REPORT, path)
    page = path.read_text()
    assert page.count("<svg") == 3
    for text in ("isotonic", "win rates of 200 prompts", "own data, held out, 200 prompts"):
        assert text in page
    assert "<td>0.700 (0.600-0.800)</td>" in page
    test, rates = REPORT.tests[0]
    assert f"mine, APGR {apgr(rates, test.weak_scores, test.strong_scores):.3f}" in page
    assert "of &lt;own&gt; data" in page
    assert "secret" not in page
    write_report(REPORT, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_a_training_by_steps_has_its_curve(tmp_path: Path) -> None:
    """A line for each loss that was watched."""
    curves = [Losses(name=f"seed {n}", steps=[10, 20], losses=[1.0, 0.5 + n]) for n in range(2)]
    write_report(replace(REPORT, curves=curves), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "seed 1" in page


def test_a_png_has_all_in_one(tmp_path: Path) -> None:
    """By the ending of its name."""
    path = tmp_path / "report.PNG"
    write_report(REPORT, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_where_it_cannot_go_is_named(tmp_path: Path) -> None:
    """Another ending; a folder in its place."""
    with pytest.raises(ConfigError, match=r"report\.pdf must end in \.html or \.png"):
        write_report(REPORT, tmp_path / "report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(REPORT, tmp_path / "file" / "report.html")
