"""What is asked in each case, and what must be true afterwards."""

import asyncio
import math
from collections.abc import Mapping
from itertools import pairwise

from bench.fault_wall.faults import FILTER_REASON, PREFILL_REFUSAL
from bench.fault_wall.trial import Trial, within
from bench.fault_wall.wall import PRICES, PRIMARY, SECONDARY, fallback_name

RETRY_AFTER_SECONDS = 2
_TIMER_SECONDS = 0.1
"""Waits may end so much early: timers and clocks of two processes."""
_ALIKE_SECONDS = 0.005
"""Four waits this close to each other were not drawn."""
_BURST = 30
_BUDGET_SHARE, _BUDGET_RESERVE = 0.2, 10
"""The defaults of the retry budget."""
_MOST_RETRIES = 2
REQUESTS = 20
_MOST_PROBES = 12
"""Attempts during case 15's outage: five open the breaker, and the probes are ever rarer."""


async def throttled_once(trial: Trial) -> None:
    """429 with `Retry-After: 2`, once."""
    trial.require_whole(await trial.ask())
    attempts = trial.attempts()
    early = len(within(attempts, 1.5))
    trial.require(early <= 2, f"{early} attempts in 1.5 s")
    waits = [later.at_seconds - first.at_seconds for first, later in pairwise(trial.primary())]
    for wait in waits:
        least = RETRY_AFTER_SECONDS - _TIMER_SECONDS
        trial.require(wait >= least, f"asked the throttling provider again after {wait:.2f} s")


async def throttled(trial: Trial) -> None:
    """429 without `Retry-After`, for ever."""
    for answer in await asyncio.gather(*map(trial.ask, trial.names)):
        trial.require_whole(answer, SECONDARY)
    waits = []
    for label in trial.names:
        attempts = sorted(
            (*trial.primary(label), *trial.fallback(label)), key=lambda one: one.at_seconds
        )
        early = len(within(attempts, 3.0))
        trial.require(early <= 4, f"{early} attempts in 3 s")
        trial.require(len(attempts) <= 6, f"{len(attempts)} attempts in all")
        waits.append(attempts[1].at_seconds - attempts[0].at_seconds if attempts[1:] else 0.0)
    spread = max(waits) - min(waits)
    trial.require(spread > _ALIKE_SECONDS, f"no jitter: all first waits within {spread:.4f} s")


async def error_once(trial: Trial) -> None:
    """500, once."""
    trial.require_whole(await trial.ask(), PRIMARY)
    trial.require(len(trial.primary()) == 2, f"{len(trial.primary())} attempts at the provider")
    trial.require(not trial.fallback(), "the fallback was asked")


async def down(trial: Trial) -> None:
    """503 for ever: one request, then thirty at a time."""
    trial.require_whole(await trial.ask(), SECONDARY)
    alone = len(trial.primary())
    trial.require(1 <= alone <= 1 + _MOST_RETRIES, f"{alone} attempts for one request")
    for answer in await trial.ask_together(_BURST):
        trial.require_whole(answer, SECONDARY)
    asked, sent = len(trial.primary()), 1 + _BURST
    most = sent * (1 + _BUDGET_SHARE) + _BUDGET_RESERVE
    trial.require(asked <= most, f"{asked} attempts for {sent} requests, budget {most:.0f}")


async def reset_once(trial: Trial) -> None:
    """A TCP reset before any header, once."""
    for label in trial.names:
        trial.require_whole(await trial.ask(label))


async def mute(trial: Trial) -> None:
    """No response at all."""
    answer = await trial.ask()
    trial.require_whole(answer, SECONDARY)
    asked = len(trial.primary())
    trial.require(asked == 1, f"the silent route was asked {asked} times")
    _require_within(trial, answer.seconds, trial.pace.first_token_limit)


async def late(trial: Trial) -> None:
    """Headers at once, the first token late; with and without the delta that has the role."""
    for answer in await asyncio.gather(*map(trial.ask, trial.names)):
        trial.require_whole(answer, SECONDARY)
        _require_within(trial, answer.seconds, trial.pace.first_token_limit)


async def cut(trial: Trial) -> None:
    """A stream that dies after 40 of 60 tokens: closed, and reset."""
    for label in trial.names:
        trial.require_whole_or_error(await trial.ask(label))


async def stall(trial: Trial) -> None:
    """A stream that goes silent, once."""
    answer = await trial.ask()
    trial.require_whole_or_error(answer)
    _require_within(trial, answer.seconds, trial.pace.idle_limit)
    trial.require_whole(await trial.ask())


async def garbled(trial: Trial) -> None:
    """One event that is not JSON: after thirty tokens, and before the first."""
    for label in trial.names:
        trial.require_whole_or_error(await trial.ask(label))


async def no_done(trial: Trial) -> None:
    """No `[DONE]`: the body ends without, or does not end."""
    ended, left_open = await asyncio.gather(*map(trial.ask, trial.names))
    for answer in (ended, left_open):
        trial.require_whole(answer, PRIMARY)
        usage = answer.usage or {}
        trial.require(usage.get("completion_tokens") == 60, f"the usage is {answer.usage}")
    trial.require(ended.seconds < 1 + trial.pace.slack, f"finished after {ended.seconds:.1f} s")
    _require_within(trial, left_open.seconds, trial.pace.idle_limit)


async def too_long(trial: Trial) -> None:
    """400 context_length_exceeded, with a fallback as small and one that is larger."""
    answer = await trial.ask()
    trial.require_whole(answer, SECONDARY)
    larger = fallback_name(trial.names[""], 1)
    trial.require(answer.model == larger, f"{answer.model} answered, not {larger}")
    asked, small = len(trial.primary()), len(trial.fallback())
    trial.require(asked == 1, f"the model was asked {asked} times")
    trial.require(small == 0, f"the fallback that is no larger was asked {small} times")


async def filtered(trial: Trial) -> None:
    """400 by a content filter."""
    answer = await trial.ask()
    trial.require(answer.status == 400, f"not the provider's 400: {answer.summary()}")
    error = answer.error or {}
    told = (error.get("code"), error.get("message"))
    trial.require(told == ("content_filter", FILTER_REASON), f"the client is told {told}")
    trial.require(len(trial.attempts()) == 1, f"{len(trial.attempts())} attempts")


async def no_prefill(trial: Trial) -> None:
    """A cut stream, and a fallback that refuses to go on with half an answer."""
    answer = await trial.ask()
    trial.require_whole_or_error(answer)
    told = str((answer.error or {}).get("message"))
    trial.require(PREFILL_REFUSAL not in told, "the client is told of a prefill it never sent")
    continued = [one for one in trial.fallback() if one.said == "400"]
    trial.require(not continued, "the fallback was asked to go on with half an answer")


async def outage(trial: Trial) -> None:
    """503 for a minute, then healthy; twenty requests."""
    pace, name = trial.pace, trial.names[""]
    pending = []
    for number in range(REQUESTS):
        if number:
            await asyncio.sleep(pace.spacing)
        pending.append(asyncio.ensure_future(trial.ask()))
    answers = await asyncio.gather(*pending)
    for answer in answers:
        trial.require_whole(answer)
    attempts = trial.primary()
    since = [one.at_seconds - attempts[0].at_seconds for one in attempts]
    tried = sum(at < pace.outage for at in since)
    trial.require(1 < tried <= _MOST_PROBES, f"{tried} attempts during the outage")
    served = [answer.model == name for answer in answers]
    trial.require(not served[0], "the first answer was not the fallback's")
    trial.require(served[-1], "the last answer was still the fallback's")
    back = [at for at, one in zip(since, attempts, strict=True) if one.said == "200"]
    latest = pace.outage + pace.recovery
    trial.require(bool(back) and back[0] <= latest, f"not back on the primary by {latest:g} s")


async def billed(trial: Trial) -> None:
    """503 for ever; who answered is who is billed."""
    name, fallback = trial.names[""], fallback_name(trial.names[""])
    answer = await trial.ask()
    trial.require_whole(answer, SECONDARY)
    trial.require(answer.model == fallback, f"the answer is said to be {answer.model}'s")
    trial.require(bool(answer.fallback), "x-pointsman-fallback does not say why")
    trial.require(answer.usage == trial.wall.secondary.usage, f"the usage is {answer.usage}")
    await trial.wall.until_idle(trial.wall.gateway)
    await trial.wall.until_idle(trial.wall.upstream)
    metrics = await trial.wall.metrics(trial.wall.upstream)
    usage = trial.wall.secondary.usage
    used = [usage["prompt_tokens"], usage["completion_tokens"]]
    counted = _counted_tokens(metrics, fallback)
    trial.require(counted == used, f"{counted} tokens were counted, not {used}")
    failed = _counted_tokens(metrics, name)
    trial.require(not any(failed), f"failed attempts were billed: {failed} tokens")
    prices = zip(used, PRICES[SECONDARY], strict=True)
    cost = sum(count * price / 1e6 for count, price in prices)
    dollars = _counted_dollars(metrics, name, fallback)
    trial.require(math.isclose(dollars, cost), f"${dollars} were counted, not ${cost}")


def _counted_tokens(metrics: Mapping[str, float], model: str) -> list[float]:
    series = "pointsman_upstream_tokens_total"
    return [
        metrics.get(f'{series}{{direction="{direction}",model="{model}"}}', 0.0)
        for direction in ("input", "output")
    ]


def _counted_dollars(metrics: Mapping[str, float], *models: str) -> float:
    series = "pointsman_upstream_cost_dollars_total"
    names = {
        f'{series}{{estimated="{estimated}",model="{model}"}}'
        for model in models
        for estimated in ("true", "false")
    }
    return sum(value for name, value in metrics.items() if name in names)


def _require_within(trial: Trial, seconds: float, limit: float) -> None:
    most = limit + trial.pace.slack
    trial.require(seconds <= most, f"ended after {seconds:.1f} s; the limit is {limit:g} s")
