"""Prompt and threshold → `Decision`: asks the scorer, and decides without it if it must."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from pointsman.chassis.grpc_server import REQUEST_ID_KEY
from pointsman.chassis.grpc_status import error_from_rpc, errors_by_status
from pointsman.errors import PointsmanError, RouterNotReady, ScorerUnavailable, UnknownRouter
from pointsman.routing import Choice, ModelPair, RouterRef, StrongShare, decide
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

    router: str
    choice: Choice
    model: str
    threshold: float | None
    """None where a strong share was asked for and the scorer could not say what it means."""
    strong_win_rate: float | None = None
    """None where the scorer had no say."""
    percentile: float | None = None
    """Of the win rate among the router's calibration prompts, in [0, 100]; None as above."""
    revision: str | None = None
    fallback: str | None = None


class ScorerClient:
    """Calls the scorer.

    Args:
        channel: To the scorer.
        timeout_seconds: For each call.
        call_metadata: What goes with every call.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        timeout_seconds: float,
        call_metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._stub = scorer_pb2_grpc.ScorerServiceStub(channel)
        self._timeout_seconds = timeout_seconds
        self._call_metadata = call_metadata

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
                metadata=((REQUEST_ID_KEY, request_id), *self._call_metadata),
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                logger.error(
                    "the scorer refuses the gateway",
                    extra={"request_id": request_id, "reason": error.details()},
                )
            raise error_from_rpc(error, ERRORS_BY_STATUS) from error

    async def list_routers(self) -> pb.ListRoutersResponse:
        """Returns the scorer's routers.

        Raises:
            PointsmanError: The scorer does not answer.
        """
        try:
            return await self._stub.ListRouters(
                pb.ListRoutersRequest(),
                timeout=self._timeout_seconds,
                metadata=self._call_metadata,
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, ERRORS_BY_STATUS) from error


class DecisionMaker:
    """Decides between the models of a pair.

    Args:
        scorer: Predicts win rates.
        pair: The models to choose from.
        percentiles: Router → its win rates at the percentiles of its calibration prompts, as last
            heard; raises RouterNotReady where nothing was heard yet.
        on_scorer_failure: What to choose without a win rate.
    """

    def __init__(
        self,
        scorer: ScorerClient,
        pair: ModelPair,
        percentiles: Callable[[str], Sequence[float]],
        on_scorer_failure: OnScorerFailure,
    ) -> None:
        self._scorer = scorer
        self._pair = pair
        self._percentiles = percentiles
        self._on_scorer_failure = on_scorer_failure

    async def decide(self, ref: RouterRef, prompt: str, request_id: str) -> Decision:
        """Returns the decision; without a win rate, the configured one.

        Raises:
            UnknownRouter: No such router.
            InvalidRequest: A strong share of a router that has no calibration.
            PointsmanError: There is no win rate and the configuration wants an error.
        """
        try:
            threshold = self._threshold(ref)
        except RouterNotReady as error:
            return self._without_win_rate(ref, None, error, request_id)
        try:
            scored = await self._scorer.score(ref.router, prompt, request_id)
        except UnknownRouter:
            raise
        except PointsmanError as error:
            return self._without_win_rate(ref, threshold, error, request_id)
        choice = decide(scored.strong_win_rate, threshold)
        return Decision(
            router=ref.router,
            threshold=threshold,
            choice=choice,
            model=self._pair.pick(choice),
            strong_win_rate=scored.strong_win_rate,
            percentile=scored.percentile,
            revision=scored.revision,
        )

    def _threshold(self, ref: RouterRef) -> float:
        if isinstance(ref.bar, StrongShare):
            return ref.threshold_among(self._percentiles(ref.router))
        return ref.bar

    def _without_win_rate(
        self, ref: RouterRef, threshold: float | None, error: PointsmanError, request_id: str
    ) -> Decision:
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
            router=ref.router,
            threshold=threshold,
            choice=choice,
            model=self._pair.pick(choice),
            fallback=SCORER_UNAVAILABLE,
        )
