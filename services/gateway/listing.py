"""`GET /v1/models`: the configured models, and each router with a threshold that can be used."""

from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from pointsman.scorer.v1 import scorer_pb2
from services.gateway.directory import Directory
from services.gateway.openai_errors import json_response

_MEDIAN = 50


def model_field(router: scorer_pb2.Router) -> str:
    """Returns a model field for a router: its median win rate, so about half goes to strong."""
    percentiles = router.win_rate_percentiles
    threshold = percentiles[_MEDIAN] if percentiles else 0.5
    return f"router-{router.name}-{threshold:.6g}"


def example(routers: Sequence[scorer_pb2.Router]) -> str:
    """Returns a model field to try first: a trained router's, or any ready one's, or none."""
    ready = [router for router in routers if router.ready]
    trained = [router for router in ready if router.HasField("training_pair")]
    return next(map(model_field, trained + ready), "")


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
        """Lists what the model field takes."""
        models = [self._entry(m.name, m.provider) for m in self._directory.models]
        routers = [self._router(router) for router in self._directory.routers]
        return json_response(200, msgspec.json.encode({"object": "list", "data": models + routers}))

    def _router(self, router: scorer_pb2.Router) -> dict[str, Any]:
        entry = self._entry(model_field(router), "pointsman")
        entry["ready"] = router.ready
        if router.ready:
            entry["revision"] = router.revision
        else:
            entry["not_ready_reason"] = router.not_ready_reason
        return entry

    def _entry(self, name: str, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": owner}
