"""`pointsman train` end to end on own data: exit statuses, bundle, pictures, what Ctrl-C leaves."""

import json
from pathlib import Path
from typing import Any

import pytest

from pointsman.cli.main import main
from pointsman.routers.registry import load_router

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


@pytest.fixture
def command(quick_settings: Any, tiny_encoder: Path, tmp_path: Path) -> list[str]:
    """The command line of a quick training on own data of all three shapes."""
    rows: list[dict[str, Any]] = []
    for number in range(60):
        easy = f"what is the easy sum of {number} and two pear?"
        hard = f"prove the hard contour integral theorem {number} pear"
        rows.append({"prompt": easy, "strong_score": 1.0, "weak_score": 1.0 - (number % 7 == 0)})
        rows.append({"prompt": hard, "strong": "big", "weak": "small", "label": "strong"})
        rows.append(
            {"prompt": hard + "?", "model_a": "small", "model_b": "big", "winner": "model_b"}
        )
    own = tmp_path / "own.jsonl"
    own.write_text("\n".join(json.dumps(row) for row in rows))
    return [
        *("mf", "--data", str(own), "--out", str(tmp_path / "bundles"), "--name", "mine"),
        *("--strong-model", "big", "--weak-model", "small"),
        *("--encoder", str(tiny_encoder), "--cache", str(tmp_path / "cache")),
    ]


def test_own_data_become_a_router_that_is_served(
    command: list[str], tmp_path: Path, separable: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 0, and the bundle alone on standard output."""
    assert main(["train", *command]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'bundles' / 'mine'}\n"
    loaded = load_router("mine", bundle=tmp_path / "bundles" / "mine")
    assert separable.area(loaded.router) > 0.8


def test_its_report_has_the_held_out_prompts_of_own_data(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reliability, win rates, cost and quality; the page holds no prompt."""
    pytest.importorskip("matplotlib")
    report = tmp_path / "report.html"
    assert main(["train", *command, "--report", str(report), "--balance", "equal"]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {report}\n")
    page = report.read_text()
    assert page.count("<svg") == 3
    assert "own data, held out, 18 prompts" in page
    assert "integral theorem" not in page


def test_a_bad_row_trains_nothing(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 with the row's place; with --skip-bad-rows it goes on."""
    own = tmp_path / "own.jsonl"
    own.write_text("{}\n" + own.read_text())
    assert main(["train", *command]) == 2
    told = capsys.readouterr()
    assert f"{own}, line 1: there is neither `label`" in told.err
    assert told.out == ""
    assert not (tmp_path / "bundles").exists()
    assert main(["train", *command, "--skip-bad-rows"]) == 0


def test_interrupted_it_leaves_no_bundle(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 130, and no file under the bundles folder, whole or half."""
    from pointsman.routers import bundle

    def interrupt(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "write_whole", interrupt)
    assert main(["train", *command]) == 130
    assert not [path for path in (tmp_path / "bundles").rglob("*") if path.is_file()]


def test_after_ctrl_c_it_can_be_resumed(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint alone is left, and it is gone when the bundle is there."""
    from pointsman.training import bert

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    short = ["train", "bert", *command[1:], "--max-steps", "60", "--device", "cpu"]
    checkpoints = tmp_path / "cache" / "checkpoints"
    with monkeypatch.context() as patches:
        patches.setattr(bert, "make_encoder", interrupt)
        assert main(short) == 130
    assert [path.suffix for path in checkpoints.iterdir()] == [".checkpoint"]
    assert not (tmp_path / "bundles").exists()
    assert main([*short, "--resume"]) == 0
    assert not list(checkpoints.iterdir())
    assert (tmp_path / "bundles" / "mine" / "manifest.json").exists()


def test_a_report_that_cannot_be_is_refused_before_training(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and exit status 1."""
    pytest.importorskip("matplotlib")
    assert main(["train", *command, "--report", str(tmp_path / "report.pdf")]) == 1
    assert "must end in .html or .png" in capsys.readouterr().err
    assert not (tmp_path / "bundles").exists()
