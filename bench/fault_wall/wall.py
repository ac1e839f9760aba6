"""Gateway and upstream as real processes between the wall's client and two faulty providers."""

import os
import random
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench.cluster import service_environ
from bench.fault_wall.faults import FAULTS
from bench.fault_wall.provider import Fault, FaultyProvider
from services.process import Process

PRIMARY = "primary"
SECONDARY = "secondary"
PRICES = {PRIMARY: (10.0, 30.0), SECONDARY: (1.0, 2.0)}
"""US dollars per million input and output tokens at each provider."""
_IDLE_METRIC = "pointsman_{}_requests_in_flight"


class Route(msgspec.Struct, frozen=True):
    """A model of the wall: how it breaks, and the fallbacks it has at the other provider."""

    fault: str
    fallbacks: tuple[str, ...] = ("",)
    """The fault of each; an empty one answers properly."""
    context_windows: tuple[int, ...] = ()
    """Tokens: its own, then each fallback's; none are configured without."""


@dataclass
class Wall:
    """What runs, and ways to reach it."""

    primary: FaultyProvider
    secondary: FaultyProvider
    services: Mapping[str, Process]
    session: aiohttp.ClientSession

    @property
    def gateway(self) -> Process:
        """The gateway's process."""
        return self.services["gateway"]

    @property
    def upstream(self) -> Process:
        """The upstream's process."""
        return self.services["upstream"]

    @property
    def url(self) -> str:
        """Where the gateway serves, up to and with `/v1`."""
        return f"http://{self.gateway.announcement.address}/v1"

    async def metrics(self, process: Process) -> dict[str, float]:
        """Returns what a process's metrics port says: series as text → value."""
        async with self.session.get(f"http://{process.announcement.metrics}/metrics") as response:
            return samples(await response.text())

    async def restart(self, process: Process) -> int:
        """Stops a service, starts it again where it was, and returns its exit status.

        Raises:
            StartError: It did not start again.
        """
        status = await process.stop()
        told, variable = process.announcement, f"POINTSMAN_{process.service.upper()}"
        addresses = {f"{variable}_PORT": told.address, f"{variable}_METRICS_PORT": told.metrics}
        ports = {name: address.rpartition(":")[2] for name, address in addresses.items()}
        process.environ = {**process.environ, **ports}
        await process.start()
        return status

    async def until_idle(self, process: Process) -> None:
        """Returns once a service has no request in flight."""
        series = _IDLE_METRIC.format(process.service)
        while (await self.metrics(process))[series]:
            pass


def samples(exposition: str) -> dict[str, float]:
    """Returns the samples of Prometheus's text format: series as text → value."""
    lines = (line for line in exposition.splitlines() if line and not line.startswith("#"))
    pairs = (line.rsplit(" ", 1) for line in lines)
    return {series: float(value) for series, value in pairs}


@asynccontextmanager
async def running(
    routes: Mapping[str, Route],
    *,
    limits: Mapping[str, Any],
    reliability: Mapping[str, Any],
    faults: Mapping[str, Fault] = FAULTS,
    token_seconds: float = 0.005,
    remember: bool = True,
    seed: int = 0,
    scorer: bool = False,
) -> AsyncIterator[Wall]:
    """Starts providers, upstream and gateway; on the way out stops them in reverse.

    Args:
        routes: Model's name → how it breaks.
        limits: Further settings of both providers.
        reliability: That part of the models file.
        faults: What the routes' faults do.
        token_seconds: Between two tokens of a provider's stream.
        remember: Whether the providers keep every request.
        seed: Of what comes by chance.
        scorer: Whether there is one, with the router `random`.

    Raises:
        StartError: A process ended before it was up; it has said why.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        primary, secondary = [
            await enter(
                FaultyProvider(
                    name,
                    faults,
                    prompt_tokens=prompt_tokens,
                    token_seconds=token_seconds,
                    remember=remember,
                    chance=random.Random(f"{seed} {name}"),
                )
            )
            for name, prompt_tokens in ((PRIMARY, 11), (SECONDARY, 13))
        ]
        urls = {PRIMARY: primary.url, SECONDARY: secondary.url}
        # Unlinked with the folder: the services write their lines as in production.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models = folder / "models.yaml"
        models.write_bytes(msgspec.yaml.encode(models_file(routes, urls, limits, reliability)))
        log = stack.enter_context((folder / "services.log").open("wb"))
        environ = {**service_environ(os.environ, 0.0), "POINTSMAN_MODELS": str(models)}

        services: dict[str, Process] = {}

        async def start(service: str, **variables: str) -> str:
            process = Process(service, {**environ, **variables}, log.fileno())
            stack.push_async_callback(process.stop)
            await process.start()
            services[service] = process
            return process.announcement.address

        addresses = {"POINTSMAN_UPSTREAM_ADDRESS": await start("upstream")}
        if scorer:
            settings = folder / "scorer.yaml"
            settings.write_text("routers: {random: {}}\nworkers: 1\n")
            address = await start("scorer", POINTSMAN_SCORER_CONFIG=str(settings))
            addresses["POINTSMAN_SCORER_ADDRESS"] = address
        await start("gateway", **addresses)
        connector = aiohttp.TCPConnector(limit=0)
        session = await enter(aiohttp.ClientSession(connector=connector))
        yield Wall(primary, secondary, services, session)


def models_file(
    routes: Mapping[str, Route],
    urls: Mapping[str, str],
    limits: Mapping[str, Any],
    reliability: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the models file for these routes.

    Args:
        routes: Model's name → how it breaks.
        urls: Provider's name → its base URL.
        limits: Further settings of every provider.
        reliability: That part of the file.
    """
    models = {"strong": _model(PRIMARY, "strong"), "weak": _model(SECONDARY, "weak")}
    for name, route in routes.items():
        names = [fallback_name(name, number) for number in range(len(route.fallbacks))]
        models[name] = {**_model(PRIMARY, f"{route.fault}@{name}"), "fallbacks": names}
        for fallback, fault in zip(names, route.fallbacks, strict=True):
            models[fallback] = _model(SECONDARY, f"{fault}@{fallback}")
        if route.context_windows:
            for model, tokens in zip([name, *names], route.context_windows, strict=True):
                models[model]["context_window_tokens"] = tokens
    providers = {name: {"base_url": url, **limits} for name, url in urls.items()}
    return {"providers": providers, "models": models, "reliability": dict(reliability)}


def fallback_name(model: str, number: int = 0) -> str:
    """Returns the name of a model's n-th fallback, from 0."""
    return f"{model}-fallback-{number}"


def _model(provider: str, name: str) -> dict[str, Any]:
    input_price, output_price = PRICES[provider]
    return {
        "provider": provider,
        "model": name,
        "input_price_per_million": input_price,
        "output_price_per_million": output_price,
    }
