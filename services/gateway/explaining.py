"""`POST /v1/route`: where a chat request would go and why, without asking a model."""

from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web

from pointsman.prices import estimated_tokens
from pointsman.prompts import prompt_text
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway.access import REQUEST_ID, recorded
from services.gateway.admission import Admission
from services.gateway.callers import CALLER, Caller
from services.gateway.deadlines import Deadlines
from services.gateway.metrics import GatewayMetrics
from services.gateway.openai_errors import json_response
from services.gateway.request import parse_chat_request, read_body
from services.gateway.routes import Route, Routes


class Explanations:
    """The handler of `POST /v1/route`.

    Args:
        routes: Chooses.
        models: The upstream's models with their prices, as last heard.
        metrics: Counts.
        body_limit_bytes: Largest request body.
        deadlines: Limits the time a request may take.
        admission: Refuses what is too much.
    """

    def __init__(
        self,
        routes: Routes,
        models: Callable[[], Sequence[pb.Model]],
        metrics: GatewayMetrics,
        *,
        body_limit_bytes: int,
        deadlines: Deadlines,
        admission: Admission,
    ) -> None:
        self._routes = routes
        self._models = models
        self._metrics = metrics
        self._body_limit_bytes = body_limit_bytes
        self._deadlines = deadlines
        self._admission = admission

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answers with the decision for the body of a chat request."""
        deadline = self._deadlines.of_new_request()
        with self._admission.admit(), recorded(request[REQUEST_ID], self._metrics) as record:
            caller = request[CALLER]
            record.key = caller.name
            async with self._deadlines.limit(deadline):
                with record.stage("read"):
                    chat = parse_chat_request(await read_body(request, self._body_limit_bytes))
                route = await self._routes.choose(chat, request.headers, caller, record)
            # Not `routed`: a decision that nobody acts on is not counted.
            record.model, record.reason, record.decision = route.model, route.reason, route.decision
            record.status, record.outcome = 200, "explained"
            characters = len(prompt_text(chat.messages, "whole_conversation"))
            explained = self._explained(route, characters, caller)
            return json_response(200, msgspec.json.encode(explained))

    def _explained(self, route: Route, characters: int, caller: Caller) -> dict[str, object]:
        decision = route.decision
        explained: dict[str, object] = {
            "object": "pointsman.route",
            "model": route.model,
            "reason": route.reason,
        }
        if decision is not None:
            explained |= {
                "router": decision.router,
                "revision": decision.revision,
                "strong_win_rate": decision.strong_win_rate,
                "percentile": decision.percentile,
                "threshold": decision.threshold,
                "decision": decision.choice,
                "fallback": decision.fallback,
            }
        tokens = estimated_tokens(characters)
        explained["input_tokens"] = tokens
        explained["costs"] = {
            model.name: _costs(model, tokens)
            for model in self._models()
            if model.name == route.model or caller.may_use_model(model.name)
        }
        return explained


def _costs(model: pb.Model, input_tokens: int) -> dict[str, float]:
    """Returns what the prompt costs at a model, and what every output token adds."""
    return {
        "input_dollars": input_tokens * model.input_price_per_million / 1e6,
        "output_dollars_per_token": model.output_price_per_million / 1e6,
    }
