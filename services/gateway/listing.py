"""`GET /v1/models`: the configured models, and each router with bars that can be asked for.

Each as far as the caller may use it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from pointsman.scorer.v1 import scorer_pb2
from services.gateway.callers import CALLER
from services.gateway.directory import Directory
from services.gateway.openai_errors import json_response

_PERCENTS = range(10, 100, 10)
_HALF = 50


def model_fields(router: scorer_pb2.Router) -> list[str]:
    """Returns model fields for a router: `p10` to `p90`, or one threshold if it cannot tell shares.

    A router that is not ready yet is listed with the shares that it will most likely have.
    """
    if router.ready and not router.win_rate_percentiles:
        return [f"router-{router.name}-0.5"]
    return [f"router-{router.name}-p{percent}" for percent in _PERCENTS]


def example(routers: Sequence[scorer_pb2.Router]) -> str:
    """Returns a model field to try first: a trained router's, or any ready one's, or none."""
    ready = [router for router in routers if router.ready]
    trained = [router for router in ready if router.HasField("training_pair")]
    for router in trained + ready:
        half = f"router-{router.name}-p{_HALF}"
        fields = model_fields(router)
        return half if half in fields else fields[0]
    return ""


class ModelListing:
    """The handler of `GET /v1/models`.

    Args:
        directory: Knows the models and routers there are.
        created: Unix seconds that every entry gives as its `created`.
    """

    def __init__(self, directory: Directory, created: int) -> None:
        self._directory = directory
        self._created = created

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Lists what the model field takes from this caller."""
        caller = request[CALLER]
        models = [
            self._entry(model.name, model.provider)
            for model in self._directory.models
            if caller.may_use_model(model.name)
        ]
        routers = [
            self._router(field, router)
            for router in self._directory.routers
            if caller.may_use_router(router.name)
            for field in model_fields(router)
        ]
        return json_response(200, msgspec.json.encode({"object": "list", "data": models + routers}))

    def _router(self, field: str, router: scorer_pb2.Router) -> dict[str, Any]:
        entry = self._entry(field, "pointsman")
        entry["ready"] = router.ready
        if router.ready:
            entry["revision"] = router.revision
        else:
            entry["not_ready_reason"] = router.not_ready_reason
        return entry

    def _entry(self, name: str, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": owner}
