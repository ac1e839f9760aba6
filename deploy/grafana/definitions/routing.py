"""Routing: who decided what, on which win rates, and how often nobody could."""

from deploy.grafana.panels import (
    GREEN,
    ORANGE,
    PAIR,
    RED,
    Json,
    Panel,
    Query,
    Row,
    Variable,
    dashboard,
)

_HERE = 'router=~"$router"'
_DECISIONS = f"rate(pointsman_gateway_decisions_total{{{_HERE}}}[$__rate_interval])"
_WIN_RATES = "pointsman_scorer_strong_win_rate"
_FALLBACK_STEPS = ((None, GREEN), (0.01, ORANGE), (0.05, RED))


def routing() -> Json:
    """Returns the dashboard."""
    return dashboard(
        uid="pointsman-routing",
        title="Pointsman: routing",
        description="Who decided what, on which win rates, and how often nobody could.",
        variables=[Variable("router", "Router", "pointsman_gateway_decisions_total")],
        rows=[Row("Now", _NOW), Row("Decisions", _CHOICES), Row("Win rates", _RATES)],
    )


_NOW = (
    Panel(
        kind="stat",
        title="Strong share, last hour",
        description="Of a router's decisions, those for the strong model.",
        queries=(Query(f"pointsman:strong_share:increase1h{{{_HERE}}}", "{{router}}"),),
        unit="percentunit",
        width=8,
        height=4,
        maximum=1,
    ),
    Panel(
        kind="stat",
        title="Off target by",
        description="Strong share minus its target, the share of the day before. "
        "PointsmanStrongShareOffTarget from 10 % of an hour's decisions.",
        queries=(
            Query(
                f"abs(pointsman:strong_share:increase1h{{{_HERE}}} "
                "- pointsman:strong_share:target)",
                "{{router}}",
            ),
        ),
        unit="percentunit",
        width=8,
        height=4,
        steps=((None, GREEN), (0.05, ORANGE), (0.1, RED)),
    ),
    Panel(
        kind="stat",
        title="Decided without the scorer",
        description="Of the decisions of 5 minutes, all routers. PointsmanScorerFailingOpen "
        "at 5 %.",
        queries=(Query("pointsman:fallback_share:rate5m", "fallbacks"),),
        unit="percentunit",
        width=4,
        height=4,
        steps=_FALLBACK_STEPS,
    ),
    Panel(
        kind="stat",
        title="Decisions",
        description="Routed requests a second.",
        queries=(Query(f"sum({_DECISIONS})", "decisions"),),
        unit="reqps",
        width=4,
        height=4,
    ),
)
_CHOICES = (
    Panel(
        kind="timeseries",
        title="Decisions by choice",
        description="Routed requests a second that went to the strong and to the weak model.",
        queries=(Query(f"sum by (choice) ({_DECISIONS})", "{{choice}}"),),
        unit="reqps",
        stacked=True,
        colours=PAIR,
    ),
    Panel(
        kind="timeseries",
        title="Strong share and its target",
        description="Over the last hour, by router; the target is a recording rule in "
        "deploy/prometheus/rules/routing.yml.",
        queries=(
            Query(f"pointsman:strong_share:increase1h{{{_HERE}}}", "{{router}}"),
            Query(f"pointsman:strong_share:target{{{_HERE}}}", "{{router}}, target"),
        ),
        unit="percentunit",
        maximum=1,
    ),
    Panel(
        kind="timeseries",
        title="Decisions by router",
        description="Routed requests a second.",
        queries=(Query(f"sum by (router) ({_DECISIONS})", "{{router}}"),),
        unit="reqps",
        stacked=True,
    ),
    Panel(
        kind="timeseries",
        title="Strong share now",
        description="Of the decisions of the last minutes, by router: moves before the hour does.",
        queries=(
            Query(
                f'sum by (router) (rate(pointsman_gateway_decisions_total{{{_HERE}, choice="strong"'
                f"}}[$__rate_interval])) / sum by (router) ({_DECISIONS})",
                "{{router}}",
            ),
        ),
        unit="percentunit",
        maximum=1,
    ),
    Panel(
        kind="timeseries",
        title="Share decided without the scorer",
        description="Of all decisions; they cost the strong model's price by default.",
        queries=(Query("pointsman:fallback_share:rate5m", "fallbacks"),),
        unit="percentunit",
        steps=((None, GREEN), (0.05, RED)),
        colours={"fallbacks": RED},
    ),
    Panel(
        kind="timeseries",
        title="Decisions without a win rate",
        description="A second. Answers by another model than was chosen are in the dashboard of "
        "the providers.",
        queries=(
            Query(
                "sum by (reason) (rate(pointsman_gateway_fallbacks_total"
                '{reason="scorer_unavailable"}[$__rate_interval]))',
                "{{reason}}",
            ),
        ),
        unit="reqps",
        colours={"scorer_unavailable": RED},
    ),
)
_RATES = (
    Panel(
        kind="heatmap",
        title="Strong win rates",
        description="How many prompts a second got which win rate. A router that gives the same "
        "rate to everything tells nothing apart.",
        queries=(
            Query(
                f"sum by (le) (rate({_WIN_RATES}_bucket{{{_HERE}}}[$__rate_interval]))", "{{le}}"
            ),
        ),
        unit="percentunit",
        width=12,
        height=9,
    ),
    Panel(
        kind="timeseries",
        title="Mean strong win rate",
        description="By router. It moves when prompts do, or the router: compare revisions in the "
        "header x-pointsman-revision.",
        queries=(
            Query(
                f"sum by (router) (rate({_WIN_RATES}_sum{{{_HERE}}}[$__rate_interval])) / "
                f"sum by (router) (rate({_WIN_RATES}_count{{{_HERE}}}[$__rate_interval]))",
                "{{router}}",
            ),
        ),
        unit="percentunit",
        width=12,
        height=9,
        maximum=1,
    ),
)
