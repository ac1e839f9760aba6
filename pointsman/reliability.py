"""What the upstream does about providers that fail: the `reliability` part of the models file.

The defaults are for two providers on the internet. All times are seconds.
"""

from typing import Annotated, Literal

import msgspec

from pointsman.chassis.config import Count, PositiveCount, PositiveSeconds, Seconds, Settings

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
OnStreamFailure = Literal["error", "restart"]


class RetrySettings(Settings, frozen=True, kw_only=True):
    """Asking the same model again: for connections that fail, 408, 409, 429 and 5xx."""

    max_retries: Count = 2
    """Per model and request; 0 goes straight to the fallback."""
    backoff_seconds: Seconds = 0.25
    """The n-th wait is drawn evenly from 0 to `backoff_seconds * 2^n` (full jitter); what the
    provider says by Retry-After is waited for instead."""
    max_backoff_seconds: Seconds = 4.0
    """Where the doubling ends."""
    patience_seconds: Seconds = 1.0
    """Longest wait while there is another model to go to. Low: the fallback answers more often."""
    max_wait_seconds: Seconds = 30.0
    """Longest wait where there is none; a provider that wants more is not waited for."""
    budget_share: Share = 0.2
    """Retries per request, over all requests for a model: so much more than its clients send does
    a provider get during an outage."""
    budget_reserve: Count = 10
    """Retries that may be made beyond the share, so that rare requests have theirs too."""


class BreakerSettings(Settings, frozen=True, kw_only=True):
    """When an endpoint is left alone: it fails again and again, or too often."""

    consecutive_failures: PositiveCount = 5
    """So many in a row open the breaker."""
    failure_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """So large a share of the calls in the window does too."""
    min_calls: PositiveCount = 20
    """The share counts once the window has so many calls."""
    window_seconds: PositiveSeconds = 30.0
    """Length of the sliding window."""
    open_seconds: PositiveSeconds = 5.0
    """How long it is open before one request may try; doubled each time that request fails."""
    max_open_seconds: PositiveSeconds = 20.0
    """Where the doubling ends. Low: a dead provider is asked more often. High: one that has
    recovered waits longer."""
    unauthorized_seconds: PositiveSeconds = 60.0
    """How long an endpoint is left alone that refuses the key (401, 403); then one request tries,
    and a fallback answers it if the key is still refused."""


class HedgeSettings(Settings, frozen=True, kw_only=True):
    """Asking a second endpoint of the same model when the first is slow; both are paid for."""

    share: Share = 0.0
    """At most this share of a model's requests is asked for twice; 0 turns hedging off."""
    min_calls: PositiveCount = 20
    """A second is asked once the first has taken longer than 95 % of its last calls, and so many
    calls must be known for that."""


class Reliability(Settings, frozen=True, kw_only=True):
    """What is done about providers that fail."""

    retries: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()
    hedging: HedgeSettings = HedgeSettings()
    on_stream_failure: OnStreamFailure = "error"
    """What becomes of a stream that breaks after its first token. `error` ends it with an error.
    `restart` holds every stream back until it is complete, and asks again if it breaks: no client
    ever sees half an answer, and none sees a token before the last."""
