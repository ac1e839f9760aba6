"""The sixteen faults in seconds instead of minutes, and proof that each check can fail."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bench.fault_wall.__main__ import main
from bench.fault_wall.cases import cases
from bench.fault_wall.runner import judge, routes_of, tried
from bench.fault_wall.trial import Case, Pace, Trial, route_name
from bench.fault_wall.wall import Wall, running

pytestmark = pytest.mark.integration

# Faults end long after a limit should have met them: how fast the machine is decides nothing.
PACE = Pace(
    late=60.0,
    silence=60.0,
    outage=1.0,
    recovery=10.0,
    spacing=0.15,
    first_token_limit=1.0,
    idle_limit=1.0,
    slack=30.0,
)
IMPATIENT = Pace(
    late=0.6,
    silence=0.6,
    outage=0.5,
    spacing=0.02,
    first_token_limit=0.1,
    idle_limit=0.1,
    slack=0.1,
    patience=1.0,
)
"""For trials that are to fail: nobody waits for them."""
CASES = cases(PACE)
LIMITS = {"first_token_timeout_seconds": 1.0, "idle_timeout_seconds": 1.0}
RELIABILITY: dict[str, Any] = {
    "retries": {"backoff_seconds": 0.05},
    "breaker": {"open_seconds": 0.2, "max_open_seconds": 0.4},
}
RESTARTED = {8, 9, 10, 14}
"""Cases that end in an error or not, as the operator likes."""


@pytest.fixture(scope="module")
async def wall() -> AsyncIterator[Wall]:
    """A wall with short limits, for all cases."""
    async with running(routes_of(CASES), limits=LIMITS, reliability=RELIABILITY) as started:
        yield started


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.run.__name__}")
async def test_fault_is_met_as_it_should_be(wall: Wall, case: Case) -> None:
    """The bar of the fault wall, one fault at a time."""
    verdict = await judge(case, wall, PACE)
    assert not verdict.problems, verdict


async def test_stream_that_breaks_is_made_whole_where_streams_are_held_back() -> None:
    """`on_stream_failure: restart` promises that no client sees half an answer."""
    held_back = [case for case in CASES if case.number in RESTARTED]
    reliability = {**RELIABILITY, "on_stream_failure": "restart"}
    async with running(routes_of(held_back), limits=LIMITS, reliability=reliability) as wall:
        trials = [_trial(case, wall, wall.url, pace=PACE) for case in held_back]
        for verdict in await asyncio.gather(*map(tried, held_back, trials)):
            assert not verdict.problems, verdict
        for trial in trials:
            assert all(answer.is_whole(trial.texts()) for answer in trial.answers), trial.case


@pytest.mark.parametrize(
    ("number", "settings"),
    [
        (2, {"retries": {"max_retries": 50}, "breaker": {"consecutive_failures": 100}}),
        (3, {"retries": {"max_retries": 0}}),
        (4, {"retries": {"max_retries": 50, "budget_share": 1.0, "budget_reserve": 500}}),
        (15, {"breaker": {"open_seconds": 60.0, "max_open_seconds": 60.0}}),
    ],
)
async def test_wrong_setting_fails_its_case(number: int, settings: dict[str, Any]) -> None:
    """A wall that passes whatever it is told would prove nothing."""
    case = CASES[number - 1]
    async with running(routes_of([case]), limits=LIMITS, reliability=settings) as wall:
        assert (await judge(case, wall, PACE)).problems


async def test_limits_that_are_too_long_fail_their_cases() -> None:
    """With a minute for the first token nobody may call a provider that takes so long bounded."""
    pace = Pace(late=1.0, silence=1.0, first_token_limit=0.1, idle_limit=0.1, slack=0.2)
    slow = [case for case in cases(pace) if case.number in {7, 9}]
    async with running(routes_of(slow), limits={}, reliability={}) as wall:
        for case in slow:
            assert (await judge(case, wall, pace)).problems, case.fault


async def test_nothing_passes_without_a_gateway_but_what_the_provider_says_itself() -> None:
    """Asked directly, a provider fails every case but the one refusal that should come through."""
    direct = cases(IMPATIENT)
    async with running(routes_of(CASES), limits=LIMITS, reliability=RELIABILITY) as wall:
        trials = [_trial(case, wall, wall.primary.url, _at_provider(case)) for case in direct]
        verdicts = await asyncio.gather(*map(tried, direct, trials))
    assert {verdict.number for verdict in verdicts if verdict.passed} == {13}


async def test_asking_at_once_and_again_fails_the_cases_about_restraint() -> None:
    """Answers alone are not enough: the wall counts what the provider had to bear."""
    chosen = [CASES[number - 1] for number in (1, 2, 4, 12, 13)]
    async with (
        running(routes_of(chosen), limits=LIMITS, reliability=RELIABILITY) as wall,
        _reckless(wall) as url,
    ):
        for case in chosen:
            verdict = await tried(case, _trial(case, wall, url, _at_provider(case)))
            assert any(re.search("attempts|again|asked", one) for one in verdict.problems), verdict


def test_command_prints_a_scorecard_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last line and its status are what CI reads; the file is for whoever compares."""
    target = tmp_path / "results" / "faults.json"
    assert main(["--case", "13", "3", "--json", str(target)]) == 0
    assert capsys.readouterr().out.endswith("\nfaults passed: 2/2\n")
    verdicts = json.loads(target.read_text())
    assert [one["number"] for one in verdicts] == [3, 13]
    assert [one["said"] for one in verdicts[0]["attempts"]] == ["500", "200"]


def test_command_fails_where_a_case_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With settings that are wrong on purpose, as `--help` has them."""
    settings = tmp_path / "wrong.yaml"
    settings.write_text("reliability: {retries: {max_retries: 0}}\n")
    assert main(["--case", "3", "--settings", str(settings)]) == 1
    out = capsys.readouterr().out
    assert "FAIL  500 once" in out
    assert out.endswith("\nfaults passed: 0/1\n")


def _trial(
    case: Case,
    wall: Wall,
    url: str,
    names: dict[str, str] | None = None,
    pace: Pace = IMPATIENT,
) -> Trial:
    names = names or {label: route_name(case.number, label) for label in case.routes}
    return Trial(case=case.number, wall=wall, pace=pace, url=url, names=names)


def _at_provider(case: Case) -> dict[str, str]:
    """Returns the names by which the primary itself knows a case's models."""
    return {
        label: f"{route.fault}@{route_name(case.number, label)}"
        for label, route in case.routes.items()
    }


@asynccontextmanager
async def _reckless(wall: Wall) -> AsyncIterator[str]:
    """Yields the URL of a gateway that asks the primary eight times in a row unless it answers."""

    async def chat(request: web.Request) -> web.Response:
        body = await request.read()
        status, said = 0, b""
        for _ in range(8):
            async with wall.session.post(
                f"{wall.primary.url}/chat/completions", data=body
            ) as answer:
                status, said = answer.status, await answer.read()
            if status == 200:
                break
        return web.Response(status=status, body=said)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
