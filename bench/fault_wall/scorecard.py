"""Verdicts → the scorecard, as text and as data."""

from collections.abc import Sequence
from textwrap import fill

import msgspec

from bench.fault_wall.trial import Case, Trial

_WIDTH = 100
_MOST_SHOWN = 12


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One call that reached a provider."""

    provider: str
    model: str
    """What the provider calls it."""
    at_seconds: float
    """Since the case began."""
    said: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one case."""

    number: int
    fault: str
    right: str
    passed: bool
    problems: list[str]
    seconds: float
    answers: list[str]
    attempts: list[Attempt]


def verdict(case: Case, trial: Trial, began_at: float, ended_at: float) -> Verdict:
    """Returns what came of a case; times are on the event loop's clock."""
    return Verdict(
        number=case.number,
        fault=case.fault,
        right=case.right,
        passed=not trial.problems,
        problems=list(trial.problems),
        seconds=round(ended_at - began_at, 3),
        answers=[answer.summary() for answer in trial.answers],
        attempts=[
            Attempt(
                provider=asked.provider,
                model=asked.model,
                at_seconds=round(asked.at_seconds - began_at, 3),
                said=asked.said,
            )
            for asked in trial.attempts()
        ],
    )


def card(verdicts: Sequence[Verdict]) -> str:
    """Returns the scorecard; its last line says how many passed."""
    passed = sum(one.passed for one in verdicts)
    return "\n\n".join([*map(_entry, verdicts), f"faults passed: {passed}/{len(verdicts)}"])


def progress(verdict: Verdict) -> str:
    """Returns one line for a case that is over."""
    outcome = "pass" if verdict.passed else "FAIL"
    return f"{outcome}  {verdict.number:2d}  {verdict.seconds:5.1f} s  {verdict.fault}"


def _entry(verdict: Verdict) -> str:
    lines = [
        f"{verdict.number:2d}  {'pass' if verdict.passed else 'FAIL'}  {verdict.fault}",
        _row("right", verdict.right),
        _row("happened", "; ".join(_counted(verdict.answers))),
        _row("attempts", _times(verdict.attempts) or "none"),
        *(_row("wrong", problem) for problem in verdict.problems),
    ]
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    return fill(
        text,
        width=_WIDTH,
        initial_indent=f"    {name:10}",
        subsequent_indent=" " * 14,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _times(attempts: Sequence[Attempt]) -> str:
    """Returns when which provider said what, in seconds; one route after another."""
    times: dict[tuple[str, str], list[str]] = {}
    for one in sorted(attempts, key=_route):  # stable: a route's attempts stay in order
        what = f"{one.provider} {one.said}"
        times.setdefault((_route(one), what), []).append(f"{one.at_seconds:.2f}")
    return "; ".join(f"{what} at {' '.join(_shortened(at))}" for (_, what), at in times.items())


def _route(attempt: Attempt) -> str:
    return attempt.model.partition("@")[2].partition("-fallback-")[0]


def _counted(texts: Sequence[str]) -> list[str]:
    """Returns each text once, with how often it came where that is more than once."""
    times = dict.fromkeys(texts, 0)
    for text in texts:
        times[text] += 1
    return _shortened([text if n == 1 else f"{n} x {text}" for text, n in times.items()])


def _shortened(texts: Sequence[str]) -> list[str]:
    if len(texts) <= _MOST_SHOWN:
        return list(texts)
    return [*texts[:_MOST_SHOWN], f"and {len(texts) - _MOST_SHOWN} more"]
