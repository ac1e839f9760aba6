"""A channel that knows whether anybody is there, and what was never sent."""

import asyncio
import socket
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pointsman.chassis.grpc_channel import Presence, open_channel
from pointsman.chassis.grpc_server import GrpcServer, GrpcServerSettings, grpc_server
from pointsman.chassis.grpc_status import was_never_sent
from pointsman.chassis.mesh import Mesh

SERVICE = "toy.v1.ToyService"
NEVER = 0.01
"""Seconds that are not enough for what does not happen."""
LONG = 50.0


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    """A real server with one service, which is not SERVING yet."""
    async with grpc_server(
        GrpcServerSettings(),
        0,
        setting="TOY_PORT",
        register=lambda _: None,
        services=[SERVICE],
        body_limit_bytes=1000,
    ) as server:
        yield server


def channel_to(target: str) -> grpc.aio.Channel:
    """Opens a channel as the gateway does."""
    return open_channel(target, SERVICE, Mesh(), body_limit_bytes=1000)


async def test_a_server_is_present_once_it_serves_and_no_longer_once_it_drains(
    server: GrpcServer,
) -> None:
    """Calls go neither to one that still loads nor to one that is about to hang up."""
    async with channel_to(f"127.0.0.1:{server.port}") as channel:
        presence = Presence(channel)
        assert not await presence.within(NEVER)
        waiting = [asyncio.create_task(presence.within(LONG)) for _ in range(3)]
        await server.set_serving(SERVICE)
        assert await asyncio.gather(*waiting) == [True, True, True]
        assert await presence.within(0)
        draining = asyncio.create_task(server.drain(LONG, 0))
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        assert not await presence.within(NEVER)
        draining.cancel()


async def test_a_channel_that_closes_lets_nobody_wait() -> None:
    """A gateway that stops does not hang on an upstream that never came."""
    channel = channel_to("127.0.0.1:9")
    waiting = asyncio.create_task(Presence(channel).within(LONG))
    assert not await Presence(channel).within(NEVER)
    await channel.close()
    await waiting


@pytest.mark.parametrize("target", ["127.0.0.1:{closed}", "ipv4:", "dns:///no..where:1"])
async def test_what_nobody_could_take_was_never_sent(target: str) -> None:
    """The words of gRPC decide; an upgrade that changes them is seen here."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        async with channel_to(target.format(closed=bound.getsockname()[1])) as channel:
            assert was_never_sent(await failure(channel))


async def test_what_a_server_has_heard_may_have_been_sent() -> None:
    """A connection that breaks under a call: it may have reached a provider, which is paid."""
    heard = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0\0\4\0\0\0\0\0")  # HTTP/2's settings, so that calls are made
        while b"toy-call" not in await reader.read(100_000):
            pass
        heard.set()
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            error = await failure(channel, service="toy-call")
    assert heard.is_set()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert not was_never_sent(error)


async def test_another_status_is_no_question_of_sending() -> None:
    """Only UNAVAILABLE comes from a channel that has nobody."""
    words = "connections to all backends failing"
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), words
    )
    assert not was_never_sent(error)


async def failure(channel: grpc.aio.Channel, service: str = "") -> grpc.aio.AioRpcError:
    """Returns how a call over a channel fails."""
    stub = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return failed.value
