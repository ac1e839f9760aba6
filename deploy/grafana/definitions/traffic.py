"""Traffic and latency: what routing saves, and what clients of the gateway see."""

from deploy.grafana.definitions.savings import MONEY
from deploy.grafana.panels import (
    GREEN,
    ORANGE,
    OUTCOMES,
    QUANTILES,
    RED,
    STAGES,
    Json,
    Panel,
    Query,
    Row,
    Steps,
    Variable,
    dashboard,
)

_HERE = 'instance=~"$instance"'
_REQUESTS = f"rate(pointsman_gateway_requests_total{{{_HERE}}}[$__rate_interval])"
_OURS = "internal|scorer_unavailable|router_not_ready|overloaded|deadline_exceeded"
_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


def traffic() -> Json:
    """Returns the dashboard."""
    return dashboard(
        uid="pointsman-traffic",
        title="Pointsman: traffic and latency",
        description="What routing saves, and what clients of the gateway see.",
        variables=[Variable("instance", "Gateway", "pointsman_gateway_requests_in_flight")],
        rows=[
            Row("Money", MONEY),
            Row("Now", _NOW),
            Row("Requests", _TRAFFIC),
            Row("Latency", _LATENCY),
            Row("Processes", _PROCESSES),
        ],
    )


def _stat(title: str, description: str, expr: str, unit: str, *, alarms: Steps) -> Panel:
    return Panel(
        kind="stat",
        title=title,
        description=description,
        queries=(Query(expr, title),),
        unit=unit,
        width=4,
        height=4,
        steps=((None, GREEN), *alarms),
    )


def _failing(outcomes: str) -> str:
    matching = f'rate(pointsman_gateway_requests_total{{{_HERE}, outcome=~"{outcomes}"}}[5m])'
    asked = f'pointsman_gateway_requests_total{{{_HERE}, outcome!="explained"}}'
    everything = f"sum(rate({asked}[5m]))"
    return f"(sum({matching}) or vector(0)) / {everything}"


def _quantiles(metric: str, labels: str) -> tuple[Query, ...]:
    rate = f"sum by (le) (rate({metric}_bucket{{{_HERE}, {labels}}}[$__rate_interval]))"
    return tuple(Query(f"histogram_quantile({q}, {rate})", name) for name, q in _QUANTILES)


_NOW = (
    Panel(
        kind="stat",
        title="Requests",
        description="Chat requests a second, all outcomes.",
        queries=(Query(f"sum({_REQUESTS})", "requests"),),
        unit="reqps",
        width=4,
        height=4,
    ),
    _stat(
        "Errors of ours",
        "Requests of 5 minutes that failed by no fault of a client or a provider. "
        "PointsmanGatewayErrors at 1 %.",
        _failing(_OURS),
        "percentunit",
        alarms=((0.001, ORANGE), (0.01, RED)),
    ),
    _stat(
        "Errors of providers",
        "Requests of 5 minutes whose provider answered with an error or broke off.",
        _failing("provider_error|broken_stream|upstream_unavailable"),
        "percentunit",
        alarms=((0.01, ORANGE), (0.05, RED)),
    ),
    _stat(
        "Whole answers, p99",
        "99 of 100 answers in one piece took at most so long. PointsmanWholeAnswersSlow at 30 s.",
        "pointsman:whole_answer_seconds:p99_5m",
        "s",
        alarms=((10, ORANGE), (30, RED)),
    ),
    _stat(
        "Streams begin, p99",
        "99 of 100 streams had begun after so long. PointsmanStreamsStartLate at 10 s.",
        "pointsman:stream_head_seconds:p99_5m",
        "s",
        alarms=((5, ORANGE), (10, RED)),
    ),
    Panel(
        kind="stat",
        title="Replicas up",
        description="Targets that Prometheus can scrape. PointsmanTargetDown where one is down.",
        queries=tuple(
            Query(f'sum(up{{job="pointsman-{service}"}})', service)
            for service in ("gateway", "scorer", "upstream")
        ),
        unit="none",
        width=4,
        height=4,
        steps=((None, RED), (1, GREEN)),
    ),
)
_TRAFFIC = (
    Panel(
        kind="timeseries",
        title="Requests by outcome",
        description="ok; provider_error: the provider's own error reached the client; cancelled: "
        "the client hung up; broken_stream: it broke off after it had begun; else the error's "
        "kind.",
        queries=(Query(f"sum by (outcome) ({_REQUESTS})", "{{outcome}}"),),
        unit="reqps",
        stacked=True,
        colours=OUTCOMES,
    ),
    Panel(
        kind="timeseries",
        title="Requests by router",
        description="direct: a model was named; other: no such router; none: never that far.",
        queries=(Query(f"sum by (router) ({_REQUESTS})", "{{router}}"),),
        unit="reqps",
        stacked=True,
    ),
    Panel(
        kind="timeseries",
        title="Refused for overload",
        description="Requests a second that were answered 503 before their body was read. "
        "unanswered: too many waited for their answer; delay: requests waited too long on their "
        "way to the provider. They count as overloaded among the outcomes.",
        queries=(
            Query(
                "sum by (reason) (rate(pointsman_gateway_refused_total"
                f"{{{_HERE}}}[$__rate_interval]))",
                "{{reason}}",
            ),
        ),
        unit="reqps",
        stacked=True,
        colours={"unanswered": RED, "delay": ORANGE},
    ),
    Panel(
        kind="timeseries",
        title="Unanswered requests and their limit",
        description="Whose answer has not begun, by replica. The limit falls while requests wait "
        "within the cluster.",
        queries=(
            Query(f"pointsman_gateway_unanswered{{{_HERE}}}", "{{instance}}"),
            Query(f"pointsman_gateway_unanswered_limit{{{_HERE}}}", "{{instance}}, limit"),
        ),
        unit="short",
    ),
    Panel(
        kind="timeseries",
        title="Answered by another model",
        description="Requests a second, by reason; the dashboard of the providers says by which.",
        queries=(
            Query(
                "sum by (reason) (rate(pointsman_gateway_fallbacks_total"
                f'{{{_HERE}, reason!="scorer_unavailable"}}[$__rate_interval]))',
                "{{reason}}",
            ),
        ),
        unit="reqps",
        stacked=True,
    ),
    Panel(
        kind="timeseries",
        title="Requests in flight",
        description="Being answered now, streams too, by replica. Autoscaling goes by it.",
        queries=(Query(f"pointsman_gateway_requests_in_flight{{{_HERE}}}", "{{instance}}"),),
        unit="short",
    ),
)
_LATENCY = (
    Panel(
        kind="timeseries",
        title="Whole answers",
        description="Seconds from a request's head to its answer's end, of those that went well.",
        queries=_quantiles("pointsman_gateway_request_seconds", 'outcome="ok", answer="whole"'),
        unit="s",
        steps=((None, GREEN), (30, RED)),
        colours=QUANTILES,
    ),
    Panel(
        kind="timeseries",
        title="Streams: until they begin",
        description="Seconds from asking the upstream to the stream's head.",
        queries=_quantiles("pointsman_gateway_stage_seconds", 'stage="head"'),
        unit="s",
        steps=((None, GREEN), (10, RED)),
        colours=QUANTILES,
    ),
    Panel(
        kind="timeseries",
        title="Streams: until they end",
        description="Seconds from a request's head to its stream's end: long answers take long.",
        queries=_quantiles("pointsman_gateway_request_seconds", 'outcome="ok", answer="stream"'),
        unit="s",
        colours=QUANTILES,
    ),
    Panel(
        kind="timeseries",
        title="Waiting for a win rate",
        description="Seconds of the stage `score`: what routing costs a request. "
        "PointsmanScoringSlow at 0.25 s; at `scorer.timeout_seconds` it is decided without.",
        queries=_quantiles("pointsman_gateway_stage_seconds", 'stage="score"'),
        unit="s",
        steps=((None, GREEN), (0.25, RED)),
        colours=QUANTILES,
    ),
    Panel(
        kind="timeseries",
        title="Mean seconds by stage",
        description="read: the client's body; score: the scorer; complete: upstream and provider.",
        queries=(
            Query(
                "sum by (stage) (rate(pointsman_gateway_stage_seconds_sum"
                f'{{{_HERE}, stage!="head"}}[$__rate_interval])) / sum by (stage) '
                "(rate(pointsman_gateway_stage_seconds_count"
                f'{{{_HERE}, stage!="head"}}[$__rate_interval]))',
                "{{stage}}",
            ),
        ),
        unit="s",
        stacked=True,
        colours=STAGES,
    ),
    Panel(
        kind="heatmap",
        title="Seconds of all answers",
        description="How many requests a second took how long, whole and streamed.",
        queries=(
            Query(
                f"sum by (le) (rate(pointsman_gateway_request_seconds_bucket{{{_HERE}}}"
                "[$__rate_interval]))",
                "{{le}}",
            ),
        ),
        unit="s",
    ),
)
_OF_JOBS = 'job=~"pointsman-.+"'
_PROCESSES = (
    Panel(
        kind="timeseries",
        title="CPU",
        description="Cores in use by replica, of all services.",
        queries=(
            Query(
                f"rate(process_cpu_seconds_total{{{_OF_JOBS}}}[$__rate_interval])",
                "{{job}} {{instance}}",
            ),
        ),
        unit="short",
        decimals=2,
    ),
    Panel(
        kind="timeseries",
        title="Memory",
        description="Resident memory by replica, of all services.",
        queries=(Query(f"process_resident_memory_bytes{{{_OF_JOBS}}}", "{{job}} {{instance}}"),),
        unit="bytes",
    ),
    Panel(
        kind="timeseries",
        title="Open files",
        description="File descriptors by replica, connections too: without end means a leak.",
        queries=(Query(f"process_open_fds{{{_OF_JOBS}}}", "{{job}} {{instance}}"),),
        unit="short",
    ),
)
