"""`pointsman evaluate` as a user meets it."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pointsman.cli.main import main
from pointsman.evaluation.costs import OUTPUT_TOKENS

MODELS = """\
providers: {p: {base_url: "http://localhost"}}
models:
  big: {provider: p, input_price_per_million: 10, output_price_per_million: 30}
  small: {provider: p, output_price_per_million: 1}
"""

SLOW = """\
from pathlib import Path


class Slow:
    revision = "1"
    first = True

    def calculate_strong_win_rate(self, prompt):
        if self.first:
            self.first = False
            Path({started!r}).write_text("x")
            Path({gate!r}).read_text()
        return 0.5
"""
"""A router in RouteLLM's manner that waits, on its first prompt, until the test lets it go."""


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    """Forty graded prompts of one's own."""
    path = tmp_path / "graded.jsonl"
    rows = [
        {"prompt": f"private {n}", "strong_score": n % 5 != 0, "weak_score": n % 3 == 0}
        for n in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def run(graded: Path, *options: str) -> int:
    """The command on that file, with nothing kept."""
    return main(["evaluate", "--benchmark", str(graded), "--no-cache", *options])


def test_the_table_says_it_all(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores, thresholds, figures, verdicts on standard output; pictures' paths beside."""
    assert run(graded, "--routers", "random", "--output", str(tmp_path / "plots")) == 0
    out, err = capsys.readouterr()
    for words in ("80.0000", "threshold", "CPT 50 %", "random does not beat", "oracle"):
        assert words in out
    assert "private" not in out + err
    assert str(tmp_path / "plots" / "graded.png") in err
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"graded.png", "graded.svg"}


def test_json_is_all_there_is_on_standard_output(
    graded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pointsman evaluate --format json | jq` works."""
    assert run(graded, "--no-plot", "--format", "json", "--num-results", "4", "--seed", "3") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["weak_score"] == pytest.approx(35.0)
    assert found["seed"] == 3
    assert len(found["routers"][0]["thresholds"]) == 5


def test_csv_and_markdown_are_alone_too(graded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As every format."""
    assert run(graded, "--no-plot", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0]["name"] == "mf"
    assert run(graded, "--no-plot", "--format", "markdown") == 0
    assert capsys.readouterr().out.startswith("## graded\n")


def test_two_runs_print_the_same_bytes(graded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing depends on time, threads or luck."""
    printed = []
    for threads in ("1", "2"):
        assert run(graded, "--no-plot", "--parallel", threads) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_the_shipped_router_is_measured(graded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real bundle, named twice and measured once, by RouteLLM's method."""
    options = ("--routers", "mf", "mf", "--metric-mode", "routellm", "--format", "json")
    assert run(graded, "--no-plot", *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert [router["name"] for router in found["routers"]] == ["mf"]
    assert found["mode"] == "routellm"
    assert found["routers"][0]["trained_on"] == 0


def test_prices_give_the_area_over_cost(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the models file and the names of the pair; it is called an estimate."""
    models = tmp_path / "models.yaml"
    models.write_text(MODELS)
    pair = ("--strong-model", "big", "--weak-model", "small")
    assert run(graded, "--no-plot", *pair, "--models", str(models), "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["routers"][0]["aiq"] > 0
    assert "estimate" in found["costs"]["source"]
    assert str(OUTPUT_TOKENS) in found["costs"]["source"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--routers", "nope"], "no router is called `nope`"),
        (["--overwrite-cache", "random"], "--overwrite-cache names `random`"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--models", "missing.yaml"], "missing.yaml"),
    ],
)
def test_what_is_wrong_is_one_line(
    graded: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the value and the remedy, and nothing on standard output."""
    assert run(graded, "--no-plot", *options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pointsman: ")
    assert told in err
    assert err.count("\n") == 1


def test_without_matplotlib_the_remedies_are_told(
    graded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is scored; figures alone need it not."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(graded) == 1
    err = capsys.readouterr().err
    assert "pip install 'pointsman[eval]'" in err
    assert "--no-plot" in err
    assert run(graded, "--no-plot") == 0


def test_a_file_in_the_place_of_the_folder_is_told_before_scoring(
    graded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody waits for minutes to hear it."""
    assert run(graded, "--output", str(graded)) == 1
    assert "no folder to write into" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--num-results", "0"], ["--random-iters", "x"], ["--seed", "-1"], ["--parallel", "0"]],
)
def test_numbers_out_of_range_are_usage_errors(
    graded: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, and the message says what fits."""
    with pytest.raises(SystemExit) as stopped:
        run(graded, *options)
    assert stopped.value.code == 2
    assert "is not a whole number from" in capsys.readouterr().err


def test_a_router_called_like_a_control_is_refused(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its curve would be drawn for the control's, and its figures stand in the control's row."""
    config = tmp_path / "mine.yaml"
    config.write_text(
        "routers: {oracle: {class: 'pointsman.routers.random_baseline:RandomRouter'}}"
    )
    assert run(graded, "--no-plot", "--config", str(config), "--routers", "oracle") == 1
    assert "may not be called oracle" in capsys.readouterr().err


def test_help_tells_the_default_of_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    """The number in the help is the number in use."""
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert f"default: {OUTPUT_TOKENS}" in capsys.readouterr().out


def test_ctrl_c_leaves_nothing_behind(graded: Path, tmp_path: Path) -> None:
    """Interrupted while it scores, it exits with 130 and no picture is there."""
    started, gate, folder = tmp_path / "started", tmp_path / "gate", tmp_path / "plots"
    os.mkfifo(started)
    os.mkfifo(gate)
    (tmp_path / "slow.py").write_text(SLOW.format(started=str(started), gate=str(gate)))
    config = tmp_path / "routers.yaml"
    config.write_text("routers: {slow: {class: 'slow:Slow'}}")
    command = [sys.executable, "-m", "pointsman.cli.main", "evaluate", "--routers", "slow"]
    command += ["--config", str(config), "--benchmark", str(graded), "--no-cache"]
    with subprocess.Popen(
        [*command, "--parallel", "1", "--output", str(folder)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        started.read_text()
        process.send_signal(signal.SIGINT)
        gate.write_text("go on")
        out, _ = process.communicate()
    assert process.returncode == 130
    assert out == b""
    assert not folder.exists()
