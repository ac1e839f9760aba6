"""`pointsman calibrate` as a user types it: results on standard output, nothing else there."""

import json
import re
from pathlib import Path

import pytest

from pointsman.cli.main import main
from pointsman.routers.registry import load_router
from pointsman.routing import StrongShare

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def graded(tmp_path: Path) -> str:
    """400 graded prompts, of which the weak model gets every tenth wrong."""
    path = tmp_path / "graded.jsonl"
    rows = (
        {"prompt": f"What is {n} plus 1?", "strong_score": 1, "weak_score": int(n % 10 > 0)}
        for n in range(400)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A configuration with a router of somebody's own, which knows no calibration prompts."""
    path = tmp_path / "own.yaml"
    path.write_text("routers: {own: {class: 'pointsman.routers.random_baseline:RandomRouter'}}")
    return str(path)


def _json(captured: Captured, *arguments: str) -> list[dict[str, object]]:
    assert main(["calibrate", "--format", "json", *arguments]) == 0
    found: list[dict[str, object]] = json.loads(captured.readouterr().out)
    return found


def test_sentence_is_routellms(capsys: Captured) -> None:
    """Scripts that parse RouteLLM 0.1.0's output go on working."""
    assert main(["calibrate", "--routers", "mf", "--strong-model-pct", "0.2", "0.29"]) == 0
    first, reached, second, _ = capsys.readouterr().out.splitlines()
    sentence = r"For (.+)% strong model calls, calibrated threshold for mf: (\S+)"
    assert [re.fullmatch(sentence, line)[1] for line in (first, second)] == ["20.0", "29.0"]
    quantiles = load_router("mf").quantiles.tolist()
    threshold = StrongShare(20).threshold_among(quantiles)
    assert float(first.split()[-1]) == threshold
    assert reached.startswith("    ")
    assert load_router("mf").calibration_prompts in reached


@pytest.mark.parametrize("percent", [7, 18, 33, 58])
def test_a_share_is_the_model_fields_share(capsys: Captured, percent: int) -> None:
    """`--strong-model-pct 0.18` and `router-mf-p18` are one threshold, to the last bit."""
    [found] = _json(capsys, "--strong-model-pct", str(percent / 100))
    assert found["threshold"] == StrongShare(percent).threshold_among(
        load_router("mf").quantiles.tolist()
    )


def test_own_prompts_are_scored(capsys: Captured, graded: str) -> None:
    """A threshold that holds for the user's prompts comes from the user's prompts."""
    [found] = _json(capsys, "--routers", "random", "--strong-model-pct", "0.25", "--data", graded)
    assert (found["router"], found["target"], found["prompts"]) == ("random", 0.25, 400)
    assert found["reached"] == pytest.approx(0.25, abs=1 / 400)
    assert found["calibration_prompts"] == graded


def test_routellms_command_line_works(capsys: Captured, graded: str) -> None:
    """A hub's data set is replaced with a note; a file of that option is read."""
    line = ["--task", "calibrate", "--routers", "random", "--strong-model-pct", "0.5"]
    hub = "lmsys/lmsys-arena-human-preference-55k"
    assert main(["calibrate", *line, "--battles_dataset", hub]) == 0
    captured = capsys.readouterr()
    assert "for random: 0.5\n" in captured.out
    assert captured.err.count("\n") == 1
    assert hub in captured.err
    assert _json(capsys, *line, "--battles_dataset", graded)[0]["prompts"] == 400


def test_generate_names_what_does_it(capsys: Captured) -> None:
    """RouteLLM's other task exists here under another name."""
    assert main(["calibrate", "--task", "generate"]) == 1
    assert "pointsman score" in capsys.readouterr().err


def test_budget_is_kept_and_saving_told(capsys: Captured) -> None:
    """The keys that a finance script reads."""
    [found] = _json(
        capsys, "--routers", "random", "--budget-per-million", "3", "--cost-ratio", "11"
    )
    assert found["expected_price"] <= found["budget"] == 3
    assert found["reached"] == pytest.approx(0.2, abs=0.001)
    assert found["saving"] == pytest.approx(8 / 11, abs=0.002)
    assert (found["strong_price"], found["weak_price"]) == (11, 1)


def test_quality_is_promised(capsys: Captured, graded: str) -> None:
    """The keys of a promise, and its numbers in the order that makes it one."""
    line = ["--routers", "random", "--labelled", graded, "--max-loss", "0.08"]
    [found] = _json(capsys, *line)
    assert list(found) == [
        *("router", "threshold", "reached", "rows", "max_loss", "confidence", "loss", "bound"),
        "method",
    ]
    assert (found["rows"], found["method"]) == (400, "clopper-pearson")
    assert found["loss"] < found["bound"] <= 0.08
    assert 0 < found["reached"] < 1


def test_repeated_prompts_are_pointed_out(capsys: Captured, graded: str) -> None:
    """Repeats make a promise look better than it is."""
    Path(graded).write_text(Path(graded).read_text() * 2)
    line = ["--routers", "random", "--labelled", graded, "--max-loss", "0.08"]
    assert main(["calibrate", *line]) == 0
    assert "400 of 800 labelled rows repeat" in capsys.readouterr().err


def test_router_without_quantiles_needs_data(capsys: Captured, own: str, graded: str) -> None:
    """Nobody's win rates are guessed; by quality an even grid serves."""
    line = ["calibrate", "--config", own, "--routers", "own"]
    assert main([*line, "--strong-model-pct", "0.5"]) == 1
    assert "--data FILE" in capsys.readouterr().err
    assert main([*line, "--strong-model-pct", "0.5", "--data", graded]) == 0
    assert main([*line, "--labelled", graded, "--max-loss", "0.08"]) == 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--strong-model-pct 20",
        "--strong-model-pct nan",
        "--strong-model-pct 0.5 --budget-per-million 3",
        "--strong-model-pct 0.5 --max-loss 0.1",
        "--budget-per-million 3",
        "--budget-per-million 3 --cost-ratio 5 --models m.yaml",
        "--budget-per-million 3 --cost-ratio 5 --input-tokens 9",
        "--labelled g.jsonl",
        "--labelled g.jsonl --max-loss 0.1 --data g.jsonl",
        "--labelled g.jsonl --max-loss 0.1 --battles_dataset g.jsonl",
        "--strong-model-pct 0.5 --data a.jsonl --battles_dataset b.jsonl",
    ],
)
def test_contradictions_exit_with_2(capsys: Captured, line: str) -> None:
    """A command line that means two things or none is argparse's to refuse."""
    with pytest.raises(SystemExit) as left:
        main(["calibrate", *line.split()])
    assert left.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "line",
    [
        "--routers nosuch --strong-model-pct 0.5",
        "--strong-model-pct 0.5 --data missing.jsonl",
        "--strong-model-pct 0.5 --battles_dataset missing.jsonl",
        "--budget-per-million 0.5 --cost-ratio 5",
        "--budget-per-million 3 --cost-ratio 0.5",
        "--budget-per-million 3 --models missing.yaml",
        "--labelled missing.jsonl --max-loss 0.1",
        "--labelled missing.jsonl --max-loss 0.1 --score-range 1 0",
    ],
)
def test_errors_are_one_line(capsys: Captured, line: str) -> None:
    """A traceback helps nobody who mistyped a name."""
    assert main(["calibrate", *line.split()]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"pointsman: .+\n", captured.err)


def test_empty_data_is_refused(capsys: Captured, tmp_path: Path) -> None:
    """There is no quantile of nothing."""
    path = tmp_path / "empty.jsonl"
    path.touch()
    assert main(["calibrate", "--strong-model-pct", "0.5", "--data", str(path)]) == 1
    assert "no prompt" in capsys.readouterr().err
