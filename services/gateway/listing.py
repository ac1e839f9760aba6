"""`GET /v1/models`: the configured models, each router with bars that can be asked for, aliases.

Each as far as the caller may use it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from pointsman.routing import parse_model_field
from pointsman.scorer.v1 import scorer_pb2
from services.gateway.callers import CALLER, Caller
from services.gateway.directory import Directory
from services.gateway.openai_errors import json_response

_PERCENTS = range(10, 100, 10)
_HALF = 50
_OURS = "pointsman"


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
    """The handlers of `GET /v1/models` and `GET /v1/models/{id}`.

    Args:
        directory: Knows the models and routers there are.
        aliases: Model field → the model field that is meant.
        created: Unix seconds that every entry gives as its `created`.
    """

    def __init__(self, directory: Directory, aliases: Mapping[str, str], created: int) -> None:
        self._directory = directory
        self._aliases = aliases
        self._created = created

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Lists what the model field takes from this caller."""
        caller = request[CALLER]
        models = [
            self._entry(model.name, model.provider)
            for model in self._directory.models
            if caller.may_use_model(model.name) and model.name not in self._aliases
        ]
        routers = [
            self._router(field, router)
            for router in self._directory.routers
            if caller.may_use_router(router.name)
            for field in model_fields(router)
        ]
        aliases = [
            self._entry(alias, _OURS)
            for alias, field in self._aliases.items()
            if _may_use(caller, field)
        ]
        body = {"object": "list", "data": models + routers + aliases}
        return json_response(200, msgspec.json.encode(body))

    async def show_one(self, request: web.Request) -> web.StreamResponse:
        """Shows one of them, or any other field that the model field takes.

        Raises:
            InvalidRequest: It is malformed.
            UnknownModel: No such model.
            UnknownRouter: No such router.
            KeyNotAllowed: The caller may not use it.
        """
        caller, given = request[CALLER], request.match_info["id"]
        field = self._aliases.get(given, given)
        alias = given if given in self._aliases else None
        ref = parse_model_field(field)
        if ref is not None:
            caller.require_router(ref.router, alias)
            self._directory.require_router(ref.router, caller)
            found = [one for one in self._directory.routers if one.name == ref.router]
            entry = self._router(given, found[0]) if found else self._entry(given, _OURS)
        else:
            caller.require_model(field, alias)
            self._directory.require_model(field, caller)
            owners = {one.name: one.provider for one in self._directory.models}
            entry = self._entry(given, _OURS if alias else owners.get(given, _OURS))
        return json_response(200, msgspec.json.encode(entry))

    def _router(self, field: str, router: scorer_pb2.Router) -> dict[str, Any]:
        entry = self._entry(field, _OURS)
        entry["ready"] = router.ready
        if router.ready:
            entry["revision"] = router.revision
        else:
            entry["not_ready_reason"] = router.not_ready_reason
        return entry

    def _entry(self, name: str, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": owner}


def _may_use(caller: Caller, field: str) -> bool:
    ref = parse_model_field(field)
    return caller.may_use_model(field) if ref is None else caller.may_use_router(ref.router)
