"""Model and body → completion, against an upstream that really listens, or does not yet."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from pointsman import errors
from pointsman.chassis.grpc_channel import open_channel
from pointsman.chassis.mesh import Mesh
from pointsman.upstream.v1 import upstream_pb2 as pb
from pointsman.upstream.v1 import upstream_pb2_grpc
from services.gateway.completion import UpstreamClient

SERVICE = pb.DESCRIPTOR.services_by_name["UpstreamService"].full_name
Code = grpc.StatusCode
SHOWN = (("x-shown", "secret"),)


class FakeUpstream(upstream_pb2_grpc.UpstreamServiceServicer):
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status: grpc.StatusCode | None = None
        self.asked: list[str] = []
        self.metadata: dict[str, Any] = {}
        self.seconds_left: float | None = None

    async def Complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteResponse:
        """Answers in one piece."""
        await self._hear(request.envelope, context)
        return pb.CompleteResponse(status=200, body=b"{}")

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: Any
    ) -> AsyncIterator[pb.StreamCompleteResponse]:
        """Answers in two parts."""
        await self._hear(request.envelope, context)
        yield pb.StreamCompleteResponse(head=pb.StreamHead(status=200))
        yield pb.StreamCompleteResponse(tail=pb.StreamTail())

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> Any:
        """Lists one model."""
        await self._hear(pb.Envelope(model="listing"), context)
        return pb.ListModelsResponse(models=[pb.Model(name="strong")])

    async def _hear(self, envelope: pb.Envelope, context: Any) -> None:
        self.asked.append(envelope.model)
        self.metadata = dict(context.invocation_metadata())
        self.seconds_left = context.time_remaining()
        if self.status is not None:
            await context.abort(self.status, "in the upstream's words")


@pytest.fixture
async def upstream() -> FakeUpstream:
    """The upstream's behaviour."""
    return FakeUpstream()


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        free: int = bound.getsockname()[1]
        return free


@asynccontextmanager
async def serving(upstream: FakeUpstream, port: int) -> AsyncIterator[None]:
    """Serves on a port."""
    server = grpc.aio.server()
    upstream_pb2_grpc.add_UpstreamServiceServicer_to_server(upstream, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield
    await server.stop(None)


@asynccontextmanager
async def client_of(port: int, wait_seconds: float = 50.0) -> AsyncIterator[UpstreamClient]:
    """Opens a client as the gateway does."""
    target = f"127.0.0.1:{port}"
    async with open_channel(target, SERVICE, Mesh(), body_limit_bytes=1000) as channel:
        yield UpstreamClient(channel, wait_seconds, SHOWN)


async def ask(client: UpstreamClient, streamed: bool, timeout_seconds: float = 40.0) -> int:
    """Returns how many parts an answer had."""
    if streamed:
        return len([p async for p in client.stream("strong", b"{}", "id-1", timeout_seconds)])
    await client.complete("strong", b"{}", "id-1", timeout_seconds)
    return 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_waits_for_an_upstream_that_is_not_there_yet(
    upstream: FakeUpstream, port: int, streamed: bool
) -> None:
    """A restart is a pause, and what it cost is no longer there for the answer."""
    async with client_of(port) as client:
        asking = [asyncio.create_task(ask(client, streamed)) for _ in range(3)]
        with pytest.raises(errors.UpstreamUnavailable):  # until the first try has failed
            await client.list_models()
        async with serving(upstream, port):
            assert await asyncio.gather(*asking) == [1 + streamed] * 3
    assert upstream.asked == ["strong"] * 3
    assert upstream.seconds_left is not None
    assert upstream.seconds_left < 40.0
    assert upstream.metadata["x-request-id"] == "id-1"
    assert upstream.metadata["x-shown"] == "secret"


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_wait_has_an_end(
    port: int, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A client is told, and so is the operator."""
    async with client_of(port, wait_seconds=0.01) as client:
        with pytest.raises(errors.UpstreamUnavailable, match=r"waited 0\.01 s and was not sent"):
            await ask(client, streamed)
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert vars(record)["request_id"] == "id-1"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [Code.UNAVAILABLE, Code.CANCELLED, Code.INTERNAL])
async def test_what_an_upstream_has_heard_is_not_sent_again(
    upstream: FakeUpstream, port: int, streamed: bool, status: grpc.StatusCode
) -> None:
    """A provider may have been asked already, and is paid by the request."""
    upstream.status = status
    async with serving(upstream, port), client_of(port) as client:
        with pytest.raises(errors.UpstreamUnavailable):
            await ask(client, streamed)
    assert upstream.asked == ["strong"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_upstream_that_refuses_the_gateway_is_the_operators_trouble(
    upstream: FakeUpstream, port: int, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The client hears 503, and the log has the words that say what to mend."""
    upstream.status = Code.UNAUTHENTICATED
    async with serving(upstream, port), client_of(port) as client:
        with pytest.raises(errors.UpstreamUnavailable):
            await ask(client, streamed)
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert vars(record)["reason"] == "in the upstream's words"


async def test_the_models_are_asked_for_with_the_same_credentials(
    upstream: FakeUpstream, port: int
) -> None:
    """A gateway that may not list models is never ready."""
    async with serving(upstream, port), client_of(port) as client:
        listing = await client.list_models()
    assert [model.name for model in listing.models] == ["strong"]
    assert upstream.metadata["x-shown"] == "secret"
