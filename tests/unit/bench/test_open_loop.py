"""Goodput is what a client of the overloaded gateway can use, and nothing else."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.http1 import Connection, Response
from bench.load import Job
from bench.open_loop import Limits, OpenLoop, Seen, refused_well

ERROR = {"message": "later", "type": "server_error", "param": None, "code": "overloaded"}
DECIDED = {"x-pointsman-decision": "weak"}


@asynccontextmanager
async def gateway(*answers: web.Response | None) -> AsyncIterator[str]:
    """Serves these answers in turn, None as a whole answer; yields `host:port`."""
    turn = iter(answers)

    async def chat(request: web.Request) -> web.Response:
        asked = await request.json()
        made = next(turn, None)
        if made is not None:
            return made
        echo = {"content": asked["messages"][0]["content"]}
        return web.Response(body=json.dumps(echo, ensure_ascii=False).encode(), headers=DECIDED)

    async def probe(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.path == "/healthz" else 503)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/healthz", probe)
    app.router.add_get("/readyz", probe)
    async with TestServer(app) as server:
        yield f"127.0.0.1:{server.port}"


async def offered(
    host: str,
    rate: float,
    *,
    connections: int = 4,
    seconds: float = 0.05,
    within_seconds: float = 60.0,
) -> Seen:
    """Returns what an open loop saw."""
    job = Job(
        host=host,
        model="router-random-0.5",
        routed=True,
        stream=False,
        clients=1,
        seconds=seconds,
        warm_up_seconds=0.0,
        seed="seed",
        pids={},
    )
    limits = Limits(seconds=seconds, within_seconds=within_seconds, settle_seconds=0.0)
    pool = [await Connection.open(host) for _ in range(connections)]
    try:
        return await OpenLoop(job, limits, pool).run(rate)
    finally:
        for connection in pool:
            connection.close()


async def test_every_arrival_is_accounted_for() -> None:
    """A request that vanishes from the report could have been anything."""
    refusal = web.json_response({"error": ERROR}, status=503, headers={"retry-after": "1"})
    fallen = web.Response(headers={**DECIDED, "x-pointsman-fallback": "scorer_unavailable"})
    async with gateway(refusal, web.Response(status=500, text="no"), fallen) as host:
        seen = await offered(host, 200.0, seconds=0.2)
    assert len(seen.refused) == 1
    assert seen.bad == {
        "status 500: no": 1,
        "decided without the scorer: scorer_unavailable": 1,
    }
    assert seen.good
    total = len(seen.good) + len(seen.refused) + sum(seen.bad.values()) + seen.unsent
    assert total == seen.arrived
    assert seen.probes
    assert seen.probes_failed == len(seen.probes) // 2


async def test_what_comes_too_late_is_not_good() -> None:
    """A user who has given up is not served by an answer."""
    async with gateway() as host:
        seen = await offered(host, 200.0, within_seconds=0.0)
    assert not seen.good
    assert seen.bad.keys() == {"over 0 s"}


async def test_what_no_connection_is_free_for_is_not_sent() -> None:
    """The client is bounded, and its bound must not look like the gateway's."""
    async with gateway() as host:
        seen = await offered(host, 200.0, connections=0)
    assert seen.unsent == seen.arrived > 0


async def test_a_connection_that_the_gateway_closes_is_replaced() -> None:
    """Else a client would run out of connections and offer less than it says."""
    closing = [web.Response(status=500, headers={"connection": "close"}) for _ in range(3)]
    async with gateway(*closing) as host:
        seen = await offered(host, 100.0, connections=1, seconds=0.3)
    assert seen.good
    assert not [reason for reason in seen.bad if "hung up" in reason]


@pytest.mark.parametrize(
    ("headers", "body", "well"),
    [
        ({"retry-after": "1"}, {"error": ERROR}, True),
        ({}, {"error": ERROR}, False),
        ({"retry-after": "soon"}, {"error": ERROR}, False),
        ({"retry-after": "1"}, {"error": {"message": "no"}}, False),
        ({"retry-after": "1"}, {}, False),
        ({"retry-after": "1"}, "no", False),
    ],
)
def test_a_refusal_says_when_to_come_back_in_openais_shape(
    headers: dict[str, str], body: Any, well: bool
) -> None:
    """OpenAI's clients read both."""
    response = Response(status=503, headers=headers, body=json.dumps(body).encode())
    assert refused_well(response) is well


async def test_a_gateway_that_goes_away_is_one_error_and_no_traceback() -> None:
    """Whoever measures must learn that, and not read figures of half a window."""
    async with gateway() as host:
        pass
    with pytest.raises(OSError, match="Connect call failed"):
        await offered(host, 100.0, connections=0)
