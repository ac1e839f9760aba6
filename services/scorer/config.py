"""What the scorer's operator can set."""

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman.chassis.config import (
    Count,
    Port,
    PositiveCount,
    ServerSettings,
    Settings,
    load_settings,
)
from pointsman.chassis.grpc_server import BODY_LIMIT_BYTES
from pointsman.routing import ROUTER_NAME, quote

PORT_VARIABLE = "POINTSMAN_SCORER_PORT"
METRICS_PORT_VARIABLE = "POINTSMAN_SCORER_METRICS_PORT"
CONFIG_VARIABLE = "POINTSMAN_SCORER_CONFIG"
_VARIABLES = {
    PORT_VARIABLE: "port",
    METRICS_PORT_VARIABLE: "metrics_port",
    "POINTSMAN_SCORER_HOST": "host",
    "POINTSMAN_SCORER_METRICS_HOST": "metrics_host",
    "POINTSMAN_SCORER_WORKERS": "workers",
    "POINTSMAN_LOG_LEVEL": "log_level",
}


def _cores() -> int:
    """Returns how many cores this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class RouterSettings(Settings, frozen=True, kw_only=True):
    """One router of the configuration."""

    bundle: str | None = None
    """Folder of its bundle; by default the shipped bundle of the router's name."""
    factory: str | None = msgspec.field(default=None, name="class")
    """`package.module:Class` of a router of your own, instead of a bundle."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """Keyword arguments for the class, such as `seed` for `random`."""


class ScorerSettings(ServerSettings, frozen=True, kw_only=True):
    """The scorer's settings."""

    port: Port = 50051
    """gRPC port; 0 takes any free one."""
    metrics_port: Port = 9101
    """Port of `/metrics`; 0 takes any free one."""
    routers: dict[str, RouterSettings] = msgspec.field(
        default_factory=lambda: {
            "random": RouterSettings(options={"seed": 0}),
            "mf": RouterSettings(),
        }
    )
    """Name in the model field → router. `random` is seeded, so that replicas agree."""
    workers: PositiveCount = msgspec.field(default_factory=_cores)
    """Threads that infer, one prompt at a time each; more than there are cores is no faster."""
    queue_limit: Count = 256
    """Prompts that may wait for a thread. Low: bursts are refused. High: the last of a burst waits
    for all before it (about 5 ms each and thread) and may miss its deadline."""
    body_limit_bytes: PositiveCount = BODY_LIMIT_BYTES
    """Largest prompt; at least the gateway's body limit."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        for name in self.routers:
            if not ROUTER_NAME.fullmatch(name):
                raise ValueError(f"router name {quote(name)} is not [a-z0-9_]+ - at `$.routers`")


def load(environ: Mapping[str, str]) -> ScorerSettings:
    """Returns the settings of the file that POINTSMAN_SCORER_CONFIG names, and the environment.

    Raises:
        ConfigError: Names file or variable, key path and value.
    """
    return load_settings(ScorerSettings, environ.get(CONFIG_VARIABLE), environ, _VARIABLES)
