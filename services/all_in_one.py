"""The whole cluster on one machine, for a first run: same code, same wire, one command.

`python -m services.all_in_one` starts the demo provider (unless a models file is given), the scorer
and the upstream, then the gateway with their addresses; says where to send requests; and stops them
in reverse order. A process that dies is started again at its old address. `pointsman serve` is its
supervisor: it hears the gateway's addresses, and everything stops when it is gone.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict

from pointsman.chassis.lifecycle import EXIT_CONFIG, SUPERVISOR_VARIABLE, announce
from services.process import Announcement, Process, StartError

_RESTART_SECONDS = 1.0
_PORTS = {
    "demo_provider": ("POINTSMAN_DEMO_PORT", None),
    "scorer": ("POINTSMAN_SCORER_PORT", "POINTSMAN_SCORER_METRICS_PORT"),
    "upstream": ("POINTSMAN_UPSTREAM_PORT", "POINTSMAN_UPSTREAM_METRICS_PORT"),
    "gateway": ("POINTSMAN_GATEWAY_PORT", "POINTSMAN_GATEWAY_METRICS_PORT"),
}
_BANNER = """
Pointsman is up: http://{address}/v1   (metrics: http://{metrics}/metrics)

  curl -s http://{address}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{model}", "messages": {messages}}}'

  from openai import OpenAI
  client = OpenAI(base_url="http://{address}/v1", api_key="none-needed")
  print(client.chat.completions.create(model="{model}", messages={messages}))

{provider}Ctrl-C stops everything.
"""
_MESSAGES = '[{"role": "user", "content": "Hello!"}]'
_DEMO = "Answers come from the demo provider; POINTSMAN_MODELS=models.yaml names real ones.\n"


class Cluster:
    """The services of one machine, started in order and stopped in reverse.

    Args:
        environ: The environment of every service; ports of 0 are chosen by the kernel.
        log: Where their standard output goes: a file descriptor, or None for ours.

    Attributes:
        processes: Service → process, in the order of their start.
    """

    def __init__(self, environ: Mapping[str, str], log: int | None = None) -> None:
        self._environ = dict(environ)
        self._log = log
        self.processes: dict[str, Process] = {}

    async def start(self) -> Announcement:
        """Starts everything and returns what the gateway announces.

        Raises:
            StartError: A process ended before it was up, or the gateway cannot serve.
        """
        if not self._environ.get("POINTSMAN_MODELS"):
            demo = await self._start("demo_provider")
            self._environ["POINTSMAN_DEMO_PROVIDER_URL"] = f"http://{demo.address}/v1"
        starts = (self._start("scorer"), self._start("upstream"))
        # Both are waited for, so that neither is still starting when the other has failed.
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        scorer, upstream = (self.processes[name].announcement for name in ("scorer", "upstream"))
        self._environ["POINTSMAN_SCORER_ADDRESS"] = scorer.address
        self._environ["POINTSMAN_UPSTREAM_ADDRESS"] = upstream.address
        gateway = await self._start("gateway")
        if gateway.not_ready_reason:
            print(f"pointsman gateway: {gateway.not_ready_reason}", file=sys.stderr)
            raise StartError("gateway", EXIT_CONFIG)
        return gateway

    async def keep_running(self) -> None:
        """Starts every process again that dies; runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for process in self.processes.values():
                group.create_task(self._keep(process))

    async def stop(self) -> None:
        """Stops everything: whoever calls before whom it calls."""
        for process in reversed(self.processes.values()):
            await process.stop()

    def hurry(self) -> None:
        """Tells everything once more to stop: what still drains breaks off."""
        for process in self.processes.values():
            process.signal(signal.SIGTERM)

    async def _start(self, service: str) -> Announcement:
        self.processes[service] = Process(service, self._environ, self._log)
        return await self.processes[service].start()

    async def _keep(self, process: Process) -> None:
        while True:
            status = await process.wait()
            print(
                f"pointsman: the {process.service} ended with status {status}; starting it again",
                file=sys.stderr,
            )
            process.environ = {**process.environ, **_pinned(process)}
            await asyncio.sleep(_RESTART_SECONDS)
            with suppress(StartError):  # it has said why; the next round waits and tries again
                await process.start()


def _pinned(process: Process) -> dict[str, str]:
    told = process.announcement
    pairs = zip(_PORTS[process.service], (told.address, told.metrics), strict=True)
    return {variable: at.rpartition(":")[2] for variable, at in pairs if variable and at}


@asynccontextmanager
async def _stopped_at_the_end(cluster: Cluster) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await cluster.stop()


async def _until_alone(descriptor: int) -> None:
    """Returns once the supervisor at the other end of this socket is gone."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    try:
        with suppress(ConnectionError):  # it went without having heard us
            await reader.read()
    finally:
        writer.close()


async def run(environ: Mapping[str, str]) -> int:
    """Runs the cluster until SIGINT or SIGTERM; returns the exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    cluster = Cluster(environ)

    def on_signal() -> None:
        if stop.is_set():
            cluster.hurry()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    if descriptor := environ.get(SUPERVISOR_VARIABLE):
        listening = asyncio.ensure_future(_until_alone(int(descriptor)))
        listening.add_done_callback(lambda _: stop.set())
    async with _stopped_at_the_end(cluster):
        starting = asyncio.ensure_future(cluster.start())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return 0
        try:
            gateway = starting.result()
        except StartError as error:
            return error.status
        with suppress(ConnectionError):  # a supervisor that is gone: `stop` is about to be set
            announce("cluster", **asdict(gateway))
        provider = "" if environ.get("POINTSMAN_MODELS") else _DEMO
        print(
            _BANNER.format(
                address=gateway.address,
                metrics=gateway.metrics,
                model=gateway.example_model,
                messages=_MESSAGES,
                provider=provider,
            ),
            flush=True,
        )
        keeping = asyncio.ensure_future(cluster.keep_running())
        await asyncio.wait({stopping, keeping}, return_when=asyncio.FIRST_COMPLETED)
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
    return 0


def main() -> int:
    """Runs the cluster with this process's environment."""
    return asyncio.run(run(os.environ))


if __name__ == "__main__":
    sys.exit(main())
