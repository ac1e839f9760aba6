"""What the soak counts, fits and says, against figures made by hand."""

import os
from collections.abc import AsyncIterator

import pytest

from bench.fault_wall.client import Answer
from bench.fault_wall.faults import FAULTS
from bench.fault_wall.provider import FaultyProvider
from bench.soak.__main__ import as_text, main
from bench.soak.audit import differences, growth, not_idle, total
from bench.soak.footprint import Footprint, look, slope
from bench.soak.load import Tally, run_clients
from bench.soak.mix import CHANCE, KINDS, MIXED, mixed, texts
from bench.soak.soak import Options, Report

HOUR = 3600.0


@pytest.fixture
async def provider() -> AsyncIterator[FaultyProvider]:
    """A provider that fails now and then."""
    async with FaultyProvider("primary", {**FAULTS, MIXED: mixed}) as serving:
        yield serving


def test_slope_of_a_line_is_the_lines() -> None:
    """Memory that grows by 7 an hour, exactly."""
    found = slope([(second, 7.0 * second / HOUR + 100.0) for second in map(float, range(7200))])
    assert found.per_hour == pytest.approx(7.0)
    assert found.low == pytest.approx(7.0)
    assert found.mean == pytest.approx(107.0, rel=1e-3)
    assert found.hours == pytest.approx(2.0, rel=1e-3)


def test_growth_within_the_interval_is_noise() -> None:
    """A saw has no slope, although its ends differ."""
    found = slope([(float(second), float(second % 37)) for second in range(4000)])
    assert found.low < 0 < found.high
    assert not found.grows(0.0)


def test_sure_growth_counts_once_it_is_more_than_is_tolerated() -> None:
    """An allocator that is still filling its caches is no leak."""
    leak = slope([(float(second), 100.0 + 10.0 * second / HOUR) for second in range(3600)])
    assert leak.grows(0.02)
    assert not slope([(float(s), 100.0 + s / HOUR) for s in range(3600)]).grows(0.02)


def test_a_process_is_looked_at() -> None:
    """This one holds memory, descriptors and at least one thread."""
    found = look(os.getpid())
    assert found.rss_bytes > 1_000_000
    assert found.descriptors > 2
    assert found.threads >= 1


def test_a_process_that_has_ended_is_named() -> None:
    """A service that dies in mid-soak is the result, not a traceback about a file."""
    with pytest.raises(ProcessLookupError, match="process -1 has ended"):
        look(-1)


def test_a_series_is_summed_over_its_labels_and_not_over_its_namesakes() -> None:
    """`x_total` is not `x_total_created`."""
    samples = {'x_total{a="1"}': 2.0, 'x_total{a="2"}': 3.0, "x_total_created": 9.0}
    assert total(samples, "x_total") == 5.0


def test_counters_that_do_not_add_up_are_named_with_both_numbers() -> None:
    """One lost request in ten thousand is a bug, and the sums find it."""
    tally = Tally()
    tally.outcomes["whole"] = 3
    gateway = {
        'pointsman_gateway_requests_total{outcome="ok"}': 3.0,
        'pointsman_gateway_request_seconds_count{outcome="ok"}': 3.0,
    }
    upstream = {
        "pointsman_upstream_requests_total": 3.0,
        'pointsman_upstream_attempts_total{model="m"}': 4.0,
    }
    assert differences(gateway, upstream, tally, 4) == []
    assert differences(gateway, upstream, tally, 5) == [
        "pointsman_upstream_attempts_total is 4, not 5"
    ]


def test_requests_refused_by_the_gateway_reach_nobody_else() -> None:
    """Refusing early is right, and must not look like a lost request."""
    tally = Tally()
    tally.outcomes["503 overloaded"] = 2
    assert differences({"pointsman_gateway_refused_total": 2.0}, {}, tally, 0) == []


def test_what_is_left_in_flight_is_named() -> None:
    """A place that is never given back makes the next outage worse."""
    assert not_idle({"pointsman_upstream_queued": 1.0, "other": 1.0}) == [
        "pointsman_upstream_queued is 1 with nobody asking"
    ]


def test_growth_of_a_new_series_is_all_of_it() -> None:
    """Labels appear with their first request."""
    assert growth({"a": 1.0}, {"a": 4.0, "b": 2.0}) == {"a": 3.0, "b": 2.0}


@pytest.mark.parametrize(
    ("answer", "left", "outcome"),
    [
        (
            Answer(asked_at=0, status=200, text="right", done=True, finish_reason="stop"),
            False,
            "whole",
        ),
        (Answer(asked_at=0, status=200, text="rig"), True, "left by the client"),
        (
            Answer(asked_at=0, status=200, text="rig", error={"message": "m", "code": "c"}),
            False,
            "200 c",
        ),
        (Answer(asked_at=0, status=200, text="wrong", error={"message": "m"}), False, "WRONG"),
        (Answer(asked_at=0, status=200, text="rig"), False, "WRONG"),
        (Answer(asked_at=0, flaw="does not end"), False, "WRONG"),
    ],
)
def test_every_answer_is_judged(answer: Answer, left: bool, outcome: str) -> None:
    """Truncated, mixed up or hanging: only a whole answer and a clear error are right."""
    tally = Tally()
    tally.add(answer, {"right": "primary"}, left=left)
    assert tally.outcomes == {outcome: 1}
    assert tally.wrong_count == (outcome == "WRONG")


def test_faults_leave_room_for_answers() -> None:
    """Each at its chance; together well under a half, or nothing but failure would be soaked."""
    assert len(KINDS) * CHANCE < 0.5
    assert {kind.partition(":")[0] for kind in KINDS} <= set(FAULTS)


async def test_clients_count_every_request_the_provider_had(provider: FaultyProvider) -> None:
    """Without a gateway between, wrong answers are found too: the soak can fail."""
    tally = await run_clients(
        provider.url,
        f"{MIXED}@x",
        clients=32,
        seconds=0.3,
        texts=texts(provider),
        seed=1,
        patience_seconds=1.0,
    )
    assert tally.sent == provider.counts[f"{MIXED}@x"]
    assert tally.outcomes["whole"]
    assert tally.wrong_count


def _report(*problems: str) -> Report:
    footprint = Footprint(rss_bytes=60 * 2**20, descriptors=17, threads=9)
    return Report(
        options=Options(seconds=600.0, clients=32, seed=0),
        requests=1234,
        outcomes={"whole": 1200, "WRONG": 34},
        whole_from={"soak": 1200},
        fallbacks={"timeout": 7},
        attempts=1300,
        memory={"gateway": slope([(float(s), 60.0 * 2**20) for s in range(100)])},
        before={"gateway": footprint},
        after={"gateway": footprint},
        release_seconds=61.0,
        problems=list(problems),
    )


def test_report_ends_with_its_verdict() -> None:
    """The last line says it, and every problem has one of its own."""
    assert as_text(_report()).endswith("\nsoak: passed")
    assert as_text(_report("a", "b")).endswith("WRONG: a\nWRONG: b\nsoak: failed")


def test_report_shows_what_was_held_before_and_after() -> None:
    """Figures in MiB; descriptors and threads as they were and are."""
    assert "17 -> 17" in as_text(_report())
    assert "60.0 MiB" in as_text(_report())


@pytest.mark.parametrize("arguments", [["--seconds", "5"], ["--clients", "0"]])
def test_soak_that_says_nothing_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No line can be drawn through a few seconds."""
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert "is less than" in capsys.readouterr().err
