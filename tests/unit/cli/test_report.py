"""`pointsman report` as a user meets it."""

import json
from pathlib import Path

import pytest

from pointsman.cli.main import main


@pytest.fixture
def graded(tmp_path: Path) -> list[str]:
    """Two benchmarks of one's own, in a folder whose name must not be told."""
    folder = tmp_path / "private-folder"
    folder.mkdir()
    for name in ("one", "two"):
        rows = [
            {"prompt": f"secret {n}", "strong_score": 1, "weak_score": n % 2} for n in range(40)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [str(folder / "one.jsonl"), str(folder / "two.jsonl")]


def run(graded: list[str], output: Path, *options: str) -> int:
    """The command on these benchmarks, with nothing kept."""
    options = ("--no-cache", "--output", str(output), *options)
    return main(["report", "--benchmarks", *graded, *options])


def test_one_page_holds_routers_times_benchmarks(
    graded: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says on standard error where it is."""
    output = tmp_path / "out" / "report.html"
    assert run(graded, output, "--routers", "random") == 0
    text = output.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("<svg ") == 2
    assert "pointsman report --routers random --benchmarks one.jsonl two.jsonl" in text
    assert "--title" not in text
    out, err = capsys.readouterr()
    assert out == ""
    assert f"wrote {output}" in err


def test_the_page_tells_no_prompt_and_no_path(graded: list[str], tmp_path: Path) -> None:
    """It may be published."""
    output = tmp_path / "report.html"
    assert run(graded, output, "--data", str(tmp_path)) == 0
    assert "secret" not in output.read_text()
    assert "private-folder" not in output.read_text()
    assert str(tmp_path) not in output.read_text()


def test_two_runs_write_the_same_bytes(graded: list[str], tmp_path: Path) -> None:
    """The page changes only when its figures do."""
    first, second = tmp_path / "a" / "r.html", tmp_path / "b" / "r.html"
    assert run(graded, first) == run(graded, second, "--parallel", "1") == 0
    assert first.read_bytes() == second.read_bytes()


def test_the_command_on_the_page_makes_that_page(graded: list[str], tmp_path: Path) -> None:
    """Its title, too, which may need quotes."""
    output = tmp_path / "r.html"
    assert run(graded, output, "--title", "A & B") == 0
    assert "--title &#x27;A &amp; B&#x27; --output r.html" in output.read_text()


def test_a_folder_is_no_page(
    graded: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told before anything is scored."""
    assert run(graded, tmp_path) == 1
    assert "is a folder; name a file in it" in capsys.readouterr().err


def test_an_unknown_benchmark_is_told_before_scoring(
    graded: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second name is checked before the first is measured, and no page appears."""
    output = tmp_path / "report.html"
    assert run([*graded, "nope"], output, "--data", str(tmp_path)) == 1
    assert "`nope`" in capsys.readouterr().err
    assert not output.exists()
