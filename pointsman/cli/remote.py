"""A running scorer over gRPC, for the tools that can do without loading a router."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from pointsman.chassis.grpc_channel import blocking_channel
from pointsman.chassis.grpc_server import BODY_LIMIT_BYTES
from pointsman.chassis.grpc_status import error_from_rpc, errors_by_status
from pointsman.chassis.mesh import mesh_of
from pointsman.errors import (
    InvalidRequest,
    Overloaded,
    PointsmanError,
    RouterNotReady,
    ScorerUnavailable,
    UnknownRouter,
)
from pointsman.scorer.v1 import scorer_pb2 as pb
from pointsman.scorer.v1.scorer_pb2_grpc import ScorerServiceStub

_ERRORS = errors_by_status(
    not_found=UnknownRouter, unavailable=ScorerUnavailable, not_ready=RouterNotReady
)
_ASK_SECONDS = 30.0
"""Deadline of everything that is about one prompt or none."""
_CHUNK_SECONDS = 600.0
"""Deadline of a chunk: patience for a router of over a second a prompt."""
_CHUNK_PROMPTS = 256
"""Prompts a call, of the 4096 that are allowed: a second or two of work, so that an error or
Ctrl-C is not long in coming."""
_CHUNK_BYTES = BODY_LIMIT_BYTES // 4
_IN_FLIGHT = 2
"""Chunks the scorer has at a time: one keeps every worker busy, the next is there when it ends."""
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each further try when the scorer's queue is full of other people's requests."""


class RemoteScorer:
    """Calls the scorer at one address; every error is one that names it.

    Args:
        address: `host:port`, or any gRPC target such as `dns:///scorer:50051`. Where it asks for a
            mesh token or a certificate, the environment names them as it does for the services.
        sleep: Waits before a further try.

    Raises:
        ConfigError: The token or the certificates that the environment names are not in order.
    """

    def __init__(self, address: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._address = address
        self._sleep = sleep
        mesh = mesh_of(None, os.environ)
        self._metadata = mesh.call_metadata
        self._channel = blocking_channel(address, mesh)
        self._stub = ScorerServiceStub(self._channel)

    def __enter__(self) -> Self:
        """Returns the scorer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancels what is in flight and hangs up."""
        self._channel.close()

    def score(self, router: str, prompt: str) -> pb.ScoreResponse:
        """Returns the win rate of one prompt.

        Raises:
            PointsmanError: The scorer does not answer, or has no win rate.
        """
        try:
            request = pb.ScoreRequest(router=router, prompt=prompt)
            return self._stub.Score(request, timeout=_ASK_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._told(error) from error

    def describe(self, router: str) -> pb.Router:
        """Returns what the scorer says about a router.

        Raises:
            UnknownRouter: It has no such router.
            PointsmanError: The scorer does not answer.
        """
        try:
            listing = self._stub.ListRouters(
                pb.ListRoutersRequest(), timeout=_ASK_SECONDS, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise self._told(error) from error
        for one in listing.routers:
            if one.name == router:
                return one
        known = ", ".join(one.name for one in listing.routers)
        raise UnknownRouter(
            f"the scorer at {self._address} has no router {router}; there are: {known}"
        )

    def win_rates(self, router: str, prompts: Iterable[str]) -> Iterator[float]:
        """Yields the strong win rate of each prompt, in order; takes prompts as they are needed.

        Raises:
            PointsmanError: The scorer does not answer, has no such router, or cannot score; before
                the first prompt is taken, where that is known by then.
        """
        self._results(self._call(router, []))
        waiting: deque[_Call] = deque()
        for chunk in _chunks(prompts):
            waiting.append(self._call(router, chunk))
            if len(waiting) >= _IN_FLIGHT:
                yield from self._results(waiting.popleft())
        while waiting:
            yield from self._results(waiting.popleft())

    def _call(self, router: str, prompts: list[str]) -> _Call:
        return _Call(self._stub, self._metadata, router, prompts)

    def _results(self, call: _Call) -> list[float]:
        for pause in _PAUSES_SECONDS:
            try:
                return call.win_rates()
            except grpc.RpcError as error:
                told = self._told(error)
                if not isinstance(told, Overloaded):
                    raise told from error
                self._sleep(pause)
                call.send()
        try:
            return call.win_rates()
        except grpc.RpcError as error:
            raise self._told(error) from error

    def _told(self, error: Any) -> PointsmanError:
        told = error_from_rpc(error, _ERRORS)
        return type(told)(f"the scorer at {self._address}: {' '.join(told.message.split())}")


class _Call:
    """A chunk on its way, which can be sent again."""

    def __init__(
        self,
        stub: ScorerServiceStub,
        metadata: tuple[tuple[str, str], ...],
        router: str,
        prompts: list[str],
    ) -> None:
        self._stub = stub
        self._metadata = metadata
        self._request = pb.ScoreBatchRequest(router=router, prompts=prompts)
        self.send()

    def send(self) -> None:
        self._future = self._stub.ScoreBatch.future(
            self._request, timeout=_CHUNK_SECONDS, metadata=self._metadata
        )

    def win_rates(self) -> list[float]:
        rates = [one.strong_win_rate for one in self._future.result().win_rates]
        if len(rates) != len(self._request.prompts):
            raise ScorerUnavailable(
                f"the scorer sent {len(rates)} win rates for {len(self._request.prompts)} prompts"
            )
        return rates


def _chunks(prompts: Iterable[str]) -> Iterator[list[str]]:
    """Yields the prompts in lists that one message can carry, never an empty one."""
    chunk: list[str] = []
    held = 0
    for number, prompt in enumerate(prompts, start=1):
        size = len(prompt.encode())
        if size > BODY_LIMIT_BYTES:
            raise InvalidRequest(
                f"prompt {number} has {size} bytes, and a scorer takes {BODY_LIMIT_BYTES} at most; "
                "cut it, or score without --address"
            )
        if chunk and (len(chunk) >= _CHUNK_PROMPTS or held + size > _CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(prompt)
        held += size
    if chunk:
        yield chunk
