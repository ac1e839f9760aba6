"""Who calls: the `Authorization` header → a caller, with the routers and models it may use."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Middleware

from pointsman.api_keys import PREFIX, ApiKey, sha256_of
from pointsman.errors import InvalidKey, KeyNotAllowed
from pointsman.routing import quote
from services.gateway.access import REQUEST_ID, Handler, recorded
from services.gateway.metrics import GatewayMetrics

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What probes ask for; everything else, whether it exists or not, needs a key."""

_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_REMEDY = (
    f"Send one in a single header `Authorization: Bearer {PREFIX}...`, which is `api_key` in "
    "OpenAI's clients; whoever runs this gateway makes it with `pointsman keys create`."
)


_WEB_PAGE = (
    "A web page sent this request, and without API keys none is answered: any page that is open in "
    "a browser here could ask. Whoever runs this gateway makes keys with `pointsman keys create`."
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call, and what they may use; None is everything.

    Attributes:
        name: The key's name, never the key; None where there are no keys.
        routers: Routers that may choose for them, whatever models they choose.
        models: Models that they may name.
    """

    name: str | None = None
    routers: Collection[str] | None = None
    models: Collection[str] | None = None

    def may_use_router(self, name: str) -> bool:
        """Returns whether the router may choose for this caller."""
        return self.routers is None or name in self.routers

    def may_use_model(self, name: str) -> bool:
        """Returns whether this caller may name the model."""
        return self.models is None or name in self.models

    def require_router(self, name: str, alias: str | None = None) -> None:
        """Raises KeyNotAllowed unless the router may be used, whether or not it exists.

        What an alias stands for is not told to whoever may not use it.
        """
        if not self.may_use_router(name):
            raise _not_allowed(f"alias {quote(alias)}" if alias else f"router {quote(name)}")

    def require_model(self, name: str, alias: str | None = None) -> None:
        """Raises KeyNotAllowed unless the model may be named, whether or not it exists.

        What an alias stands for is not told to whoever may not use it.
        """
        if not self.may_use_model(name):
            raise _not_allowed(f"alias {quote(alias)}" if alias else f"model {quote(name)}")


ANYBODY = Caller()
"""Whoever calls a gateway that has no keys."""

CALLER = web.RequestKey("caller", Caller)

Identify = Callable[[Sequence[str]], Caller]
"""The request's `Authorization` headers → the caller; raises InvalidKey."""


class KeyRing:
    """The callers there are, found by their keys.

    Args:
        keys: Name → key.
    """

    def __init__(self, keys: Mapping[str, ApiKey]) -> None:
        self._callers = {
            key.sha256: Caller(name, key.routers, key.models) for name, key in keys.items()
        }

    def identify(self, authorization: Sequence[str]) -> Caller:
        """Returns who sent these `Authorization` headers.

        Raises:
            InvalidKey: There is not exactly one, it is not `Bearer <key>`, or nobody has the key.
        """
        if not authorization:
            raise InvalidKey(f"No API key was sent. {_REMEDY}")
        match = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
        # A dict may be slower for a digest that resembles a real one, and that helps nobody: to
        # steer the digest one would have to invert SHA-256, and a key has 256 random bits to guess.
        caller = self._callers.get(sha256_of(match[1])) if match else None
        if caller is None:
            raise InvalidKey(f"Incorrect API key provided. {_REMEDY}")
        return caller


def with_caller(identify: Identify, metrics: GatewayMetrics) -> Middleware:
    """Returns a middleware that lets in who may call, and probes; no web page without a key.

    A request that is refused is counted and logged like one that was answered; its body is not
    read.
    """

    @web.middleware
    async def named(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is None or resource.canonical not in OPEN_PATHS:
            try:
                request[CALLER] = identify(request.headers.getall("authorization", ()))
                # Browsers let any page post to loopback, and always say which page it was.
                if request[CALLER].name is None and "origin" in request.headers:
                    raise InvalidKey(_WEB_PAGE)
            except InvalidKey:
                with recorded(request[REQUEST_ID], metrics):
                    raise
        return await handler(request)

    return named


def _not_allowed(what: str) -> KeyNotAllowed:
    return KeyNotAllowed(
        f"This API key may not use the {what}. GET /v1/models lists what it may use; whoever runs "
        "this gateway can allow more."
    )
