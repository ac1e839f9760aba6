"""CPU time as /proc tells it."""

import os

import pytest

from bench import cpu


def test_user_and_system_ticks_are_added() -> None:
    """Fields 14 and 15 of proc(5), and not the children's that follow them."""
    stat = "7 (cat) R 1 7 7 0 -1 4194304 101 0 0 0 12 30 500 600 20 0 1 0 176133 3133440"
    assert cpu.ticks_of(stat) == 42


def test_a_command_with_blanks_and_brackets_is_skipped() -> None:
    """Anybody may call a process so."""
    stat = "7 (a (b) c 9 9) R 1 7 7 0 -1 4194304 101 0 0 0 12 30 500 600 20 0 1 0"
    assert cpu.ticks_of(stat) == 42


@pytest.mark.skipif(not cpu.AVAILABLE, reason="no /proc here")
def test_a_live_process_has_used_some_time() -> None:
    """This one has at least imported pytest."""
    assert cpu.cpu_seconds({"me": os.getpid()})["me"] > 0


@pytest.mark.skipif(not cpu.AVAILABLE, reason="no /proc here")
def test_a_process_that_has_ended_is_named() -> None:
    """A service that dies in mid-run is no missing file."""
    with pytest.raises(ProcessLookupError, match="the scorer has ended"):
        cpu.cpu_seconds({"scorer": -1})


def test_the_machine_is_named() -> None:
    """A figure without its machine is worth little."""
    found = cpu.machine()
    assert found.cpu
    assert found.cores >= 1
