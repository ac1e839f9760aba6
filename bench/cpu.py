"""CPU seconds of processes, and which machine this is. Linux's /proc; elsewhere less is known."""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

_PROC = Path("/proc")
AVAILABLE = (_PROC / "self" / "stat").exists()
"""Whether `cpu_seconds` can be called here."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where figures were measured."""

    cpu: str
    cores: int
    """Cores that this process may use."""
    system: str
    python: str
    load_average: float
    """Over the last minute before the first measurement: over 0 others were at work too."""


def machine() -> Machine:
    """Returns what is known of this machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        cpu=_cpu_model(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load_average=round(os.getloadavg()[0], 2),
    )


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Returns the CPU seconds each process has used since its start, all its threads together.

    User and system time, to a hundredth of a second; a scorer's inference threads are in it.

    Args:
        pids: Name → process id.

    Raises:
        ProcessLookupError: One has ended.
    """
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    return {name: ticks_of(_stat(name, pid)) / ticks_per_second for name, pid in pids.items()}


def ticks_of(stat: str) -> int:
    """Returns user plus system ticks of a line of /proc/PID/stat (proc(5): fields 14 and 15)."""
    # The second field is the command in brackets, and may itself hold blanks and brackets.
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _stat(name: str, pid: int) -> str:
    try:
        return _PROC.joinpath(str(pid), "stat").read_text()
    except FileNotFoundError:
        raise ProcessLookupError(f"the {name} has ended") from None


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in (_PROC / "cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
