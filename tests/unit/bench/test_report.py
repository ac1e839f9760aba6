"""Measurements of two rounds as people and programs read them."""

import msgspec
import pytest

from bench.cpu import Machine
from bench.figures import Spread
from bench.load import Measurement
from bench.report import Report, as_data, as_text, cpu_per_request, over_rounds
from bench.rounds import ROWS, Options

SERVICES = ("demo_provider", "scorer", "upstream", "gateway")


def measurement(requests: int, cpu: float | None = 0.1, **changed: object) -> Measurement:
    """Returns a window of one second in which each service used `cpu` seconds."""
    plain = Measurement(
        requests=requests,
        seconds=1.0,
        p50_seconds=0.02,
        p99_seconds=0.04,
        first_token_p50_seconds=None,
        events_per_answer=None,
        cpu_seconds={} if cpu is None else dict.fromkeys(SERVICES, cpu),
        load_cpu_seconds=0.1,
        errors={},
    )
    return msgspec.structs.replace(plain, **changed)


def report(*measurements: Measurement) -> Report:
    """Returns a report of the random router alone."""
    return Report(
        version="1.0",
        machine=Machine(cpu="Z80", cores=1, system="CP/M", python="3.11", load_average=0.5),
        options=Options(clients=16, seconds=1.0, warm_up_seconds=0.1, rounds=2, chunk_seconds=0.01),
        rows=(ROWS[1],),
        skipped={"router-mf-0.5": "no bundle"},
        measured={ROWS[1].name: list(measurements)},
    )


def test_cpu_is_divided_by_the_requests_of_its_own_round() -> None:
    """0.3 s for 100 requests, then for 300."""
    figure = cpu_per_request("gateway", "scorer", "upstream")
    found = over_rounds([measurement(100), measurement(300)], figure)
    assert found is not None
    assert found.low == pytest.approx(0.001)
    assert found.median == pytest.approx(0.002)
    assert found.high == pytest.approx(0.003)


def test_the_text_names_machine_row_figures_and_what_was_skipped() -> None:
    """Nobody should have to ask what a number means."""
    text = as_text(report(measurement(100), measurement(300)))
    assert "Z80, 1 cores" in text
    assert "16 clients" in text
    row = next(line for line in text.splitlines() if line.startswith("router-random-0.5"))
    assert row.split()[1:] == ["200", "0.67", "0.67", "0.67", "2.00", "20.0", "40.0"]
    assert "Skipped: router-mf-0.5: no bundle" in text
    assert "WRONG" not in text


def test_a_system_without_proc_says_so_in_place_of_figures() -> None:
    """Latency and rate are still worth a run there."""
    text = as_text(report(measurement(100, cpu=None)))
    row = next(line for line in text.splitlines() if line.startswith("router-random-0.5"))
    assert row.split()[1:6] == ["100", "n/a", "n/a", "n/a", "n/a"]
    assert "CPU time is not available on this system" in text


def test_wrong_answers_are_summed_over_rounds_and_shouted() -> None:
    """The exit status hangs on them."""
    found = report(
        measurement(9, errors={"status 503": 1}), measurement(9, errors={"status 503": 2})
    )
    assert found.errors == {"router-random-0.5": {"status 503": 3}}
    assert "WRONG ANSWERS: router-random-0.5: 3\n  3 x status 503" in as_text(found)


def test_the_data_holds_summary_and_every_round() -> None:
    """It survives JSON, in seconds."""
    data = msgspec.json.decode(msgspec.json.encode(as_data(report(measurement(100)))))
    (row,) = data["rows"]
    rate = msgspec.convert(row["summary"]["requests_per_second"], Spread)
    assert rate == Spread(median=100.0, low=100.0, high=100.0)
    assert row["measurements"][0]["p99_seconds"] == 0.04
    assert row["summary"]["first_token_p50_seconds"] is None
