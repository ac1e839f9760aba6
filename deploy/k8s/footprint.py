"""Prints what each service takes of memory and CPU: the figures behind the manifests' requests.

`PYTHONPATH=. .venv/bin/python deploy/k8s/footprint.py` starts the cluster on free ports and prints
a table after each of three steps: just started; loaded, where as many clients as asked for send
prompts that nobody sent before; and large, where several requests near the gateway's default body
limit are under way at once. Linux only.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench import cpu
from bench.cluster import running
from bench.http1 import Connection, request_bytes
from bench.prompts import prompts
from services.all_in_one import Cluster

_PATH = "/v1/chat/completions"
_MIB = 1024 * 1024
_SERVICES = ("gateway", "scorer", "upstream", "demo_provider")


def main() -> None:
    """Runs the three steps and prints their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32, help="requests in flight, loaded")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the loaded step")
    parser.add_argument("--large", type=int, default=4, help="large requests at once")
    parser.add_argument("--large-mib", type=int, default=30, help="size of each")
    asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> None:
    machine = cpu.machine()
    print(f"{machine.cpu}, {machine.cores} cores, load {machine.load_average} before the start")
    async with running(os.environ, chunk_seconds=0.0) as cluster:
        host = cluster.processes["gateway"].announcement.address
        _show("started", cluster)
        for model in ("router-mf-0.5", "router-random-0.5"):
            before, begun = _cpu_seconds(cluster), time.perf_counter()
            texts = prompts(f"footprint {model}")
            until = begun + options.seconds
            clients = (_client(host, model, texts, until) for _ in range(options.clients))
            answers = sum(await asyncio.gather(*clients))
            seconds = time.perf_counter() - begun
            used = {name: after - before[name] for name, after in _cpu_seconds(cluster).items()}
            print(f"\n{model}: {options.clients} clients, {answers / seconds:.0f} answers/s")
            _show("loaded", cluster, {name: one / seconds for name, one in used.items()})
        text = "word " * (options.large_mib * _MIB // 5)
        begun = time.perf_counter()
        statuses = await asyncio.gather(
            *(_ask(host, "router-mf-0.5", text) for _ in range(options.large))
        )
        seconds = time.perf_counter() - begun
        print(f"\n{options.large} x {options.large_mib} MiB at once: {statuses}, {seconds:.1f} s")
        _show("large", cluster)


async def _client(host: str, model: str, texts: Iterator[str], until: float) -> int:
    answers = 0
    async with await Connection.open(host) as connection:
        while time.perf_counter() < until:
            await connection.ask(_request(host, model, next(texts)))
            answers += 1
    return answers


async def _ask(host: str, model: str, text: str) -> int:
    async with await Connection.open(host) as connection:
        return (await connection.ask(_request(host, model, text))).status


def _request(host: str, model: str, text: str) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return request_bytes("POST", host, _PATH, msgspec.json.encode(body))


def _cpu_seconds(cluster: Cluster) -> dict[str, float]:
    return cpu.cpu_seconds({name: process.pid for name, process in cluster.processes.items()})


def _show(step: str, cluster: Cluster, cores: dict[str, float] | None = None) -> None:
    for name in _SERVICES:
        status = Path(f"/proc/{cluster.processes[name].pid}/status").read_text()
        sizes = {
            key: int(value.split()[0]) / 1024
            for key, _, value in (line.partition(":") for line in status.splitlines())
            if key in {"VmRSS", "VmHWM"}
        }
        used = f"  {cores[name]:4.2f} cores" if cores else ""
        print(
            f"{step:8} {name:14} {sizes['VmRSS']:6.0f} MiB now {sizes['VmHWM']:6.0f} MiB at most"
            f"{used}"
        )


if __name__ == "__main__":
    main()
