"""`python -m bench.overload`: what is left of the gateway when twice as much comes as it can take.

The capacity is found closed-loop: clients that wait for their answers, as many as give the most.
Then requests arrive open-loop, at random moments and whether or not earlier ones were answered.
Both are repeated in turn, and each round's goodput is compared with its own capacity. Only right
answers that came in time are goodput.
"""

import argparse
import asyncio
import math
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from bench import cpu
from bench.cluster import running
from bench.figures import percentile, spread
from bench.http1 import BadResponse, Connection
from bench.load import Job, measure
from bench.open_loop import Limits, OpenLoop, Seen
from bench.table import aligned
from services.process import StartError

_CLIENTS = (16, 32, 64)
"""Closed-loop; the best counts: too few leave a core idle, too many wait for each other."""
_WARM_UP_SECONDS = 0.5


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure."""

    model: str
    factor: float
    within_seconds: float
    """An answer that comes later is no good."""
    connections: int
    """What arrives while all are waiting is not sent."""
    seconds: float
    rounds: int


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The most that clients got who wait for their answers."""

    per_second: float
    cores: float
    """What the services had for it; NaN where nobody knows."""


def job_of(host: str, options: Options, pids: dict[str, int], seed: str) -> Job:
    """Returns what is asked; the number of clients is still to be filled in."""
    return Job(
        host=host,
        model=options.model,
        routed=True,
        stream=False,
        clients=1,
        seconds=options.seconds,
        warm_up_seconds=_WARM_UP_SECONDS,
        seed=seed,
        pids=pids,
    )


async def capacity(job: Job) -> Capacity:
    """Returns the best of a few numbers of clients.

    Raises:
        BadResponse: An answer was wrong.
    """
    found = []
    for clients in _CLIENTS:
        seed = f"{job.seed}, {clients} clients"
        measured = await measure(msgspec.structs.replace(job, clients=clients, seed=seed))
        if measured.errors:
            raise BadResponse(f"with {clients} clients: {measured.errors}")
        cores = sum(measured.cpu_seconds.values()) / measured.seconds if job.pids else math.nan
        found.append(Capacity(per_second=measured.requests / measured.seconds, cores=cores))
    return max(found, key=lambda one: one.per_second)


async def _run(options: Options) -> None:
    rates, efforts = [], []
    async with running(os.environ, 0.0) as cluster, AsyncExitStack() as stack:
        host = cluster.processes["gateway"].announcement.address
        pids = {name: one.pid for name, one in cluster.processes.items() if cpu.AVAILABLE}
        pool = [
            await stack.enter_async_context(await Connection.open(host))
            for _ in range(options.connections)
        ]
        limits = Limits(seconds=options.seconds, within_seconds=options.within_seconds)
        for number in range(options.rounds):
            most = await capacity(job_of(host, options, pids, f"capacity {number}"))
            job = job_of(host, options, pids, f"overload {number}")
            seen = await OpenLoop(job, limits, pool).run(options.factor * most.per_second)
            good = len(seen.good) / options.seconds
            cores = sum(seen.cores[name] for name in pids) or math.nan
            rates.append(good / most.per_second)
            efforts.append(good / cores * most.cores / most.per_second)
            print(as_text(number, most, seen, options), flush=True)
    print(
        f"\ngoodput at {options.factor:g} times the capacity, of {options.rounds} rounds:\n"
        f"  {_shares(rates)} of the capacity\n"
        f"  {_shares(efforts)} of it for each CPU second that the services had"
    )


def _shares(shares: list[float]) -> str:
    found = spread(shares)
    return f"{found.median:.0%} ({found.low:.0%} to {found.high:.0%})"


def as_text(number: int, most: Capacity, seen: Seen, options: Options) -> str:
    """Returns a round's figures as lines."""
    per_second = {
        "capacity": most.per_second,
        "offered": seen.arrived / options.seconds,
        "good": len(seen.good) / options.seconds,
        "refused": len(seen.refused) / options.seconds,
        "not sent, all connections waiting": seen.unsent / options.seconds,
        **{f"bad: {reason[:60]}": count / options.seconds for reason, count in seen.bad.items()},
    }
    rows = [[name, f"{rate:,.0f}/s"] for name, rate in per_second.items()]
    for name, seconds in (("good", seen.good), ("refused", seen.refused), ("probe", seen.probes)):
        p50, p99 = (percentile(seconds, percent) for percent in (50, 99))
        rows.append([f"{name}, p50 and p99", f"{p50 * 1e3:,.1f} and {p99 * 1e3:,.1f} ms"])
    rows.append(["probes that failed", str(seen.probes_failed)])
    shown = ", ".join(f"{name} {used:.2f}" for name, used in seen.cores.items())
    return f"\nround {number + 1}\n{aligned(rows)}\ncores: {shown}; at capacity {most.cores:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.overload", description="Goodput when twice as much comes as fits."
    )
    add = parser.add_argument
    add("--model", default="router-random-0.5", help="the model field (%(default)s)")
    add("--factor", type=float, default=2.0, help="arrivals over capacity (%(default)s)")
    add(
        "--within",
        dest="within_seconds",
        type=float,
        default=1.0,
        metavar="S",
        help="an answer that comes later is no good (%(default)s)",
    )
    add("--connections", type=int, default=4000, metavar="N", help="at most (%(default)s)")
    add("--seconds", type=float, default=5.0, metavar="S", help="of each window (%(default)s)")
    add("--rounds", type=int, default=3, metavar="N", help="how often (%(default)s)")
    options = Options(**vars(parser.parse_args(arguments)))
    try:
        asyncio.run(_run(options))
    except (StartError, BadResponse, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
