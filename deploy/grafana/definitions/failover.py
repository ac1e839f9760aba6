"""Failover: which endpoints are asked, and what is done about those that fail."""

from deploy.grafana.panels import (
    GREEN,
    ORANGE,
    OUTCOMES,
    PAIR,
    RED,
    Json,
    Panel,
    Query,
    Row,
    Variable,
    dashboard,
)

_HERE = 'model=~"$model"'
_REQUESTS = f"rate(pointsman_upstream_requests_total{{{_HERE}}}[$__rate_interval])"
_ATTEMPTS = f"rate(pointsman_upstream_attempts_total{{{_HERE}}}[$__rate_interval])"
_FALLBACKS = f"rate(pointsman_upstream_fallbacks_total{{{_HERE}}}[$__rate_interval])"
_BREAKER = f"max by (model, provider) (pointsman_upstream_breaker_state{{{_HERE}}})"
_AT = "{{model}} at {{provider}}"


def failover() -> Json:
    """Returns the dashboard."""
    return dashboard(
        uid="pointsman-failover",
        title="Pointsman: failover",
        description="Which endpoints are asked, and what is done about those that fail.",
        variables=[Variable("model", "Model", "pointsman_upstream_token_price_dollars")],
        rows=[
            Row("Now", _NOW),
            Row("Requests", _FAILOVER),
            Row("Endpoints", _ENDPOINTS),
        ],
    )


def _events(title: str, description: str, metric: str) -> Panel:
    """Returns a panel of a counter that may be without series: 0 for every model with requests."""
    counted = f"sum by (model) (rate({metric}{{{_HERE}}}[$__rate_interval]))"
    return Panel(
        kind="timeseries",
        title=title,
        description=description,
        queries=(Query(f"{counted} or 0 * sum by (model) ({_REQUESTS})", "{{model}}"),),
        unit="reqps",
        colours=PAIR,
    )


_NOW = (
    Panel(
        kind="stat",
        title="Answered by a fallback",
        description="Of the requests of 5 minutes. PointsmanModelFallbacks at 5 %.",
        queries=(Query(f"pointsman:model_fallback_share:rate5m{{{_HERE}}}", "{{model}}"),),
        unit="percentunit",
        width=8,
        height=4,
        steps=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
    ),
    Panel(
        kind="stat",
        title="Endpoints out of rotation",
        description="Whose breaker is not closed, on any replica. PointsmanEndpointOutOfRotation "
        "after 5 minutes.",
        queries=(Query(f"sum({_BREAKER} > bool 0)", "out"),),
        unit="none",
        width=6,
        height=4,
        steps=((None, GREEN), (1, RED)),
    ),
    Panel(
        kind="stat",
        title="Retries per request",
        description="Of 5 minutes, all models. PointsmanRetryStorm at 10 %; the budget ends them "
        "at 20 %.",
        queries=(Query("pointsman:retries_per_request:rate5m", "retries"),),
        unit="percentunit",
        width=6,
        height=4,
        steps=((None, GREEN), (0.05, ORANGE), (0.1, RED)),
    ),
    Panel(
        kind="stat",
        title="Requests that wait",
        description="For an endpoint, all replicas. At `max_queued` they are answered 429.",
        queries=(Query(f"sum(pointsman_upstream_queued{{{_HERE}}})", "waiting"),),
        unit="short",
        width=4,
        height=4,
        steps=((None, GREEN), (1, ORANGE)),
    ),
)
_FAILOVER = (
    Panel(
        kind="timeseries",
        title="Who stood in for whom",
        description="Requests a second that a fallback answered. provider_unavailable: no "
        "connection, 5xx or nonsense; throttled: 429 or our own limit; timeout; context_length: "
        "the prompt was too long; breaker_open: no endpoint was asked any more.",
        queries=(
            Query(f"sum by (model, to, reason) ({_FALLBACKS})", "{{model}} → {{to}}: {{reason}}"),
        ),
        unit="reqps",
        stacked=True,
    ),
    Panel(
        kind="timeseries",
        title="Share answered by a fallback",
        description="Of a model's requests, over 5 minutes.",
        queries=(Query(f"pointsman:model_fallback_share:rate5m{{{_HERE}}}", "{{model}}"),),
        unit="percentunit",
        steps=((None, GREEN), (0.05, RED)),
        colours=PAIR,
    ),
    _events(
        "Retries",
        "Calls a second that were made again for the same model. They end where its retry budget "
        "does, by default at a fifth of its requests.",
        "pointsman_upstream_retries_total",
    ),
    Panel(
        kind="timeseries",
        title="Time limits that passed",
        description="Calls a second, by limit: connect; first_token of a stream; idle between two "
        "pieces; total.",
        queries=(
            Query(
                "sum by (budget) (rate(pointsman_upstream_timeouts_total"
                f"{{{_HERE}}}[$__rate_interval]))",
                "{{budget}}",
            ),
        ),
        unit="reqps",
        stacked=True,
    ),
    _events(
        "Hedged calls that lost",
        "Calls a second that were paid for and not used: another endpoint of the model was faster. "
        "Only where `hedging` is on.",
        "pointsman_upstream_hedges_total",
    ),
    Panel(
        kind="timeseries",
        title="Calls per request",
        description="1 where nothing fails. Retries, fallbacks and hedging add to it; what is "
        "refused without a call takes from it.",
        queries=(Query(f"sum({_ATTEMPTS}) / sum({_REQUESTS})", "calls"),),
        unit="none",
        decimals=2,
    ),
)
_ENDPOINTS = (
    Panel(
        kind="timeseries",
        title="Circuit breakers",
        description="0 closed: it is asked; 1 half-open: one request tries it; 2 open: it is left "
        "alone. By endpoint, the worst of all replicas.",
        queries=(Query(_BREAKER, _AT),),
        unit="none",
        maximum=2,
    ),
    Panel(
        kind="timeseries",
        title="Calls by endpoint",
        description="A second. Requests go to the less loaded of two.",
        queries=(Query(f"sum by (model, provider) ({_ATTEMPTS})", _AT),),
        unit="reqps",
        stacked=True,
    ),
    Panel(
        kind="timeseries",
        title="Calls by outcome",
        description="Each call to a provider, also those that a retry or a fallback made good.",
        queries=(Query(f"sum by (outcome) ({_ATTEMPTS})", "{{outcome}}"),),
        unit="reqps",
        stacked=True,
        colours=OUTCOMES,
    ),
    Panel(
        kind="timeseries",
        title="Calls in flight",
        description="By endpoint, streams too; `max_in_flight` of the provider ends them, on each "
        "replica.",
        queries=(
            Query(
                f"sum by (model, provider) (pointsman_upstream_endpoint_in_flight{{{_HERE}}})", _AT
            ),
        ),
        unit="short",
    ),
    Panel(
        kind="timeseries",
        title="Requests that wait for an endpoint",
        description="Over `max_in_flight`; over `max_queued` they are answered 429.",
        queries=(Query(f"sum by (model, provider) (pointsman_upstream_queued{{{_HERE}}})", _AT),),
        unit="short",
    ),
)
