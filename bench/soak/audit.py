"""Do the counters of /metrics add up to what the clients sent and the providers were asked?"""

from collections.abc import Mapping

from bench.soak.load import Tally

_LEVELS = (
    "pointsman_gateway_requests_in_flight",
    "pointsman_upstream_requests_in_flight",
    "pointsman_upstream_endpoint_in_flight",
    "pointsman_upstream_queued",
)
"""What must be 0 when nobody asks."""


def differences(
    gateway: Mapping[str, float], upstream: Mapping[str, float], tally: Tally, asked: int
) -> list[str]:
    """Returns every count that is not what it must be, in words.

    Args:
        gateway: Its samples, grown since before the load.
        upstream: Its samples, likewise.
        tally: What the clients saw.
        asked: Requests that reached providers.
    """
    refused = total(gateway, "pointsman_gateway_refused_total")
    sums = [
        ("pointsman_gateway_requests_total", gateway, tally.sent - refused),
        ("pointsman_gateway_request_seconds_count", gateway, tally.sent - refused),
        ("pointsman_gateway_fallbacks_total", gateway, tally.fallbacks.total()),
        ("pointsman_upstream_requests_total", upstream, tally.sent - refused),
        ("pointsman_upstream_attempts_total", upstream, asked),
    ]
    return [
        f"{series} is {found:g}, not {expected:g}"
        for series, samples, expected in sums
        if (found := total(samples, series)) != expected
    ]


def not_idle(samples: Mapping[str, float]) -> list[str]:
    """Returns every level that is not 0 with nobody asking, in words."""
    levels = ((series, total(samples, series)) for series in _LEVELS)
    return [f"{series} is {level:g} with nobody asking" for series, level in levels if level]


def total(samples: Mapping[str, float], series: str) -> float:
    """Returns a series' sum over its labels; 0 if there is none."""
    return sum(value for name, value in samples.items() if name.partition("{")[0] == series)


def growth(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Returns by how much each series has grown; where it is no counter, maybe less than 0."""
    return {series: value - before.get(series, 0.0) for series, value in after.items()}
