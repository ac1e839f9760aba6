"""The way out to providers and endpoints, where an HTTP proxy stands in it."""

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Returns the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for a URL, if any.

    Looked up once, at start-up: aiohttp's own `trust_env` costs two thread hops a call.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY", "")
    if host in _LOOPBACK or proxy_bypass_environment(host, {"no": no_proxy}):
        return None
    variable = f"{parts.scheme}_proxy"
    return environ.get(variable) or environ.get(variable.upper()) or None
