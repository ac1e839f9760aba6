"""When to ask again: full jitter, and a budget that an outage cannot exceed."""

from collections.abc import Callable

from pointsman.reliability import RetrySettings


class Backoff:
    """Draws waits: the n-th evenly from 0 to `backoff_seconds * 2^n`, up to a ceiling.

    Full jitter, after M. Brooker, Exponential Backoff And Jitter (AWS, 2015): clients that failed
    together do not come back together.
    """

    def __init__(self, settings: RetrySettings, uniform: Callable[[float, float], float]) -> None:
        self._settings = settings
        self._uniform = uniform

    def seconds(self, retries_so_far: int) -> float:
        """Returns the wait before the next retry."""
        ceiling = self._settings.backoff_seconds * 2.0 ** min(retries_so_far, 32)
        return self._uniform(0.0, min(ceiling, self._settings.max_backoff_seconds))


class RetryBudget:
    """Allows retries as a share of requests, and a reserve; for one model.

    As Finagle's and Linkerd's: each request pays in its share, each retry takes out 1.
    """

    def __init__(self, share: float, reserve: float) -> None:
        self._share = share
        self._most = reserve + 1
        self._saved = float(reserve)

    def request(self) -> None:
        """Notes a request."""
        self._saved = min(self._saved + self._share, self._most)

    def take(self) -> bool:
        """Returns whether a retry may be made, and pays for it."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
