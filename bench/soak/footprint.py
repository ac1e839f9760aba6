"""What processes hold: memory, descriptors and threads, over time. Linux's /proc."""

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import msgspec

_PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BLOCKS = 20
_T_18 = 2.101
"""Student's t for 95 % and the 18 degrees of freedom that twenty blocks leave a line."""


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one process."""

    rss_bytes: int
    descriptors: int
    threads: int


class Slope(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure grows over a window, by a straight line."""

    per_hour: float
    low: float
    """The lower end of the 95 % interval, per hour."""
    high: float
    mean: float
    hours: float
    """Length of the window."""

    def grows(self, tolerated_share: float) -> bool:
        """Whether it surely grows, and by more than this share of its mean over the window."""
        return self.low > 0 and self.per_hour * self.hours > tolerated_share * self.mean


def look(pid: int) -> Footprint:
    """Returns what a process holds now.

    Raises:
        ProcessLookupError: It has ended.
    """
    folder = _PROC / str(pid)
    try:
        pages = int((folder / "statm").read_text().split()[1])
        return Footprint(
            rss_bytes=pages * _PAGE_BYTES,
            descriptors=sum(1 for _ in (folder / "fd").iterdir()),
            threads=sum(1 for _ in (folder / "task").iterdir()),
        )
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} has ended") from None


async def watch(
    pids: Mapping[str, int], every_seconds: float, seen: dict[str, list[tuple[float, Footprint]]]
) -> None:
    """Adds a look at every process to `seen`, with its time, until cancelled."""
    now = asyncio.get_running_loop().time
    while True:
        for name, pid in pids.items():
            seen[name].append((now(), look(pid)))
        await asyncio.sleep(every_seconds)


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Returns the least-squares line through the means of twenty blocks of these points.

    Blocks, because memory one second later is no new observation.

    Args:
        points: Seconds and values, in order; at least forty.
    """
    size = len(points) // _BLOCKS
    blocks = [points[at * size : (at + 1) * size] for at in range(_BLOCKS)]
    hours = [fmean(second for second, _ in block) / 3600 for block in blocks]
    values = [fmean(value for _, value in block) for block in blocks]
    middle, mean = fmean(hours), fmean(values)
    squares = sum((hour - middle) ** 2 for hour in hours)
    pairs = list(zip(hours, values, strict=True))
    per_hour = sum((hour - middle) * (value - mean) for hour, value in pairs) / squares
    residuals = (value - mean - per_hour * (hour - middle) for hour, value in pairs)
    error = math.sqrt(sum(r * r for r in residuals) / (_BLOCKS - 2) / squares)
    return Slope(
        per_hour=per_hour,
        low=per_hour - _T_18 * error,
        high=per_hour + _T_18 * error,
        mean=mean,
        hours=(points[-1][0] - points[0][0]) / 3600,
    )
