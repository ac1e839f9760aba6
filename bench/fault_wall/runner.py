"""Cases → verdicts: each has models and so endpoints of its own, and all run side by side."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from bench.fault_wall.scorecard import Verdict, verdict
from bench.fault_wall.trial import Case, Pace, Trial, route_name
from bench.fault_wall.wall import Route, Wall

Done = Callable[[Verdict], None]


def routes_of(cases: Iterable[Case]) -> dict[str, Route]:
    """Returns the routes of all cases by the names of their models."""
    return {name: route for case in cases for name, route in case.named_routes().items()}


async def judge(case: Case, wall: Wall, pace: Pace) -> Verdict:
    """Returns what the gateway makes of a case."""
    names = {label: route_name(case.number, label) for label in case.routes}
    return await tried(
        case, Trial(case=case.number, wall=wall, pace=pace, url=wall.url, names=names)
    )


async def judge_all(
    cases: Sequence[Case], wall: Wall, pace: Pace, on_done: Done = lambda _: None
) -> list[Verdict]:
    """Returns what the gateway makes of the cases, in their order.

    Args:
        cases: They run at the same time.
        wall: Has their routes.
        pace: How long the faults last.
        on_done: Told of each case when it is over.
    """

    async def one(case: Case) -> Verdict:
        found = await judge(case, wall, pace)
        on_done(found)
        return found

    return await asyncio.gather(*map(one, cases))


async def tried(case: Case, trial: Trial) -> Verdict:
    """Returns the verdict of a trial."""
    now = asyncio.get_running_loop().time
    began_at = now()
    await case.run(trial)
    return verdict(case, trial, began_at, now())
