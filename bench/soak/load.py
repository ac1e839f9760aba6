"""Clients that ask until the time is up, and judge what they get."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from bench.fault_wall.client import Answer, ask

_LEAVING_SHARE = 0.01
_LEAVE_AFTER = 10
_STREAM_SHARE = 0.5
_MOST_EXAMPLES = 10
_TRY_LATER = (429, 503)
"""With these a client waits as long as `Retry-After` says, as OpenAI's does."""


@dataclass
class Tally:
    """What the clients saw."""

    outcomes: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    """What `x-pointsman-fallback` said."""
    whole_from: Counter[str] = field(default_factory=Counter)
    """Whole answers by the model's name."""
    wrong: list[str] = field(default_factory=list)
    """The first answers that were neither whole nor a clear error."""
    wrong_count: int = 0

    @property
    def sent(self) -> int:
        """Requests sent, each of which is over."""
        return self.outcomes.total()

    def add(self, answer: Answer, texts: Mapping[str, str], *, left: bool) -> None:
        """Judges one answer.

        Args:
            answer: What came.
            texts: Every answer that is right → its name.
            left: Whether the client hung up on purpose before the end.
        """
        if answer.fallback:
            self.fallbacks[answer.fallback] += 1
        if answer.is_whole(list(texts)):
            self.outcomes["whole"] += 1
            self.whole_from[answer.model] += 1
        elif left:
            self.outcomes["left by the client"] += 1
        elif answer.fails_clearly and any(text.startswith(answer.text) for text in texts):
            told = answer.error or {}
            self.outcomes[f"{answer.status} {told.get('code') or told.get('type')}"] += 1
        else:
            self.outcomes["WRONG"] += 1
            self.wrong_count += 1
            if len(self.wrong) < _MOST_EXAMPLES:
                self.wrong.append(answer.summary())


async def run_clients(
    url: str,
    model: str,
    *,
    clients: int,
    seconds: float,
    texts: Mapping[str, str],
    seed: int,
    patience_seconds: float = 60.0,
) -> Tally:
    """Returns what the clients saw; each asks again as soon as it has its answer.

    Args:
        url: The gateway's, up to and with `/v1`.
        model: The model field.
        clients: Requests in flight.
        seconds: How long new requests are sent.
        texts: Every answer that is right → its name.
        seed: Of who streams and who leaves.
        patience_seconds: An answer that has not ended by then is wrong.
    """
    tally = Tally()
    now = asyncio.get_running_loop().time
    until = now() + seconds
    # Of their own, so that their connections end with them.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client(number: int) -> None:
            chance = random.Random(f"{seed} {number}")
            while now() < until:
                stream = chance.random() < _STREAM_SHARE
                leaves = stream and chance.random() < _LEAVING_SHARE
                answer = await ask(
                    session,
                    url,
                    model,
                    stream=stream,
                    patience_seconds=patience_seconds,
                    leave_after=_LEAVE_AFTER if leaves else None,
                )
                tally.add(answer, texts, left=leaves and answer.pieces >= _LEAVE_AFTER)
                if answer.status in _TRY_LATER:
                    await asyncio.sleep(float(answer.headers.get("retry-after", 0.0)))

        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(client(number))
    return tally
