"""An open loop: requests arrive when they arrive, whether or not earlier ones were answered."""

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from bench import cpu
from bench.http1 import BadResponse, Connection, Response, request_bytes
from bench.load import Job, fault
from bench.prompts import PLAIN_START, prompts

_SPARE = 1.2
"""How many more requests than should arrive by chance are written before the loop."""
_SETTLE_SECONDS = 2.0
_PROBE_SECONDS = 0.1
_PATIENCE_SECONDS = 30.0
_REFUSALS = (429, 503)
_ERROR_KEYS = {"message", "type", "param", "code"}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When the client has enough."""

    seconds: float
    """Of the window that counts."""
    within_seconds: float
    """An answer that comes later is no good."""
    settle_seconds: float = _SETTLE_SECONDS
    """So long it runs before it counts, as in the second minute of an overload."""


@dataclass(slots=True)
class Seen:
    """What one open loop gave."""

    good: list[float] = field(default_factory=list)
    """Latencies of right answers in time."""
    refused: list[float] = field(default_factory=list)
    """Latencies of refusals that said when to come back."""
    bad: Counter[str] = field(default_factory=Counter)
    """What was wrong → how many; late answers too."""
    arrived: int = 0
    unsent: int = 0
    probes: list[float] = field(default_factory=list)
    probes_failed: int = 0
    cores: dict[str, float] = field(default_factory=dict)
    """Service → cores it had, `load` → cores that the client had."""


class OpenLoop:
    """Offers requests, and probes beside them.

    Args:
        job: What is asked, and of whom; how many clients there are is `pool`'s to say.
        limits: When the client has enough.
        pool: Connections that nobody uses; what arrives when all are waiting is not sent.
    """

    def __init__(self, job: Job, limits: Limits, pool: list[Connection]) -> None:
        self._job = job
        self._limits = limits
        self._pool = pool
        self._seen = Seen()

    async def run(self, rate: float) -> Seen:
        """Offers so many requests a second, and returns what was seen.

        Raises:
            OSError: Nobody listens any more, or answers did not come.
        """
        seconds = self._limits.settle_seconds + self._limits.seconds
        ready = list(islice(self._requests(), int(rate * seconds * _SPARE)))
        gc.freeze()
        try:
            async with asyncio.timeout(seconds + _PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                probing = group.create_task(self._probe())
                await self._arrive(group, ready, rate, self._limits.settle_seconds)
                self._seen = Seen()
                used = _used(self._job.pids)
                started_at = time.perf_counter()
                await self._arrive(group, ready, rate, self._limits.seconds)
                seconds = time.perf_counter() - started_at
                self._seen.cores = {
                    name: (after - used[name]) / seconds
                    for name, after in _used(self._job.pids).items()
                }
                probing.cancel()
        except ExceptionGroup as failures:  # the first is enough: the others follow from it
            raise failures.exceptions[0] from None
        return self._seen

    async def _arrive(
        self,
        group: asyncio.TaskGroup,
        ready: list[tuple[bytes, bytes]],
        rate: float,
        seconds: float,
    ) -> None:
        chance, clock = random.Random(f"{self._job.seed} {seconds}"), time.perf_counter
        started_at = due = clock()
        while ready and clock() - started_at < seconds:
            while ready and due <= clock():
                group.create_task(self._ask(*ready.pop(), self._seen))
                due += chance.expovariate(rate)
            await asyncio.sleep(max(0.0, due - clock()))

    def _requests(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields requests as bytes, each with the start of its prompt."""
        for prompt in prompts(self._job.seed):
            messages = [{"role": "user", "content": prompt}]
            body = msgspec.json.encode({"model": self._job.model, "messages": messages})
            request = request_bytes("POST", self._job.host, "/v1/chat/completions", body)
            yield request, prompt[:PLAIN_START].encode("ascii")

    async def _ask(self, request: bytes, expected: bytes, seen: Seen) -> None:
        seen.arrived += 1
        if not self._pool:
            seen.unsent += 1
            return
        connection, asked_at = self._pool.pop(), time.perf_counter()
        try:
            response = await connection.ask(request)
        except BadResponse as error:
            seen.bad[str(error)] += 1
            connection = await Connection.open(self._job.host)
        else:
            seconds = time.perf_counter() - asked_at
            if response.status in _REFUSALS and refused_well(response):
                seen.refused.append(seconds)
            elif reason := fault(response, self._job, expected):
                seen.bad[reason] += 1
            elif seconds > self._limits.within_seconds:
                seen.bad[f"over {self._limits.within_seconds:g} s"] += 1
            else:
                seen.good.append(seconds)
            if response.headers.get("connection") == "close":
                connection.close()
                connection = await Connection.open(self._job.host)
        self._pool.append(connection)

    async def _probe(self) -> None:
        requests = [request_bytes("GET", self._job.host, path) for path in ("/healthz", "/readyz")]
        async with await Connection.open(self._job.host) as connection:
            while True:
                for request in requests:
                    asked_at = time.perf_counter()
                    response = await connection.ask(request)
                    self._seen.probes.append(time.perf_counter() - asked_at)
                    self._seen.probes_failed += response.status != 200
                await asyncio.sleep(_PROBE_SECONDS)


def refused_well(response: Response) -> bool:
    """Returns whether a refusal has OpenAI's shape and says when to come back."""
    try:
        told = msgspec.json.decode(response.body, type=dict[str, dict[str, str | None]])
    except msgspec.DecodeError:
        return False
    shaped = told.keys() == {"error"} and told["error"].keys() == _ERROR_KEYS
    return shaped and response.headers.get("retry-after", "").isdecimal()


def _used(pids: dict[str, int]) -> dict[str, float]:
    """Returns the CPU seconds of the services, and our own as `load`."""
    return {**cpu.cpu_seconds(pids), "load": time.process_time()}
