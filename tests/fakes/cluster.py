"""The real services as real processes for one test: each with its own configuration and log."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import yaml

from pointsman.scorer.v1 import scorer_pb2_grpc
from pointsman.upstream.v1 import upstream_pb2_grpc
from services.process import Process

Json = dict[str, Any]
HELLO = [{"role": "user", "content": "Hello!"}]


@dataclass
class RunningCluster:
    """Gateway, scorer and upstream that run, and ways to reach them."""

    folder: Path
    scorer: Process
    upstream: Process
    gateway: Process
    http: aiohttp.ClientSession
    scorer_channel: grpc.aio.Channel
    upstream_channel: grpc.aio.Channel

    @property
    def url(self) -> str:
        """Where the gateway serves."""
        return f"http://{self.gateway.announcement.address}"

    @property
    def score(self) -> Any:
        """A stub of the scorer."""
        return scorer_pb2_grpc.ScorerServiceStub(self.scorer_channel)

    @property
    def complete(self) -> Any:
        """A stub of the upstream."""
        return upstream_pb2_grpc.UpstreamServiceStub(self.upstream_channel)

    def chat(
        self,
        model: str = "router-random-0",
        messages: Any = HELLO,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Any:
        """Posts a chat request; an async context manager of the response."""
        return self.http.post(
            f"{self.url}/v1/chat/completions",
            json={"model": model, "messages": messages, **fields},
            headers=headers,
        )

    async def metrics(self, process: Process) -> dict[str, Any]:
        """Returns what a process's metrics port says: series as text → value."""
        async with self.http.get(f"http://{process.announcement.metrics}/metrics") as response:
            lines = (await response.text()).splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {series: float(value) for series, value in pairs}

    @asynccontextmanager
    async def growth(self, process: Process) -> AsyncIterator[Counter[str]]:
        """Yields what will hold, at the end, by how much each series has grown since."""
        grown: Counter[str] = Counter()
        await self.until_idle()
        before = await self.metrics(process)
        yield grown
        # An answer may be with its client a moment before it is counted.
        await self.until_idle()
        grown.update(await self.metrics(process))
        grown.subtract(before)

    async def until_idle(self) -> None:
        """Returns once no service has a request in flight; the test's time-out is the limit."""
        for process, name in (
            (self.gateway, "gateway"),
            (self.scorer, "scorer"),
            (self.upstream, "upstream"),
        ):
            while (await self.metrics(process))[f"pointsman_{name}_requests_in_flight"]:
                pass

    def log(self, service: str) -> str:
        """Returns what a service has written to standard output so far."""
        return (self.folder / f"{service}.log").read_text()


PATIENT = {
    "retries": {"max_retries": 0},
    "breaker": {"consecutive_failures": 1_000_000, "unauthorized_seconds": 0.000_001},
}
"""Nothing is tried twice and no breaker opens: for tests that share a cluster."""


def models_of(url: str, **provider: Any) -> Json:
    """Returns a models file whose strong and weak model live at one provider, without fallbacks."""
    return {
        "reliability": PATIENT,
        "providers": {"fake": {"base_url": url, **provider}},
        "models": {
            "strong": {"provider": "fake", "model": "fake-strong", "context_window_tokens": 1000},
            "weak": {"provider": "fake", "model": "fake-weak"},
        },
    }


@asynccontextmanager
async def cluster(
    folder: Path,
    models: Json,
    *,
    gateway: Json | None = None,
    scorer: Json | None = None,
    upstream: Json | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[RunningCluster]:
    """Starts scorer, upstream and gateway on kernel-chosen ports; stops them at the end."""
    (folder / "models.yaml").write_text(yaml.safe_dump(models, sort_keys=False))
    scorer = {"routers": {"random": {"options": {"seed": 0}}}, "workers": 1, **(scorer or {})}
    async with AsyncExitStack() as stack:

        async def start(service: str, settings: Json, **addresses: str) -> Process:
            path = folder / f"{service}.yaml"
            path.write_text(
                yaml.safe_dump({"port": 0, "metrics_port": 0, **settings}, sort_keys=False)
            )
            log = stack.enter_context((folder / f"{service}.log").open("wb"))
            process = Process(
                service,
                {
                    f"POINTSMAN_{service.upper()}_CONFIG": str(path),
                    "POINTSMAN_MODELS": str(folder / "models.yaml"),
                    **(environ or {}),
                    **addresses,
                },
                log=log.fileno(),
            )
            stack.push_async_callback(process.stop)
            await process.start()
            return process

        scorer_process = await start("scorer", scorer)
        upstream_process = await start("upstream", upstream or {})
        gateway_process = await start(
            "gateway",
            gateway or {},
            POINTSMAN_SCORER_ADDRESS=scorer_process.announcement.address,
            POINTSMAN_UPSTREAM_ADDRESS=upstream_process.announcement.address,
        )
        yield RunningCluster(
            folder,
            scorer_process,
            upstream_process,
            gateway_process,
            await stack.enter_async_context(aiohttp.ClientSession()),
            await stack.enter_async_context(
                grpc.aio.insecure_channel(scorer_process.announcement.address)
            ),
            await stack.enter_async_context(
                grpc.aio.insecure_channel(upstream_process.announcement.address)
            ),
        )
