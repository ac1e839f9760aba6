"""One soak: services and faulty providers up, load on, and what was held before and after."""

import asyncio
from collections.abc import Mapping

import msgspec

from bench.fault_wall.client import ask
from bench.fault_wall.faults import FAULTS
from bench.fault_wall.wall import Route, Wall, running
from bench.soak.audit import differences, growth, not_idle
from bench.soak.footprint import Footprint, Slope, look, slope, watch
from bench.soak.load import run_clients
from bench.soak.mix import MIXED, mixed, texts

_MODEL = "soak"
_LIMIT_SECONDS = 2.0
"""First token and idle: short, so that few clients sit in front of silent providers."""
_LIMITS = {
    "first_token_timeout_seconds": _LIMIT_SECONDS,
    "idle_timeout_seconds": _LIMIT_SECONDS,
    "total_timeout_seconds": 2 * _LIMIT_SECONDS,
}
_RELIABILITY = {"breaker": {"consecutive_failures": 10}}
"""A quarter of all calls fails: at this rate the default five in a row come by chance every few
seconds, and most requests would end at an open breaker."""
_LOOK_SECONDS = 0.5
_SETTLING_SHARE = 1 / 3
"""Of the time, at its beginning: allocators and caches fill, and no line is drawn through that."""
_TOLERATED_SHARE = 0.02
"""Growth of memory over the window that is taken for noise."""
_RELEASE_SECONDS = 130.0
"""Idle connections to providers are kept for 60 seconds, and looked at every 60."""
_STRAYS = 2
"""Descriptors and threads more than before that say nothing: a connection to the metrics port, and
gRPC's own pool of threads."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to soak."""

    seconds: float
    clients: int
    seed: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    options: Options
    requests: int
    outcomes: dict[str, int]
    whole_from: dict[str, int]
    fallbacks: dict[str, int]
    attempts: int
    """Requests that reached the two providers."""
    memory: dict[str, Slope]
    before: dict[str, Footprint]
    after: dict[str, Footprint]
    release_seconds: float
    """From the last answer until descriptors and threads were what they had been."""
    problems: list[str]


async def soak(options: Options) -> Report:
    """Returns what came of a soak.

    Raises:
        StartError: A service did not start.
        ProcessLookupError: One ended in the middle.
    """
    faults = {**FAULTS, MIXED: mixed}
    routes = {_MODEL: Route(MIXED, (MIXED,))}
    async with running(
        routes,
        limits=_LIMITS,
        reliability=_RELIABILITY,
        faults=faults,
        token_seconds=0.0,
        remember=False,
        seed=options.seed,
    ) as wall:
        pids = {process.service: process.pid for process in (wall.gateway, wall.upstream)}
        await ask(wall.session, wall.url, "strong")  # what is opened once, is open
        before = {name: look(pid) for name, pid in pids.items()}
        return await _soaked(wall, options, pids, before)


async def _soaked(
    wall: Wall, options: Options, pids: Mapping[str, int], before: dict[str, Footprint]
) -> Report:
    gateway_before, upstream_before = await _idle_metrics(wall)
    asked_before = _asked(wall)
    seen: dict[str, list[tuple[float, Footprint]]] = {name: [] for name in pids}
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(pids, _LOOK_SECONDS, seen))
        tally = await run_clients(
            wall.url,
            _MODEL,
            clients=options.clients,
            seconds=options.seconds,
            texts=texts(wall.primary, wall.secondary),
            seed=options.seed,
        )
        watching.cancel()
    gateway_after, upstream_after = await _idle_metrics(wall)
    problems = [f"{tally.wrong_count} wrong answers, such as: {one}" for one in tally.wrong]
    problems += not_idle({**gateway_after, **upstream_after})
    problems += differences(
        growth(gateway_before, gateway_after),
        growth(upstream_before, upstream_after),
        tally,
        _asked(wall) - asked_before,
    )
    memory = {name: slope(_settled(looks)) for name, looks in seen.items()}
    problems += [
        f"the {name}'s memory grows by {line.per_hour / 2**20:.1f} MiB an hour"
        for name, line in memory.items()
        if line.grows(_TOLERATED_SHARE)
    ]
    release_seconds, after = await _released(pids, before)
    problems += [
        f"the {name} holds {after[name].descriptors} descriptors and {after[name].threads} "
        f"threads; before the load {held.descriptors} and {held.threads}"
        for name, held in before.items()
        if not _is_back(after[name], held)
    ]
    return Report(
        options=options,
        requests=tally.sent,
        outcomes=dict(tally.outcomes.most_common()),
        whole_from=dict(tally.whole_from),
        fallbacks=dict(tally.fallbacks),
        attempts=_asked(wall) - asked_before,
        memory=memory,
        before=before,
        after=after,
        release_seconds=release_seconds,
        problems=problems,
    )


async def _idle_metrics(wall: Wall) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the samples of gateway and upstream, once neither has a request in flight."""
    await wall.until_idle(wall.gateway)
    await wall.until_idle(wall.upstream)
    return await wall.metrics(wall.gateway), await wall.metrics(wall.upstream)


async def _released(
    pids: Mapping[str, int], before: Mapping[str, Footprint]
) -> tuple[float, dict[str, Footprint]]:
    """Returns the seconds until all is as before, or the longest wait; and what is held then."""
    now = asyncio.get_running_loop().time
    began_at = now()
    while True:
        held = {name: look(pid) for name, pid in pids.items()}
        waited = now() - began_at
        if waited > _RELEASE_SECONDS or all(_is_back(held[n], before[n]) for n in held):
            return waited, held
        await asyncio.sleep(_LOOK_SECONDS)


def _is_back(held: Footprint, before: Footprint) -> bool:
    return (
        held.descriptors <= before.descriptors + _STRAYS
        and held.threads <= before.threads + _STRAYS
    )


def _settled(looks: list[tuple[float, Footprint]]) -> list[tuple[float, float]]:
    """Returns times and bytes, without the beginning."""
    return [
        (second, float(one.rss_bytes)) for second, one in looks[int(len(looks) * _SETTLING_SHARE) :]
    ]


def _asked(wall: Wall) -> int:
    return sum(one.counts.total() + one.unread for one in (wall.primary, wall.secondary))
