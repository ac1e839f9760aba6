"""The wall itself: what its client understands, its models file, its scorecard, its command."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fault_wall.__main__ import main
from bench.fault_wall.cases import cases
from bench.fault_wall.client import Answer, read_event, read_whole
from bench.fault_wall.faults import FAULTS
from bench.fault_wall.runner import routes_of
from bench.fault_wall.scorecard import Attempt, Verdict, card, progress
from bench.fault_wall.trial import Pace, route_name, within
from bench.fault_wall.wall import Route, models_file, samples
from pointsman.models_file import read_models_file

URLS = {"primary": "http://127.0.0.1:1/v1", "secondary": "http://127.0.0.1:2/v1"}


def test_there_are_sixteen_cases_each_with_models_of_its_own() -> None:
    """Cases run side by side: a breaker or a budget they shared would be judged by accident."""
    all_cases = cases(Pace())
    assert [case.number for case in all_cases] == list(range(1, 17))
    assert len(routes_of(all_cases)) == sum(len(case.routes) for case in all_cases)


def test_every_fault_of_a_case_exists() -> None:
    """A name that nobody knows is answered properly, and its case would be judged without one."""
    routes = routes_of(cases(Pace())).values()
    asked = {fault for route in routes for fault in (route.fault, *route.fallbacks)}
    assert {fault.partition(":")[0] for fault in asked} <= set(FAULTS)


def test_models_file_of_the_wall_is_one(tmp_path: Path) -> None:
    """What the services are started with, read as they read it."""
    settings = models_file(
        routes_of(cases(Pace())),
        URLS,
        {"first_token_timeout_seconds": 5.0},
        {"retries": {"max_retries": 50}},
    )
    path = tmp_path / "models.yaml"
    path.write_bytes(msgspec.yaml.encode(settings))
    read = read_models_file(str(path))
    assert read.reliability.retries.max_retries == 50
    assert read.providers["secondary"].first_token_timeout_seconds == 5.0
    longer = read.models["case-12"]
    windows = [read.models[name].context_window_tokens for name in longer.fallbacks]
    assert (longer.context_window_tokens, windows) == (100, [100, 1000])


def test_fallback_of_a_route_breaks_as_the_route_says() -> None:
    """The name at the provider is what chooses the fault."""
    file = models_file({"case-14": Route("cut", ("no-prefill",))}, URLS, {}, {})
    assert file["models"]["case-14"]["model"] == "cut@case-14"
    fallback = file["models"]["case-14-fallback-0"]
    assert (fallback["provider"], fallback["model"]) == (
        "secondary",
        "no-prefill@case-14-fallback-0",
    )


def test_names_of_routes_say_their_case() -> None:
    """They stand in the services' logs."""
    assert (route_name(3), route_name(8, "reset")) == ("case-03", "case-08-reset")


def test_samples_are_read_with_their_labels() -> None:
    """Label values may hold blanks; comments and empty lines are no samples."""
    text = '# HELP a b\na_total{model="x y"} 3.0\n\nb 1e-06\n'
    assert samples(text) == {'a_total{model="x y"}': 3.0, "b": 1e-06}


def test_attempts_within_a_time_are_counted_from_the_first() -> None:
    """Not from when the case began: a slow start must not hide a hammer."""

    class At:
        def __init__(self, at_seconds: float) -> None:
            self.at_seconds = at_seconds

    attempts = [At(10.0), At(11.4), At(11.6)]
    assert len(within(attempts, 1.5)) == 2  # type: ignore[arg-type]


def test_truncated_success_is_neither_whole_nor_a_clear_error() -> None:
    """The one thing that case 8 is about."""
    answer = Answer(asked_at=0.0, status=200)
    read_event(b'data: {"choices": [{"delta": {"content": "p00 "}}]}', answer)
    assert not answer.is_whole(["p00 "])
    assert not answer.fails_clearly


def test_answer_with_finish_reason_and_done_is_whole_only_with_the_right_text() -> None:
    """Half an answer that claims to be finished is the worst of all."""
    answer = Answer(asked_at=0.0, status=200)
    read_event(
        b'data: {"choices": [{"delta": {"content": "p00 "}, "finish_reason": "stop"}]}', answer
    )
    read_event(b"data: [DONE]", answer)
    assert answer.is_whole(["p00 "])
    assert not answer.is_whole(["p00 p01 "])


def test_comment_in_a_stream_is_no_flaw() -> None:
    """Keep-alive comments are part of server-sent events."""
    answer = Answer(asked_at=0.0, status=200)
    read_event(b": waiting", answer)
    assert not answer.flaw


@given(st.binary(max_size=200))
def test_no_bytes_make_the_client_fail(data: bytes) -> None:
    """Whatever a gateway sends is judged; nothing of it ends the wall."""
    streamed, whole = Answer(asked_at=0.0, status=200), Answer(asked_at=0.0, status=200)
    read_event(data, streamed)
    read_whole(data, whole)
    assert streamed.summary()
    assert whole.summary()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "usage", "error", "model"]), inner
            )
        ),
        max_leaves=8,
    )
)
def test_no_json_makes_the_client_fail(value: object) -> None:
    """Objects of the wrong shape least of all."""
    answer = Answer(asked_at=0.0, status=200)
    read_whole(json.dumps(value).encode(), answer)
    assert answer.summary()


def _verdict(number: int, *problems: str) -> Verdict:
    return Verdict(
        number=number,
        fault="500 once",
        right="one retry",
        passed=not problems,
        problems=list(problems),
        seconds=0.5,
        answers=["200, 60 pieces"] * 3,
        attempts=[
            Attempt(provider="primary", model="m", at_seconds=float(at), said="500")
            for at in range(14)
        ],
    )


def test_scorecard_ends_with_the_count() -> None:
    """CI and people read the last line."""
    assert card([_verdict(1), _verdict(2, "3 attempts")]).endswith("\n\nfaults passed: 1/2")


def test_scorecard_says_what_happened_and_what_was_wrong() -> None:
    """A failure is understood without running it again; thirty equal answers take one line."""
    text = card([_verdict(2, "3 attempts in 1.5 s")])
    assert "FAIL  500 once" in text
    assert "3 x 200, 60 pieces" in text
    assert "wrong     3 attempts in 1.5 s" in text
    assert "primary 500 at 0.00 1.00" in text
    assert "and 2 more" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_attempts_are_told_route_by_route() -> None:
    """Four routes at once would read as one that hammers."""
    said = [("b", 0.1, "429"), ("a", 0.2, "429"), ("b", 0.3, "429"), ("b-fallback-0", 0.4, "200")]
    attempts = [
        Attempt(
            provider="secondary" if "fallback" in name else "primary",
            model=f"throttled@case-02-{name}",
            at_seconds=at,
            said=what,
        )
        for name, at, what in said
    ]
    text = card([msgspec.structs.replace(_verdict(2), attempts=attempts)])
    told = "primary 429 at 0.20; primary 429 at 0.10 0.30; secondary 200 at 0.40"
    assert f"attempts  {told}\n" in text


def test_progress_is_one_line() -> None:
    """Cases are done in any order over a minute and a half."""
    assert progress(_verdict(3)) == "pass   3    0.5 s  500 once"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--case", "17"], "invalid choice: 17"),
        (["--settings", "missing.yaml"], "missing.yaml"),
    ],
)
def test_wrong_command_line_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With status 2 and the word that is wrong, before anything is started."""
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert told in capsys.readouterr().err


def test_settings_with_an_unknown_part_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error must not be judged as a pass with the right settings."""
    path = tmp_path / "wrong.yaml"
    path.write_text("retries: {max_retries: 50}\n")
    with pytest.raises(SystemExit):
        main(["--settings", str(path)])
    assert "`retries`" in capsys.readouterr().err
