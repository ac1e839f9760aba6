"""Rows in interleaved rounds (A B C A B C): what disturbs the machine for a while disturbs all."""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
from tqdm import tqdm

from bench import cpu
from bench.load import Job, Measurement
from services.all_in_one import Cluster


class LoadFailed(Exception):
    """The load generator gave up, and has said why on standard error."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request."""

    name: str
    service: str
    """Who is asked."""
    model: str
    router: str | None = None
    """The router in the model field, if any."""
    stream: bool = False


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure."""

    clients: int
    seconds: float
    warm_up_seconds: float
    rounds: int
    chunk_seconds: float
    """The demo provider's pause between two chunks of a stream."""


Measured = dict[str, list[Measurement]]
"""Row → its measurements, one a round."""

ROWS = (
    Row(name="direct", service="demo_provider", model="demo-weak"),
    Row(name="router-random-0.5", service="gateway", model="router-random-0.5", router="random"),
    Row(name="router-mf-0.5", service="gateway", model="router-mf-0.5", router="mf"),
    Row(name="direct, streamed", service="demo_provider", model="demo-weak", stream=True),
    Row(
        name="router-random-0.5, streamed",
        service="gateway",
        model="router-random-0.5",
        router="random",
        stream=True,
    ),
)


async def measure_rounds(cluster: Cluster, rows: Sequence[Row], options: Options) -> Measured:
    """Returns what every row gave in every round.

    Raises:
        LoadFailed: The load generator gave up.
    """
    measured: Measured = {row.name: [] for row in rows}
    pids = {name: process.pid for name, process in cluster.processes.items()}
    with _progress(options.rounds * len(rows)) as step:
        for number in range(options.rounds):
            for row in rows:
                step(f"round {number + 1} of {options.rounds}: {row.name}")
                host = cluster.processes[row.service].announcement.address
                job = job_of(row, host, pids, options, number)
                measured[row.name].append(await _measure(job))
    return measured


def job_of(row: Row, host: str, pids: Mapping[str, int], options: Options, number: int) -> Job:
    """Returns a row's job in one round: in a round all rows send the same prompts, in each new."""
    return Job(
        host=host,
        model=row.model,
        routed=row.router is not None,
        stream=row.stream,
        clients=options.clients,
        seconds=options.seconds,
        warm_up_seconds=options.warm_up_seconds,
        seed=f"round {number}",
        pids=dict(pids) if cpu.AVAILABLE else {},
    )


async def _measure(job: Job) -> Measurement:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C reaches us, and we stop it
    )
    try:
        output, _ = await child.communicate(msgspec.json.encode(job))
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGKILL)
            await child.wait()
    if child.returncode != 0:
        raise LoadFailed(f"the load generator ended with status {child.returncode}")
    return msgspec.json.decode(output, type=Measurement)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Yields what to call before each step: a bar on a terminal, a line elsewhere."""
    if not sys.stderr.isatty():
        yield lambda step: print(step, file=sys.stderr, flush=True)
        return
    with tqdm(total=total, unit="window", leave=False, file=sys.stderr) as bar:
        begun = False

        def show(step: str) -> None:
            nonlocal begun
            bar.update(int(begun))
            begun = True
            bar.set_description(step)

        yield show
