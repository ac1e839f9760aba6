"""The panels the owner looks at: what routing saves."""

from deploy.grafana.panels import GREEN, RED, Panel, Query

_SAVED = "pointsman:dollars_saved"
_COST = "increase(pointsman_gateway_cost_dollars_total[1d])"
MONEY = (
    Panel(
        kind="stat",
        title="Dollars saved, last day",
        description="By router: what the tokens of whole answers would have cost at the strong "
        "model's prices, less what the router's requests did cost. The strong model might have "
        "used other numbers of tokens. Under 0 it cost more.",
        queries=(Query(f"{_SAVED}:increase1d", "{{router}}"),),
        unit="currencyUSD",
        width=12,
        height=7,
        minimum=None,
        steps=((None, RED), (0, GREEN)),
        decimals=2,
    ),
    Panel(
        kind="stat",
        title="Dollars billed, last day",
        description="By router; direct: a model was named. Answers whose client left before their "
        "end are in the dashboard of the providers only.",
        queries=(Query(f"sum by (router) ({_COST})", "{{router}}"),),
        unit="currencyUSD",
        width=6,
        height=7,
        decimals=2,
    ),
    Panel(
        kind="timeseries",
        title="Dollars saved an hour",
        description="By router, at the rate of the last 5 minutes.",
        queries=(Query(f"3600 * {_SAVED}:rate5m", "{{router}}"),),
        unit="currencyUSD",
        width=6,
        height=7,
        minimum=None,
        decimals=2,
    ),
)
