"""Providers: what became of requests for models, how long they took, and what they cost."""

from deploy.grafana.panels import (
    BLUE,
    GREEN,
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
_REQUESTS = f"rate(pointsman_upstream_requests_total{{{_HERE}}}[$__rate_interval])"
_TOKENS = f"rate(pointsman_upstream_tokens_total{{{_HERE}}}[$__rate_interval])"
_DOLLARS = f"3600 * rate(pointsman_upstream_cost_dollars_total{{{_HERE}}}[$__rate_interval])"


def providers() -> Json:
    """Returns the dashboard."""
    return dashboard(
        uid="pointsman-providers",
        title="Pointsman: providers",
        description="What became of requests for models, how long they took, and what they cost.",
        variables=[Variable("model", "Model", "pointsman_upstream_token_price_dollars")],
        rows=[
            Row("Now", _NOW),
            Row("Requests", _OUTCOMES),
            Row("Tokens and dollars", _MONEY),
        ],
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
        title="Requests",
        description="Requests for models a second.",
        queries=(Query(f"sum({_REQUESTS})", "requests"),),
        unit="reqps",
        width=6,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Failing requests",
        description="Of 5 minutes, after retries and fallbacks: unavailable, timeout, throttled or "
        "unauthorized. PointsmanProviderErrors at 5 %.",
        queries=(Query(f"pointsman:provider_error_share:rate5m{{{_HERE}}}", "{{model}}"),),
        unit="percentunit",
        width=12,
        height=4,
        steps=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
    ),
    Panel(
        kind="stat",
        title="Dollars an hour",
        description="What is billed, estimates too, at the prices of the models file; 0 where it "
        "has none.",
        queries=(Query(f"sum({_DOLLARS})", "dollars"),),
        unit="currencyUSD",
        width=6,
        height=4,
        decimals=3,
    ),
)
_OUTCOMES = (
    Panel(
        kind="timeseries",
        title="Requests by outcome",
        description="What clients got, after retries and fallbacks. rejected: the request's fault "
        "(4xx); throttled: 429; unavailable: 5xx, no connection, or nonsense; unauthorized: the "
        "operator's key is refused; cancelled: the client hung up.",
        queries=(Query(f"sum by (outcome) ({_REQUESTS})", "{{outcome}}"),),
        unit="reqps",
        stacked=True,
        colours=OUTCOMES,
    ),
    Panel(
        kind="timeseries",
        title="Requests by model",
        description="A second, by the model that was asked for.",
        queries=(Query(f"sum by (model) ({_REQUESTS})", "{{model}}"),),
        unit="reqps",
        stacked=True,
        colours=PAIR,
    ),
    Panel(
        kind="timeseries",
        title="Share of failing requests",
        description="By model, over 5 minutes: unavailable, timeout, throttled or unauthorized.",
        queries=(Query(f"pointsman:provider_error_share:rate5m{{{_HERE}}}", "{{model}}"),),
        unit="percentunit",
        steps=((None, GREEN), (0.05, RED)),
        colours=PAIR,
    ),
    _latency(
        "Whole answer, median",
        "Seconds until the end of an answer that went well, streams and retries too, by the model "
        "that answered.",
        "pointsman_upstream_request_seconds",
        ', outcome="ok"',
        0.5,
    ),
    _latency(
        "Whole answer, p99",
        "Seconds until the end of an answer that went well, streams and retries too, by the model "
        "that answered.",
        "pointsman_upstream_request_seconds",
        ', outcome="ok"',
        0.99,
    ),
    _latency(
        "First token, p99",
        "Seconds until the first token of a stream, of one call to a provider.",
        "pointsman_upstream_first_token_seconds",
        "",
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
        description="A second, by the provider's own count, or estimated where it gave none. "
        "Cached input is part of the input, reasoning of the output.",
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
        description="Everything that is billed, by the model that answered; also answers whose "
        "client left, and hedged calls that lost.",
        queries=(Query(f"sum by (model) ({_DOLLARS})", "{{model}}"),),
        unit="currencyUSD",
        stacked=True,
        colours=PAIR,
        decimals=3,
    ),
    Panel(
        kind="timeseries",
        title="Dollars an hour that are estimated",
        description="Where a provider gave no usage, tokens are estimated from the text; beside it "
        "all that is billed.",
        queries=(
            Query(
                "3600 * (sum(rate(pointsman_upstream_cost_dollars_total"
                f'{{{_HERE}, estimated="true"}}[$__rate_interval])) or vector(0))',
                "estimated",
            ),
            Query(f"sum({_DOLLARS})", "billed"),
        ),
        unit="currencyUSD",
        colours={"estimated": ORANGE, "billed": GREEN},
        decimals=3,
    ),
)
