"""`GET /v1/models`: the configured models, and each router with a threshold that can be used."""

from typing import Any

import msgspec
from aiohttp import web

from pointsman.scorer.v1 import scorer_pb2
from services.gateway.directory import Directory
from services.gateway.openai_errors import json_response

_MEDIAN = 50


class ModelListing:
    """The handler of `GET /v1/models`.

    Args:
        directory: Knows the models and routers there are.
        created: Unix seconds that every entry gives as its `created`.
    """

    def __init__(self, directory: Directory, created: int) -> None:
        self._directory = directory
        self._created = created

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Lists what the model field takes."""
        models = [self._entry(m.name, m.provider) for m in self._directory.models]
        routers = [self._router(router) for router in self._directory.routers]
        return json_response(200, msgspec.json.encode({"object": "list", "data": models + routers}))

    def _router(self, router: scorer_pb2.Router) -> dict[str, Any]:
        percentiles = router.win_rate_percentiles
        threshold = percentiles[_MEDIAN] if percentiles else 0.5
        entry = self._entry(f"router-{router.name}-{threshold:.6g}", "pointsman")
        entry["ready"] = router.ready
        if router.ready:
            entry["revision"] = router.revision
        else:
            entry["not_ready_reason"] = router.not_ready_reason
        return entry

    def _entry(self, name: str, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": owner}
