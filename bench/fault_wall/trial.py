"""One case being tried: what it asks, what comes back, and what is wrong with that."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from bench.fault_wall import client
from bench.fault_wall.client import Answer
from bench.fault_wall.provider import Asked
from bench.fault_wall.wall import Route, Wall


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long the wall's faults last and what limits meet them, in seconds."""

    late: float = 20.0
    """Until the first token in case 7."""
    silence: float = 30.0
    """In the middle of a stream, in case 9."""
    outage: float = 60.0
    """Of case 15's provider."""
    recovery: float = 30.0
    """So soon after its outage it must be asked again."""
    spacing: float = 4.5
    """Between case 15's requests."""
    first_token_limit: float = 5.0
    idle_limit: float = 5.0
    slack: float = 3.0
    """How much later than its limit an answer may end: retries wait, and machines are busy."""
    patience: float = 120.0
    """An answer that has not ended by then never does."""


@dataclass(kw_only=True)
class Trial:
    """What a case works with.

    Attributes:
        case: Its number.
        wall: Where it is tried.
        pace: How long its faults last.
        url: Whom its client asks; the gateway, if nobody else is to be judged.
        names: Label of a route → the model field that asks for it.
        answers: What came back so far.
        problems: What is wrong so far.
    """

    case: int
    wall: Wall
    pace: Pace
    url: str
    names: Mapping[str, str]
    answers: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    async def ask(self, label: str = "") -> Answer:
        """Returns what comes for one streamed request for a route."""
        answer = await client.ask(
            self.wall.session,
            self.url,
            self.names[label],
            patience_seconds=self.pace.patience,
        )
        self.answers.append(answer)
        return answer

    async def ask_together(self, count: int, label: str = "") -> list[Answer]:
        """Returns what comes for so many requests at the same time."""
        return await asyncio.gather(*(self.ask(label) for _ in range(count)))

    def require(self, right: bool, problem: str) -> None:
        """Notes a problem unless all is right."""
        if not right:
            self.problems.append(problem)

    def require_whole(self, answer: Answer, *providers: str) -> None:
        """Notes a problem unless this is one whole answer of one of these; of any without them."""
        texts = self.texts(*providers)
        whose = " or ".join(providers) or "either provider"
        self.require(answer.is_whole(texts), f"no whole answer of {whose}: {answer.summary()}")

    def require_whole_or_error(self, answer: Answer) -> None:
        """Notes a problem if this is neither a whole answer nor a failure that says so."""
        texts = self.texts()
        right = answer.is_whole(texts) or (
            answer.fails_clearly and any(text.startswith(answer.text) for text in texts)
        )
        self.require(right, f"neither whole nor a clear error: {answer.summary()}")

    def texts(self, *providers: str) -> list[str]:
        """Returns what these providers' answers say."""
        all_providers = (self.wall.primary, self.wall.secondary)
        return [one.text for one in all_providers if not providers or one.name in providers]

    def primary(self, label: str = "") -> list[Asked]:
        """Returns the attempts at a route's own provider."""
        return [asked for asked in self.attempts() if asked.model.endswith(f"@{self._name(label)}")]

    def fallback(self, label: str = "", number: int = 0) -> list[Asked]:
        """Returns the attempts at a route's n-th fallback."""
        suffix = f"@{self._name(label)}-fallback-{number}"
        return [asked for asked in self.attempts() if asked.model.endswith(suffix)]

    def attempts(self) -> list[Asked]:
        """Returns every attempt of this case at any provider, in order."""
        names = [self._name(label) for label in self.names]
        own = [
            asked
            for asked in (*self.wall.primary.asked, *self.wall.secondary.asked)
            if any(asked.model.partition("@")[2].partition("-fallback-")[0] == n for n in names)
        ]
        return sorted(own, key=lambda asked: asked.at_seconds)

    def _name(self, label: str) -> str:
        return route_name(self.case, label)


Run = Callable[[Trial], Awaitable[None]]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, and what is right."""

    number: int
    fault: str
    right: str
    routes: dict[str, Route]
    """Label → route; the label is empty where there is one."""
    run: Run

    def named_routes(self) -> dict[str, Route]:
        """Returns its routes by the names of their models."""
        return {route_name(self.number, label): route for label, route in self.routes.items()}


def route_name(case: int, label: str = "") -> str:
    """Returns the name of the model by which a case's route is asked for."""
    return f"case-{case:02d}" + (f"-{label}" if label else "")


def within(attempts: list[Asked], seconds: float) -> list[Asked]:
    """Returns the attempts that came so soon after the first."""
    return [one for one in attempts if one.at_seconds - attempts[0].at_seconds <= seconds]
