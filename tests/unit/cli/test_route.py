"""One prompt's decision, in words and in JSON, here and from a running scorer."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pointsman.cli.main import main
from pointsman.routers.registry import SHIPPED_BUNDLES, load_router

PROMPT = "What is the capital of France?"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration with RouteLLM-like classes of somebody's own."""
    (tmp_path / "their_route.py").write_text(
        "class Half:\n"
        "    def calculate_strong_win_rate(self, prompt):\n"
        "        return 0.5\n"
        "class Wrong:\n"
        "    def calculate_strong_win_rate(self, prompt):\n"
        "        return 7.0\n"
        "class Broken:\n"
        "    def __init__(self):\n"
        "        raise RuntimeError('no weights')\n"
        "    calculate_strong_win_rate = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(
        "routers:\n"
        + "".join(
            f"  {name.lower()}: {{class: 'their_route:{name}'}}\n"
            for name in ("Half", "Wrong", "Broken")
        )
    )
    return str(config)


def routed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Returns what `pointsman route --format json` prints."""
    assert main(["route", *arguments, "--format", "json"]) == 0
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def test_the_decision_is_the_router_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Every number is what the library says."""
    loaded = load_router("mf")
    rate = float(loaded.router.strong_win_rates([PROMPT])[0])
    pair = loaded.training_pair
    assert pair is not None
    assert routed(capsys, PROMPT, "--threshold", "0.5") == {
        "router": "mf",
        "revision": loaded.revision,
        "strong_win_rate": rate,
        "threshold": 0.5,
        "decision": "weak",
        "percentile": loaded.percentile(rate),
        "calibration_prompts": loaded.calibration_prompts,
        "training_pair": {"strong": pair.strong, "weak": pair.weak},
    }


def test_the_win_rate_itself_as_the_threshold_is_strong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Printed and read back it is still equal, and equal goes to strong."""
    rate = routed(capsys, PROMPT)["strong_win_rate"]
    assert routed(capsys, PROMPT, "--threshold", repr(rate))["decision"] == "strong"


@pytest.mark.parametrize(("bar", "entry"), [("p30", 700), ("p50", 500), (None, 500)])
def test_a_share_is_looked_up_among_the_calibration_prompts(
    capsys: pytest.CaptureFixture[str], bar: str | None, entry: int
) -> None:
    """As the gateway does it; without a threshold it is about half."""
    arguments = [] if bar is None else ["--threshold", bar]
    assert routed(capsys, PROMPT, *arguments)["threshold"] == load_router("mf").quantiles[entry]


@pytest.mark.parametrize(("bar", "model"), [("0", "big"), ("1", "small")])
def test_with_a_pair_the_model_is_named(
    capsys: pytest.CaptureFixture[str], bar: str, model: str
) -> None:
    """The pair routed to need not be the one the router was trained on."""
    pair = ("--strong-model", "big", "--weak-model", "small")
    assert routed(capsys, PROMPT, "--threshold", bar, *pair)["model"] == model
    assert main(["route", PROMPT, "--threshold", bar, *pair]) == 0
    assert f"model            {model}\n" in capsys.readouterr().out


def test_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Decision first, then why."""
    assert main(["route", PROMPT, "--router", "random", "--threshold", "p30"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(
        "decision         weak: the strong win rate is below the threshold\n"
    )
    for words in ("(p30)", "percentile       ", "revision random-seed-0"):
        assert words in told.out
    assert told.err == ""


def test_a_router_without_calibration_says_so(
    capsys: pytest.CaptureFixture[str], theirs: str
) -> None:
    """Nothing is made up: no percentile, no pair, and no shares."""
    told = routed(capsys, PROMPT, "--config", theirs, "--router", "half", "--threshold", "0.5")
    assert told["decision"] == "strong"
    absent = ("percentile", "calibration_prompts", "training_pair")
    assert [told[name] for name in absent] == [None, None, None]
    assert main(["route", PROMPT, "--config", theirs, "--router", "half"]) == 1
    refused = capsys.readouterr().err
    assert "has no calibration prompts" in refused
    assert "--threshold 0.5" in refused
    assert main(["route", "x", "--config", theirs, "--router", "half", "--threshold", "1"]) == 0
    assert "none: the router has no calibration prompts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("router", "said"),
    [("wrong", "router wrong cannot score: .*7.0"), ("broken", "cannot be loaded: .*no weights")],
)
def test_somebody_elses_failing_class_is_one_line(
    capsys: pytest.CaptureFixture[str], theirs: str, router: str, said: str
) -> None:
    """Their mistake, told without our traceback."""
    assert main(["route", "x", "--config", theirs, "--router", router]) == 1
    told = capsys.readouterr()
    assert re.fullmatch(f"pointsman: .*{said}.*\n", told.err)
    assert told.out == ""


@pytest.mark.parametrize("given", [PROMPT, PROMPT + "\n", PROMPT + "\r\n"])
def test_a_dash_reads_standard_input_without_its_line_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """`echo ... | pointsman route -` scores what was meant."""
    expected = routed(capsys, PROMPT)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert routed(capsys, "-") == expected


def test_what_is_no_text_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the shell or from a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    for prompt in ("-", "\udcff"):
        assert main(["route", prompt]) == 1
        assert "the prompt is not UTF-8" in capsys.readouterr().err


def test_one_half_of_a_pair_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Which model would weak be?"""
    assert main(["route", "x", "--strong-model", "big"]) == 1
    assert "--weak-model" in capsys.readouterr().err


def test_routellms_file_brings_a_note_and_changes_no_result(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Notes go to standard error, so that JSON stays JSON."""
    config = tmp_path / "routellm.yaml"
    config.write_text("mf: {checkpoint_path: routellm/mf_gpt4_augmented}\n")
    expected = routed(capsys, PROMPT)
    assert main(["route", PROMPT, "--format", "json", "--config", str(config)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == expected
    assert told.err.startswith(f"pointsman: {config}: mf is Pointsman's own bundle")
    config.write_text(f"mf: {{bundle: {SHIPPED_BUNDLES / 'mf'}}}\n")
    assert routed(capsys, PROMPT, "--config", str(config)) == expected
