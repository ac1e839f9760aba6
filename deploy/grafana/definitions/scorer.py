"""The scorer: whether its routers can score, how long prompts wait and how long they take."""

from deploy.grafana.panels import (
    GREEN,
    ORANGE,
    OUTCOMES,
    RED,
    Json,
    Panel,
    Query,
    Row,
    Variable,
    dashboard,
)

_HERE = 'instance=~"$instance"'
_ROUTER = f'{_HERE}, router=~"$router"'
_DEPTH = f"pointsman_scorer_queue_depth{{{_HERE}}}"
_LIMIT = f"pointsman_scorer_queue_limit{{{_HERE}}}"
_RPCS = f"rate(pointsman_scorer_requests_total{{{_ROUTER}}}[$__rate_interval])"
_STAGES = {"p50": "#73BF69", "p99": "#F2495C"}


def scorer() -> Json:
    """Returns the dashboard."""
    return dashboard(
        uid="pointsman-scorer",
        title="Pointsman: scorer",
        description="Whether routers can score, how long prompts wait and how long they take.",
        variables=[
            Variable("instance", "Scorer", "pointsman_scorer_queue_limit"),
            Variable("router", "Router", "pointsman_scorer_router_ready"),
        ],
        rows=[Row("Now", _NOW), Row("Work", _WORK), Row("Routers", _ROUTERS)],
    )


def _stage(stage: str, quantile: float) -> str:
    rate = f'rate(pointsman_scorer_stage_seconds_bucket{{{_HERE}, stage="{stage}"}}'
    return f"histogram_quantile({quantile}, sum by (le) ({rate}[$__rate_interval])))"


_NOW = (
    Panel(
        kind="stat",
        title="Routers not ready",
        description="On all replicas together. PointsmanRouterNotReady from 1.",
        queries=(Query(f"sum(1 - pointsman_scorer_router_ready{{{_ROUTER}}})", "not ready"),),
        unit="none",
        width=6,
        height=4,
        steps=((None, GREEN), (1, RED)),
    ),
    Panel(
        kind="stat",
        title="Fullest queue",
        description="Of its limit. PointsmanScorerQueueFilling at half, over 5 minutes.",
        queries=(Query(f"max({_DEPTH} / ({_LIMIT} > 0))", "full"),),
        unit="percentunit",
        width=6,
        height=4,
        steps=((None, GREEN), (0.25, ORANGE), (0.5, RED)),
    ),
    Panel(
        kind="stat",
        title="Refused",
        description="Of the calls of 5 minutes, because the queue was full. "
        "PointsmanScorerRefusing at 1 %.",
        queries=(
            Query(
                "(sum(rate(pointsman_scorer_requests_total"
                f'{{{_HERE}, outcome="overloaded"}}[5m])) or vector(0)) '
                f"/ sum(rate(pointsman_scorer_requests_total{{{_HERE}}}[5m]))",
                "refused",
            ),
        ),
        unit="percentunit",
        width=6,
        height=4,
        steps=((None, GREEN), (0.001, ORANGE), (0.01, RED)),
    ),
    Panel(
        kind="stat",
        title="Largest golden difference",
        description="Between a bundle's golden win rates and what this machine predicts, 0 to 1. "
        "PointsmanGoldenDifference where it is over the bundle's tolerance.",
        queries=(
            Query(
                f"max by (router) (pointsman_scorer_golden_difference{{{_ROUTER}}})", "{{router}}"
            ),
        ),
        unit="none",
        width=6,
        height=4,
        decimals=4,
    ),
)
_WORK = (
    Panel(
        kind="timeseries",
        title="Calls by outcome",
        description="ok; overloaded: the queue was full; cancelled: the caller had left; else the "
        "error's kind.",
        queries=(Query(f"sum by (outcome) ({_RPCS})", "{{outcome}}"),),
        unit="reqps",
        stacked=True,
        colours=OUTCOMES,
    ),
    Panel(
        kind="timeseries",
        title="Queue",
        description="Prompts that wait for a worker, by replica; the fullest queue, above, says "
        "how much of the limit that is.",
        queries=(Query(_DEPTH, "{{instance}}"),),
        unit="short",
    ),
    Panel(
        kind="timeseries",
        title="Busy workers",
        description="Threads that infer, on average, by replica; at the number of workers prompts "
        "begin to queue.",
        queries=(
            Query(
                "sum by (instance) (rate(pointsman_scorer_stage_seconds_sum"
                f'{{{_HERE}, stage="infer"}}[$__rate_interval]))',
                "{{instance}}",
            ),
        ),
        unit="short",
        decimals=2,
    ),
    Panel(
        kind="timeseries",
        title="Seconds in the queue",
        description="Until a worker took a prompt.",
        queries=(Query(_stage("queue", 0.5), "p50"), Query(_stage("queue", 0.99), "p99")),
        unit="s",
        colours=_STAGES,
    ),
    Panel(
        kind="timeseries",
        title="Seconds to infer",
        description="One prompt on one worker.",
        queries=(Query(_stage("infer", 0.5), "p50"), Query(_stage("infer", 0.99), "p99")),
        unit="s",
        colours=_STAGES,
    ),
    Panel(
        kind="timeseries",
        title="Dropped and in flight",
        description="Prompts a second whose caller had left before a worker came to them, and "
        "calls being answered.",
        queries=(
            Query(
                f"sum(rate(pointsman_scorer_dropped_total{{{_HERE}}}[$__rate_interval]))",
                "dropped a second",
            ),
            Query(f"sum(pointsman_scorer_requests_in_flight{{{_HERE}}})", "in flight"),
        ),
        unit="short",
        colours={"dropped a second": ORANGE},
    ),
)
_ROUTERS = (
    Panel(
        kind="timeseries",
        title="Calls by router",
        description="A second; other: no such router.",
        queries=(Query(f"sum by (router) ({_RPCS})", "{{router}}"),),
        unit="reqps",
        stacked=True,
    ),
    Panel(
        kind="timeseries",
        title="Where win rates come from",
        description="Prompts a second. kept: asked before; shared: being predicted already; "
        "predicted: neither.",
        queries=(
            Query(
                "sum by (outcome) (rate(pointsman_scorer_cache_lookups_total"
                f"{{{_HERE}}}[$__rate_interval]))",
                "{{outcome}}",
            ),
        ),
        unit="reqps",
        stacked=True,
    ),
    Panel(
        kind="timeseries",
        title="Ready",
        description="1 where the router can score, by replica.",
        queries=(
            Query(
                f"pointsman_scorer_router_ready{{{_ROUTER}}}",
                "{{router}} on {{instance}}",
            ),
        ),
        unit="none",
        maximum=1,
    ),
    Panel(
        kind="timeseries",
        title="Golden difference",
        description="By replica: one that stands out has another CPU or another library.",
        queries=(
            Query(
                f"pointsman_scorer_golden_difference{{{_ROUTER}}}",
                "{{router}} on {{instance}}",
            ),
        ),
        unit="none",
        decimals=4,
    ),
)
