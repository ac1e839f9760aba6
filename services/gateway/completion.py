"""Model and body → completion: the gateway's client of the upstream.

A request waits for a connected upstream and is then sent once: what may have reached a provider is
paid for, and never sent again.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator

import grpc

from pointsman.chassis.grpc_channel import Presence
from pointsman.chassis.grpc_server import REQUEST_ID_KEY
from pointsman.chassis.grpc_status import error_from_rpc, errors_by_status, was_never_sent
from pointsman.errors import PointsmanError, UnknownModel, UpstreamUnavailable
from pointsman.upstream.v1 import upstream_pb2 as pb
from pointsman.upstream.v1 import upstream_pb2_grpc

ERRORS_BY_STATUS = errors_by_status(
    not_found=UnknownModel, unavailable=UpstreamUnavailable, not_ready=UpstreamUnavailable
)
_LIST_SECONDS = 5.0

logger = logging.getLogger(__name__)


class UpstreamClient:
    """Calls the upstream.

    Args:
        channel: To the upstream.
        wait_seconds: How long a request waits for a connection.
        call_metadata: What goes with every call.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        wait_seconds: float,
        call_metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._stub = upstream_pb2_grpc.UpstreamServiceStub(channel)
        self._presence = Presence(channel)
        self._wait_seconds = wait_seconds
        self._call_metadata = call_metadata

    async def complete(
        self, model: str, body: bytes, request_id: str, timeout_seconds: float
    ) -> pb.CompleteResponse:
        """Returns the model's whole answer, the provider's errors too.

        Raises:
            PointsmanError: The upstream itself could not do it.
        """
        envelope = pb.Envelope(model=model, stream=False, request_id=request_id, body=body)
        request = pb.CompleteRequest(envelope=envelope)
        waiting = _Waiting(self._wait_seconds, timeout_seconds)
        while True:
            seconds = await self._connected(waiting, request_id)
            try:
                return await self._stub.Complete(
                    request, timeout=seconds, metadata=self._metadata(request_id)
                )
            except grpc.aio.AioRpcError as error:
                if not was_never_sent(error):
                    raise _told(error, request_id) from error

    async def stream(
        self, model: str, body: bytes, request_id: str, timeout_seconds: float
    ) -> AsyncGenerator[pb.StreamCompleteResponse, None]:
        """Yields the parts of the model's answer; closing it early cancels the provider's call.

        Raises:
            PointsmanError: The upstream itself could not do it, or broke off.
        """
        envelope = pb.Envelope(model=model, stream=True, request_id=request_id, body=body)
        request = pb.StreamCompleteRequest(envelope=envelope)
        waiting = _Waiting(self._wait_seconds, timeout_seconds)
        while True:
            seconds = await self._connected(waiting, request_id)
            call = self._stub.StreamComplete(
                request, timeout=seconds, metadata=self._metadata(request_id)
            )
            try:
                async for part in call:
                    yield part
                return
            except grpc.aio.AioRpcError as error:
                if not was_never_sent(error):
                    raise _told(error, request_id) from error
            finally:
                call.cancel()

    async def list_models(self) -> pb.ListModelsResponse:
        """Returns the upstream's models.

        Raises:
            PointsmanError: The upstream does not answer.
        """
        try:
            return await self._stub.ListModels(
                pb.ListModelsRequest(), timeout=_LIST_SECONDS, metadata=self._call_metadata
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, ERRORS_BY_STATUS) from error

    def _metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        return ((REQUEST_ID_KEY, request_id), *self._call_metadata)

    async def _connected(self, waiting: "_Waiting", request_id: str) -> float:
        """Returns the seconds that are left for the call, once an upstream is connected.

        Raises:
            UpstreamUnavailable: None is, and the wait is over.
        """
        if not await self._presence.within(waiting.seconds_to_connect()):
            logger.warning(
                "no upstream is connected",
                extra={"request_id": request_id, "waited_seconds": self._wait_seconds},
            )
            raise UpstreamUnavailable(
                f"The upstream cannot be reached; the request waited {self._wait_seconds:g} s and "
                "was not sent."
            )
        return waiting.seconds_to_answer()


class _Waiting:
    """How much of a request's two limits is left."""

    def __init__(self, wait_seconds: float, timeout_seconds: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._connect_by = self._clock() + wait_seconds
        self._answer_by = self._clock() + timeout_seconds

    def seconds_to_connect(self) -> float:
        return max(0.0, self._connect_by - self._clock())

    def seconds_to_answer(self) -> float:
        return max(0.0, self._answer_by - self._clock())


def _told(error: grpc.aio.AioRpcError, request_id: str) -> PointsmanError:
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        logger.error(
            "the upstream refuses the gateway",
            extra={"request_id": request_id, "reason": error.details()},
        )
    return error_from_rpc(error, ERRORS_BY_STATUS)
