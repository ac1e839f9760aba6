"""Providers: what became of calls to models, how long they took, and what they cost."""

from deploy.grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    OUTCOMES,
    PAIR,
    PURPLE,
    RED,
    Json,
    Panel,
    Query,
    Row,
    Variable,
    dashboard,
)

_HERE = 'model=~"$model"'
_CALLS = f"rate(pointsman_upstream_requests_total{{{_HERE}}}[$__rate_interval])"
_TOKENS = f"rate(pointsman_upstream_tokens_total{{{_HERE}}}[$__rate_interval])"
_PRICES = "pointsman_upstream_token_price_dollars"
_DOLLARS = (
    f"3600 * sum by (model) (sum by (model, direction) ({_TOKENS}) "
    f"* max by (model, direction) ({_PRICES}))"
)
_AT_THE_DEAREST = (
    f"3600 * sum(sum by (direction) ({_TOKENS}) * max by (direction) ({_PRICES}{{{_HERE}}}))"
)


def providers() -> Json:
    """Returns the dashboard."""
    return dashboard(
        uid="pointsman-providers",
        title="Pointsman: providers",
        description="What became of calls to models, how long they took, and what they cost.",
        variables=[Variable("model", "Model", _PRICES)],
        rows=[Row("Now", _NOW), Row("Calls", _OUTCOMES), Row("Tokens and dollars", _MONEY)],
    )


def _latency(title: str, description: str, metric: str, labels: str, quantile: float) -> Panel:
    rate = f"rate({metric}_bucket{{{_HERE}{labels}}}[$__rate_interval])"
    expr = f"histogram_quantile({quantile}, sum by (model, le) ({rate}))"
    return Panel(
        kind="timeseries",
        title=title,
        description=description,
        queries=(Query(expr, "{{model}}"),),
        unit="s",
        colours=PAIR,
    )


_NOW = (
    Panel(
        kind="stat",
        title="Calls",
        description="Calls to models a second.",
        queries=(Query(f"sum({_CALLS})", "calls"),),
        unit="reqps",
        width=4,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Failing calls",
        description="Of 5 minutes: unavailable, timeout, throttled or unauthorized. "
        "PointsmanProviderErrors at 5 %.",
        queries=(Query(f"pointsman:provider_error_share:rate5m{{{_HERE}}}", "{{model}}"),),
        unit="percentunit",
        width=8,
        height=4,
        steps=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
    ),
    Panel(
        kind="stat",
        title="Dollars an hour",
        description="At the prices of the models file; 0 where it has none.",
        queries=(Query(f"sum({_DOLLARS})", "dollars"),),
        unit="currencyUSD",
        width=4,
        height=4,
        decimals=3,
    ),
    Panel(
        kind="stat",
        title="Saved",
        description="Of what the same tokens would cost if each were the dearest model's.",
        queries=(Query(f"1 - sum({_DOLLARS}) / ({_AT_THE_DEAREST} > 0)", "saved"),),
        unit="percentunit",
        width=4,
        height=4,
    ),
    Panel(
        kind="stat",
        title="In flight",
        description="Calls being answered now, streams too.",
        queries=(Query("sum(pointsman_upstream_requests_in_flight)", "calls"),),
        unit="short",
        width=4,
        height=4,
    ),
)
_OUTCOMES = (
    Panel(
        kind="timeseries",
        title="Calls by outcome",
        description="rejected: the request's fault (4xx); throttled: 429; unavailable: 5xx, no "
        "connection, or nonsense; unauthorized: the operator's key is refused; cancelled: the "
        "client hung up.",
        queries=(Query(f"sum by (outcome) ({_CALLS})", "{{outcome}}"),),
        unit="reqps",
        stacked=True,
        colours=OUTCOMES,
    ),
    Panel(
        kind="timeseries",
        title="Calls by model",
        description="Calls a second.",
        queries=(Query(f"sum by (model) ({_CALLS})", "{{model}}"),),
        unit="reqps",
        stacked=True,
        colours=PAIR,
    ),
    Panel(
        kind="timeseries",
        title="Share of failing calls",
        description="By model, over 5 minutes: unavailable, timeout, throttled or unauthorized.",
        queries=(Query(f"pointsman:provider_error_share:rate5m{{{_HERE}}}", "{{model}}"),),
        unit="percentunit",
        steps=((None, GREEN), (0.05, RED)),
        colours=PAIR,
    ),
    _latency(
        "Whole call, median",
        "Seconds until the end of an answer that went well, streams too.",
        "pointsman_upstream_request_seconds",
        ', outcome="ok"',
        0.5,
    ),
    _latency(
        "Whole call, p99",
        "Seconds until the end of an answer that went well, streams too.",
        "pointsman_upstream_request_seconds",
        ', outcome="ok"',
        0.99,
    ),
    _latency(
        "Response headers, p99",
        "Seconds until the provider's headers: for streams about the first token, for whole "
        "answers about the answer.",
        "pointsman_upstream_headers_seconds",
        "",
        0.99,
    ),
)
_MONEY = (
    Panel(
        kind="timeseries",
        title="Tokens",
        description="A second, by the provider's own count; calls that broke off have none.",
        queries=(Query(f"sum by (model, direction) ({_TOKENS})", "{{model}}, {{direction}}"),),
        unit="short",
        colours={
            "strong, input": "#7C4D99",
            "strong, output": PURPLE,
            "weak, input": "#3562A8",
            "weak, output": BLUE,
        },
    ),
    Panel(
        kind="timeseries",
        title="Dollars an hour by model",
        description="Tokens times the prices of the models file.",
        queries=(Query(_DOLLARS, "{{model}}"),),
        unit="currencyUSD",
        stacked=True,
        colours=PAIR,
        decimals=3,
    ),
    Panel(
        kind="timeseries",
        title="Dollars an hour and what they would be",
        description="Beside it, what the same tokens would cost at the dearest model's prices: a "
        "strong model's answers may be longer or shorter, so this is an estimate.",
        queries=(
            Query(f"sum({_DOLLARS})", "as routed"),
            Query(_AT_THE_DEAREST, "all at the dearest model"),
        ),
        unit="currencyUSD",
        colours={"as routed": GREEN, "all at the dearest model": GREY},
        decimals=3,
    ),
)
