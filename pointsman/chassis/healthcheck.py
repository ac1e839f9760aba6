"""`python -m services.<name> --healthcheck`: is the service that runs on this machine ready?

It asks as a client would, over the port and with the credentials of its own environment, which is
the service's. Orchestrators run it every few seconds, so it loads next to nothing.
"""

import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pointsman.chassis.config import Settings, load_settings
from pointsman.chassis.ports import reachable
from pointsman.errors import ConfigError

FLAG = "--healthcheck"
_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which variables say where a service listens, and where it does without them."""

    host_variable: str
    port_variable: str
    default_port: int
    file_variable: str | None = None
    """Names the service's file of settings, if it has one."""


class _Listening(Settings, frozen=True, kw_only=True, forbid_unknown_fields=False):
    host: str = "127.0.0.1"
    port: int = 0


def asked_for() -> bool:
    """Returns whether the command line asks for a health check instead of a service."""
    return sys.argv[1:] == [FLAG]


def http_health(service: str, place: Place, path: str) -> int:
    """Returns 0 if the service answers this path with 200; else 1, and prints one line why."""

    def problem(environ: Mapping[str, str]) -> str:
        url = f"http://{_address(place, environ)}{path}"
        # A proxy in the environment is for the way out.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=_TIMEOUT_SECONDS):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                return f"{url} answers {error.code}: {error.read(1000).decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            return f"{url}: {error}"

    return _status(service, problem)


def grpc_health(service: str, place: Place) -> int:
    """Returns 0 if the whole server is SERVING; else 1, and prints one line why."""

    def problem(environ: Mapping[str, str]) -> str:
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        from pointsman.chassis.grpc_channel import blocking_channel
        from pointsman.chassis.mesh import mesh_of

        target = _address(place, environ)
        mesh = mesh_of(_file(place, environ), environ)
        with blocking_channel(target, mesh, server_name="localhost") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                return f"{target}: {error.code().name}: {error.details()}"
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return "" if name == "SERVING" else f"{target} is {name}"

    return _status(service, problem)


def _status(service: str, problem: Callable[[Mapping[str, str]], str]) -> int:
    try:
        found = problem(os.environ)
    except ConfigError as error:
        found = str(error)
    if found:
        print(f"pointsman {service}: not ready: {' '.join(found.split())}", file=sys.stderr)
    return 1 if found else 0


def _file(place: Place, environ: Mapping[str, str]) -> str | None:
    return environ.get(place.file_variable) if place.file_variable else None


def _address(place: Place, environ: Mapping[str, str]) -> str:
    variables = {place.host_variable: "host", place.port_variable: "port"}
    found = load_settings(_Listening, _file(place, environ), environ, variables)
    return reachable(found.host, found.port or place.default_port)
