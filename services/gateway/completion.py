"""Model and body → completion: the gateway's client of the upstream."""

from collections.abc import AsyncGenerator

import grpc

from pointsman.chassis.grpc_server import REQUEST_ID_KEY
from pointsman.chassis.grpc_status import error_from_rpc, errors_by_status
from pointsman.errors import UnknownModel, UpstreamUnavailable
from pointsman.upstream.v1 import upstream_pb2 as pb
from pointsman.upstream.v1 import upstream_pb2_grpc

ERRORS_BY_STATUS = errors_by_status(
    not_found=UnknownModel, unavailable=UpstreamUnavailable, not_ready=UpstreamUnavailable
)
_LIST_SECONDS = 5.0


class UpstreamClient:
    """Calls the upstream."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = upstream_pb2_grpc.UpstreamServiceStub(channel)

    async def complete(
        self, model: str, body: bytes, request_id: str, timeout_seconds: float
    ) -> pb.CompleteResponse:
        """Returns the model's whole answer, the provider's errors too.

        Raises:
            PointsmanError: The upstream itself could not do it.
        """
        envelope = pb.Envelope(model=model, stream=False, request_id=request_id, body=body)
        try:
            return await self._stub.Complete(
                pb.CompleteRequest(envelope=envelope),
                timeout=timeout_seconds,
                metadata=((REQUEST_ID_KEY, request_id),),
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, ERRORS_BY_STATUS) from error

    async def stream(
        self, model: str, body: bytes, request_id: str, timeout_seconds: float
    ) -> AsyncGenerator[pb.StreamCompleteResponse, None]:
        """Yields the parts of the model's answer; closing it early cancels the provider's call.

        Raises:
            PointsmanError: The upstream itself could not do it, or broke off.
        """
        envelope = pb.Envelope(model=model, stream=True, request_id=request_id, body=body)
        call = self._stub.StreamComplete(
            pb.StreamCompleteRequest(envelope=envelope),
            timeout=timeout_seconds,
            metadata=((REQUEST_ID_KEY, request_id),),
        )
        try:
            async for part in call:
                yield part
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, ERRORS_BY_STATUS) from error
        finally:
            call.cancel()

    async def list_models(self) -> pb.ListModelsResponse:
        """Returns the upstream's models.

        Raises:
            PointsmanError: The upstream does not answer.
        """
        try:
            return await self._stub.ListModels(pb.ListModelsRequest(), timeout=_LIST_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, ERRORS_BY_STATUS) from error
