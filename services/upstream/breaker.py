"""A circuit breaker: an endpoint that fails is left alone, then tried by one request at a time.

    closed ──failures──► open ──time──► half-open ──the probe answers──► closed
                          ▲                 │
                          └──the probe fails, twice the time──┘

After M. Nygard, Release It! (2007); what counts as a failure is the caller's business.
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum

from pointsman.reliability import BreakerSettings

_SLICES = 10
"""The window slides by a tenth of its length."""


class BreakerState(IntEnum):
    """What the gauge shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class CircuitBreaker:
    """Decides whether an endpoint may be called, from how its calls have ended.

    Args:
        settings: When it opens, and for how long.
        clock: Monotonic seconds.
    """

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._in_a_row = 0
        self._window = _Window(settings.window_seconds, clock)
        self._open_until: float | None = None
        self._open_seconds = settings.open_seconds
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Returns where it stands now."""
        if self._open_until is None:
            return BreakerState.CLOSED
        waiting = self._clock() < self._open_until
        return BreakerState.OPEN if waiting else BreakerState.HALF_OPEN

    def seconds_until_callable(self) -> float:
        """Returns 0 if a call may begin now, else how long to wait for the next chance.

        While a probe is under way nobody knows; that counts as the time for which it last opened.
        """
        if self._open_until is None:
            return 0.0
        left = self._open_until - self._clock()
        return max(left, self._open_seconds) if self._probing else max(left, 0.0)

    def begin(self) -> bool:
        """Notes that a call begins; returns whether it is the probe, as it is while half-open."""
        self._probing = self._open_until is not None
        return self._probing

    def succeeded(self) -> None:
        """Notes that a call was answered, be it by a refusal; a probe closes the breaker."""
        if self._is_late_news():
            return
        self._in_a_row = 0
        self._probing = False
        if self._open_until is not None:
            self._open_until = None
            self._open_seconds = self._settings.open_seconds
            self._window.clear()
        self._window.add(failed=False)

    def failed(self) -> None:
        """Notes that a call failed; opens the breaker if it was the probe, or one too many."""
        if self._probing:
            doubled = 2 * self._open_seconds
            self._open_seconds = min(doubled, self._settings.max_open_seconds)
            self._open(self._open_seconds)
        elif not self._is_late_news():
            self._in_a_row += 1
            self._window.add(failed=True)
            if self._one_too_many():
                self._open(self._open_seconds)

    def abandoned(self) -> None:
        """Notes that a probe ended before anything was heard of the endpoint."""
        self._probing = False

    def refused_the_key(self) -> None:
        """Opens for `unauthorized_seconds`: the operator has to do something first."""
        self._open(self._settings.unauthorized_seconds)

    def _is_late_news(self) -> bool:
        """Returns whether a call that has ended began before the breaker opened."""
        return self._open_until is not None and not self._probing

    def _one_too_many(self) -> bool:
        calls, failures = self._window.counts()
        settings = self._settings
        return self._in_a_row >= settings.consecutive_failures or (
            calls >= settings.min_calls and failures >= settings.failure_share * calls
        )

    def _open(self, seconds: float) -> None:
        self._open_until = self._clock() + seconds
        self._probing = False
        self._in_a_row = 0


class _Window:
    """Counts calls and failures of the last seconds, a slice at a time."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._slice_seconds = seconds / _SLICES
        self._clock = clock
        self._slices: deque[list[int]] = deque()  # [slice number, calls, failures]

    def add(self, *, failed: bool) -> None:
        self._forget()
        number = self._now()
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed

    def counts(self) -> tuple[int, int]:
        self._forget()
        return sum(one[1] for one in self._slices), sum(one[2] for one in self._slices)

    def clear(self) -> None:
        self._slices.clear()

    def _forget(self) -> None:
        oldest = self._now() - _SLICES
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()

    def _now(self) -> int:
        return int(self._clock() // self._slice_seconds)
