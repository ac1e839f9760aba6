"""Prompt and threshold → `Decision`: asks the scorer, and decides without it if it must."""

import logging
from dataclasses import dataclass

import grpc

from pointsman.chassis.grpc_server import REQUEST_ID_KEY
from pointsman.chassis.grpc_status import error_from_rpc, errors_by_status
from pointsman.errors import PointsmanError, RouterNotReady, ScorerUnavailable, UnknownRouter
from pointsman.routing import Choice, ModelPair, RouterRef, decide
from pointsman.scorer.v1 import scorer_pb2 as pb
from pointsman.scorer.v1 import scorer_pb2_grpc
from services.gateway.config import OnScorerFailure

logger = logging.getLogger(__name__)

SCORER_UNAVAILABLE = "scorer_unavailable"
"""The value of `x-pointsman-fallback` when the scorer had no say."""

ERRORS_BY_STATUS = errors_by_status(
    not_found=UnknownRouter, unavailable=ScorerUnavailable, not_ready=RouterNotReady
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where a routed request goes, and why."""

    ref: RouterRef
    choice: Choice
    model: str
    strong_win_rate: float | None = None
    """None where the scorer had no say."""
    revision: str | None = None
    fallback: str | None = None


class ScorerClient:
    """Calls the scorer.

    Args:
        channel: To the scorer.
        timeout_seconds: For each call.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout_seconds: float) -> None:
        self._stub = scorer_pb2_grpc.ScorerServiceStub(channel)
        self._timeout_seconds = timeout_seconds

    async def score(self, router: str, prompt: str, request_id: str) -> pb.ScoreResponse:
        """Returns the prompt's win rate.

        Raises:
            UnknownRouter: No such router.
            PointsmanError: Any other reason why there is no win rate.
        """
        try:
            return await self._stub.Score(
                pb.ScoreRequest(router=router, prompt=prompt),
                timeout=self._timeout_seconds,
                metadata=((REQUEST_ID_KEY, request_id),),
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, ERRORS_BY_STATUS) from error

    async def list_routers(self) -> pb.ListRoutersResponse:
        """Returns the scorer's routers.

        Raises:
            PointsmanError: The scorer does not answer.
        """
        try:
            return await self._stub.ListRouters(
                pb.ListRoutersRequest(), timeout=self._timeout_seconds
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, ERRORS_BY_STATUS) from error


class DecisionMaker:
    """Decides between the models of a pair.

    Args:
        scorer: Predicts win rates.
        pair: The models to choose from.
        on_scorer_failure: What to choose without a win rate.
    """

    def __init__(
        self, scorer: ScorerClient, pair: ModelPair, on_scorer_failure: OnScorerFailure
    ) -> None:
        self._scorer = scorer
        self._pair = pair
        self._on_scorer_failure = on_scorer_failure

    async def decide(self, ref: RouterRef, prompt: str, request_id: str) -> Decision:
        """Returns the decision; without a win rate, the configured one.

        Raises:
            UnknownRouter: No such router.
            PointsmanError: There is no win rate and the configuration wants an error.
        """
        try:
            scored = await self._scorer.score(ref.router, prompt, request_id)
        except UnknownRouter:
            raise
        except PointsmanError as error:
            return self._without_win_rate(ref, error, request_id)
        choice = decide(scored.strong_win_rate, ref.threshold)
        return Decision(
            ref=ref,
            choice=choice,
            model=self._pair.pick(choice),
            strong_win_rate=scored.strong_win_rate,
            revision=scored.revision,
        )

    def _without_win_rate(self, ref: RouterRef, error: PointsmanError, request_id: str) -> Decision:
        if self._on_scorer_failure == "error":
            raise error
        choice = self._on_scorer_failure
        logger.warning(
            "decided without a win rate",
            extra={
                "request_id": request_id,
                "router": ref.router,
                "choice": choice,
                "kind": error.kind,
                "reason": error.message,
            },
        )
        return Decision(
            ref=ref, choice=choice, model=self._pair.pick(choice), fallback=SCORER_UNAVAILABLE
        )
