"""A real Prometheus scrapes a real run: the shipped rules evaluate, and every panel has data."""

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from deploy.grafana.check_panels import DASHBOARDS, Span, checked, main
from tests.conftest import missing
from tests.fakes.cluster import RunningCluster, cluster
from tests.fakes.provider import FakeProvider, refuse, silent

pytestmark = pytest.mark.integration

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
INTERVAL = "250ms"
SERVICES = 3
_PATIENCE_SCRAPES = 100


class Heartbeat:
    """A target among Prometheus's others: whoever waits for it waits for the next scrape."""

    def __init__(self) -> None:
        self._scraped: asyncio.Queue[None] = asyncio.Queue()
        self.address = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answers scrapes."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.address = f"127.0.0.1:{runner.addresses[0][1]}"
            yield
        finally:
            await runner.cleanup()

    async def beat(self) -> None:
        """Returns at the next scrape that nobody has waited for."""
        await self._scraped.get()

    async def _metrics(self, request: web.Request) -> web.Response:
        self._scraped.put_nowait(None)
        return web.Response(text="beat 1\n")


@dataclass
class RunningPrometheus:
    """A Prometheus that scrapes a cluster."""

    url: str
    http: aiohttp.ClientSession
    heartbeat: Heartbeat

    async def get(self, path: str, **parameters: str) -> Any:
        """Returns what an endpoint of the API says."""
        async with self.http.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            return (await response.json())["data"]

    async def until(self, condition: str) -> None:
        """Returns once a query gives something; asks after every scrape."""
        for _ in range(_PATIENCE_SCRAPES):
            if (await self.get("query", query=condition))["result"]:
                return
            await self.heartbeat.beat()
        pytest.fail(f"in {_PATIENCE_SCRAPES} scrapes never: {condition}")

    async def until_scraped(self) -> None:
        """Returns once Prometheus knows what happened until now."""
        now = time.time()
        await self.until(f'count(timestamp(up{{job=~"pointsman-.+"}}) > {now}) == {SERVICES}')

    async def until_recorded(self) -> None:
        """Returns once the rules have seen what Prometheus knows."""
        now = time.time()
        await self.until(f"count(timestamp(pointsman:strong_share:target) > {now}) > 0")


@asynccontextmanager
async def prometheus(
    folder: Path, running: RunningCluster, heartbeat: Heartbeat
) -> AsyncIterator[RunningPrometheus]:
    """Starts Prometheus with the shipped configuration, but for addresses and intervals."""
    program = shutil.which("prometheus") or missing("prometheus", "apt-get install prometheus")
    config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": INTERVAL,
        "scrape_timeout": INTERVAL,
        "evaluation_interval": INTERVAL,
    }
    config["rule_files"] = [str(SHIPPED / pattern) for pattern in config["rule_files"]]
    for job in config["scrape_configs"]:
        service = getattr(running, job["job_name"].removeprefix("pointsman-"))
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [service.announcement.metrics]}]
    beat = {"job_name": "heartbeat", "static_configs": [{"targets": [heartbeat.address]}]}
    config["scrape_configs"].append(beat)
    path, log = folder / "prometheus.yml", folder / "prometheus.log"
    path.write_text(yaml.safe_dump(config))
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            stderr=output,
        )
    try:
        ended = asyncio.ensure_future(child.wait())
        beating = asyncio.ensure_future(heartbeat.beat())
        await asyncio.wait({ended, beating}, return_when=asyncio.FIRST_COMPLETED)
        beating.cancel()
        found = re.search(r'"Listening on" address=(\S+)', log.read_text())
        assert found, log.read_text()
        async with aiohttp.ClientSession() as http:
            yield RunningPrometheus(f"http://{found[1]}", http, heartbeat)
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


@pytest.fixture(scope="module")
async def scraping(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningPrometheus]:
    """A Prometheus that has seen every kind of request twice."""
    folder = tmp_path_factory.mktemp("dashboards")
    heartbeat = Heartbeat()
    behaviours = {
        "fake-broken": refuse(503, b"Out of order."),
        "fake-limited": refuse(429, b"Too many."),
        "fake-silent": silent(),
    }
    async with (
        FakeProvider(behaviours) as provider,
        cluster(
            folder, _models(provider.url), scorer={"routers": {"mf": {}, "random": {}}}
        ) as running,
        heartbeat.listening(),
        prometheus(folder, running, heartbeat) as found,
    ):
        # A rate needs two scrapes and something that grew between them.
        for _ in range(2):
            await _send_every_kind(running)
            await found.until_scraped()
        await found.until_recorded()
        yield found


async def test_every_panel_has_data(
    scraping: RunningPrometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dashboard is needed when something is wrong; that is late to find an empty panel."""
    drawing = tmp_path / "panels.html"
    arguments = ["--minutes", "1", "--rate-interval", "30s", "--html", str(drawing)]
    status = await asyncio.to_thread(main, ["--prometheus", scraping.url, *arguments])
    printed = capsys.readouterr().out
    assert status == 0, printed
    lines = printed.splitlines()
    assert lines[-1] == "every panel has data"
    queries = [target for board in _boards().values() for target in _targets(board)]
    assert len(lines) - 1 == len(queries) > 50
    shown = drawing.read_text()
    assert "no data" not in shown
    assert all(board["title"] in shown for board in _boards().values())


async def test_every_rule_evaluates_and_nothing_fires(scraping: RunningPrometheus) -> None:
    """The rules' own tests have series that we imagined; here are real ones."""
    groups = (await scraping.get("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {(rule["name"], rule["health"]) for rule in rules} == {
        (rule["name"], "ok") for rule in rules
    }
    firing = (await scraping.get("alerts"))["alerts"]
    assert [alert for alert in firing if alert["state"] == "firing"] == []
    series = {name for rule in rules if rule["type"] == "recording" for name in [rule["name"]]}
    for name in series:
        assert (await scraping.get("query", query=name))["result"], name


@pytest.mark.parametrize(
    ("query", "value"),
    [
        # Six models in one piece and five as a stream, twice.
        ('pointsman_gateway_request_seconds_count{outcome="ok", answer="whole"}', 12),
        ('pointsman_gateway_request_seconds_count{outcome="ok", answer="stream"}', 10),
        ('pointsman_gateway_stage_seconds_count{stage="head"}', 10),
        ('pointsman_gateway_fallbacks_total{reason="scorer_unavailable"}', 0),
        ('pointsman_gateway_fallbacks_total{reason="throttled"}', 2),
        ('sum(pointsman_upstream_fallbacks_total{model="limited", to="weak"})', 2),
        ('sum(pointsman_upstream_timeouts_total{model="silent", budget="total"})', 2),
        ("sum(pointsman_gateway_refused_total)", 0),
        # Two answers of 7 and 3 tokens and two streams of 7 and 2, and as many by the weak model.
        ('pointsman_gateway_cost_dollars_total{router="random"}', 136e-6),
        ('pointsman_gateway_always_strong_dollars_total{router="random"}', 272e-6),
        ('count(pointsman_upstream_breaker_state{model="strong"} == 0)', 1),
        ("pointsman_scorer_queue_limit", 256),
        ('pointsman_scorer_golden_within_tolerance{router="mf"}', 1),
        ('pointsman_upstream_token_price_dollars{model="strong", direction="output"}', 8e-6),
        ('pointsman_upstream_token_price_dollars{model="weak", direction="input"}', 0),
    ],
)
async def test_what_alerts_and_dashboards_read_is_what_happened(
    scraping: RunningPrometheus, query: str, value: float
) -> None:
    """A panel full of wrong numbers is worse than an empty one."""
    (series,) = (await scraping.get("query", query=query))["result"]
    assert float(series["value"][1]) == pytest.approx(value)


async def test_a_query_for_nothing_is_empty_and_a_wrong_one_is_an_error(
    scraping: RunningPrometheus,
) -> None:
    """The check above can fail: a metric that was renamed is seen, and so is bad PromQL."""
    board = deepcopy(_boards()["routing"])
    first, second = [panel for panel in board["panels"] if panel["type"] == "timeseries"][:2]
    first["targets"][0]["expr"] = "pointsman_gateway_decisons_total"
    second["targets"][0]["expr"] = "sum by (rate("
    now = time.time()
    span = Span(start=now - 30, end=now, step=1)
    found = await asyncio.to_thread(lambda: list(checked(board, scraping.url, span, "30s")))
    verdicts = {drawn.panel["title"]: verdict for verdict, drawn in found}
    assert verdicts[first["title"]] == ["EMPTY"]
    error, unharmed = verdicts[second["title"]]
    assert error.startswith("ERROR ")
    assert "parse error" in error
    assert unharmed == "ok"
    assert verdicts["Mean strong win rate"] == ["ok"]


def test_a_prometheus_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """No connection is no empty panel, and names the address."""
    assert main(["--prometheus", "http://127.0.0.1:9"]) == 1
    assert "ERROR http://127.0.0.1:9 cannot be asked" in capsys.readouterr().out


async def _send_every_kind(running: RunningCluster) -> None:
    messages = [{"role": "user", "content": "Prove that there is no largest prime."}]
    asked = [
        {"model": model, "stream": stream}
        for model in ("router-mf-p30", "router-random-0", "router-random-1", "strong", "weak")
        for stream in (False, True)
    ]
    wrong = [{"model": name} for name in ("broken", "silent", "router-none-0.5", "nobody")]

    async def send(fields: dict[str, Any]) -> int:
        async with running.chat(messages=messages, **fields) as response:
            await response.read()
            return int(response.status)

    statuses = await asyncio.gather(
        *(send(fields) for fields in [*asked, {"model": "limited"}, *wrong])
    )
    assert statuses == [*[200] * len(asked), 200, 503, 504, 404, 404]
    await running.until_idle()


def _models(url: str) -> dict[str, Any]:
    prices = {"input_price_per_million": 2.0, "output_price_per_million": 8.0}
    return {
        "reliability": {"retries": {"backoff_seconds": 0.0}},
        "providers": {
            "fake": {"base_url": url},
            "hurried": {"base_url": url, "total_timeout_seconds": 0.05},
        },
        "models": {
            "strong": {"provider": "fake", "model": "fake-strong", **prices},
            "weak": {"provider": "fake", "model": "fake-weak"},
            "broken": {"provider": "fake", "model": "fake-broken"},
            "limited": {"provider": "fake", "model": "fake-limited", "fallbacks": ["weak"]},
            "silent": {"provider": "hurried", "model": "fake-silent"},
        },
    }


def _boards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in DASHBOARDS.glob("*.json")}


def _targets(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in board["panels"] for target in panel.get("targets", ())]
