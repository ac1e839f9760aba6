"""One measurement, in a process of its own: `python -m bench.load`, a job in, figures out, as JSON.

N clients ask one after another, each on its own connection, and check every answer. The window
begins and ends with nothing in flight, so that the CPU seconds between belong to its requests.
"""

import asyncio
import gc
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bench import cpu
from bench.figures import percentile
from bench.http1 import BadResponse, Connection, Response, request_bytes
from bench.prompts import PLAIN_START, prompts

_PATIENCE_SECONDS = 60.0
"""So long after its end a window's last answers may take before the measurement is given up."""
_SPARE = 1.2
"""How many more requests than the warm-up's rate promises are written before the window."""
_DONE = b"data: [DONE]\n\n"
_DECISIONS = ("strong", "weak")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    host: str
    """`host:port` to ask."""
    model: str
    """The model field."""
    routed: bool
    """Whether answers must say what was decided."""
    stream: bool
    clients: int
    """Requests in flight at any time."""
    seconds: float
    """How long new requests are sent."""
    warm_up_seconds: float
    seed: str
    """Of the prompts; the warm-up has others."""
    pids: dict[str, int]
    """Service → the process whose CPU time counts; empty where it cannot be read."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What one window gave."""

    requests: int
    seconds: float
    """From the first request to the last answer."""
    p50_seconds: float
    """Of the latencies: from sending a request to its answer's last byte."""
    p99_seconds: float
    first_token_p50_seconds: float | None
    """None for answers in one piece."""
    events_per_answer: float | None
    """Server-sent events; None for answers in one piece."""
    cpu_seconds: dict[str, float]
    """Service → CPU seconds over the window, all threads."""
    load_cpu_seconds: float
    """The load generator's own."""
    errors: dict[str, int]
    """What was wrong with answers → how many."""


@dataclass(slots=True)
class _Tally:
    latencies: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    events: int = 0
    errors: Counter[str] = field(default_factory=Counter)


async def measure(job: Job) -> Measurement:
    """Warms up, then measures one window.

    Raises:
        BadResponse: A connection broke.
        OSError: Nobody listens, or a process whose CPU time counts has ended.
        TimeoutError: Answers did not come.
    """
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(await Connection.open(job.host))
            for _ in range(job.clients)
        ]
        warm_up, seconds = await _window(
            job, connections, _requests(job, f"{job.seed} warm-up"), job.warm_up_seconds
        )
        rate = len(warm_up.latencies) / seconds
        requests = _requests(job, job.seed)
        ready = list(itertools.islice(requests, int(rate * job.seconds * _SPARE)))
        gc.freeze()
        cpu_before, own_before = cpu.cpu_seconds(job.pids), time.process_time()
        tally, seconds = await _window(
            job, connections, itertools.chain(ready, requests), job.seconds
        )
        own_after, cpu_after = time.process_time(), cpu.cpu_seconds(job.pids)
    tally.errors.update(warm_up.errors)
    answers = len(tally.latencies)
    return Measurement(
        requests=answers,
        seconds=seconds,
        p50_seconds=percentile(tally.latencies, 50),
        p99_seconds=percentile(tally.latencies, 99),
        first_token_p50_seconds=percentile(tally.first_tokens, 50) if job.stream else None,
        events_per_answer=tally.events / answers if job.stream else None,
        cpu_seconds={name: cpu_after[name] - cpu_before[name] for name in job.pids},
        load_cpu_seconds=own_after - own_before,
        errors=dict(tally.errors),
    )


def fault(response: Response, job: Job, expected: bytes) -> str | None:
    """Returns what is wrong with an answer, or None.

    Args:
        response: The answer.
        job: What was asked for.
        expected: The start of the prompt, which the demo provider repeats in a whole answer.
    """
    if response.status != 200:
        return f"status {response.status}: {response.body[:200].decode(errors='replace')}"
    headers = response.headers
    if job.routed and headers.get("x-pointsman-decision") not in _DECISIONS:
        return "no x-pointsman-decision header"
    if "x-pointsman-fallback" in headers:
        return f"decided without the scorer: {headers['x-pointsman-fallback']}"
    if job.stream:
        return None if response.body.endswith(_DONE) else "a stream that did not end in [DONE]"
    return None if expected in response.body else "an answer to another prompt"


async def _window(
    job: Job, connections: list[Connection], requests: Iterator[tuple[bytes, bytes]], seconds: float
) -> tuple[_Tally, float]:
    """Returns what the clients saw and the seconds until the last answer."""
    tally = _Tally()
    clock = time.perf_counter
    started_at = clock()

    async def client(connection: Connection) -> None:
        while (asked_at := clock()) - started_at < seconds:
            request, expected = next(requests)
            response = await connection.ask(request)
            tally.latencies.append(clock() - asked_at)
            if reason := fault(response, job, expected):
                tally.errors[reason] += 1
            if job.stream:
                tally.first_tokens.append((response.first_token_at or clock()) - asked_at)
                tally.events += response.body.count(b"\n\n")

    try:
        async with asyncio.timeout(seconds + _PATIENCE_SECONDS), asyncio.TaskGroup() as clients:
            for connection in connections:
                clients.create_task(client(connection))
    except ExceptionGroup as failures:  # the first is enough: the others follow from it
        raise failures.exceptions[0] from None
    return tally, clock() - started_at


def _requests(job: Job, seed: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields requests as bytes, each with the start of its prompt."""
    for prompt in prompts(seed):
        body: dict[str, Any] = {"model": job.model}
        body["messages"] = [{"role": "user", "content": prompt}]
        if job.stream:
            body["stream"] = True
        path = "/v1/chat/completions"
        request = request_bytes("POST", job.host, path, msgspec.json.encode(body))
        yield request, prompt[:PLAIN_START].encode("ascii")


def main() -> int:
    """Reads a job from standard input and writes its measurement to standard output."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        measurement = asyncio.run(measure(job))
    except (BadResponse, OSError) as error:  # a TimeoutError is an OSError, and has no text
        reason = str(error) or "no answer in time"
        print(f"bench: {job.model} at {job.host}: {reason}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(measurement))
    return 0


if __name__ == "__main__":
    sys.exit(main())
